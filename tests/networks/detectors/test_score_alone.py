"""The gradient of a detector's scores alone: the same maps as from the whole gradient, without the branch of the boxes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from xai_deploy import Bundle, Explainer
from xai_deploy.errors import FormatVersionError, ManifestError, WrongResultError
from xai_deploy.format import parsing

from .conftest import ALL, Made

Get = Callable[[str], Made]
SCORES = ("yolov8", "yolov5", "boxes-scores", "end-to-end", "detr")


def changed(bundle: Path, folder: Path, change: Callable[[dict[str, Any]], object], **files: bytes) -> Path:
    """A copy of a bundle with another manifest, and other files under the names of their roles."""
    path = folder / "changed.xai"
    shutil.copytree(bundle, path)
    document = json.loads((path / "manifest.json").read_bytes())
    for role, data in files.items():
        name = f"{role.replace('_', '-')}.onnx"
        (path / name).write_bytes(data)
        document["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    change(document)
    document["digest"] = ""
    text = json.dumps(document, indent=1) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    (path / "manifest.json").write_text(text.replace('"digest": ""', f'"digest": "{digest}"', 1))
    return path


def without(document: dict[str, Any]) -> None:
    """As earlier versions wrote it."""
    del document["graphs"]["score-gradient"], document["files"]["score-gradient.onnx"]
    document["requires"] = [feature for feature in document["requires"] if feature == "levels"]


def opened(explainer: Explainer) -> set[str]:
    """The graphs that were run."""
    return set(explainer._sessions.opened)


@pytest.mark.parametrize("name", SCORES)
def test_same_maps_as_the_whole_gradient(name: str, made: Get, tmp_path: Path) -> None:
    """Also of an older bundle, which has the whole gradient alone."""
    own = made(name)
    path = changed(own.bundle, tmp_path, without)
    (path / "score-gradient.onnx").unlink()
    for backend in ("onnxruntime", "openvino"):
        whole, alone = (Explainer(bundle, backend, detections=ALL) for bundle in (path, own.bundle))
        for images in (own.images[:1], own.images):
            asked = ["hires-cam", "grad-cam"], ["box 1", "box 0 vs box 1", "not box 0"]
            for got, want in zip(alone.explain_many(images, *asked), whole.explain_many(images, *asked), strict=True):
                assert got.rows == want.rows
                maps = [(got.raw, want.raw), *((a.raw, b.raw) for a, b in zip(got.layers, want.layers, strict=True))]
                for one, other in maps:
                    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6 * max(1.0, np.abs(other).max()))
        assert "score-gradient" in opened(alone)
        assert "gradient" not in opened(alone)
        assert "gradient" in opened(whole)


def test_sides_take_the_whole_gradient(made: Get) -> None:
    explainer = Explainer(made("yolov8").bundle, detections=ALL)
    explainer.explain(made("yolov8").images, "layer-cam", "box 0:left")
    assert "gradient" in opened(explainer)
    assert "score-gradient" not in opened(explainer)


def test_the_branch_of_the_boxes_is_left_out(made: Get) -> None:
    """The whole graph has its convolutions, forwards and backwards; this one has neither."""
    convolutions = {}
    for role in ("gradient", "score-gradient"):
        model = onnx.load_from_string(Bundle.open(made("yolov8").bundle).graph(role))
        convolutions[role] = sum("Conv" in node.op_type for node in model.graph.node)
        names = {entry.name for entry in (*model.graph.initializer, *model.graph.input)}
        assert any("box" in name for name in names) == (role == "gradient")
    # of each level two convolutions of the boxes, forwards, and as many backwards
    assert convolutions["gradient"] - convolutions["score-gradient"] == 8


def test_a_wrong_graph_gives_no_map(made: Get, tmp_path: Path) -> None:
    own = made("yolov8")
    model = onnx.load_from_string(Bundle.open(own.bundle).graph("score-gradient"))
    [bias] = [entry for entry in model.graph.initializer if entry.name == "score.0.1.bias"]
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 5, bias.name))
    path = changed(own.bundle, tmp_path, lambda document: None, score_gradient=model.SerializeToString())
    with pytest.raises(WrongResultError, match="computes the graph 'score-gradient' wrongly: its logits differ"):
        Explainer(path, detections=ALL).explain(own.images, "layer-cam", "box 0")


def test_sizes_that_contradict_the_manifest(made: Get, tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        [seed] = [port for port in document["graphs"]["score-gradient"]["takes"] if port["name"] == "seed"]
        assert seed["shape"] == [None, 3]
        seed["shape"] = [None, 7]

    with pytest.raises(
        ManifestError, match=r"'score-gradient' has 'seed' of shape \[None, 7\], but .* says \[None, 3\]"
    ):
        Bundle.open(changed(made("yolov8").bundle, tmp_path, change))


def test_older_engines_refuse_by_name(made: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    """A feature that an engine does not know is named before anything else is read."""
    assert Bundle.open(made("yolov8").bundle).manifest.requires == ("levels", "rows")
    assert Bundle.open(made("end-to-end").bundle).manifest.requires == ("levels", "rows", "choices")
    assert Bundle.open(made("detr").bundle).manifest.requires == ("rows",)
    assert Bundle.open(made("yolov5").bundle).manifest.requires == ("levels", "rows", "objectness")
    monkeypatch.setattr(parsing, "FEATURES", frozenset({"levels", "rows"}))
    with pytest.raises(
        FormatVersionError, match=r"the bundle requires 'choices', which this version .* update xai-deploy"
    ):
        Bundle.open(made("end-to-end").bundle)
