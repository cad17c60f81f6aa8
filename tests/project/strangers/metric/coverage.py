"""A stranger's metric."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from xai_deploy.evaluation.metrics.metric import Case, Column, Numbers, metrics


@metrics.register("coverage")
@dataclass(frozen=True)
class Coverage:
    """mean(map >= above). 0 to 1, lower is better."""

    above: float = 0.5

    needs: ClassVar[frozenset[str]] = frozenset()

    def columns(self, randomised: int) -> Sequence[Column]:
        """See `Metric`."""
        return (Column("coverage", "lower"),)

    def measure(self, case: Case) -> Mapping[str, Numbers]:
        """See `Metric`."""
        return {"coverage": (case.heatmaps >= self.above).mean(axis=(1, 2))}
