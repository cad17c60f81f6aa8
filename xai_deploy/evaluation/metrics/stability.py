"""Whether the map stays when the image hardly changes (Yeh et al. 2019, arXiv:1901.09392)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import OptionError
from .metric import Case, Column, Numbers, metrics


@metrics.register("max-sensitivity")
@dataclass(frozen=True)
class MaxSensitivity:
    """max over noise d of |map(x + d) - map(x)| / |map(x)|, both for the same class (definition 3.1, relative as in the authors'
    code). 0 or more, lower is better; NaN for a map of zeros.

    d is uniform in [-radius, radius] times the image's own range; all images get the same draws. Maps lie in [0,1], so a
    change of their scale alone does not count. It costs as many explanations as there are samples.

    Attributes:
        samples: How many d.
        radius: A share of the image's own range (max - min of the network's input).
        seed: Seed of the noise, 0 or more.
    """

    samples: int = 10
    radius: float = 0.02
    seed: int = 0

    needs: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        if self.samples < 1 or self.seed < 0 or not 0 < self.radius < np.inf:
            raise OptionError("max-sensitivity: samples are at least 1, seed at least 0, radius above 0")

    def columns(self, randomised: int) -> Sequence[Column]:
        """See `Metric`."""
        return (Column("max-sensitivity", "lower"),)

    def measure(self, case: Case) -> Mapping[str, Numbers]:
        """See `Metric`."""
        n, rng = len(case.x), np.random.default_rng(self.seed)
        own = case.heatmaps.reshape(n, -1).astype(np.float64)
        spread = np.ptp(case.x.reshape(n, -1).astype(np.float64), axis=1).reshape(n, *(1,) * (case.x.ndim - 1))
        most = np.zeros(n)
        for _ in range(self.samples):
            noise = self.radius * spread * rng.uniform(-1, 1, case.x.shape[1:])
            moved = case.explain(case.as_input(case.x + noise), case.wanted).reshape(n, -1)
            most = np.maximum(most, np.linalg.norm(moved - own, axis=1))
        length = np.linalg.norm(own, axis=1)
        return {"max-sensitivity": np.divide(most, length, out=np.full(n, np.nan), where=length > 0)}
