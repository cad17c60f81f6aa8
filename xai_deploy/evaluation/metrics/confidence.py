"""How the network's confidence changes when it sees only what the map shows (Chattopadhyay et al. 2018, arXiv:1710.11063)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .metric import Case, Column, Masking, Numbers, metrics


@metrics.register("average-drop")
@dataclass(frozen=True)
class AverageDrop:
    """100 mean(max(0, p - p') / p), where p' is p of x * map. Percent, 0 to 100, lower is better.

    Attributes:
        masked: What is multiplied by the map, see `metric.Masking`.
    """

    masked: Masking = "input"

    needs: ClassVar[frozenset[str]] = frozenset()

    def columns(self, randomised: int) -> Sequence[Column]:
        """See `Metric`."""
        return (Column("average-drop", "lower", percent=True),)

    def measure(self, case: Case) -> Mapping[str, Numbers]:
        """See `Metric`."""
        return {"average-drop": 100 * drop(case, self.masked)}


@metrics.register("average-increase")
@dataclass(frozen=True)
class AverageIncrease:
    """100 mean(p' > p), where p' is p of x * map. Percent, 0 to 100, higher is better.

    Attributes:
        masked: What is multiplied by the map, see `metric.Masking`.
    """

    masked: Masking = "input"

    needs: ClassVar[frozenset[str]] = frozenset()

    def columns(self, randomised: int) -> Sequence[Column]:
        """See `Metric`."""
        return (Column("average-increase", "higher", percent=True),)

    def measure(self, case: Case) -> Mapping[str, Numbers]:
        """See `Metric`."""
        return {"average-increase": np.where(case.after(self.masked) > case.before, 100.0, 0.0)}


def drop(case: Case, masked: Masking) -> Numbers:
    """max(0, p - p') / p per image, 0 to 1; 0 if p is 0, because it can't drop.

    A number that is no probability may have any sign: a drop below 0 counts as one to 0, and none is defined (NaN) for p <= 0."""
    before = case.before
    lost = np.maximum(before - case.after(masked), 0)
    if not case.is_probability:
        share = np.divide(lost, before, out=np.full_like(before, np.nan), where=before > 0)
        return np.minimum(share, 1)
    return np.divide(lost, before, out=np.zeros_like(before), where=before > 0)
