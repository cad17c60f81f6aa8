"""A detector's boxes as OpenVINO Model API reads them: its `SSD` wrapper, which is the one that hands on class maps.

The outputs are those of OpenVINO Training Extensions and Geti: `boxes` [N,k,5] float32, of each box left, top, right, bottom in
pixels of the network's input, and its probability; `labels` [N,k] int64. Model API suppresses boxes and applies its threshold
itself.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...graph.measure import batch_of
from .detector import DetectorNet

BOXES, LABELS = "boxes", "labels"

MOST_BOXES = 1000
"""The best rows are given, at most so many: Model API's suppression takes time with the square of their number."""


def model_api_boxes(net: DetectorNet) -> dict[ir.Value, str]:
    """The two outputs, and their names."""
    op, spec, count = net.op, net.rows, net.material.logits.scores.shape[1]
    best, classes = net.best  # [N,rows]
    places = op.Transpose(net.places, perm=[0, 2, 1])  # [N,rows,4]
    if spec.form == "centre":
        centre, half = op.Slice(places, [0], [2], [2]), op.Mul(op.Slice(places, [2], [4], [2]), 0.5)
        places = op.Concat(op.Sub(centre, half), op.Add(centre, half), axis=2)
    if spec.unit == "fractions":
        height, width = net.size
        places = op.Mul(places, np.array([width, height] * 2, np.float32))
    boxes = op.Concat(places, op.Unsqueeze(best, [2]), axis=2)
    if count > MOST_BOXES:
        rows = _best_rows(net, best)  # [N,k]
        boxes = op.GatherElements(boxes, op.Expand(op.Unsqueeze(rows, [2]), [1, 1, 5]), axis=1)
        classes = op.GatherElements(classes, rows, axis=1)
    shape = batch_of(net.image), min(count, MOST_BOXES)
    for value, dtype, last in ((boxes, ir.DataType.FLOAT, (5,)), (classes, ir.DataType.INT64, ())):
        value.shape, value.type = ir.Shape([*shape, *last]), ir.TensorType(dtype)
    return {boxes: BOXES, classes: LABELS}


def confusing(net: DetectorNet) -> dict[str, str]:
    """The detector's own outputs that Model API would take for boxes or classes: their names, and why."""
    found = {}
    for value in net.material.clean.graph.outputs:
        name, shape = str(value.name), net.material.clean.shapes.per_image(value.name) or ()
        if name == BOXES or any(word in name for word in ("bboxes", LABELS)):
            found[name] = "by its name"
        elif shape[-1:] == (5,) and len(shape) <= 2:
            found[name] = "by its last axis of 5"
    return found


def _best_rows(net: DetectorNet, best: ir.Value) -> ir.Value:
    """The numbers of the best rows, the best one first, [N,k]."""
    emit = net.op.emit
    node = ir.node("TopK", [best, emit.ints([MOST_BOXES], "boxes/most")], attributes={"axis": 1}, num_outputs=2)
    node.name = emit.unique("boxes/TopK")
    for value, what in zip(node.outputs, ("values", "rows"), strict=True):
        value.name = emit.unique(f"boxes/TopK/{what}")
    net.graph.append(node)
    return node.outputs[1]
