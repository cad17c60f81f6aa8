"""Symmetric relevance gain: pixel flipping in both orders (Bluecher et al. 2024, TMLR, arXiv:2401.06654)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ...baselines import Baseline
from .curves import Steps, areas_and_curves, check_steps
from .metric import Case, Column, Numbers, metrics


@metrics.register("srg")
@dataclass(frozen=True)
class Srg:
    """LIF - MIF: the area under p over the share of pixels replaced, least influential first, minus that of most influential first.
    -1 to 1, higher is better; 0 for a random order.

    The order of methods depends little on what replaces the pixels, other than that of either area alone. MIF is `deletion`.

    Attributes:
        steps: See `deletion`.
        baseline: What replaces a pixel, see `baselines.Baseline`.
    """

    steps: Steps = 30
    baseline: Baseline = "mean"

    needs: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        check_steps("srg", self.steps)

    def columns(self, randomised: int) -> Sequence[Column]:
        """See `Metric`."""
        return (Column("srg", "higher"),)

    def measure(self, case: Case) -> Mapping[str, Numbers]:
        """See `Metric`."""
        mif, _ = areas_and_curves(case, self.steps, self.baseline, inserting=False)
        lif, curves = areas_and_curves(case, self.steps, self.baseline, inserting=False, ascending=True)
        return {"srg": lif - mif, "srg curve, least first": curves}
