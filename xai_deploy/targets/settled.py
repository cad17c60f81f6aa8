"""A target that no longer depends on the images or the network: classes, regions and references are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import TargetError
from .kinds import ScoreSpace, TargetValue, kinds
from .places import Seen, overlaps
from .seeds import Array, Index, Seed


@dataclass(frozen=True, eq=False)
class Settled(TargetValue):
    """What is explained in n images, for other inputs made of them, or for another network with the same scores.

    Attributes:
        seed: What is explained; of dense scores, its classes are entries of the target's own regions, see `regions.Regions`.
        where: [n,R,H,W] float32, of a volume [n,R,D,H,W], the weights of the regions; None for anything but dense scores.
        said: Per image what is explained, for people; None if the class says it.
    """

    seed: Seed
    where: Array | None = None
    said: tuple[str | None, ...] = ()

    def rows(self, image: Index) -> Settled:
        """The target of a batch whose row i belongs to image `image[i]`."""
        where = None if self.where is None else self.where[image]
        return Settled(self.seed.rows(image), where, tuple(self.said[i] for i in image) if self.said else ())

    def same(self, other: Settled) -> bool:
        """Whether both ask for the same."""
        a, b = self.seed, other.seed
        same = np.array_equal(a.classes, b.classes) and np.array_equal(a.weights, b.weights)
        if self.where is None or other.where is None:
            return bool(same)
        return bool(same and np.array_equal(self.where, other.where))

    @classmethod
    def join(cls, parts: Sequence[Settled]) -> Settled:
        """The images of all parts, in order; those with fewer regions repeat their last one."""
        known = [part.where for part in parts if part.where is not None]
        where = None
        if known:
            most = max(one.shape[1] for one in known)
            where = np.concatenate([_padded(one, most) for one in known])
        said = tuple(one for part in parts for one in part.said or (None,) * len(part.seed.sign))
        return cls(Seed.join([part.seed for part in parts]), where, said)


def _padded(where: Array, regions: int) -> Array:
    """As many regions; the last one is repeated."""
    return np.pad(where, ((0, 0), (0, regions - where.shape[1]), *((0, 0),) * (where.ndim - 2)), mode="edge")


@kinds.register("settled")
@dataclass(frozen=True, eq=False)
class SettledTarget:
    """A `Settled`.

    Attributes:
        value: It.
    """

    per_image: ClassVar[bool] = False
    scores: ClassVar[tuple[str, ...]] = ("classes", "dense", "vector", "rows")

    value: Settled

    @classmethod
    def read(cls, written: object, images: int, space: ScoreSpace) -> list[SettledTarget] | None:
        """See `TargetKind.read`."""
        if not isinstance(written, Settled):
            return None
        regions = 1 if written.where is None else written.where.shape[1]
        if len(written.seed.sign) != images or (written.where is None) == (space.kind in ("dense", "rows")):
            raise TargetError(
                f"a settled target of {len(written.seed.sign)} images does not fit {images} images of this network"
            )
        if written.seed.classes.max() >= regions * space.classes:
            raise TargetError(f"the target was settled for another network; this one has {space.classes} classes")
        return [cls(written)]

    @property
    def classes(self) -> Index | None:
        """See `CheckedTarget.classes`."""
        seed = self.value.seed
        return seed.classes[:, 0] if seed.is_class and self.value.where is None else None

    @property
    def needs_logits(self) -> bool:
        """See `CheckedTarget.needs_logits`."""
        return False

    def part(self, start: int, stop: int) -> SettledTarget:
        """See `CheckedTarget.part`."""
        return SettledTarget(self.value.rows(np.arange(start, min(stop, len(self.value.seed.sign)))))

    def seed(self, logits: Callable[[], Array]) -> Seed:
        """See `CheckedTarget.seed`."""
        return self.value.seed

    def regions(self, seen: Seen) -> Array:
        """See `CheckedTarget.regions`; at the positions of this network, if it has more or fewer of them."""
        where = self.value.where
        assert where is not None  # `read` refuses others
        size = seen.scores.shape[1:]
        if where.shape[2:] == size:
            return where
        if seen.scores.kind == "rows":
            raise TargetError(f"the row explained is one of {where.shape[2]}; this detector has {size[0]}")
        laid = where.astype(np.float64)
        for axis, wanted in enumerate(size, 2):
            laid = np.moveaxis(np.tensordot(laid, overlaps(where.shape[axis], wanted), (axis, 1)), -1, axis)
        return np.asarray(laid / laid.sum(axis=tuple(range(2, laid.ndim)), keepdims=True), np.float32)

    def titles(self, seed: Seed, label: Callable[[int], str], classes: int) -> tuple[str | None, ...]:
        """See `CheckedTarget.titles`."""
        return self.value.said or (None,) * len(seed.classes)
