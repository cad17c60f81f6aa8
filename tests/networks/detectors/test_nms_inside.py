"""Suppression inside the graph: lists of boxes, and a table with empty rows, against greedy suppression of the live network."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto
from xai_exporters import Request, export
from xai_exporters.errors import ExportError

from xai_deploy import DetectionLimits, Explainer
from xai_deploy.cli.explain import main as explain
from xai_deploy.errors import NotApplicableError, TargetError
from xai_deploy.images import encode_image
from xai_deploy.methods.rise import Rise
from xai_deploy.methods.sets import default_method
from xai_deploy.records import records

from . import nets
from .conftest import ALL, Made
from .test_drise import detections, overlap

LOWEST = 0.575
"""The threshold in the graph; noise does not reach 0.999, which `test_thresholds_hide_nothing` takes."""
LIMITS = DetectionLimits(score=0.0)
RESIZED = {"lists": "stretch", "table": "letterbox"}
"""How photos are brought to the network's size in the bundle of each form."""


def with_suppression(source: Path, form: str, lowest: float = LOWEST) -> onnx.ModelProto:
    """YOLOv8's file with what torchvision ("lists", after a question whether there are boxes) or Ultralytics ("table") adds."""
    model = onnx.load(source)
    graph = model.graph
    rows, counter = graph.output[0].name, itertools.count()

    def number(array: Any) -> str:
        name = f"number_{len(graph.initializer)}"
        graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(op: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        made = name or f"made_{next(counter)}"
        graph.node.append(onnx.helper.make_node(op, inputs, [made], **attributes))
        return made

    first, last = number([0]), number([1])
    one = node("Squeeze", node("Transpose", rows, perm=[0, 2, 1]), first)
    centre, size, shares = (node("Slice", one, number([a]), number([b]), last) for a, b in ((0, 2), (2, 4), (4, 7)))
    half = node("Mul", size, number(np.float32(0.5)))
    boxes = node("Concat", node("Sub", centre, half), node("Add", centre, half), axis=1)
    best, index = (node("ReduceMax", shares, last, keepdims=0), node("ArgMax", shares, axis=1, keepdims=0))
    sure = node("Squeeze", node("NonZero", node("Greater", best, number(np.float32(lowest)))), first)
    boxes, best, index = (node("Gather", value, sure) for value in (boxes, best, index))
    outer, kept = list(graph.node), "kept"
    apart = node(
        "Unsqueeze", node("Mul", node("Cast", index, to=TensorProto.FLOAT), node("ReduceMax", boxes, keepdims=0)), last
    )
    given = node("Unsqueeze", node("Add", boxes, apart), first), node("Unsqueeze", best, number([0, 1]))
    most, share = number([100]), number(np.array([ALL.overlap], np.float32))
    chosen = node("NonMaxSuppression", *given, most, share)
    node("Squeeze", node("Gather", chosen, number([2]), axis=1), last, name=kept)
    if form == "lists":
        value = onnx.helper.make_tensor_value_info(kept, TensorProto.INT64, ["n"])
        inside = onnx.helper.make_graph(list(graph.node)[len(outer) :], "some", [], [value])
        none = onnx.helper.make_node("Constant", [], [kept], value=onnx.numpy_helper.from_array(np.zeros(0, np.int64)))
        nothing = onnx.helper.make_graph([none], "none", [], [value])
        del graph.node[len(outer) :]
        found = node("Equal", node("Size", boxes), number(0))
        graph.node.append(onnx.helper.make_node("If", [found], [kept], then_branch=nothing, else_branch=inside))
    del graph.output[:]
    if form == "lists":
        for name, held, kind in (("boxes", boxes, 1), ("labels", index, 7), ("scores", best, 1)):
            node("Gather", held, kept, name=name)
            shape: list[str | int | None] = ["n", 4] if name == "boxes" else ["n"]
            graph.output.append(onnx.helper.make_tensor_value_info(name, kind, shape))
        return model
    columns = [node("Gather", held, kept) for held in (boxes, best, node("Cast", index, to=TensorProto.FLOAT))]
    table = node("Concat", columns[0], *(node("Unsqueeze", column, last) for column in columns[1:]), axis=1)
    left = node("Sub", number([120]), node("Shape", table, start=0, end=1))
    padded = node("Pad", table, node("Concat", number([0, 0]), left, first, axis=0))
    node("Unsqueeze", padded, first, name="output0")
    graph.output.append(onnx.helper.make_tensor_value_info("output0", 1, [1, 120, 6]))
    return model


@pytest.fixture(scope="module", params=["lists", "table"])
def inside(
    request: pytest.FixtureRequest, made: Callable[[str], Made], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """Explainers of a form, one for each runtime."""
    folder = tmp_path_factory.mktemp(request.param)
    onnx.save(with_suppression(made("yolov8").source, request.param), folder / "net.onnx")
    fields = {"resize": RESIZED[request.param]}
    request_ = Request(folder / "net.onnx", output_path=folder / "net.xai", preprocess="unit", preprocess_fields=fields)
    path = export(request_).path
    return tuple(Explainer(path, backend, detections=LIMITS) for backend in ("onnxruntime", "openvino"))


def live(own: Made, x: Any) -> list[tuple[Any, float, int]]:
    """Box, probability and class of each detection above the threshold, the best one first."""
    found = [(box, float(shares.max()), int(shares.argmax())) for box, _, shares in detections(own, x, 300)]
    return [one for one in found if one[1] > LOWEST]


def test_what_is_found(inside: Any, made: Callable[[str], Made]) -> None:
    own = made("yolov8")
    for explainer in inside:
        rows = explainer.bundle.manifest.scores.rows
        assert (rows.decoder, rows.unit, rows.form) == ("nms-inside", "pixels", "corners")
        got = explainer.explain(own.images, "rise", "box 0", masks=2)
        for image, x in zip(got.detections, own.images, strict=True):
            wanted = live(own, x)
            assert 2 < len(wanted) < 60
            assert [one.index for one in image] == [index for _, _, index in wanted]
            np.testing.assert_allclose([one.box for one in image], [box for box, _, _ in wanted], rtol=1e-4, atol=1e-3)
            np.testing.assert_allclose([one.score for one in image], [share for _, share, _ in wanted], rtol=1e-4)


def brought(pixels: Any, resize: str) -> tuple[Any, Any, Any]:
    """The network's input [3,64,96] from pixels [h,w,3]; what corners lose, and are then divided by, to be the photo's."""
    h, w = pixels.shape[:2]
    there = np.array([nets.SIZE[0] / h, nets.SIZE[1] / w])
    gain = there if resize == "stretch" else np.full(2, there.min())
    size = [round(gain[0] * h), round(gain[1] * w)]
    grown = F.interpolate(torch.from_numpy(pixels).double().permute(2, 0, 1)[None], size, mode="bilinear")[0] / 255
    top, left = (round((whole - part) / 2 - 0.1) for whole, part in zip(nets.SIZE, size, strict=True))
    x = torch.full((3, *nets.SIZE), 114 / 255, dtype=torch.float64)
    x[:, top : top + size[0], left : left + size[1]] = grown
    return x.numpy(), np.array([left, top] * 2), np.array([gain[1], gain[0]] * 2)


def test_photos_of_other_shapes(inside: Any, made: Callable[[str], Made], tmp_path: Path) -> None:
    """On the command line boxes are in the pixels of the photo, whatever its sides, in results and in records."""
    bundle = inside[0].bundle
    photos = []
    for name, size in (("wide", (48, 90)), ("tall", (60, 40))):
        photos.append(np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8))
        (tmp_path / f"{name}.png").write_bytes(encode_image(photos[-1]))
    options = [
        "-m",
        "rise:masks=2",
        "--detect-score",
        "0",
        "-o",
        str(tmp_path / "out"),
        "--records",
        str(tmp_path / "r"),
    ]
    assert explain([str(bundle.path), str(tmp_path / "wide.png"), str(tmp_path / "tall.png"), *options]) == 0
    seen = json.loads((tmp_path / "out" / "results.json").read_text())["images"]
    kept = [record for _, record in records(tmp_path / "r")]
    for pixels, image, record in zip(photos, seen, kept, strict=True):
        x, offset, scale = brought(pixels, str(bundle.manifest.input.preprocess.resize))
        box, score, index = live(made("yolov8"), x)[0]
        first = image["prediction"][0]
        assert first["class"] == index
        np.testing.assert_allclose(first["score"], score, atol=2e-3)
        np.testing.assert_allclose(first["box"], (np.asarray(box) - offset) / scale, atol=0.5)
        assert record.prediction[0].box == pytest.approx(first["box"], abs=1e-3)
    assert (
        default_method(bundle.manifest) == "rise"
    )  # Recipro-CAM, which other bundles without gradients take, is refused


def test_rise(inside: Any, made: Callable[[str], Made]) -> None:
    """D-RISE: a row states one class, so the best overlap with a detection of this class."""
    own, masks = made("yolov8"), 12
    x = 20 * own.images[1]  # so that boxes depend on the masks
    rng = np.random.default_rng(Rise().seed)
    drawn = np.stack([Rise()._mask(rng, *nets.SIZE) for _ in range(masks)])
    box, _, index = live(own, x)[0]
    seen = [live(own, x * mask) for mask in drawn]
    scores = np.array([max((overlap(box, b, 0) for b, _, i in one if i == index), default=0.0) for one in seen])
    assert scores.std() > 0.01
    wanted = np.tensordot(scores, drawn.astype(np.float64), 1) / masks / 0.5
    for explainer in inside:
        raw = explainer.explain(x[None], "rise", "box 0", masks=masks).raw[0]
        np.testing.assert_allclose(raw, wanted, rtol=1e-4)


def test_what_can_not_be_had(inside: Any, made: Callable[[str], Made]) -> None:
    explainer, x = inside[0], made("yolov8").images[:1]
    for method in ("layer-cam", "lrp", "integrated-gradients"):
        with pytest.raises(
            NotApplicableError, match=f"{method}: .*no gradient passes the suppression inside the graph"
        ):
            explainer.explain(x, method)
    with pytest.raises(NotApplicableError, match=r"chooses its rows anew in each run \(suppression\)"):
        explainer.explain(x, "reciprocam")
    with pytest.raises(TargetError, match="box 0, left: the network's own suppression gives other rows in each run"):
        explainer.explain(x, "rise", "box 0:left")
    assert explainer.explain(x, "score-cam", "@10,10,30,30").raw.any()


def test_thresholds_hide_nothing(made: Callable[[str], Made], tmp_path: Path) -> None:
    """The form of the list is seen although no probe image has a box above the threshold; an image without one says so."""
    onnx.save(with_suppression(made("yolov8").source, "table", 0.9999), tmp_path / "net.onnx")
    path = export(Request(tmp_path / "net.onnx", output_path=tmp_path / "net.xai", preprocess="none")).path
    with pytest.raises(Exception, match="the network finds nothing in this image"):
        Explainer(path).explain(made("yolov8").images[:1], "rise", masks=2)


def test_not_such_a_list(made: Callable[[str], Made], tmp_path: Path) -> None:
    def refused(said: str, source: Path, **options: Any) -> None:
        with pytest.raises(ExportError, match=said):
            export(Request(source, output_path=tmp_path / "x.xai", preprocess="none", **options))

    refused("--decoder nms-inside: no output is computed from", made("yolov8").source, decoder="nms-inside")
    model = with_suppression(made("yolov8").source, "lists")
    del model.graph.output[1:]
    onnx.save(model, tmp_path / "net.onnx")
    refused(
        r"NonMaxSuppression is inside the graph, and the outputs \(boxes .*hold no known list", tmp_path / "net.onnx"
    )
    onnx.save(with_suppression(made("yolov8").source, "table"), tmp_path / "net.onnx")
    refused("no gradient passes the suppression", tmp_path / "net.onnx", roles=("gradient",))
