"""End-to-end heads (YOLOv10, YOLO26, RT-DETR of Ultralytics 8.4): [N,300,6], of each row a box, one score, and its class.

YOLO's boxes are corners in pixels, RT-DETR's cx, cy, w, h in fractions. The graph chooses the best rows, so none is suppressed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from xai_deploy.format.rows import Rows

from ....graph.emit import Ops
from .detector import Detector, Outputs, decoders, is_fraction
from .forms import form_of
from .reading import entries

_MOST = 1000
"""The most rows that such a head gives."""


@decoders.register("end-to-end")
def end_to_end(given: Outputs) -> Detector | None:
    """See `Decoder`: rows of six, the fifth in [0,1] and falling from row to row, the sixth whole."""
    for output in given.all:
        count, size = given.shape(output)
        if size != 6 or count > _MOST:
            continue
        values = given.seen(output)  # runs the network on each probe image
        if not len(values):
            continue
        score, label = values[..., 4], values[..., 5]
        if not ((score >= 0).all() and (score <= 1).all() and (np.diff(score, axis=1) <= 1e-6).all()):
            continue
        if (label != np.rint(label)).any() or (label < 0).any():
            continue
        unit = "fractions" if is_fraction(values[..., :2]) else "pixels"
        # on noise a width of YOLO26's may be negative: its distances are not bounded
        form = form_of(values[..., :4]) or ("corners" if unit == "pixels" else None)
        if form is None:
            continue
        rows = Rows("end-to-end", 1, form, unit, labelled=True, suppress=False)  # type: ignore[arg-type]

        def pieces(op: Ops, output: ir.Value = output) -> Sequence[ir.Value]:
            return [entries(op, output, 2, start, stop) for start, stop in ((4, 5), (0, 4), (5, 6))]

        return Detector(rows, count, "independent", (output,), pieces)
    return None
