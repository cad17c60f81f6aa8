"""Two outputs, [N,rows,4] boxes and [N,rows,C] scores: UltraFace, SSD, RetinaNet and FCOS up to the suppression, YOLO-NAS, YOLOv4.

There may be two for each level of the network; their rows are put together. With a Softmax over the classes, class 0 means "no
object", as in SSD (Liu et al. 2016, arXiv:1512.02325), unless the file's own suppression says which class does. Scores that are no
probabilities are those of a DETR; see `detr`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import onnx_ir as ir

from xai_deploy.format.rows import Rows

from ....errors import GraphError
from ....graph.emit import Ops
from ....graph.stated_boxes import stated_background
from ..grids import find_grids
from .beside import Columns, are_labels, says_nothing, scores_among
from .detector import Detector, Floats, Outputs, decoders, is_fraction
from .forms import form_of, form_of_cells, top_first, top_first_of_cells
from .reading import before, entries_first


@decoders.register("boxes-scores")
def boxes_scores(given: Outputs) -> Detector | None:
    """See `Decoder`: one output of boxes, one of probabilities, of as many rows; or such a pair for each level."""
    levels: list[Detector] = []
    chosen = [pair for pair in pairs(given) if pair.scores.name == given.chosen]
    # with four classes both outputs may be read as either: probabilities are what a function gives, and boxes are no Softmax
    for pair in sorted(chosen or pairs(given), key=lambda pair: _like_scores(given, pair.boxes)):
        scores = given.seen(pair.scores)
        if not _may_be_scores(given, pair.scores) or any(pair.shares_with(level) for level in levels):
            continue
        level = _level(given, pair, scores)
        level = level if level is None or chosen else _with_others(given, pair, level)
        if level is None and not levels:
            return None
        if level is not None and all(_fits(level, other) for other in levels):
            levels.append(level)
    if not levels or (not chosen and _lacks_a_level(given, levels)):
        return None
    if len(levels) == 1:
        return levels[0]

    def pieces(op: Ops) -> Sequence[ir.Value]:
        return [op.Concat(*parts, axis=2) for parts in zip(*(level.pieces(op) for level in levels), strict=True)]

    outputs = tuple(output for level in levels for output in level.outputs)
    return replace(levels[0], count=sum(level.count for level in levels), outputs=outputs, pieces=pieces)


def _level(given: Outputs, pair: Pair, scores: Floats) -> Detector | None:
    """The detector of a pair whose scores are probabilities; None if its boxes are no boxes."""
    stated = stated_background(given.clean.model)
    for function in ("Softmax", "Sigmoid"):
        if (logits := before(given.clean, pair.scores, function)) is not None:
            activation: Literal["softmax", "sigmoid"] = "softmax" if function == "Softmax" else "sigmoid"
            usual = 0 if activation == "softmax" else None
            return pair.detector(given, "boxes-scores", logits, activation, pair.background(stated, usual))
    shares = bool(np.abs(scores.sum(axis=pair.scores_axis) - 1).max() < 1e-3) and pair.classes > 1
    background = pair.background(stated, 0 if shares else None)
    return pair.detector(given, "boxes-scores", pair.scores, "independent", background)


def _may_be_scores(given: Outputs, value: ir.Value) -> bool:
    seen = given.seen(value)
    return bool(len(seen) and are_shares(seen)) and not are_labels(given, value)


def _with_others(given: Outputs, pair: Pair, level: Detector) -> Detector:
    """The detector with what the other outputs of as many rows say: an objectness, or the class of each row.

    Raises:
        RequestError: From `scores_among`.
    """
    beside = [other for other in pairs(given) if other.boxes is pair.boxes]
    several = [one for one in beside if _may_be_scores(given, one.scores) and not says_nothing(given, one.scores)]
    if len(several) > 1:
        columns = [Columns(one.scores, one.scores_axis) for one in several]
        scores, objectness = scores_among(given, Columns(pair.boxes, pair.boxes_axis), columns)
        pair = several[columns.index(scores)]
        level = _level(given, pair, given.seen(pair.scores)) or level
        if objectness is not None:
            return _multiplied(level, pair, several[columns.index(objectness)])
    labels = [one for one in beside if are_labels(given, one.scores)]
    return _labelled(level, labels[0]) if pair.classes == 1 and len(labels) == 1 else level


def _multiplied(level: Detector, pair: Pair, objectness: Pair) -> Detector:
    """The detector whose scores are multiplied by an objectness, as YOLO's are; no class means "no object"."""

    def pieces(op: Ops) -> Sequence[ir.Value]:
        _, boxes = level.pieces(op)
        sure = entries_first(op, objectness.scores, objectness.scores_axis)
        return op.Mul(entries_first(op, pair.scores, pair.scores_axis), sure), boxes, sure

    rows = replace(level.rows, background=None, objectness=True)
    outputs = (*level.outputs, objectness.scores)
    note = f"A row's scores are {pair.scores.name!r} times {objectness.scores.name!r}, as YOLO's are."
    return replace(
        level, rows=rows, activation="independent", outputs=outputs, pieces=pieces, note=_said(level.note, note)
    )


def _labelled(level: Detector, label: Pair) -> Detector:
    """The detector of one score in a row, whose class another output states."""

    def pieces(op: Ops) -> Sequence[ir.Value]:
        return *level.pieces(op), entries_first(op, label.scores, label.scores_axis)

    rows = replace(level.rows, labelled=True)
    outputs = (*level.outputs, label.scores)
    note = f"The whole numbers {label.scores.name!r} are read as the classes of the rows."
    return replace(level, rows=rows, outputs=outputs, pieces=pieces, note=_said(level.note, note))


def _said(*notes: str | None) -> str:
    return " ".join(note for note in notes if note is not None)


def _fits(level: Detector, other: Detector) -> bool:
    """Whether two pairs are levels of one detector: rows of one kind, and other cells."""
    return level.rows == other.rows and level.activation == other.activation and level.count != other.count


def _lacks_a_level(given: Outputs, levels: Sequence[Detector]) -> bool:
    """Whether two outputs that are not read seem to be a further level: four numbers, and scores of as many classes, in each row.

    Raises:
        GraphError: They do, and the user asks for this decoder.
    """
    for pair in pairs(given):
        read = any(pair.shares_with(level) for level in levels)
        if read or pair.classes != levels[0].rows.classes or not _may_be_scores(given, pair.scores):
            continue
        if given.asked is not None:
            others = " and ".join(repr(value.name) for value in levels[0].outputs)
            raise GraphError(
                f"--decoder {given.asked}: the outputs {pair.boxes.name!r} and {pair.scores.name!r} seem to be a further level, in "
                f"another form than {others}. Name with --output the scores that are explained, or export the detector with all "
                "levels in one form"
            )
        return True
    return False


def _like_scores(given: Outputs, value: ir.Value) -> int:
    """2 for a Softmax, 1 for a Sigmoid (a DETR's boxes are one, too), 0 for others."""
    found = (i for i, function in ((2, "Softmax"), (1, "Sigmoid")) if before(given.clean, value, function) is not None)
    return next(found, 0)


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

    def shares_with(self, level: Detector) -> bool:
        """Whether one of the outputs is read already."""
        return self.boxes in level.outputs or self.scores in level.outputs

    def background(self, stated: int | None, usual: int | None) -> int | None:
        """The class that means "no object".

        Args:
            stated: What the file states; negative: none does. None: it states nothing.
            usual: What is usual for such scores.
        """
        if stated is None:
            return usual
        return stated if 0 <= stated < self.classes else None

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
        grids, size = find_grids(given.clean, self.scores, self.scores_axis), given.size if unit == "pixels" else (1, 1)
        told, swapped = None, False
        if form == "centre":  # so are distances to the sides, and corners that are clipped to the image
            told = form_of_cells(boxes, grids, size)
            if told == "neither":
                self._refuse(given)
                return None
            form = told or form
        elif (order_told := _top_first(given, self)) is not None:
            told, swapped = form, order_told
        if form == "corners" and told is None:
            swapped = top_first(str(self.boxes.name), given.clean.model, unit == "fractions")

        def pieces(op: Ops) -> Sequence[ir.Value]:
            boxes = op.Squeeze(self.boxes, [2]) if self.boxes in given.flat else self.boxes
            corners = entries_first(op, boxes, self.boxes_axis)
            return entries_first(op, logits, self.scores_axis), op.Gather(
                corners, [1, 0, 3, 2], axis=1
            ) if swapped else corners

        rows = Rows(name, self.classes, form, unit, background, suppress=suppress)
        order = "top, left, bottom, right" if swapped else "left, top, right, bottom"
        read = (order, "the order") if form == "corners" else ("centre x, centre y, width, height", "that they are")
        note = (
            f"The boxes {self.boxes.name!r} are read as {read[0]}, in {unit}: nothing in their numbers tells {read[1]}."
        )
        return Detector(rows, self.count, activation, (self.scores, self.boxes), pieces, note if told is None else None)

    def _refuse(self, given: Outputs) -> None:
        """Say why the boxes are none, if the user asks for this decoder.

        Raises:
            GraphError: The user does.
        """
        if given.asked is not None:
            raise GraphError(
                f"--decoder {given.asked}: the four numbers of a row of {self.boxes.name!r} do not lie where the row's cell does: "
                "they are no boxes (distances to the sides, or offsets). Export the detector with decoded boxes, or explain the "
                "scores alone with --output"
            )


def _top_first(given: Outputs, own: Pair) -> bool | None:
    """What the cells of a pair tell, see `top_first_of_cells`; if it has too few, those of another level."""
    for pair in (own, *pairs(given)):
        boxes = np.moveaxis(given.seen(pair.boxes), pair.boxes_axis, 2)
        if pair.classes != own.classes or not boxes.size:
            continue
        size = (1, 1) if is_fraction(boxes[..., :2]) else given.size
        order = top_first_of_cells(boxes, find_grids(given.clean, pair.scores, pair.scores_axis), size)
        if order is not None:
            return order
    return None


def pairs(given: Outputs) -> Iterator[Pair]:
    """The pairs of outputs of which one holds four entries in each row, and the other has as many rows."""
    for boxes in (*given.all, *given.flat):
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
