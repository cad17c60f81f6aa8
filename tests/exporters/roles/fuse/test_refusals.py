"""What can't be fused: one line from the command, exit status 2, nothing half-written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from xai_exporters import Request, export
from xai_exporters.cli import main
from xai_exporters.config import load_config
from xai_exporters.errors import RequestError

from tests.exporters import onnx_nets as o

from .harness import METHODS
from .networks import POOLED, C, K, network


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with networks of several kinds."""
    monkeypatch.chdir(tmp_path)
    onnx.save(o.classifier(), "net.onnx")
    onnx.save(network(POOLED["hidden layer, ReLU"]), "hidden.onnx")
    b = o.Build()
    x = b("Relu", b.conv("image", 3, 65, 1), name="layer")
    onnx.save(b.model(b("Gemm", b.pooled(x), b.draw(65, C), out="scores")), "wide.onnx")
    b = o.Build()
    x = b("Cast", "image", to=o.FLOAT)
    onnx.save(b.model(b.linear(b.pooled(b.features(x)), out="scores"), dtype=o.UINT8), "bytes.onnx")
    b = o.Build()
    x = b("Relu", b.conv("image", 3, 4, 1), name="layer")
    x = b("Flatten", b("GlobalMaxPool", x))
    onnx.save(b.model(b("Gemm", x, b.draw(4, C), out="scores"), shape=("N", 3, 160, 160)), "big.onnx")
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], here: Path, source: str, *arguments: str) -> str:
    """The one line of a refusal."""
    try:
        status = main([source, "--split", "layer", "-o", "out.xai", "--preprocess", "none", *arguments])
    except SystemExit as end:
        status = int(str(end.code))
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert err.startswith("xai-export: error: ")
    assert err.count("\n") == 1
    assert sorted(p.suffix for p in here.iterdir()) == [".onnx"] * 5, "something was written"
    return err.removeprefix("xai-export: error: ").removesuffix("\n")


METHOD_LIST = ", ".join(sorted([*METHODS, "class-map"]))
ASKED = {
    "grad-cem": f"--fuse grad-cem: no method that can be fused 'grad-cem' (did you mean 'grad-cam'?); there are {METHOD_LIST}",
    "rise": f"--fuse rise: no method that can be fused 'rise'; there are {METHOD_LIST}",
    "grad-cam:score=logit": "--fuse grad-cam:score=logit: grad-cam: no option 'score'; it has none",
    "score-cam:baseline=zeros": "--fuse score-cam:baseline=zeros: score-cam: no option 'baseline'; it has score, budget",
    "score-cam:budget=8": "--fuse score-cam:budget=8: score-cam: the budget of a graph is 16 to 64 channels, not 8",
    "score-cam:budget=65": "--fuse score-cam:budget=65: score-cam: the budget of a graph is 16 to 64 channels, not 65",
    "cam,reciprocam,cam": "--fuse: cam is given twice; each method has one file in the bundle",
    "reciprocam:score": "--fuse reciprocam:score: an option is written METHOD:NAME=VALUE, not 'score'",
    "reciprocam:=logit": "--fuse reciprocam:=logit: an option is written METHOD:NAME=VALUE, not '=logit'",
    "integrated-gradients:steps=0": "--fuse integrated-gradients:steps=0: integrated-gradients: steps are at least 1, not 0",
}


@pytest.mark.parametrize("asked", ASKED)
def test_what_is_asked_for(here: Path, capsys: pytest.CaptureFixture[str], asked: str) -> None:
    assert refused(capsys, here, "net.onnx", "--fuse", asked) == ASKED[asked]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("reciprocam:score=likelihood", ("score", "logit", "softmax", "'likelihood'")),
        ("cam:relu=maybe", ("cam.relu", "bool")),
        ("integrated-gradients:steps=many", ("integrated-gradients.steps", "int")),
        ("integrated-gradients:steps=2.5", ("steps", "2.5")),
        ("lrp:channels=max", ("channels", "max-abs", "'max'")),
        ("lrp:composite=nonsense", ("nonsense",)),
        ("relevance-cam:composite=nowhere.toml", ("nowhere.toml", "can't be read")),
    ],
)
def test_values(here: Path, capsys: pytest.CaptureFixture[str], asked: str, words: tuple[str, ...]) -> None:
    told = refused(capsys, here, "net.onnx", "--fuse", asked)
    assert told.startswith("--fuse " + asked.partition(":")[0])
    for word in words:
        assert word in told


def test_twice_by_two_options(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(capsys, here, "net.onnx", "--fuse", "cam", "--fuse", "grad-cam,cam:relu=false")
    assert told == "--fuse: cam is given twice; each method has one file in the bundle"


@pytest.mark.parametrize("option", ["--fixed-target", "--map-size=input", "--map-size=activation", "--uint8",
                                    "--embed-preprocess"])  # fmt: skip
def test_forms_without_a_method(here: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    assert refused(capsys, here, "net.onnx", option) == f"{option.partition('=')[0]} is for --fuse, which is not given"


@pytest.mark.parametrize("empty", ["", ",", " , "])
def test_no_method(here: Path, capsys: pytest.CaptureFixture[str], empty: str) -> None:
    """A script's empty variable must not pass for an export without fused graphs."""
    assert "--fuse" in refused(capsys, here, "net.onnx", "--fuse", empty)


def test_map_size(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(capsys, here, "net.onnx", "--fuse", "cam", "--map-size", "big")
    assert "--map-size" in told
    with pytest.raises(RequestError, match="--map-size is activation or input, not 'big'"):
        export(Request(here / "net.onnx", fuse=("cam",), map_size="big"))  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="--fuse takes names of methods"):
        export(Request(here / "net.onnx", fuse=(1,)))  # type: ignore[arg-type]


NETWORKS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "CAM behind a hidden layer": (
        ("hidden.onnx", "--fuse", "grad-cam,cam"),
        ("--fuse cam: CAM is defined only if", "--split auto", "reciprocam"),
    ),
    "too many channels": (
        ("wide.onnx", "--fuse", "score-cam"),
        ("--fuse score-cam: ", "at most 64 channels", "has 65", "score-cam:budget=64", "fuse another method"),
    ),
    "too many positions": (
        ("big.onnx", "--fuse", "reciprocam"),
        ("--fuse reciprocam: ", "25600 positions", "MiB per image", "1024", "split later"),
    ),
    "between 8-bit values": (
        ("bytes.onnx", "--fuse", "integrated-gradients"),
        ("--fuse integrated-gradients: ", "uint8", "float input"),
    ),
    "sharp filter": (
        ("net.onnx", "--fuse", "cam", "--embed-preprocess", "--interpolation", "bicubic", "--no-antialias"),
        ("--embed-preprocess", "bicubic without antialiasing"),
    ),
}


@pytest.mark.parametrize("case", NETWORKS)
def test_networks(here: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    (source, *arguments), words = NETWORKS[case]
    told = refused(capsys, here, source, *arguments)
    for word in words:
        assert word in told
    method = told.removeprefix("--fuse ").partition(":")[0]
    assert told.count(f"{method}: ") == 1, "says the method's name twice"


def test_sixty_four_channels_are_not_too_many(here: Path) -> None:
    b = o.Build()
    x = b("Relu", b.conv("image", 3, 64, 1), name="layer")
    onnx.save(b.model(b("Gemm", b.pooled(x), b.draw(64, C), out="scores")), "net.onnx")
    done = export(Request(here / "net.onnx", "layer", here / "out.xai", fuse=("score-cam",), preprocess="none"))
    assert "fused-score-cam" in done.manifest.graphs


def test_an_operator_without_a_rule(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The gradient graph itself is left out without a word too many; what was asked for by name is refused."""
    b = o.Build()
    x = b("Det", b("Add", b("GlobalAveragePool", b.features()), b.weight(np.eye(17, dtype=np.float32))))
    onnx.save(b.model(b("Gemm", x, b.draw(K, C), out="scores")), "net.onnx")
    told = refused(capsys, here, "net.onnx", "--fuse", "grad-cam")
    assert told.startswith("--fuse grad-cam: ")
    assert "Det" in told


def test_an_existing_bundle_stays(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = export(Request(here / "net.onnx", "layer", here / "kept.xai", preprocess="none"))
    before = {p.name: p.read_bytes() for p in done.path.iterdir()}
    assert (
        main(
            [
                "hidden.onnx",
                "--split",
                "layer",
                "-o",
                "kept.xai",
                "--overwrite",
                "--fuse",
                "cam",
                "--preprocess",
                "none",
            ]
        )
        == 2
    )
    assert {p.name: p.read_bytes() for p in done.path.iterdir()} == before
    assert not (here / "out.xai").exists()
    assert "CAM is defined only" in capsys.readouterr().err


def config(folder: Path, text: str) -> dict[str, Any]:
    (folder / "export.toml").write_text(text, encoding="utf-8")
    return load_config(folder / "export.toml")


def test_from_a_config_file(here: Path) -> None:
    values = config(
        here,
        """
        source = "net.onnx"
        preprocess = "none"
        fuse = ["cam", "reciprocam:score=softmax"]
        fixed-target = true
        map-size = "input"
        uint8 = true
        embed-preprocess = true
        """,
    )
    request = Request(**values, output_path=here / "out.xai")
    assert request.fuse == ("cam", "reciprocam:score=softmax")
    assert (request.fixed_target, request.map_size, request.uint8, request.embed_preprocess) == (
        True, "input", True, True,
    )  # fmt: skip
    assert list(export(request).manifest.graphs)[-2:] == ["fused-cam", "fused-reciprocam"]


def test_command_lines_methods_replace_the_files(here: Path) -> None:
    (here / "export.toml").write_text('fuse = ["cam"]\nuint8 = true\n', encoding="utf-8")
    command = [
        "net.onnx",
        "--config",
        "export.toml",
        "--preprocess",
        "none",
        "-o",
        "out.xai",
        "-q",
        "--fuse",
        "grad-cam, layer-cam",
    ]
    assert main([*command, "--fuse", "reciprocam:mask=gaussian"]) == 0
    found = sorted(p.name for p in (here / "out.xai").glob("fused-*"))
    assert found == ["fused-grad-cam.onnx", "fused-layer-cam.onnx", "fused-reciprocam.onnx"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('fuse = "cam"', "fuse = 'cam' is not a value"),
        ('fixed-target = "yes"', "fixed-target = 'yes' is not a value"),
        ("uint8 = 1", "uint8 = 1 is not a value"),
    ],
)
def test_values_of_a_config_file(here: Path, text: str, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        config(here, text)


def test_random_networks_have_no_fused_graphs(here: Path) -> None:
    """They are for comparing methods in the engine."""
    done = export(
        Request(here / "net.onnx", "layer", here / "out.xai", fuse=("cam",), uint8=True, randomise=1, preprocess="none")
    )
    assert "fused-cam" in done.manifest.graphs
    assert "fused-cam" not in done.randomised[0].manifest.graphs
