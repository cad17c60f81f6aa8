"""A stranger's kind of target: the mean of all logits, written "all"."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from xai_deploy.targets.kinds import Plain, ScoreSpace, kinds
from xai_deploy.targets.seeds import Array, Seed


@kinds.register("all")
@dataclass(frozen=True)
class AllClasses(Plain):
    """s = mean_c logit_c, of n images."""

    per_image: ClassVar[bool] = True
    classes: ClassVar[None] = None
    needs_logits: ClassVar[bool] = False
    count: int
    images: int

    @classmethod
    def read(cls, written: object, images: int, space: ScoreSpace) -> "list[AllClasses] | None":
        """See `TargetKind.read`."""
        return [cls(space.classes, images)] if isinstance(written, str) and written == "all" else None

    def part(self, start: int, stop: int) -> "AllClasses":
        """See `CheckedTarget.part`."""
        return AllClasses(self.count, min(stop, self.images) - start)

    def seed(self, logits: Callable[[], Array]) -> Seed:
        """See `CheckedTarget.seed`."""
        return Seed.of_weights(np.full((self.images, self.count), 1 / self.count, np.float32))
