"""A detection: s = the score of its class, or a side of its box.

Which row it is, is known once the network has run: the detections are found as a user of the network finds them, and one of them is
chosen. The row stays the same in all runs that follow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

import numpy as np

from ..detections import Detection, DetectionLimits, overlaps
from ..errors import NotPredictedError, TargetError
from ..format.bundle import PREDICTED
from ..format.rows import Rows
from ..foundation.options import quoted, shortened
from .contrast import Contrast
from .kinds import ScoreSpace, TargetValue, kinds
from .negated import Not
from .one_class import class_index
from .places import Seen
from .seeds import Array, Index, Seed
from .settled import Settled
from .top import top_count

Part = Literal["score", "left", "top", "right", "bottom", "width", "height"]
PARTS: tuple[Part, ...] = get_args(Part)

_NUMBER = r"-?[0-9]+(?:\.[0-9]+)?"
_PART = re.compile(rf"(.+):({'|'.join(PARTS)})", re.DOTALL)
_NUMBERED = re.compile(r"box ([0-9]{1,6})", re.IGNORECASE)
_NEAR = re.compile(rf"(.*)@\s*({_NUMBER}(?:\s*,\s*{_NUMBER}){{3}})", re.DOTALL)
_NTH = re.compile(r"(.+)#([0-9]{1,6})", re.DOTALL)
_FAR = 1_000_000_000
_MOST = DetectionLimits().most  # of "topK"
_VERSUS = re.compile(r" vs ", re.IGNORECASE)
_NOT = re.compile(r"not (.+)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Box(TargetValue):
    """A detection, and what of it is explained.

    Attributes:
        target: A class index or a label; None: any class.
        number: Which detection of that class, from the best one, 0, on.
        near: A box (x, y, width, height) in pixels of the photo: the detection with the largest intersection over union is taken.
            None: by `number`.
        part: The score of its class, or a side, the width or the height of its box, in the unit of the network's output.
    """

    needs: ClassVar[str] = "boxes, as a detector does"

    target: int | str | None = None
    number: int = 0
    near: tuple[float, float, float, float] | None = None
    part: Part = "score"


@dataclass(frozen=True)
class _Side:
    """A `Box`, checked: its class (-1: any) and how it is written."""

    index: int
    box: Box
    said: str

    def choose(self, found: Sequence[Detection]) -> Detection:
        """The detection that is meant.

        Raises:
            NotPredictedError: There is none.
        """
        if not found:
            raise NotPredictedError(
                "the network finds nothing in this image; lower the score from which a row counts (--detect-score)"
            )
        of_class = [one for one in found if self.index in (PREDICTED, one.index)]
        if not of_class:
            raise NotPredictedError(f"{self.said}: none is among the {len(found)} detections of this image")
        if self.box.near is None:
            if self.box.number >= len(of_class):
                numbers = (
                    "one, number 0" if len(of_class) == 1 else f"{len(of_class)}, numbers 0 to {len(of_class) - 1}"
                )
                raise NotPredictedError(f"{self.said}: this image has {numbers}")
            return of_class[self.box.number]
        x, y, width, height = self.box.near
        given = np.array([x, y, x + width, y + height], np.float32)
        shares = overlaps(given, np.array([one.box for one in of_class], np.float32))
        if not shares.any():
            raise NotPredictedError(f"{self.said}: no detection overlaps this box")
        return of_class[int(shares.argmax())]


@kinds.register("box")
@dataclass(frozen=True, eq=False)
class BoxTarget:
    """A `Box`, a class, or a text: "box 0", "car", "car#2", "@120,40,60,60", "car@120,40,60,60", each with ":left" and the like,
    "not A", "A vs B"; "topK" gives K targets, the detections from "box 0" on.

    Attributes:
        sides: What is explained, and what it is contrasted with.
        images: n.
        rows: What the network's rows hold.
        sign: -1 for "not", else 1.
    """

    per_image: ClassVar[bool] = True
    scores: ClassVar[tuple[str, ...]] = ("rows",)
    sides: tuple[_Side, ...]
    images: int
    rows: Rows
    sign: int = 1

    @classmethod
    def read(cls, written: object, images: int, space: ScoreSpace) -> list[BoxTarget] | None:
        """See `TargetKind.read`; this kind reads everything for detectors but what is settled."""
        assert space.rows is not None
        if isinstance(written, Settled):
            return None
        if (count := top_count(written, space)) is not None:
            if count > _MOST:
                raise TargetError(f"target {quoted(written)}: at most {_MOST} detections of an image are explained")
            return [cls((_side(Box(number=number), space),), images, space.rows) for number in range(count)]
        value = _from_text(written, space) if isinstance(written, str) else written
        if isinstance(value, Not):
            return [cls((_side(value.target, space),), images, space.rows, -1)]
        if isinstance(value, Contrast):
            sides = _side(value.target, space), _side(value.versus, space)
            if replace(sides[0], said="") == replace(sides[1], said=""):
                raise TargetError(f"{sides[0].said} is contrasted with itself")
            return [cls(sides, images, space.rows)]
        return [cls((_side(value, space),), images, space.rows)]

    @property
    def classes(self) -> None:
        """See `CheckedTarget.classes`."""
        return None

    @property
    def needs_logits(self) -> bool:
        """See `CheckedTarget.needs_logits`: the class of a row is known once the network has run."""
        return any(side.box.part == "score" and side.index == PREDICTED for side in self.sides)

    def part(self, start: int, stop: int) -> BoxTarget:
        """See `CheckedTarget.part`."""
        return replace(self, images=min(stop, self.images) - start)

    def regions(self, seen: Seen) -> Array:
        """See `CheckedTarget.regions`: each side picks one row.

        Raises:
            NotPredictedError: An image has no such detection.
        """
        where = np.zeros((self.images, len(self.sides), seen.scores.shape[1]), np.float32)
        for image, found in enumerate(seen.detections()):
            for region, side in enumerate(self.sides):
                where[image, region, side.choose(found).row] = 1
        return where

    def seed(self, logits: Callable[[], Array]) -> Seed:
        """See `CheckedTarget.seed`; the logits are those of its own rows, [n,entries] or [n,2*entries]."""
        if len(self.sides) == 1 and self.sides[0].box.part == "score":
            index = self._class(0, logits)
            return Seed.of_class(index) if self.sign > 0 else Seed.against(index)
        terms, weights = [], []
        for region, side in enumerate(self.sides):
            first, sign = region * self.rows.entries, -1.0 if region else float(self.sign)
            if side.box.part == "score":
                own, shares = self._class(region, logits)[:, None], [1.0]
            else:
                entries, factors = self.rows.side(side.box.part)
                own, shares = np.tile(np.array(entries, np.int64) + first, (self.images, 1)), list(factors)
            terms.append(own)
            weights.append(np.tile(np.array(shares, np.float32) * sign, (self.images, 1)))
        return Seed(np.concatenate(terms, axis=1), np.concatenate(weights, axis=1), np.zeros(self.images, np.int8))

    def _class(self, region: int, logits: Callable[[], Array]) -> Index:
        """The entry of a side's class, [n]."""
        first, index = region * self.rows.entries, self.sides[region].index
        if self.rows.labelled:
            return np.full(self.images, first, np.int64)
        if index != PREDICTED:
            return np.full(self.images, first + index, np.int64)
        own = logits()[:, first : first + self.rows.classes].copy()
        if self.rows.background is not None:
            own[:, self.rows.background] = -np.inf
        return np.asarray(first + own.argmax(axis=1), np.int64)

    def titles(self, seed: Seed, label: Callable[[int], str], classes: int) -> tuple[str | None, ...]:
        """See `CheckedTarget.titles`: "box 0 (car)", "car", "box 0, left vs box 1, left"."""
        named = not self.rows.labelled and len(self.sides) == 1 and self.sides[0].box.part == "score"

        def one(image: int) -> str:
            said = " vs ".join(side.said for side in self.sides)
            if named and self.sides[0].index == PREDICTED:
                said += f" ({shortened(label(int(seed.classes[image, 0] % classes)))})"
            return said if self.sign > 0 else f"not {said}"

        return tuple(one(image) for image in range(self.images))


def any_part(targets: Sequence[object], space: ScoreSpace) -> bool:
    """Whether the network is a detector, and one of the targets a side, the width or the height of a box.

    Raises:
        TargetError: One is no target of the network.
    """
    if space.rows is None:
        return False
    read = (one for target in targets if target is not None for one in BoxTarget.read(target, 1, space) or ())
    return any(side.box.part != "score" for target in read for side in target.sides)


def _side(written: object, space: ScoreSpace) -> _Side:
    """A `Box`, or a class in its place, checked.

    Raises:
        TargetError: It is neither, or there is no such class.
    """
    box = written if isinstance(written, Box) else _one(written, space) if isinstance(written, str) else None
    if box is None:
        if isinstance(written, TargetValue):
            raise TargetError(f"a target of a detector is a detection (Box) or a class, not {type(written).__name__}")
        index = class_index(written, _named(space))
        box = Box(None if index == PREDICTED else index)
    if box.part not in PARTS:
        raise TargetError(f"a detection's part is one of {', '.join(PARTS)}, not {quoted(box.part)}")
    if type(box.number) is not int or box.number < 0:
        raise TargetError(f"a detection's number is 0 or more, not {quoted(box.number)}")
    if box.near is not None and not _is_place(box.near):
        raise TargetError(
            f"a box is x, y, width, height in pixels, up to {_FAR}, the last two above 0, not {quoted(box.near)}"
        )
    index = PREDICTED if box.target is None else class_index(box.target, _named(space))
    if space.rows is not None and index == space.rows.background:
        raise TargetError(f"class {index} means that there is no object")
    said = _said(box, index, space)
    if box.part != "score" and space.rows is not None and space.rows.chosen_inside:
        raise TargetError(
            f"{said}: the network's own suppression gives other rows in each run, so no side can be followed; explain the score"
        )
    return _Side(index, box, said)


def _is_place(near: object) -> bool:
    """Whether something is x, y, width, height."""
    try:
        numbers = np.array(near, np.float64)
    except (TypeError, ValueError, OverflowError):
        return False
    return numbers.shape == (4,) and bool((np.abs(numbers) <= _FAR).all() and (numbers[2:] > 0).all())


def _said(box: Box, index: int, space: ScoreSpace) -> str:
    name = (
        "" if index == PREDICTED else shortened(space.labels[index]) if index < len(space.labels) else f"class {index}"
    )
    if box.near is not None:
        place = ",".join(f"{v:g}" for v in box.near)
        name = f"{name} @ {place}" if name else f"@{place}"
    elif not name:
        name = f"box {box.number}"
    elif box.number:
        name += f"#{box.number}"
    return name if box.part == "score" else f"{name}, {box.part}"


def _named(space: ScoreSpace) -> ScoreSpace:
    """The classes of a detector, without the coordinates; as many as there are labels, if rows state their class."""
    assert space.rows is not None
    count = (len(space.labels) or 1 << 20) if space.rows.labelled else space.rows.classes
    return ScoreSpace(count, space.labels, "rows")


def _from_text(text: str, space: ScoreSpace) -> object:
    """The object that a text stands for."""
    if space.is_label(text):
        return text
    for cut in _VERSUS.finditer(text):
        return Contrast(_one(text[: cut.start()], space), _one(text[cut.end() :], space))
    negated = _NOT.fullmatch(text)
    return Not(_one(negated[1], space)) if negated is not None else _one(text, space)


def _one(text: str, space: ScoreSpace) -> Box:
    """ "box 0", "car", "car#2", "@x,y,w,h" or "car@x,y,w,h", each with ":PART", as an object; a label goes before all of it."""
    if space.is_label(text):
        return Box(text)
    part: Part = "score"
    if (parted := _PART.fullmatch(text)) is not None:
        text, part = parted[1], next(one for one in PARTS if one == parted[2])
    if space.is_label(text):
        return Box(text, part=part)
    if (numbered := _NUMBERED.fullmatch(text)) is not None:
        return Box(None, int(numbered[1]), part=part)
    if (near := _NEAR.fullmatch(text)) is not None:
        x, y, width, height = (float(number) for number in near[2].split(","))
        return Box(_class(near[1].strip(), space) if near[1].strip() else None, near=(x, y, width, height), part=part)
    if (nth := _NTH.fullmatch(text)) is not None:
        return Box(_class(nth[1], space), int(nth[2]), part=part)
    return Box(_class(text, space), part=part)


def _class(text: str, space: ScoreSpace) -> int | str:
    """A label, or an index as an integer."""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) and not space.is_label(text) else text
