"""YOLOv8 and its kin (v9, v10, 11, 12, 26 without end-to-end): [N,4+C,rows], of each row cx, cy, w, h in pixels, then C sigmoids.

Ultralytics' `Detect.forward`: cat((boxes, sigmoid(scores)), 1). Segmentation adds mask coefficients, poses add points. With a
suppression after it (`nms=True`) it gives corners, x1, y1, x2, y2. In TFLite files its boxes are fractions of the image's sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import onnx_ir as ir

from xai_deploy.format.rows import Rows

from ....graph.emit import Ops
from .detector import Detector, Outputs, decoders, is_fraction
from .forms import form_on_grid
from .objectness import has_objectness, told_objectness
from .reading import after_box, before, entries, entries_first

_NO_OBJECTNESS = (
    "The rows of {!r} are read as YOLOv8's, a box and the probabilities of {} classes. If the first of these is an objectness, "
    "name --decoder yolov5."
)


@decoders.register("yolov8")
def yolov8(given: Outputs) -> Detector | None:
    """See `Decoder`: a box of four entries put together with the Sigmoid of the scores; fractions with the entries first alone."""
    return box_and_sigmoid(given, "yolov8")


def box_and_sigmoid(given: Outputs, name: Literal["yolov8", "rtdetr"]) -> Detector | None:
    """The detector of the first output that puts four coordinates and Sigmoids together.

    Both give fractions: those of RT-DETR lie in [0,1], all of them, in rows of entries. In pixels a width may be negative on noise:
    YOLO26's distances are not bounded.
    """
    for output in given.all:
        for axis in (1, 2):
            after = after_box(given.clean, output, axis)
            scores, others = (after[0], after[1:]) if after else (None, [])
            logits = None if scores is None else before(given.clean, scores[0], "Sigmoid")
            boxes = given.seen(output).take(range(4), axis) if logits is not None else None
            if scores is None or logits is None or boxes is None or not boxes.size:
                continue
            fractions = is_fraction(boxes.take([0, 1], axis))
            rows_first = axis == 2 and not fractions and has_objectness(given.seen(output))
            told = told_objectness(given, output) if rows_first else "no"
            probabilities = (one for one in others if before(given.clean, one[0], "Sigmoid") is not None)
            if told == "yes" or (scores[2] == 1 and next(probabilities, None) is not None):
                continue  # as in YOLOv5: the fifth entry is an objectness
            one_each = fractions and axis == 2 and bool((boxes >= 0).all() and (boxes <= 1).all())
            if one_each != (name == "rtdetr") or (fractions and axis == 2 and not one_each):
                continue

            def pieces(
                op: Ops, logits: ir.Value = logits, own: int = scores[1], output: ir.Value = output, axis: int = axis
            ) -> Sequence[ir.Value]:
                return entries_first(op, logits, own), entries(op, output, axis, 0, 4)

            unit: Literal["pixels", "fractions"] = "fractions" if fractions else "pixels"
            height, width = (1, 1) if fractions else given.size
            form = form_on_grid(np.moveaxis(boxes, axis, 2), (width / 2, height / 2))
            rows = Rows(name, scores[2], "centre" if one_each else form, unit, suppress=not one_each)
            assumed = rows_first and given.asked is None and given.names.count != scores[2]
            note = _NO_OBJECTNESS.format(output.name, scores[2]) if assumed else None
            return Detector(rows, given.shape(output)[2 - axis], "sigmoid", (output,), pieces, note)
    return None
