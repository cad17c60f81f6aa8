"""A region of dense scores: s = the mean of a class's scores in it, sum_p w_p y[c,p], where the weights w sum to 1.

After Seg-Grad-CAM (Vinogradova et al. 2020, arXiv:2002.11434, equation 2), which sums over the region. The mean differs by a
factor, and keeps the scores of small and large regions comparable.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from ..errors import TargetError
from ..format.bundle import PREDICTED as PREDICTED_CLASS
from ..foundation.options import quoted
from .contrast import Contrast
from .kinds import ScoreSpace, TargetValue, kinds
from .negated import Not
from .one_class import class_index, names_class, written_class
from .places import PREDICTED, Place, Seen, is_place
from .seeds import Array, Index, Seed

_VERSUS = re.compile(r" vs ", re.IGNORECASE)
_NOT = re.compile(r"not (.+)", re.IGNORECASE | re.DOTALL)
_BACKGROUND = re.compile(r"_*(background|bg|unlabell?ed|void)_*", re.IGNORECASE)


@dataclass(frozen=True)
class Region(TargetValue):
    """A class in a region of a dense output, such as the pixels of a road in a box.

    Attributes:
        target: A class index or a label; None: the class with the highest mean score in the region, and the most frequent class if
            the region is where the network predicts it.
        where: "predicted" (where the network predicts the class), "all", a box (x, y, width, height) or corners [(x, y), ...] in
            pixels of the photo, the path of a mask (PNG: 0 outside, another value inside), or booleans [h,w].
    """

    needs: ClassVar[str] = "scores at each position, as segmentation has"

    target: int | str | None = None
    where: Any = "predicted"


@dataclass(frozen=True)
class _Side:
    """A class (-1: predicted) in a place; and the background's class, which is predicted only if nothing else is."""

    index: int
    place: Place
    background: int | None = None


@kinds.register("region")
@dataclass(frozen=True, eq=False)
class RegionTarget:
    """A `Region`, a class, a text "CLASS@WHERE", "not CLASS@WHERE" or "A@WHERE vs B@WHERE".

    The other side of a contrast lies in the same region if it names none.

    Attributes:
        side: What is explained.
        images: n.
        count: Number of classes.
        versus: What it is contrasted with, or None.
        sign: -1 for "not", else 1.
        name: Names a class in messages.
    """

    per_image: ClassVar[bool] = True
    scores: ClassVar[tuple[str, ...]] = ("dense",)
    side: _Side
    images: int
    count: int
    versus: _Side | None = None
    sign: int = 1
    name: Callable[[int], str] = "class {}".format

    @classmethod
    def read(cls, written: object, images: int, space: ScoreSpace) -> list[RegionTarget]:
        """See `TargetKind.read`; this kind reads everything for dense scores."""
        if isinstance(written, str):
            written = from_text(written, space)
        if isinstance(written, Not):
            return [cls(_side(written.target, space, PREDICTED), images, space.classes, sign=-1, name=space.title)]
        if isinstance(written, Contrast):
            side = _side(written.target, space, PREDICTED)
            versus = _side(written.versus, space, side.place)
            if side.index == versus.index and side.place.same(versus.place):
                raise TargetError(f"{space.title(side.index)} is contrasted with itself")
            return [cls(side, images, space.classes, versus, name=space.title)]
        return [cls(_side(written, space, PREDICTED), images, space.classes, name=space.title)]

    @property
    def classes(self) -> None:
        """See `CheckedTarget.classes`."""
        return None

    @property
    def needs_logits(self) -> bool:
        """See `CheckedTarget.needs_logits`."""
        sides = [self.side] if self.versus is None else [self.side, self.versus]
        return any(side.index == PREDICTED_CLASS for side in sides)

    def part(self, start: int, stop: int) -> RegionTarget:
        """See `CheckedTarget.part`."""
        return replace(self, images=min(stop, self.images) - start)

    def regions(self, seen: Seen) -> Array:
        """See `CheckedTarget.regions`."""
        sides = [self.side] if self.versus is None else [self.side, self.versus]
        shares = [side.place.covers(seen, _frequent(side, seen), self.name) for side in sides]
        where = np.stack(shares, axis=1)
        where /= where.sum(axis=tuple(range(2, where.ndim)), keepdims=True)
        return where

    def seed(self, logits: Callable[[], Array]) -> Seed:
        """See `CheckedTarget.seed`; the logits are those of its own regions, [n,classes] or [n,2*classes]."""
        index = self._chosen(self.side, 0, logits)
        if self.versus is not None:
            return Seed.contrast(index, self.count + self._chosen(self.versus, 1, logits))
        return Seed.of_class(index) if self.sign > 0 else Seed.against(index)

    def _chosen(self, side: _Side, region: int, logits: Callable[[], Array]) -> Index:
        """The class of a side, [n]; a predicted one is that of the highest mean score in its region."""
        if side.index != PREDICTED_CLASS:
            return np.full(self.images, side.index, np.int64)
        own = logits()[:, region * self.count : (region + 1) * self.count]
        return np.asarray(own.argmax(axis=1), np.int64)

    def titles(self, seed: Seed, label: Callable[[int], str], classes: int) -> tuple[str, ...]:
        """See `CheckedTarget.titles`."""
        entries = seed.classes % classes

        def one(image: int) -> str:
            first = f"{label(int(entries[image, 0]))} @ {self.side.place.said}"
            if self.versus is None:
                return first if self.sign > 0 else f"not {first}"
            second = label(int(entries[image, 1]))
            if self.versus.place is not self.side.place:
                return f"{first} vs {second} @ {self.versus.place.said}"
            return f"{label(int(entries[image, 0]))} vs {second} @ {self.side.place.said}"

        return tuple(one(image) for image in range(len(entries)))


def _side(written: object, space: ScoreSpace, otherwise: Place) -> _Side:
    """One side of a target: a `Region`, or a class in the place `otherwise`."""
    if isinstance(written, str):
        written = _one(written, space)
    if isinstance(written, Region):
        return _Side(
            class_index(written.target, space), Place.read(written.where, space.refuse_file), _background(space)
        )
    return _Side(class_index(written, space), otherwise, _background(space))


def from_text(text: str, space: ScoreSpace) -> object:
    """The object that a text stands for."""
    if space.is_label(text):
        return text
    name, _, where = text.rpartition("@")
    if space.is_label(_class_part(name, space)) and is_place(where):
        return _one(text, space)  # a label may hold " vs "
    odd = None
    for cut in _VERSUS.finditer(text):
        sides = text[: cut.start()], text[cut.end() :]
        unknown = [side for side in sides if not _is_side(side, space)]
        if not unknown:
            first, second = sides
            return Contrast(_one(first, space), _one(second, space))
        odd = odd or (unknown[0] if len(unknown) == 1 else None)
    if odd is not None:
        raise TargetError(
            f"target {quoted(text)}: {quoted(odd)} is no class of this network, and no class in a region; both sides of a contrast "
            "are CLASS or CLASS@WHERE"
        )
    negated = _NOT.fullmatch(text)
    if negated is not None and _is_side(negated[1], space):
        return Not(_one(negated[1], space))
    return _one(text, space)


def _one(text: str, space: ScoreSpace) -> Any:
    """ "CLASS@WHERE", "@WHERE" or "CLASS" as an object; a label may hold an @."""
    name, at, where = text.rpartition("@")
    if not at or space.is_label(text):
        return written_class(text, space)
    if not is_place(where) and names_class(text, space):
        return written_class(text, space)
    name = _class_part(name, space)
    return Region(written_class(name, space) if name else None, where)


def _class_part(name: str, space: ScoreSpace) -> str:
    """What stands before the @: captions have spaces around it ("road @ all"), which are no part of a label."""
    return name if space.is_label(name) else name.strip()


def _is_side(text: str, space: ScoreSpace) -> bool:
    name, at, where = text.rpartition("@")
    name = _class_part(name, space)
    return names_class(text, space) or (bool(at) and is_place(where) and (not name or names_class(name, space)))


def _frequent(side: _Side, seen: Seen) -> Index:
    """The class whose positions "predicted" means, [n]: the side's own, else the most frequent one of each image."""
    count = len(seen.sizes)
    if side.index != PREDICTED_CLASS or side.place.said != PREDICTED.said:
        return np.full(count, side.index, np.int64)
    chosen = []
    for row in seen.predicted().reshape(count, -1):
        places = np.bincount(row[row >= 0], minlength=1)
        if side.background is not None and side.background < len(places) and places.sum() > places[side.background]:
            places[side.background] = 0
        chosen.append(places.argmax())
    return np.array(chosen, np.int64)


def _background(space: ScoreSpace) -> int | None:
    return next((i for i, label in enumerate(space.labels) if _BACKGROUND.fullmatch(label)), None)
