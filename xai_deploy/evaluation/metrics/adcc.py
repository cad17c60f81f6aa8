"""Coherency, complexity, and both with Average Drop in one figure: ADCC (Poppi et al. 2021, arXiv:2104.10252)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...similarity import pearson
from .base import Case, Column, Masking, Numbers, metrics
from .confidence import drop


@metrics.register("coherency")
@dataclass(frozen=True)
class Coherency:
    """(Pearson(CAM(x), CAM(x * CAM(x))) + 1) / 2, both for the same class; 0 where a map is constant. 0 to 1, higher is better.

    Attributes:
        masked: What is multiplied by the map, see `base.Masking`.
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
    """3 / (1 / Coherency + 1 / (1 - Complexity) + 1 / (1 - AverageDrop)); 0 where one of the three is 0. Higher is better.

    Two forms, both given: `adcc`, per image, then its mean; `adcc-of-means`, once, of the data set's means (the
    ReciproCAM poster's).

    Attributes:
        masked: What is multiplied by the map, see `base.Masking`.
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


_PARTS = ("adcc:coherency", "adcc:complexity", "adcc:drop")


def coherency(case: Case, masked: Masking) -> Numbers:
    """Per image, [n]."""
    found: Numbers = (pearson(case.heatmaps, case.again(masked)) + 1) / 2
    found[np.isnan(found)] = 0
    return found


def complexity(case: Case) -> Numbers:
    """Per image, [n]."""
    found: Numbers = np.abs(case.heatmaps.astype(np.float64)).mean(axis=(1, 2))
    return found


def adcc(coherent: Numbers, complex_: Numbers, dropped: Numbers) -> Numbers:
    """The harmonic mean of the three, each as a share that is better when higher."""
    shares = np.stack([coherent, 1 - complex_, 1 - dropped])
    with np.errstate(divide="ignore"):
        found: Numbers = 3 / (1 / np.maximum(shares, 0)).sum(axis=0)
    return found
