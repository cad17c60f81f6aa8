"""Whether the map depends on the class it explains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ...errors import NotApplicableError
from ...similarity import flat, pearson
from .metric import Case, Column, Numbers, metrics


@metrics.register("class-sensitivity")
@dataclass(frozen=True)
class ClassSensitivity:
    """Pearson's correlation of the maps of the most and the least likely class; NaN if one of them is constant.
    -1 to 1, lower is better (Khorram et al. 2021, arXiv:2012.15783, where it is called class sensitivity)."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def columns(self, randomised: int) -> Sequence[Column]:
        """See `Metric`."""
        return (Column("class-sensitivity", "lower"),)

    def measure(self, case: Case) -> Mapping[str, Numbers]:
        """See `Metric`.

        Raises:
            NotApplicableError: The network has one class, or detections.
        """
        if case.logits.shape[1] == 1:
            raise NotApplicableError("class-sensitivity: the network has a single class; leave this metric out")
        if case.found:
            raise NotApplicableError("class-sensitivity: a detection has one class; leave this metric out")
        if case.explainer.bundle.manifest.scores.kind == "vector":
            raise NotApplicableError("class-sensitivity: the network gives no classes; leave this metric out")
        most, least = (
            case.explain(case.x, case.of_class(rank)) for rank in (case.logits.argmax(1), case.logits.argmin(1))
        )
        return {"class-sensitivity": pearson(flat(most), flat(least))}
