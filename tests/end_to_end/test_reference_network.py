"""The network in models/, as its user would: exported and explained by the two commands, and held against its true boxes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xai_exporters import cli

from tests.support.localisation import box_mask, energy_gain
from tests.support.server import command
from xai_deploy import Explainer, read_image


@pytest.fixture(scope="module")
def model(root: Path) -> Path:
    return root / "models" / "clutter_digits"


@pytest.fixture(scope="module", params=["onnx", "state dict"])
def bundle(request: pytest.FixtureRequest, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    common = ["--config", model / "export.toml", "--split", "stage3", "-o", "digits.xai"]
    source: list[object] = [model / "clutter_digits.onnx"]
    if request.param == "state dict":
        source = [model / "clutter_digits.pt", "--arch", f"{model / 'network.py'}:clutter_net"]
    result = command("xai-export", *source, *common, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert "verified" in result.stdout
    return folder / "digits.xai"


def samples(model: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads((model / "samples" / "boxes.json").read_text())
    return entries


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_predictions_and_labels(bundle: Path, model: Path, backend: str) -> None:
    explainer = Explainer(bundle, backend)
    entries = samples(model)
    images = [read_image(model / "samples" / entry["image"]) for entry in entries]
    predicted = explainer.predict(images).argmax(axis=1)
    assert [explainer.labels[i] for i in predicted] == [entry["label"] for entry in entries]


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    "method",
    [
        "reciprocam",
        "score-cam",
        "cam",
        "grad-cam",
        "grad-cam++",
        "xgrad-cam",
        "hires-cam",
        "layer-cam",
        "relevance-cam",
    ],
)
def test_maps_lie_on_the_digits(bundle: Path, model: Path, method: str, backend: str) -> None:
    """Every map's highest point is in the true box, and its energy there far above a uniform map's."""
    entries = samples(model)
    images = [read_image(model / "samples" / entry["image"]) for entry in entries]
    e = Explainer(bundle, backend).explain(images, method)
    gains = []
    for heatmap, entry in zip(e.heatmap, entries, strict=True):
        mask = box_mask([entry["box"]], 64, 64)
        inside, uniform = energy_gain(heatmap, mask)
        gains.append(inside / uniform)
        left, top, right, bottom = entry["box"]
        grown = box_mask([(left - 4, top - 4, right + 4, bottom + 4)], 64, 64)  # by half a cell of the 8 x 8 map
        assert grown[np.unravel_index(heatmap.argmax(), heatmap.shape)], entry["image"]
    assert np.mean(gains) > 2.5


def test_wrong_class_gives_another_map(bundle: Path, model: Path) -> None:
    """The maps explain the class asked for, not the image alone."""
    image = read_image(model / "samples" / samples(model)[0]["image"])
    for method in ("reciprocam", "score-cam", "cam", "grad-cam", "layer-cam", "relevance-cam"):
        ours, other = Explainer(bundle).explain_many([image], [method], ["top2"])
        assert ours.target != other.target
        assert np.corrcoef(ours.heatmap.ravel(), other.heatmap.ravel())[0, 1] < 0.999


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_command_line(bundle: Path, model: Path, tmp_path: Path, backend: str) -> None:
    methods = "reciprocam,reciprocam:score=softmax:mask=gaussian,score-cam,cam"
    options = ["--method", methods, "--target", "top2", "--backend", backend, "-o", "out"]
    result = command("xai-explain", bundle, model / "samples", *options, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    report = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(report["images"]) == 12
    for image in report["images"]:
        assert len(image["explanations"]) == 4 * 2
    assert len(list((tmp_path / "out").glob("*.npy"))) == 12 * 8
    assert (tmp_path / "out" / "contact-sheet.png").stat().st_size > 10_000


def test_relevance_from_the_command_line(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A composite by name and one from a file, at the activation and at the pixels."""
    (tmp_path / "mine.toml").write_text(
        'base = "epsilon-plus"\n[nodes]\n"stage3.1" = {rule = "gamma", gamma = 0.5}\n', encoding="utf-8"
    )
    source = [model / "clutter_digits.pt", "--arch", f"{model / 'network.py'}:clutter_net"]
    options = ["--config", model / "export.toml", "--composite", "mine.toml", "--composite", "epsilon-gamma-box"]
    monkeypatch.chdir(tmp_path)
    for keep, backend in (([], "onnxruntime"), (["--keep-batchnorm"], "openvino")):
        more = ["--split", "stage2", "--pixel-relevance", "-o", "net.xai", "--overwrite", *keep]
        assert cli.main([str(argument) for argument in (*source, *options, *more)]) == 0
        manifest = json.loads((tmp_path / "net.xai" / "manifest.json").read_text())
        assert {role: name for role, name in manifest["composites"].items() if not role.startswith("pixel")} == {
            "relevance": "relevance-cam",
            "relevance-mine": "mine",
            "relevance-epsilon-gamma-box": "epsilon-gamma-box",
        }
        assert set(manifest["composites"]) < set(manifest["graphs"])
        methods = (
            "relevance-cam,relevance-cam:composite=mine,lrp,lrp:composite=mine,clrp:composite=epsilon-gamma-box,sglrp"
        )
        explain = ["--method", methods, "--target", "top2", "--backend", backend, "-o", "out", "--overwrite"]
        entries = samples(model)
        files = [model / "samples" / entry["image"] for entry in entries]
        result = command("xai-explain", "net.xai", *files[:3], *explain, cwd=tmp_path)
        assert (result.returncode, result.stderr) == (0, "")
        assert len(list((tmp_path / "out").glob("*.npy"))) == 3 * 6 * 2
        images = [read_image(file) for file in files]
        for method in ("relevance-cam", "lrp"):
            e = Explainer(tmp_path / "net.xai", backend).explain(images, method)
            gains = []
            for raw, entry in zip(e.raw, entries, strict=True):
                scale = 64 // raw.shape[0]
                positive = np.kron(np.maximum(raw, 0), np.ones((scale, scale)))
                inside, uniform = energy_gain(positive, box_mask([entry["box"]], 64, 64))
                gains.append(inside / uniform)
            assert np.mean(gains) > 1.5, (method, keep, gains)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--composite", "epsilon"], "no composite 'epsilon'"),
        (["--composite", "none.toml"], "none.toml: can't be read (No such file or directory)"),
        (["--composite", "bad.toml"], "bad.toml: [ops] Conv: no rule 'zplus'; there are alpha-beta, epsilon"),
        (["--composite", "far.toml"], "composite 'far': [nodes] 'layer9' fits nothing in this network"),
        (["--keep-batchnorm"], "holds no BatchNormalization; the export"),
        (["--roles", "relevance-mine"], "no role 'relevance-mine'; there are head, tail"),
    ],
)
def test_refusals_of_relevance(
    model: Path,
    tmp_path: Path,
    options: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text('[ops]\nConv = "zplus"\n', encoding="utf-8")
    (tmp_path / "far.toml").write_text('[nodes]\nlayer9 = "z-plus"\n', encoding="utf-8")
    source = str(model / "clutter_digits.onnx")
    assert cli.main([source, *options, "--preprocess", "none", "-o", "net.xai"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "net.xai").exists()


def test_a_changed_byte_is_one_line_and_status_2(bundle: Path, model: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.xai"
    damaged.mkdir()
    for file in bundle.iterdir():
        data = bytearray(file.read_bytes())
        if file.name == "tail.onnx":
            data[len(data) // 2] ^= 1
        (damaged / file.name).write_bytes(data)
    result = command("xai-explain", damaged, model / "samples", "-o", "out", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "tail.onnx: changed since the bundle was written" in result.stderr
    assert not (tmp_path / "out").exists()
