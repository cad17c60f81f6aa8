"""Two outputs, [N,rows,4] boxes and [N,rows,C] scores: UltraFace, SSD, RetinaNet and FCOS up to the suppression, YOLO-NAS.

With a Softmax over the classes, class 0 means "no object", as in SSD (Liu et al. 2016, arXiv:1512.02325). Scores that are
no probabilities are those of a DETR; see `detr`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from xai_deploy.format.rows import Rows

from ....graph.emit import Ops
from .detector import Detector, Floats, Outputs, decoders, is_fraction
from .forms import form_of, top_first
from .reading import before, entries_first


@decoders.register("boxes-scores")
def boxes_scores(given: Outputs) -> Detector | None:
    """See `Decoder`: one output of boxes, one of probabilities, of as many rows."""
    # with four classes both outputs may be read as either: probabilities are what a function gives
    for pair in sorted(pairs(given), key=lambda pair: _is_probability(given, pair.boxes)):
        scores = given.seen(pair.scores)
        if not len(scores) or not are_shares(scores):
            continue
        for function in ("Softmax", "Sigmoid"):
            if (logits := before(given.clean, pair.scores, function)) is not None:
                activation: Literal["softmax", "sigmoid"] = "softmax" if function == "Softmax" else "sigmoid"
                return pair.detector(given, "boxes-scores", logits, activation, 0 if activation == "softmax" else None)
        shares = bool(np.abs(scores.sum(axis=pair.scores_axis) - 1).max() < 1e-3) and pair.classes > 1
        return pair.detector(given, "boxes-scores", pair.scores, "independent", 0 if shares else None)
    return None


def _is_probability(given: Outputs, value: ir.Value) -> bool:
    return any(before(given.clean, value, function) is not None for function in ("Softmax", "Sigmoid"))


def are_shares(scores: Floats) -> bool:
    """Whether scores lie in [0,1]; rounding may put a Softmax's a little above 1."""
    return bool(scores.min() >= 0 and scores.max() <= 1 + 1e-4)


@dataclass(frozen=True)
class Pair:
    """An output of boxes and one of scores; the axes are those of their entries, counted with the batch."""

    boxes: ir.Value
    scores: ir.Value
    boxes_axis: int
    scores_axis: int
    count: int
    classes: int

    def detector(
        self,
        given: Outputs,
        name: str,
        logits: ir.Value,
        activation: Literal["sigmoid", "softmax", "independent"],
        background: int | None,
        suppress: bool = True,
    ) -> Detector | None:
        """The detector of these scores; None if the boxes are no boxes."""
        boxes = np.moveaxis(given.seen(self.boxes), self.boxes_axis, 2)
        form = form_of(boxes)
        if form is None:
            return None
        unit: Literal["pixels", "fractions"] = "fractions" if is_fraction(boxes[..., :2]) else "pixels"

        swapped = form == "corners" and top_first(str(self.boxes.name), given.clean.model, unit == "fractions")

        def pieces(op: Ops) -> Sequence[ir.Value]:
            corners = entries_first(op, self.boxes, self.boxes_axis)
            return entries_first(op, logits, self.scores_axis), op.Gather(
                corners, [1, 0, 3, 2], axis=1
            ) if swapped else corners

        rows = Rows(name, self.classes, form, unit, background, suppress=suppress)
        return Detector(rows, self.count, activation, (self.scores, self.boxes), pieces)


def pairs(given: Outputs) -> Iterator[Pair]:
    """The pairs of outputs of which one holds four entries in each row, and the other has as many rows."""
    for boxes in given.all:
        shape = given.shape(boxes)
        for axis in (2, 1):
            count = shape[2 - axis]
            if shape[axis - 1] != 4 or count < 2:
                continue
            for scores in given.all:
                other = given.shape(scores)
                if scores is not boxes and count in other:
                    at = 2 if other[0] == count else 1
                    yield Pair(boxes, scores, axis, at, count, other[at - 1])
