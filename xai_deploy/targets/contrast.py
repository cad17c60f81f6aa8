"""A contrast: s = the logit of a class minus the logit of another, "why a rather than b"."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import TargetError
from ..format.bundle import PREDICTED
from ..foundation.options import quoted
from .finer import from_text as compared_with_similar
from .kinds import One, Plain, ScoreSpace, TargetValue, kinds
from .likes import references
from .one_class import class_index, names_class, or_predicted, written_class
from .seeds import Array, Index, Seed

_VERSUS = re.compile(r" vs ", re.IGNORECASE)
_INDEX = 19  # characters of an index at most
_NOT = re.compile(r"not ", re.IGNORECASE)


@dataclass(frozen=True)
class Contrast(TargetValue):
    """Why `target` rather than `versus`: the difference of their scores. Each is a class index or a label; None or -1 is the
    predicted class. Of dense scores a side may be a `Region`, of embeddings both are a `Like`."""

    target: One
    versus: One

    def belongs_elsewhere(self, space: ScoreSpace) -> bool:
        """Whether its sides are targets of another kind, which reads contrasts of its own.

        Raises:
            TargetError: One side is, and the other is not.
        """
        other = [isinstance(side, TargetValue) and bool(side.needs) for side in (self.target, self.versus)]
        if space.normalised and any(other) and not all(other):
            raise TargetError(
                "both sides of a contrast are of one kind: two references (Like), or two outputs ('#3'), not one of each"
            )
        return space.kind == "vector" and any(other)


@kinds.register("contrast")
@dataclass(frozen=True, eq=False)
class ContrastTarget(Plain):
    """A `Contrast`, or a text "A vs B".

    Attributes:
        target: [n], -1 for the predicted class.
        versus: [n], -1 for the predicted class.
    """

    per_image: ClassVar[bool] = True

    target: Index
    versus: Index

    @classmethod
    def read(cls, written: object, images: int, space: ScoreSpace) -> list[ContrastTarget] | None:
        """See `TargetKind.read`."""
        contrast = _from_text(written, space) if isinstance(written, str) else written
        if not isinstance(contrast, Contrast) or contrast.belongs_elsewhere(space):
            return None
        index, versus = (class_index(one, space) for one in (contrast.target, contrast.versus))
        if index == versus:
            one = "output" if space.kind == "vector" else "class"
            what = "the predicted class" if index == PREDICTED else f"{one} {quoted(contrast.target)}"
            raise TargetError(f"{what} is contrasted with itself")
        return [cls(np.full(images, index, np.int64), np.full(images, versus, np.int64))]

    @property
    def classes(self) -> None:
        """See `CheckedTarget.classes`."""
        return None

    @property
    def needs_logits(self) -> bool:
        """See `CheckedTarget.needs_logits`."""
        return bool((self.target == PREDICTED).any() or (self.versus == PREDICTED).any())

    def part(self, start: int, stop: int) -> ContrastTarget:
        """See `CheckedTarget.part`."""
        return ContrastTarget(self.target[start:stop], self.versus[start:stop])

    def seed(self, logits: Callable[[], Array]) -> Seed:
        """See `CheckedTarget.seed`.

        Raises:
            TargetError: The predicted class of an image is contrasted with itself.
        """
        target, versus = or_predicted(self.target, logits), or_predicted(self.versus, logits)
        if (same := target == versus).any():
            raise TargetError(
                f"class {target[same][0]} is an image's predicted class and would be contrasted with itself"
            )
        return Seed.contrast(target, versus)


def _from_text(text: str, space: ScoreSpace) -> Contrast | None:
    """The two sides of "A vs B", or None if the text is something else; labels may contain " vs " themselves.

    Raises:
        TargetError: The text can be read in several ways.
    """
    if space.is_label(text) or compared_with_similar(text, space) or references(text, space) is not None:
        return None
    # A text may have several " vs ": take the cut whose two sides are both a label or an index.
    known = [cut for cut in _cuts(text) if all(names_class(side, space) for side in cut)] if _fits(text, space) else []
    if len(known) > 1:
        raise TargetError(f"target {quoted(text)} can be read in {len(known)} ways; give indices")
    first = next(_cuts(text), None)
    if first is None:
        return None
    if not known and _NOT.match(text):
        raise TargetError(f"target {quoted(text)}: a contrast is turned round by swapping its sides, not by 'not'")
    # With no such cut, the first one: `class_index` then says which side is unknown.
    return Contrast(*(written_class(side, space) for side in (known or [first])[0]))


def _cuts(text: str) -> Iterator[tuple[str, str]]:
    """What stands before and after each " vs ", one at a time: all together take the square of the text's length."""
    for match in _VERSUS.finditer(text):
        if match.start() > 0 and match.end() < len(text):
            yield text[: match.start()], text[match.end() :]


def _fits(text: str, space: ScoreSpace) -> bool:
    """Whether a text is short enough for two labels or indices: one character may count as equal to three ("ffi")."""
    longest = max(_INDEX, 3 * max(map(len, space.labels), default=0))
    return len(text) <= 2 * longest + len(" vs ")
