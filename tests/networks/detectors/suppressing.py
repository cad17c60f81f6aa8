"""A detector with its suppression inside the graph, in the forms in which exporters write the boxes that are left."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from . import nets
from .conftest import ALL

LOWEST = 0.575
"""The threshold in the graph; noise does not reach 0.999, which `test_thresholds_hide_nothing` takes."""

TABLES = {
    "paddle": "class score box",  # PaddleDetection's multiclass_nms3 by Paddle2ONNX
    "yolov7": "image box class score",  # export.py --end2end --max-wh
    "yolo-nas": "image box score class",  # super-gradients, DetectionOutputFormatMode.FLAT_FORMAT
    "efficientdet": "image box score class",  # google/automl by tf2onnx: top, left, bottom, right, in pixels
    "detection-output": "image class score box",  # OpenVINO, Caffe; [1,1,n,7], fractions
    "mmdetection": "box score",  # with the classes in another output
}
"""What a row of a table holds, in its order."""


class Writer:
    """Appends constants and nodes to a graph."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph, self._counter = model.graph, itertools.count(len(model.graph.node))

    def number(self, array: Any) -> str:
        """The name of a constant."""
        name = f"number_{len(self.graph.initializer)}"
        self.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, op: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """The name of a new node's output."""
        made = name or f"made_{next(self._counter)}"
        self.graph.node.append(onnx.helper.make_node(op, inputs, [made], **attributes))
        return made

    def output(self, name: str, source: str, shape: list[Any], kind: int = TensorProto.FLOAT) -> None:
        """Give a tensor under a name."""
        self.node("Identity", source, name=name)
        self.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, shape))


def with_suppression(source: Path, form: str, lowest: float = LOWEST) -> onnx.ModelProto:
    """YOLOv8's file with what torchvision ("lists", after a question whether there are boxes) or Ultralytics ("table") adds, or
    another of `TABLES`, or "tensorflow" or "batch" (one output each, filled up to 100 rows, and their number)."""
    model = onnx.load(source)
    to = Writer(model)
    node, number, graph = to.node, to.number, model.graph
    boxes, best, index = _above(to, graph.output[0].name, lowest)
    kept = _kept(to, boxes, best, index, asks=form == "lists")
    del graph.output[:]
    boxes, best, index = (node("Gather", held, kept) for held in (boxes, best, index))
    if form == "lists":
        to.output("boxes", boxes, ["n", 4])
        to.output("labels", index, ["n"], TensorProto.INT64)
        to.output("scores", best, ["n"])
        return model
    first, last, sides = number([0]), number([1]), np.array([*nets.SIZE[::-1]] * 2, np.float32)
    if form in ("detection-output", "tensorflow"):
        boxes = node("Div", boxes, number(sides))
    if form == "efficientdet":
        boxes, model.producer_name = node("Gather", boxes, number([1, 0, 3, 2]), axis=1), "tf2onnx"
    score, label = (node("Unsqueeze", held, last) for held in (best, node("Cast", index, to=TensorProto.FLOAT)))
    if form in TABLES:
        parts = {"box": boxes, "score": score, "class": label, "image": node("Mul", label, number(np.float32(0)))}
        table = node("Concat", *(parts[name] for name in TABLES[form].split()), axis=1)
        if form == "detection-output":
            to.output("detections", node("Unsqueeze", table, number([0, 1])), [1, 1, "n", 7])
        elif form == "mmdetection":
            to.output("dets", node("Unsqueeze", table, first), [1, "n", 5])
            to.output("labels", node("Unsqueeze", index, first), [1, "n"], TensorProto.INT64)
        else:
            to.output("output", table, ["n", len(TABLES[form].split()) + 3])
        if form == "paddle":
            to.output("count", node("Cast", node("Shape", best), to=TensorProto.INT32), [1], TensorProto.INT32)
        return model
    if form == "table":
        to.output("output0", _filled(to, node("Concat", boxes, score, label, axis=1), 120), [1, 120, 6])
        return model
    if form == "tensorflow":  # the corner above and left; classes from 1, as floats
        boxes = node("Gather", boxes, number([1, 0, 3, 2]), axis=1)
        label = node("Add", label, number(np.float32(1)))
        names = ("detection_boxes", "detection_scores", "detection_classes", "num_detections")
    else:
        names = ("det_boxes", "det_scores", "det_classes", "num_dets")
    to.output(names[0], _filled(to, boxes, 100), [1, 100, 4])
    to.output(names[1], node("Squeeze", _filled(to, score, 100), number([2])), [1, 100])
    to.output(names[2], node("Squeeze", _filled(to, label, 100), number([2])), [1, 100])
    to.output(names[3], node("Cast", node("Shape", best), to=TensorProto.FLOAT), [1])
    return model


def _above(to: Writer, rows: str, lowest: float) -> tuple[str, str, str]:
    """The corners, the best probability and its class of the rows whose best probability lies above a threshold."""
    node, number = to.node, to.number
    first, last = number([0]), number([1])
    one = node("Squeeze", node("Transpose", rows, perm=[0, 2, 1]), first)
    centre, size, shares = (node("Slice", one, number([a]), number([b]), last) for a, b in ((0, 2), (2, 4), (4, 7)))
    half = node("Mul", size, number(np.float32(0.5)))
    boxes = node("Concat", node("Sub", centre, half), node("Add", centre, half), axis=1)
    best, index = (node("ReduceMax", shares, last, keepdims=0), node("ArgMax", shares, axis=1, keepdims=0))
    sure = node("Squeeze", node("NonZero", node("Greater", best, number(np.float32(lowest)))), first)
    boxes, best, index = (node("Gather", value, sure) for value in (boxes, best, index))
    return boxes, best, index


def _kept(to: Writer, boxes: str, best: str, index: str, asks: bool) -> str:
    """The places of the boxes that are left, class by class; `asks`: in a branch, after a question whether there are any."""
    node, number, graph = to.node, to.number, to.graph
    outer, kept, last = list(graph.node), "kept", number([1])
    apart = node(
        "Unsqueeze", node("Mul", node("Cast", index, to=TensorProto.FLOAT), node("ReduceMax", boxes, keepdims=0)), last
    )
    given = node("Unsqueeze", node("Add", boxes, apart), number([0])), node("Unsqueeze", best, number([0, 1]))
    most, share = number([100]), number(np.array([ALL.overlap], np.float32))
    chosen = node("NonMaxSuppression", *given, most, share)
    node("Squeeze", node("Gather", chosen, number([2]), axis=1), last, name=kept)
    if asks:
        value = onnx.helper.make_tensor_value_info(kept, TensorProto.INT64, ["n"])
        inside = onnx.helper.make_graph(list(graph.node)[len(outer) :], "some", [], [value])
        none = onnx.helper.make_node("Constant", [], [kept], value=onnx.numpy_helper.from_array(np.zeros(0, np.int64)))
        nothing = onnx.helper.make_graph([none], "none", [], [value])
        del graph.node[len(outer) :]
        found = node("Equal", node("Size", boxes), number(0))
        graph.node.append(onnx.helper.make_node("If", [found], [kept], then_branch=nothing, else_branch=inside))
    return kept


def _filled(to: Writer, table: str, count: int) -> str:
    """[n,k] with rows of zeros up to a number of them, [1,count,k]."""
    left = to.node("Sub", to.number([count]), to.node("Shape", table, start=0, end=1))
    ends = to.node("Concat", to.number([0, 0]), left, to.number([0]), axis=0)
    return to.node("Unsqueeze", to.node("Pad", table, ends), to.number([0]))
