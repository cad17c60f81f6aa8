"""A stranger's CAM method."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from xai_deploy.methods.method import Array, Forward, Method, Seed, methods


@methods.register("mean-cam")
@dataclass(frozen=True)
class MeanCam(Method):
    """L = mean_k A_k^power, whatever the class."""

    power: float = 1.0

    roles: ClassVar[Mapping[str, str]] = {}

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,h,w]; see `Method.maps`."""
        one = (forward.activation**self.power).mean(axis=1)
        return np.stack([one] * len(seeds))
