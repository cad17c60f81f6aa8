"""A class against those most similar to it: s = y_c - gamma * mean of their y.

Finer-CAM: Zhang et al., CVPR 2025, arXiv:2501.11309.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ..errors import TargetError
from ..foundation.options import quoted
from .kinds import LAST, CheckedTarget, One, ScoreSpace, TargetValue, kinds
from .one_class import written_class
from .places import Seen
from .seeds import Array, Seed

_SIMILAR = re.compile(r"(.+) vs (?:([0-9.]{1,9}) ?\* ?)?top([1-9][0-9]{0,8})", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Finer(TargetValue):
    """What tells a class from those most similar to it: the classes whose scores are nearest to its own score.

    Attributes:
        target: A class index or a label, or a `Region` of dense scores; None or -1 is the predicted class.
        similar: How many classes are compared with.
        gamma: The factor of their mean, 0 or more.
        weights: "equal": the mean. "probability": the classes are weighted by their softmax among each other, and the seed is the
            gradient of that score, as in the authors' code and in pytorch-grad-cam.
    """

    needs: ClassVar[str] = "a score for each class"

    target: One = None
    similar: int = 3
    gamma: float = 1.0
    weights: Literal["equal", "probability"] = "equal"


@kinds.register("finer")
@dataclass(frozen=True, eq=False)
class FinerTarget:
    """A `Finer`, or a text "A vs top3" or "A vs 0.6*top3". A text that is itself a label means that label.

    Attributes:
        of: The class; its seed is one class of weight 1.
        said: What it is compared with.
    """

    per_image: ClassVar[bool] = True
    scores: ClassVar[tuple[str, ...]] = ("classes", "dense")

    of: CheckedTarget
    said: Finer

    @classmethod
    def read(cls, written: object, images: int, space: ScoreSpace) -> list[FinerTarget] | None:
        """See `TargetKind.read`."""
        value = from_text(written, space) if isinstance(written, str) else written
        if not isinstance(value, Finer):
            return None
        if type(value.similar) is not int or not 1 <= value.similar < space.classes:
            raise TargetError(
                f"top{value.similar}: the network has {space.classes} classes, so a class is compared with 1 to "
                f"{space.classes - 1} others"
            )
        if not 0 <= value.gamma < np.inf:
            raise TargetError(f"a target vs top{value.similar}: gamma is 0 or more, not {value.gamma}")
        if value.weights not in ("equal", "probability"):
            raise TargetError(f"Finer: weights are 'equal' or 'probability', not {quoted(value.weights)}")
        if isinstance(value.target, TargetValue) and not (space.kind == "dense" and value.target.needs):
            raise TargetError(f"vs top{value.similar}: takes a class index or a label, not {quoted(value.target)}")
        reader = kinds.get(LAST[space.kind])
        assert reader is not None
        return [cls(one, value) for one in reader.read(value.target, images, space) or ()]

    @property
    def classes(self) -> None:
        """See `CheckedTarget.classes`."""
        return None

    @property
    def needs_logits(self) -> bool:
        """See `CheckedTarget.needs_logits`: which classes are similar depends on the scores."""
        return True

    def part(self, start: int, stop: int) -> FinerTarget:
        """See `CheckedTarget.part`."""
        return FinerTarget(self.of.part(start, stop), self.said)

    def seed(self, logits: Callable[[], Array]) -> Seed:
        """See `CheckedTarget.seed`.

        Raises:
            TargetError: The text before "vs topK" is no class in a region, but the other direction of one or a contrast.
        """
        one = self.of.seed(logits)
        if not one.is_class:
            raise TargetError(f"vs top{self.said.similar}: takes a class in a region, not {quoted(self.said.target)}")
        own, scores = one.target[:, None], logits()  # [n,1], [n,classes]
        distance = np.abs(scores - np.take_along_axis(scores, own, axis=1))
        np.put_along_axis(distance, own, -1, axis=1)  # itself first, also beside a class of the same score
        similar = np.argsort(distance, axis=1, kind="stable")[:, 1 : self.said.similar + 1].astype(np.int64)
        theirs = np.take_along_axis(scores, similar, axis=1).astype(np.float64)  # [n,K]
        if self.said.weights == "equal":
            shares = np.full(theirs.shape, 1 / self.said.similar)
        else:
            # s = sum_d q_d (y_c - gamma y_d), q the softmax of the y_d: ds/dy_d = -gamma q_d (1 + y_d - sum_e q_e y_e)
            q = np.exp(theirs - theirs.max(axis=1, keepdims=True))
            q /= q.sum(axis=1, keepdims=True)
            shares = q * (1 + theirs - (q * theirs).sum(axis=1, keepdims=True))
        weights = np.concatenate([np.ones((len(own), 1)), -self.said.gamma * shares], axis=1).astype(np.float32)
        return Seed(np.concatenate([own, similar], axis=1), weights, np.zeros(len(own), np.int8))

    def regions(self, seen: Seen) -> Array:
        """See `CheckedTarget.regions`."""
        return self.of.regions(seen)

    def titles(self, seed: Seed, label: Callable[[int], str], classes: int) -> tuple[str, ...]:
        """See `CheckedTarget.titles`: "cat vs top3"."""
        own = Seed.of_class(seed.classes[:, 0])
        given = self.of.titles(own, label, classes)
        names = (label(int(c)) if title is None else title for c, title in zip(own.target, given, strict=True))
        factor = "" if self.said.gamma == 1 else f"{self.said.gamma:g}*"
        return tuple(f"{name} vs {factor}top{self.said.similar}" for name in names)


def from_text(text: str, space: ScoreSpace) -> Finer | None:
    """What "A vs top3" or "A vs 0.6*top3" stands for; None if the text is something else.

    Raises:
        TargetError: The factor is no number.
    """
    match = _SIMILAR.fullmatch(text)
    if match is None or space.kind not in FinerTarget.scores or space.is_label(text):
        return None
    if match[2] is None and space.is_label(text[match.end(1) + len(" vs ") :]):
        return None  # a label such as "top3" means the label
    try:
        gamma = 1.0 if match[2] is None else float(match[2])
    except ValueError:
        raise TargetError(f"target {quoted(text)}: {quoted(match[2])} is no number") from None
    return Finer(_side(match[1], space), int(match[3]), gamma)


def _side(text: str, space: ScoreSpace) -> One:
    # the kind that reads dense scores reads texts itself, such as "road@all"
    return text if space.kind == "dense" else written_class(text, space)
