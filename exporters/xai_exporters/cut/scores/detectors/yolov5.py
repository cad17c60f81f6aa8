"""YOLOv5, v7 and YOLOX with decoded boxes: [N,rows,5+C], of each row a box, an objectness, then C probabilities.

A detection's score is objectness times probability (YOLOv5's `non_max_suppression`: `x[:, 5:] *= x[:, 4:5]`). There is no single
logit before it, so this product is explained. A box is cx, cy, w, h; some exports give its corners. Segmentation adds coefficients
of masks after the classes, YOLOv5-face five points before them, YOLOv7's poses points after them. Boxes are in pixels; those of
YOLOv5's TFLite files are fractions of the image's sides, which are read if they lie where the rows' cells do.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import onnx_ir as ir

from ....graph.emit import Ops
from .detector import Detector, Outputs, decoders, is_fraction
from .forms import form_on_grid
from .objectness import (
    beside_objectness,
    classes_of,
    form_of_rows,
    has_objectness,
    may_hold_objectness,
    of_objectness,
)
from .reading import entries


@decoders.register("yolov5")
def yolov5(given: Outputs) -> Detector | None:
    """See `Decoder`: an objectness and probabilities from the fifth entry on; no width or height is negative."""
    for output in given.all:
        values = given.seen(output)
        classes = classes_of(values)
        if classes is None:
            continue
        fractions = is_fraction(values[..., :2])
        height, width = (1, 1) if fractions else given.size
        seen = form_of_rows(given, output, fractions)
        if fractions and seen is None:  # queries (RT-DETR's)
            continue
        form = seen or form_on_grid(values[..., :4], (width / 2, height / 2))
        if form == "neither" or (form == "centre" and (values[..., 2:4] < 0).any()):
            continue
        alone = has_objectness(values)
        if may_hold_objectness(given, output) if alone else seen and beside_objectness(given, output, classes):
            unit: Literal["pixels", "fractions"] = "fractions" if fractions else "pixels"
            return of_objectness(given, output, "yolov5", partial(_box, output), form, classes, unit)
    return None


def _box(output: ir.Value, op: Ops) -> ir.Value:
    return entries(op, output, 2, 0, 4)
