"""The K best classes of each image, as K targets: s = the logit of rank r among the image's own logits."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import UnknownClassError
from ..format.bundle import PREDICTED
from ..foundation.options import quoted
from .kinds import Plain, ScoreSpace, kinds
from .seeds import Array, Index, Seed

_TOP = re.compile(r"top([1-9][0-9]{0,17})")


def top_count(written: object, space: ScoreSpace) -> int | None:
    """K of "topK"; None for anything else, as a label of that name."""
    top = _TOP.fullmatch(written) if isinstance(written, str) and not space.is_label(written) else None
    return None if top is None else int(top[1])


@kinds.register("top")
@dataclass(frozen=True)
class TopTarget(Plain):
    """The class of one rank in each image's own prediction; "topK" gives K such targets.

    Attributes:
        rank: The rank, counted from 0. If logits are equal, the lower class index comes first.
        images: n.
    """

    per_image: ClassVar[bool] = False
    scores: ClassVar[tuple[str, ...]] = ("classes",)

    rank: int
    images: int

    @classmethod
    def read(cls, written: object, images: int, space: ScoreSpace) -> list[TopTarget] | None:
        """See `TargetKind.read`."""
        count = top_count(written, space)
        if count is None:
            return None
        if count > space.classes:
            raise UnknownClassError(f"target {quoted(written)}: the network has {space.classes} classes")
        return [cls(rank, images) for rank in range(count)]

    @property
    def classes(self) -> Index | None:
        """See `CheckedTarget.classes`: rank 0 is the predicted class."""
        return np.full(self.images, PREDICTED, np.int64) if self.rank == 0 else None

    @property
    def needs_logits(self) -> bool:
        """See `CheckedTarget.needs_logits`."""
        return True

    def part(self, start: int, stop: int) -> TopTarget:
        """See `CheckedTarget.part`."""
        return TopTarget(self.rank, min(stop, self.images) - start)  # `stop` may lie after the last image

    def seed(self, logits: Callable[[], Array]) -> Seed:
        """See `CheckedTarget.seed`."""
        order = np.argsort(-logits(), axis=1, kind="stable")  # stable: ties stay in the order of their indices
        return Seed.of_class(order[:, self.rank].astype(np.int64))
