"""Detectors for OpenVINO Model API: maps of all classes as a graph, boxes as its SSD wrapper reads them, and what it returned."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
import torch
from xai_exporters import Request, export
from xai_exporters.errors import ExportError

from tests.exporters import onnx_nets as o
from tests.exporters.checks import open_vino
from tests.exporters.roles.fuse.harness import onnxruntime
from xai_deploy import Explainer, read_image

from . import nets
from .conftest import Made
from .test_class_map import live
from .test_fused import layer_cam, stretched
from .test_layouts import corners_of, shares_of

HERE = Path(__file__).parent / "model_api"
Get = Callable[[str], Made]


def exported(source: Path, folder: Path, *fuse: str, **options: Any) -> Path:
    given = {
        "output_path": folder / "all.xai",
        "preprocess": "none",
        "roles": ("gradient",),
        "all_classes": True,
        **options,
    }
    return export(Request(source, fuse=fuse, **given)).path


def renamed(own: Made, folder: Path) -> Path:
    """The detector with outputs called as Model API calls what it looks for."""
    model = onnx.load(own.source)
    names = dict(zip([value.name for value in model.graph.output], ("scores", "boxes"), strict=True))
    for node in model.graph.node:
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in model.graph.output:
        value.name = names[value.name]
    onnx.save(model, folder / "net.onnx")
    return folder / "net.onnx"


@pytest.mark.parametrize("name", ["yolov8", "boxes-scores"])
def test_maps_and_boxes(name: str, made: Get, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The formulas on the live network: class maps, boxes, and LayerCAM of each class's best row by autograd."""
    own = made(name)
    caplog.set_level(logging.WARNING)
    source = renamed(own, tmp_path) if name == "boxes-scores" else own.source
    path = exported(source, tmp_path, "class-map", "layer-cam", format="openvino")
    with torch.no_grad():
        rows = own.network.rows(own.x)
    best, classes = shares_of(own, rows).max(1)
    image = Explainer(path).bundle.manifest.input.name
    wanted = live(own)
    if name == "boxes-scores":
        wanted[:, 0] = 0  # no object
    for runtime in (onnxruntime, open_vino):
        for images in (1, 3):
            maps = runtime((path / "fused-class-map.onnx").read_bytes(), {image: own.images[:images]})["saliency_map"]
            for index in range(nets.CLASSES):
                np.testing.assert_allclose(maps[:, index], stretched(wanted[:images, index]), atol=2e-4)
        maps = runtime((path / "fused-layer-cam.onnx").read_bytes(), {image: own.images})["saliency_map"]
        for one in range(nets.CLASSES):
            there = (classes == one).any(1).double()
            row = torch.where(classes == one, best, -1.0).argmax(1)

            def score(x: torch.Tensor, one: int = one, row: Any = row, there: Any = there) -> torch.Tensor:
                picked: torch.Tensor = own.network.rows(x)[torch.arange(3), one, row] * there
                return picked

            np.testing.assert_allclose(maps[:, one], layer_cam(own, score), atol=1e-4)
    core = openvino.Core()
    model = core.read_model(path / "fused-class-map.xml")
    outputs = {value.get_any_name() for value in model.outputs}
    assert {"boxes", "labels", "saliency_map"} <= outputs
    hidden = [record.getMessage() for record in caplog.records if "the IR has no output 'boxes'" in record.getMessage()]
    assert bool(hidden) == (name == "boxes-scores")
    results = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})({image: own.images})
    np.testing.assert_array_equal(results["labels"], classes)
    places = torch.cat([corners_of(own, rows[:, -4:]), best[:, None]], 1).transpose(1, 2)
    np.testing.assert_allclose(results["boxes"], places, rtol=1e-4, atol=1e-3)
    info = {key: value.astype(str) for key, value in model.get_rt_info("model_info").astype(dict).items()}
    assert info["model_type"] == "SSD"
    assert [info[key] for key in ("confidence_threshold", "iou_threshold", "nms_execute", "nms_max_predictions")] == [
        "0.25", "0.7", "True", "300"
    ]  # fmt: skip


def test_what_model_api_returned(tmp_path: Path) -> None:
    """OpenVINO Model API 0.4.7 on a file exported so (`scripts/check_model_api --keep`), against the engine and the file itself."""
    labels = tmp_path / "labels.txt"
    labels.write_text("cat\ndog\ntraffic light\n")
    fields = {"resize": "letterbox"}
    path = exported(
        HERE / "net.onnx",
        tmp_path,
        "class-map",
        preprocess="unit",
        preprocess_fields=fields,
        labels=labels,
        format="openvino",
    )
    with np.load(HERE / "returned.npz") as theirs:
        assert str(theirs["wrapper"]) == "SSD"
        classes, scores, boxes, maps = (theirs[key] for key in ("classes", "scores", "boxes", "saliency_map"))
    image = read_image(HERE / "photo.png")
    explainer = Explainer(path, "openvino")
    e = explainer.explain(image, "class-map")
    assert len(classes) > 4
    assert [one.index for one in e.detections[0]] == classes.tolist()
    np.testing.assert_allclose([one.score for one in e.detections[0]], scores, atol=1e-6)
    height, width = image.shape[:2]
    cut = np.clip([one.box for one in e.detections[0]], 0, [width, height, width, height])
    np.testing.assert_allclose(cut, boxes, atol=0.51)  # whole pixels
    for index in set(classes.tolist()):
        raw = explainer.explain(image, "class-map", index).raw[0]
        np.testing.assert_allclose((raw - raw.min()) / np.ptp(raw), maps[0, index], atol=1e-5)
    info = openvino.Core().read_model(path / "fused-class-map.xml").get_rt_info("model_info").astype(dict)
    assert {key: info[key].astype(str) for key in ("labels", "resize_type", "pad_value")} == {
        "labels": "cat dog traffic_light", "resize_type": "fit_to_window_letterbox", "pad_value": "114"
    }  # fmt: skip


def test_many_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best rows alone, the best one first."""
    monkeypatch.setattr("xai_exporters.roles.fuse.boxes.MOST_BOXES", 7)
    path = exported(HERE / "net.onnx", tmp_path, "class-map", preprocess="unit", format="openvino")
    x = np.random.default_rng(0).random((3, 3, *nets.SIZE), np.float32)
    core = openvino.Core()
    model = core.read_model(path / "fused-class-map.xml")
    results = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})({"image": x})
    [own] = [value for key, value in results.items() if not {"boxes", "labels", "saliency_map"} & key.names]
    for i in range(3):
        order = np.argsort(-own[i, 4:].max(axis=0), kind="stable")[:7]
        np.testing.assert_array_equal(results["labels"][i], own[i, 4:, order].argmax(axis=1))
        np.testing.assert_allclose(results["boxes"][i, :, 4], own[i, 4:, order].max(axis=1), atol=1e-6)
        half = own[i, 2:4, order] / 2
        corners = np.concatenate([own[i, :2, order] - half, own[i, :2, order] + half], axis=1)
        np.testing.assert_allclose(results["boxes"][i, :, :4], corners, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        (
            "end-to-end",
            {},
            "--fuse layer-cam: --all-classes gives a map of each class, and the network has rows that state",
        ),
        (
            "end-to-end",
            {"all_classes": False, "fuse": "class-map"},
            "--fuse class-map: .* has rows that are no cells; fuse",
        ),
        (
            "classifier",
            {"all_classes": False, "fuse": "class-map"},
            "--fuse class-map: .* is no detector; fuse another method",
        ),
        ("classifier", {"fuse": "class-map:layer=1"}, "--fuse class-map:layer=1: class-map: no option 'layer'"),
    ],
)
def test_refused(name: str, options: dict[str, Any], said: str, made: Get, tmp_path: Path) -> None:
    onnx.save(o.classifier(), tmp_path / "net.onnx")
    given = dict(options)
    source = tmp_path / "net.onnx" if name == "classifier" else made(name).source
    with pytest.raises(ExportError, match=said):
        exported(source, tmp_path, given.pop("fuse", "layer-cam"), **given)
    assert not (tmp_path / "all.xai").exists()
