"""End-to-end heads (YOLOv10, YOLO26, RT-DETR of Ultralytics 8.4): [N,300,6], of each row a box, one score, and its class.

YOLO's boxes are corners in pixels, RT-DETR's cx, cy, w, h in fractions. The graph chooses the best rows, so none is suppressed.
Box, score and class may also be three outputs, [N,k,4] and twice [N,k], as RT-DETR's, D-FINE's and DEIM's own repositories give
them (`PostProcessor.deploy`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from xai_deploy.format.rows import Rows

from ....graph.emit import Ops
from .detector import Detector, Floats, Outputs, decoders, is_fraction
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
    return _three(given)


def _three(given: Outputs) -> Detector | None:
    """The detector of three outputs: boxes and, of as many rows, one score and the number of a class; no other rows."""
    if len(given.all) != 1:
        return None
    [boxes] = given.all
    count, size = given.shape(boxes)
    values = given.seen(boxes)
    beside = [value for value in given.lists if given.clean.shapes.two[str(value.name)][1:] == (count,)]
    scores = [value for value in beside if _are_scores(given.seen(value))]
    labels = [value for value in beside if _are_classes(given.seen(value)) and value not in scores]
    if size != 4 or count < 2 or not len(values) or len(scores) != 1 or len(labels) != 1:
        return None
    form = form_of(values)
    if form is None:
        return None
    unit = "fractions" if is_fraction(values[..., :2]) else "pixels"
    chosen = bool((np.diff(given.seen(scores[0]), axis=1) <= 1e-6).all())  # the best first
    rows = Rows("end-to-end", 1, form, unit, labelled=True, suppress=not chosen)  # type: ignore[arg-type]

    def pieces(op: Ops) -> Sequence[ir.Value]:
        floats = [op.Cast(value, to=int(ir.DataType.FLOAT)) for value in (scores[0], labels[0])]
        score, label = (op.Unsqueeze(value, [1]) for value in floats)
        return score, entries(op, boxes, 2, 0, 4), label

    form_said = "left, top, right, bottom" if form == "corners" else "centre x, centre y, width, height"
    note = (
        f"The rows are read as boxes {boxes.name!r} ({form_said}, in {unit}), scores {scores[0].name!r} and classes "
        f"{labels[0].name!r}."
    )
    return Detector(rows, count, "independent", (scores[0], boxes, labels[0]), pieces, note)


def _are_scores(values: Floats) -> bool:
    return bool(values.size and (values >= 0).all() and (values <= 1).all() and (values != np.rint(values)).any())


def _are_classes(values: Floats) -> bool:
    return bool(values.size and (values >= 0).all() and (values == np.rint(values)).all())
