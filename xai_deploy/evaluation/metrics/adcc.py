"""Coherency, complexity, and ADCC, which joins both and Average Drop in one figure (Poppi et al. 2021, arXiv:2104.10252)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...similarity import flat, pearson
from .confidence import drop
from .metric import Case, Column, Masking, Numbers, metrics


@metrics.register("coherency")
@dataclass(frozen=True)
class Coherency:
    """(Pearson(CAM(x), CAM(x * CAM(x))) + 1) / 2, both for the same class; 0 if a map is constant. 0 to 1, higher is better.

    Attributes:
        masked: What is multiplied by the map, see `metric.Masking`.
    """

    masked: Masking = "input"

    needs: ClassVar[frozenset[str]] = frozenset()

    def columns(self, randomised: int) -> Sequence[Column]:
        """See `Metric`."""
        return (Column("coherency", "higher"),)

    def measure(self, case: Case) -> Mapping[str, Numbers]:
        """See `Metric`."""
        return {"coherency": coherency(case, self.masked)}


@metrics.register("complexity")
@dataclass(frozen=True)
class Complexity:
    """mean |map|, the map in [0,1]. 0 to 1, lower is better."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def columns(self, randomised: int) -> Sequence[Column]:
        """See `Metric`."""
        return (Column("complexity", "lower"),)

    def measure(self, case: Case) -> Mapping[str, Numbers]:
        """See `Metric`."""
        return {"complexity": complexity(case)}


@metrics.register("adcc")
@dataclass(frozen=True)
class Adcc:
    """3 / (1 / Coherency + 1 / (1 - Complexity) + 1 / (1 - AverageDrop)); 0 if one of the three is 0. Higher is better.

    Both forms are given: `adcc` is computed per image and then averaged; `adcc-of-means` is computed once, from the data set's
    means (as in the ReciproCAM poster).

    Attributes:
        masked: What is multiplied by the map, see `metric.Masking`.
    """

    masked: Masking = "input"

    needs: ClassVar[frozenset[str]] = frozenset()

    def columns(self, randomised: int) -> Sequence[Column]:
        """See `Metric`."""
        return (
            Column("adcc", "higher"),
            Column("adcc-of-means", "higher", of_means=lambda means: adcc(*(means[name] for name in _PARTS))),
            *(Column(name, "") for name in _PARTS),
        )

    def measure(self, case: Case) -> Mapping[str, Numbers]:
        """See `Metric`."""
        parts = coherency(case, self.masked), complexity(case), drop(case, self.masked)
        return {"adcc": adcc(*parts), **dict(zip(_PARTS, parts, strict=True))}


# `adcc-of-means` needs the means of these columns. The report and the printed table leave out names with ":".
_PARTS = ("adcc:coherency", "adcc:complexity", "adcc:drop")


def coherency(case: Case, masked: Masking) -> Numbers:
    """Coherency per image, [n]."""
    coherent: Numbers = (pearson(flat(case.heatmaps), flat(case.again(masked))) + 1) / 2
    coherent[np.isnan(coherent)] = 0  # Pearson is not defined for a constant map
    return coherent


def complexity(case: Case) -> Numbers:
    """Complexity per image, [n]."""
    means: Numbers = np.abs(flat(case.heatmaps).astype(np.float64)).mean(axis=(1, 2))
    return means


def adcc(coherent: Numbers, complex_: Numbers, dropped: Numbers) -> Numbers:
    """The harmonic mean of coherency, 1 - complexity and 1 - drop, each a share for which higher is better."""
    shares = np.stack([coherent, 1 - complex_, 1 - dropped])
    with np.errstate(divide="ignore"):  # a share of 0 gives 1/0 = inf, and 3/inf = 0
        harmonic: Numbers = 3 / (1 / np.maximum(shares, 0)).sum(axis=0)
    return harmonic
