"""Whether the sum of the map over pixels tells how p falls without them: infidelity and Sensitivity-n."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ...baselines import Baseline, empty
from ...errors import OptionError
from ...similarity import pearson
from .metric import Case, Column, Numbers, metrics

_BATCH = 32  # inputs in memory at a time


@metrics.register("infidelity")
@dataclass(frozen=True)
class Infidelity:
    """mean over squares S of (b * sum of the map in S - (p(x) - p(x without S)))^2. Lower is better.

    Yeh et al. 2019 (arXiv:1901.09392), definition 2.1 for the removal of squares. In volumes a square goes through the same share
    of the slices.

    b scales the map so that the figure is least (their equation 4), since a map in [0,1] has no unit. The map is taken as what each
    pixel contributes; Quantus 0.6 takes it as a gradient, times the change of the pixels, and removes blocks one after the other.

    Attributes:
        samples: Squares at random places, the same for all images.
        patch: Their side, as a share of the image's shorter one.
        baseline: What a square shows, see `baselines.Baseline`.
        rescale: False: b = 1.
        seed: Seed of the places, 0 or more.
    """

    samples: int = 200
    patch: float = 0.2
    baseline: Baseline = "black"
    rescale: bool = True
    seed: int = 0

    needs: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        if self.samples < 1 or self.seed < 0 or not 0 < self.patch <= 1:
            raise OptionError("infidelity: samples are at least 1, seed at least 0, patch above 0 and at most 1")

    def columns(self, randomised: int) -> Sequence[Column]:
        """See `Metric`."""
        return (Column("infidelity", "lower"),)

    def measure(self, case: Case) -> Mapping[str, Numbers]:
        """See `Metric`."""
        *deep, height, width = shape = case.heatmaps.shape[1:]
        sides = [max(round(self.patch * side), 1) for side in (*deep, *[min(height, width)] * 2)]
        rng = np.random.default_rng(self.seed)
        last = [size - side + 1 for size, side in zip(shape, sides, strict=True)]
        corners = rng.integers(last, size=(self.samples, len(shape)))
        removed = np.zeros((self.samples, *shape), bool)
        for one, corner in zip(removed, corners.tolist(), strict=True):
            one[tuple(slice(start, start + side) for start, side in zip(corner, sides, strict=True))] = True
        sums, drops = _sums_and_drops(case, removed, self.baseline)
        if self.rescale:
            power = (sums**2).sum(axis=1)
            best = np.divide((sums * drops).sum(axis=1), power, out=np.zeros_like(power), where=power > 0)
            sums = sums * best[:, None]
        return {"infidelity": ((sums - drops) ** 2).mean(axis=1)}


@metrics.register("sensitivity-n")
@dataclass(frozen=True)
class SensitivityN:
    """Pearson's correlation, over random sets of n pixels, of the map's sum in the set with p(x) - p(x without it); the mean over
    several n. -1 to 1, higher is better; NaN if a map is constant.

    Ancona et al. 2018 (arXiv:1711.06104), definition 1 and section 4.2. n runs from 1 to 80 % of the pixels, evenly on a
    logarithmic scale; the paper begins with one pixel, which changes nothing that float32 shows. Quantus 0.6 removes pixels in the
    map's order, and correlates over the images.

    Attributes:
        samples: Sets of each size, the same for all images.
        sizes: How many n.
        baseline: What a pixel of the set shows, see `baselines.Baseline`.
        seed: Seed of the sets, 0 or more.
    """

    samples: int = 50
    sizes: int = 6
    baseline: Baseline = "zeros"
    seed: int = 0

    needs: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        if self.samples < 3 or self.sizes < 1 or self.seed < 0:
            raise OptionError("sensitivity-n: samples are at least 3, sizes at least 1, seed at least 0")

    def columns(self, randomised: int) -> Sequence[Column]:
        """See `Metric`."""
        return (Column("sensitivity-n", "higher"),)

    def measure(self, case: Case) -> Mapping[str, Numbers]:
        """See `Metric`."""
        shape = case.heatmaps.shape[1:]
        size, rng = case.heatmaps[0].size, np.random.default_rng(self.seed)
        numbers = np.unique(np.maximum(np.rint(np.geomspace(0.01, 0.8, self.sizes) * size), 1).astype(int))
        found = []
        for number in numbers.tolist():
            removed = np.zeros((self.samples, size), bool)
            for row in removed:
                row[rng.choice(size, number, replace=False)] = True
            sums, drops = _sums_and_drops(case, removed.reshape(-1, *shape), self.baseline)
            # Of a constant map all sums are equal, but for rounding.
            sums[np.ptp(case.heatmaps.reshape(len(sums), -1), axis=1) == 0] = 0
            found.append(pearson(sums[:, None], drops[:, None]))
        every = np.stack(found)
        known = ~np.isnan(every)
        counts = known.sum(axis=0)
        total = np.where(known, every, 0).sum(axis=0)
        return {"sensitivity-n": np.divide(total, counts, out=np.full(len(total), np.nan), where=counts > 0)}


def _sums_and_drops(case: Case, removed: NDArray[np.bool_], baseline: Baseline) -> tuple[Numbers, Numbers]:
    """The map's sum in each set of pixels [m,H,W], and how far p falls without it: [n,m] each."""
    flat = case.heatmaps.reshape(len(case.x), -1).astype(np.float64)
    sums = flat @ removed.reshape(len(removed), -1).T
    drops = np.empty_like(sums)
    for image, (x, before) in enumerate(zip(case.x, case.before, strict=True)):
        hidden = empty(x, case.explainer.bundle.manifest.input, baseline)
        for start in range(0, len(removed), _BATCH):
            rows = slice(start, start + _BATCH)
            inputs = np.where(case.layered(removed[rows]), hidden, x)
            drops[image, rows] = before - case.predict(inputs, np.full(len(inputs), image))
    return sums, drops
