"""What other outputs of as many rows say of boxes and their scores: an objectness, or each row's class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ....errors import RequestError
from .detector import Outputs
from .reading import cut_out_of

_OBJECTNESS = "obj"
"""The beginning of the names that YOLOX' deployments give to it."""


def are_labels(given: Outputs, value: ir.Value) -> bool:
    """Whether an output holds a whole number for each row, [N,rows,1], the class: not the same one everywhere, unless it is 0."""
    seen = given.seen(value)
    whole = seen.size and 1 in given.shape(value) and (seen == np.rint(seen)).all() and (seen >= 0).all()
    return bool(whole and (seen.min() != seen.max() or not seen.any()))


def says_nothing(given: Outputs, value: ir.Value) -> bool:
    """Whether an output holds the same number for every row and image, as YOLOv6's objectness does: 1."""
    seen = given.seen(value)
    return bool(seen.size and seen.min() == seen.max())


@dataclass(frozen=True)
class Columns:
    """An output of rows, [N,rows,E] or [N,E,rows], and the axis of its entries, counted with the batch."""

    value: ir.Value
    axis: int


def scores_among(given: Outputs, boxes: Columns, several: Sequence[Columns]) -> tuple[Columns, Columns | None]:
    """Which of several outputs in [0,1] holds the scores of the boxes, and which one the objectness that multiplies them, if any.

    YOLO's detectors multiply (see `yolov5`). Their three outputs are cut out of the same rows, or the objectness is named so. FCOS
    multiplies by its centerness, or takes the root of the product, so the user is asked which output is to be explained.

    Raises:
        RequestError: The outputs do not tell.
    """

    def size(one: Columns) -> int:
        return given.shape(one.value)[one.axis - 1]

    few, *more = sorted(several, key=size)
    if len(more) == 1 and size(few) == 1:
        [many] = more
        best = given.seen(many.value).max(axis=many.axis)
        if size(many) > 1 and np.allclose(given.seen(few.value).reshape(best.shape), best, rtol=1e-5, atol=1e-7):
            return many, None
        for first, rest in ((few, many), (many, few)):
            named = str(first.value.name).lower().startswith(_OBJECTNESS)
            if size(first) == 1 and (named or _are_one_row(given, boxes, first, rest)):
                return rest, first
    names = " and ".join(f"{one.value.name!r} {['N', *given.shape(one.value)]}" for one in several)
    raise RequestError(
        f"the outputs {names} may all be scores of the boxes {boxes.value.name!r}; say which one is explained, with --decoder "
        "boxes-scores --output NAME, or export the network with the score that its code computes from them"
    )


def _are_one_row(given: Outputs, boxes: Columns, objectness: Columns, classes: Columns) -> bool:
    """Whether three outputs are cut out of the same rows as YOLOv5's: four numbers, one, and the rest."""
    sources = [cut_out_of(given.clean, one.value, one.axis) for one in (boxes, objectness, classes)]
    return len({source for source, _ in sources}) == 1 and [start for _, start in sources] == [0, 4, 5]
