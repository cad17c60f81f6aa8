"""Suppression inside the graph: torchvision's detectors, YOLO exported with `nms=True`, and whatever else gives a list of boxes.

The list was given a fixed size before (`passes.boxes_head`): [N,300,6], of each row corners, score and class. No gradient passes
the suppression; methods that mask the image look for the same detection in each run.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from xai_deploy.format.rows import NMS_INSIDE, Rows

from ....graph.emit import Ops
from ....passes.boxes_head import BOXES, FRACTIONS
from .detector import Detector, Outputs, decoders
from .reading import entries


@decoders.register(NMS_INSIDE)
def nms_inside(given: Outputs) -> Detector | None:
    """See `Decoder`: the output that `boxes_head` writes, and no other."""
    for output in given.all:
        count, size = given.shape(output)
        if size == 6 and str(output.name).startswith(BOXES):
            return _of(given, output, count)
    return None


def _of(given: Outputs, output: ir.Value, count: int) -> Detector:
    def pieces(op: Ops) -> Sequence[ir.Value]:
        return [entries(op, output, 2, start, stop) for start, stop in ((4, 5), (0, 4), (5, 6))]

    unit = "fractions" if str(output.name).endswith(FRACTIONS) else "pixels"
    rows = Rows(NMS_INSIDE, 1, "corners", unit, labelled=True, suppress=False)  # type: ignore[arg-type]
    return Detector(rows, count, "independent", (output,), pieces)
