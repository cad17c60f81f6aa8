"""The other direction: s = minus the logit of a class, "what speaks against a"; for a single output, its other end."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from ..errors import TargetError
from ..foundation.options import quoted
from .kinds import CheckedTarget, One, Plain, ScoreSpace, TargetValue, kinds
from .likes import references
from .one_class import ClassTarget, class_index, written_class
from .seeds import Array, Seed
from .top import TopTarget

log = logging.getLogger(__name__)

_NOT = re.compile(r"not (.+)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Not(TargetValue):
    """The evidence against `target`: its score with the sign turned. It is a class index or a label; None or -1 is the predicted
    class, and "top3" gives three targets."""

    target: One


@kinds.register("not")
@dataclass(frozen=True, eq=False)
class NotTarget(Plain):
    """A `Not`, or a text "not A". A text that is itself a label means that label.

    Every map is that of the score -logit_a: the seed is minus the unit vector of a, so all that propagates back starts with the
    sign turned. Methods whose score is a probability read 1 - p_a, the probability that it is not a (see
    `Seed.of_probabilities`); for a sigmoid, that is the sigmoid of -logit_a. Methods that take magnitudes (`gradient` with its
    default channels) give the same map in both directions.

    Attributes:
        turned: The target whose sign is turned; each image's seed is one class.
        total: See `Seed`.
    """

    per_image: ClassVar[bool] = True
    turned: CheckedTarget
    total: float = 1.0

    @classmethod
    def read(cls, written: object, images: int, space: ScoreSpace) -> list[NotTarget] | None:
        """See `TargetKind.read`."""
        value = _from_text(written, space) if isinstance(written, str) else written
        if not isinstance(value, Not):
            return None
        if isinstance(value.target, TargetValue) and value.target.needs:
            if space.kind == "vector":
                return None  # the kind of its target reads it
            class_index(value.target, space)  # refuses it
        if isinstance(value.target, TargetValue):
            raise TargetError(
                f"not: takes a class index or a label, not {quoted(value.target)}; a contrast is turned round by swapping its sides"
            )
        best = TopTarget.read(value.target, images, space)
        total = 0.0 if space.kind == "vector" else 1.0
        return [cls(one, total) for one in best or ClassTarget.read(value.target, images, space)]

    @property
    def classes(self) -> None:
        """See `CheckedTarget.classes`: the graphs' `target` is a class of weight 1, so a seed is given in its place."""
        return None

    @property
    def needs_logits(self) -> bool:
        """See `CheckedTarget.needs_logits`."""
        return self.turned.needs_logits

    def part(self, start: int, stop: int) -> NotTarget:
        """See `CheckedTarget.part`."""
        return NotTarget(self.turned.part(start, stop), self.total)

    def seed(self, logits: Callable[[], Array]) -> Seed:
        """See `CheckedTarget.seed`."""
        return Seed.against(self.turned.seed(logits).target, self.total)


def _from_text(text: str, space: ScoreSpace) -> Not | None:
    """The rest of "not A", or None if the text is something else."""
    match = _NOT.fullmatch(text)
    if match is None or references(text, space) is not None:
        return None
    if space.is_label(text):
        if space.is_label(match[1]):
            _say_label(text, match[1])
        return None
    return Not(written_class(match[1], space))


@lru_cache(maxsize=64)  # once, not for every chunk of images
def _say_label(text: str, rest: str) -> None:
    log.warning("target %r is the label of that name; for what speaks against %r give its index", text, rest)
