"""Weights as a target: s = sum_c weight_c * logit_c."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import TargetError
from .kinds import Plain, ScoreSpace, kinds
from .seeds import Array, Seed


@kinds.register("weights")
@dataclass(frozen=True, eq=False)
class WeightsTarget(Plain):
    """An array of floats, [classes] for all images or [n,classes].

    Attributes:
        weights: [n,classes] float32, finite, no row that is all zeros.
    """

    per_image: ClassVar[bool] = False  # one array [n,classes] holds the weights of all images instead

    weights: Array

    @classmethod
    def read(cls, written: object, images: int, space: ScoreSpace) -> list[WeightsTarget] | None:
        """See `TargetKind.read`."""
        if not isinstance(written, np.ndarray) or written.dtype.kind != "f":
            return None
        shape = images, space.classes
        if written.shape not in (shape[1:], shape):
            raise TargetError(
                f"weights as a target have one value for each class, shape [{space.classes}] or [{images},{space.classes}]; "
                f"these have shape {list(written.shape)}"
            )
        # A float64 beyond float32's range becomes infinity, which is refused below with a message.
        with np.errstate(over="ignore"):
            weights = written.astype(np.float32)
        if not np.isfinite(weights).all():
            raise TargetError("the target's weights hold NaN or infinity as float32")
        if not weights.reshape(-1, space.classes).any(axis=1).all():
            raise TargetError("the target's weights are all zeros as float32: there is nothing to explain")
        return [cls(np.broadcast_to(weights, shape))]

    @property
    def classes(self) -> None:
        """See `CheckedTarget.classes`."""
        return None

    @property
    def needs_logits(self) -> bool:
        """See `CheckedTarget.needs_logits`."""
        return False

    def part(self, start: int, stop: int) -> WeightsTarget:
        """See `CheckedTarget.part`."""
        return WeightsTarget(self.weights[start:stop])

    def seed(self, logits: Callable[[], Array]) -> Seed:
        """See `CheckedTarget.seed`."""
        return Seed.of_weights(self.weights.astype(np.float32))  # a copy of the read-only view that `broadcast_to` made
