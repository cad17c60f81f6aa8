"""What is written beside a bundle, from the command line: refused early, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from xai_exporters import cli, pipeline
from xai_exporters.deliver import delivery
from xai_exporters.errors import RequestError

from .. import onnx_nets as o
from ..nets import CLASSES


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    onnx.save(o.classifier(), tmp_path / "net.onnx")
    return tmp_path


def call_input(source: Path, name: str) -> None:
    model = o.classifier()
    [image] = model.graph.input
    for node in model.graph.node:
        node.input[:] = [name if x == image.name else x for x in node.input]
    image.name = name
    onnx.save(model, source / "net.onnx")


def run(*options: str) -> int:
    return cli.main(["net.onnx", "--split", "auto", "--preprocess", "none", "-q", "--roles", "head,tail", *options])


@pytest.mark.parametrize("form", [(), ("--format", "openvino")])
def test_repository_holds_the_plain_network_beside_the_fused(source: Path, form: tuple[str, ...]) -> None:
    assert run("--fuse", "grad-cam,grad-cam++", "--serve-repo", "triton", "repo", *form) == 0
    names = {"net", "net-grad-cam", "net-grad-campp"}
    assert {p.name for p in (source / "repo").iterdir()} == names | {"xai-repository.json"}
    files = {"model.xml", "model.bin"} if form else {"model.onnx"}
    assert {p.name for p in (source / "repo" / "net" / "1").iterdir()} == files
    x = np.random.default_rng(0).standard_normal((2, 3, 16, 20)).astype(np.float32)
    original = onnxruntime.InferenceSession(source / "net.onnx")
    [wanted] = [original.run(None, {original.get_inputs()[0].name: row[None]})[0] for row in x[:1]]
    model = openvino.Core().compile_model(
        source / "repo" / "net" / "1" / sorted(files)[-1], "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    np.testing.assert_allclose(model(x)[0][:1], wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--serve-repo", "triton", "repo"], "--serve-repo is for --fuse, which is not given"),
        (["--web", "page"], "--web is for --fuse, which is not given"),
        (["--fuse", "cam", "--ort-web", "x.tgz"], "--ort-web is for --web, which is not given"),
        (["--fuse", "cam", "--web-title", "x"], "--web-title is for --web, which is not given"),
        (["--fuse", "cam", "--web-samples", "there"], "--web-samples is for --web, which is not given"),
        (["--fuse", "cam", "--web", "page", "--web-title", ""], "--web-title takes a name; got ''"),
        (["--fuse", "cam", "--web", "page", "--web-title", "a\nb"], "--web-title takes printable text; got 'a\\nb'"),
        (["--fuse", "cam", "--web", "page", "--web-samples", "there"], "--web-samples there: holds no picture"),
        (["--fuse", "cam", "--serve-repo", "tritn", "repo"], "no server 'tritn' (did you mean 'triton'?)"),
        (["--fuse", "cam", "--serve-repo", "ovms", "there"], "there: exists already; give --overwrite to replace it"),
        (["--fuse", "cam", "--web", "there"], "there: exists already; give --overwrite to replace it"),
        (["--fuse", "cam", "--web", "net.xai"], "the bundle and --web need separate folders"),
        (
            ["--fuse", "cam", "--serve-repo", "ovms", "net.xai/repo"],
            "the bundle and --serve-repo need separate folders",
        ),
        (
            ["--fuse", "cam", "--serve-repo", "ovms", "a", "--web", "a"],
            "--serve-repo and --web need separate folders",
        ),
        (["--fuse", "cam", "--web", "no/where"], "no: no such folder; create it first"),
        (["--format", "openvino"], "--format is for --fuse, which is not given"),
    ],
)
def test_refusals(source: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str) -> None:
    """Before anything is read; nothing is written."""
    (source / "there").mkdir()
    assert run(*options) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert {p.name for p in source.iterdir()} == {"net.onnx", "there"}


def test_another_name_of_the_same_folder(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (source / "link").symlink_to(source)
    for page in ("link/net.xai", "link/net.randomised-1-of-2.xai"):
        assert run("--fuse", "cam", "--web", page, "--randomise", "2") == 2
        assert "the bundle and --web need separate folders" in capsys.readouterr().err
    assert {p.name for p in source.iterdir()} == {"net.onnx", "link"}


def test_a_link_to_itself(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (source / "loop").symlink_to("loop")
    assert run("-o", "loop") == 2
    assert "loop: exists already" in capsys.readouterr().err


def test_the_folder_that_failed_is_named(
    source: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def fails(old: Path, new: Path) -> None:
        if Path(new).name == "repo":
            raise OSError(28, "No space left on device", str(old), None, str(new))
        rename(old, new)

    monkeypatch.setattr(os, "rename", fails)
    assert run("--fuse", "cam", "--serve-repo", "triton", "repo") == 2
    assert "repo: can't be put in place (No space left on device)" in capsys.readouterr().err
    assert {p.name for p in source.iterdir()} == {"net.onnx"}


def test_all_or_nothing(source: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails last leaves nothing of what came before: the page and the repository move into place with the bundle."""

    def fails(*_: object) -> None:
        assert len([p for p in source.iterdir() if p.name.endswith(".partial")]) == 3
        raise RequestError("at the end")

    monkeypatch.setattr(pipeline, "_prefixed", fails)  # called between the bundle and those of random weights
    monkeypatch.setattr(
        delivery, "runtime_files", lambda *_: {"ort.wasm.min.mjs": b"", "ort-wasm-simd-threaded.wasm": b""}
    )
    options = ("--fuse", "cam", "--serve-repo", "triton", "repo", "--web", "page", "--randomise", "1")
    assert run(*options) == 2
    assert "at the end" in capsys.readouterr().err
    assert {p.name for p in source.iterdir()} == {"net.onnx"}


def test_what_has_come_to_exist_meanwhile_stays(
    source: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def then(*given: Any) -> None:
        deliver(*given)
        (source / "repo").mkdir()
        (source / "repo" / "mine").touch()

    deliver = delivery.deliver
    monkeypatch.setattr(pipeline, "deliver", then)
    assert run("--fuse", "cam", "--serve-repo", "triton", "repo") == 2
    assert "repo: appeared during the export; give --overwrite to replace it" in capsys.readouterr().err
    assert {p.name for p in source.iterdir()} == {"net.onnx", "repo"}
    assert [p.name for p in (source / "repo").iterdir()] == ["mine"]


def test_several_outputs_of_log_probabilities(source: Path) -> None:
    """The scores are those of the output asked for, not of the first of that size."""
    nodes = [onnx.helper.make_node("LogSoftmax", [x], [y]) for x, y in (("scores", "second"), ("flat", "first"))]
    model = o.classifier()
    nodes.insert(0, onnx.helper.make_node("Neg", ["scores"], ["flat"]))
    model.graph.node.extend(nodes)
    del model.graph.output[:]
    for name in ("first", "second"):
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", CLASSES]))
    onnx.save(model, source / "net.onnx")
    (source / "labels.txt").write_text("".join(f"{i}\n" for i in range(CLASSES)))
    more = ("--output", "second", "--labels", "labels.txt")
    assert run("--fuse", "cam", "--serve-repo", "triton", "repo", *more) == 0
    text = (source / "repo" / "net" / "config.pbtxt").read_text()
    entry = text[text.index('"second"') :]
    assert "labels.txt" in entry[: entry.index("}")]
    assert text.count("labels.txt") == 1


def test_an_input_with_a_name_of_the_bundles_own(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bundle renames it; what is served under the network's own names can't."""
    call_input(source, "target")
    assert run() == 0
    assert run("--overwrite", "--fuse", "cam") == 2
    said = "the network's input is called 'target', a name that is reserved in bundles; rename it"
    assert said in capsys.readouterr().err


def test_a_comma_in_a_name(source: Path) -> None:
    call_input(source, "a,b")
    assert run("--fuse", "cam", "--serve-repo", "triton", "repo", "--format", "openvino") == 0
    assert 'name: "a,b"' in (source / "repo" / "net" / "config.pbtxt").read_text()


@pytest.mark.parametrize("value", ['[1, "x"]', '["triton", 1]', '["triton"]'])
def test_no_server_or_folder_in_a_config_file(source: Path, capsys: pytest.CaptureFixture[str], value: str) -> None:
    (source / "mine.toml").write_text(f"serve-repo = {value}\n")
    assert run("--fuse", "cam", "--config", "mine.toml") == 2
    assert "--serve-repo takes the kind of server and a folder (from Python a Path); got (" in capsys.readouterr().err


def test_a_failed_page_leaves_nothing(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The bundle appears after what is made of it."""
    (source / "ort").mkdir()
    assert run("--fuse", "cam", "--web", "page", "--ort-web", "ort") == 2
    assert "ort" in capsys.readouterr().err
    assert {p.name for p in source.iterdir()} == {"net.onnx", "ort"}
