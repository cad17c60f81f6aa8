"""Monotonicity: p should rise with each pixel that is inserted (Arya et al. 2019, arXiv:1909.03012)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...baselines import Baseline
from ...errors import OptionError
from .curves import flipped
from .metric import Case, Column, Numbers, metrics


@metrics.register("monotonicity")
@dataclass(frozen=True)
class Monotonicity:
    """Whether p never falls while the pixels are inserted into the baseline in ascending order of the map: 1 or 0, higher is
    better.

    A second column, `monotonicity-share`, is the share of the steps in which it does not fall: with many steps hardly any map is
    monotonic. p before the first step, that of the baseline, counts too; Quantus 0.6 leaves it out, and inserts the baseline itself
    in place of the image, so that every map is monotonic.

    Attributes:
        steps: Number of steps; at most one for each pixel.
        baseline: What a pixel shows before it is inserted, see `baselines.Baseline`.
    """

    steps: int = 30
    baseline: Baseline = "black"

    needs: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise OptionError(f"monotonicity: steps are at least 1, not {self.steps}")

    def columns(self, randomised: int) -> Sequence[Column]:
        """See `Metric`."""
        return (Column("monotonicity", "higher"), Column("monotonicity-share", "higher"))

    def measure(self, case: Case) -> Mapping[str, Numbers]:
        """See `Metric`."""
        _, p = flipped(case, self.steps, self.baseline, inserting=True, ascending=True)
        rises = np.diff(p, axis=1) >= 0
        return {"monotonicity": rises.all(axis=1).astype(np.float64), "monotonicity-share": rises.mean(axis=1)}
