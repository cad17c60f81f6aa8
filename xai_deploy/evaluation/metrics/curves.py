"""Insertion and Deletion: how fast p rises or falls as the highest pixels of the map are inserted or deleted (Petsiuk et al.
2018, arXiv:1806.07421)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ...baselines import Baseline, empty
from ...errors import OptionError
from .metric import Array, Case, Column, Index, Numbers, metrics

Steps = int | Literal["cells"]

POINTS = 101  # of a curve that is kept, at most; more steps are interpolated
_BATCH = 32  # inputs in memory at a time


@metrics.register("deletion")
@dataclass(frozen=True)
class Deletion:
    """Area under p over the share of pixels deleted, by the trapezoid rule; pixels are deleted in descending order of the map,
    in equal steps. 0 to 1, lower is better.

    Attributes:
        steps: Number of steps; "cells": one per position of the target layer (ReciproCAM's code, which takes baseline=mean).
        baseline: What replaces a pixel, see `baselines.Baseline`.
    """

    steps: Steps = 30
    baseline: Baseline = "zeros"

    needs: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        check_steps("deletion", self.steps)

    def columns(self, randomised: int) -> Sequence[Column]:
        """See `Metric`."""
        return (Column("deletion", "lower"),)

    def measure(self, case: Case) -> Mapping[str, Numbers]:
        """See `Metric`."""
        areas, curves = areas_and_curves(case, self.steps, self.baseline, inserting=False)
        return {"deletion": areas, "deletion curve": curves}


@metrics.register("insertion")
@dataclass(frozen=True)
class Insertion:
    """Area under p over the share of pixels inserted into the baseline, in descending order of the map; otherwise as
    `deletion`. 0 to 1, higher is better.

    Attributes:
        steps: See `deletion`.
        baseline: What a pixel shows before it is inserted, see `baselines.Baseline`.
    """

    steps: Steps = 30
    baseline: Baseline = "blur"

    needs: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        check_steps("insertion", self.steps)

    def columns(self, randomised: int) -> Sequence[Column]:
        """See `Metric`."""
        return (Column("insertion", "higher"),)

    def measure(self, case: Case) -> Mapping[str, Numbers]:
        """See `Metric`."""
        areas, curves = areas_and_curves(case, self.steps, self.baseline, inserting=True)
        return {"insertion": areas, "insertion curve": curves}


def check_steps(name: str, steps: Steps) -> None:
    """Refuse a number of steps below 1.

    Raises:
        OptionError: It is below 1.
    """
    if steps != "cells" and steps < 1:
        raise OptionError(f'{name}: steps are at least 1, or "cells", not {steps}')


def areas_and_curves(
    case: Case, steps: Steps, baseline: Baseline, inserting: bool, ascending: bool = False
) -> tuple[Numbers, Numbers]:
    """The areas [n], and the curves [n,points] of p at even shares of the pixels from 0 to 1; see `flipped`."""
    manifest = case.explainer.bundle.manifest
    if steps == "cells" and not manifest.is_cut:
        raise OptionError("steps=cells: cells are the layer's positions, and this network is not cut; give a number")
    shares, p = flipped(
        case, math.prod(manifest.target.shape[1:]) if steps == "cells" else steps, baseline, inserting, ascending
    )
    # sum_s (p_s + p_(s+1)) / 2 * (share_(s+1) - share_s)
    areas = (0.5 * (p[:, 1:] + p[:, :-1]) * np.diff(shares)).sum(axis=1)
    count = p.shape[1] - 1
    # Step s has changed s / count of the pixels, but for rounding to whole pixels.
    at = np.linspace(0, count, min(count + 1, POINTS))
    return areas, np.stack([np.interp(at, np.arange(count + 1), own) for own in p])


def flipped(
    case: Case, steps: int, baseline: Baseline, inserting: bool, ascending: bool = False
) -> tuple[Numbers, Numbers]:
    """The shares of the pixels that are changed after each step [steps+1], and p there [n,steps+1].

    Args:
        case: The maps.
        steps: Number of steps; at most one for each pixel.
        baseline: What replaces a pixel.
        inserting: Pixels are inserted into the baseline, instead of being replaced by it.
        ascending: The lowest pixels of the map come first; the order is that of the descending one backwards.
    """
    size = case.heatmaps[0].size
    count = min(steps, size)  # a step changes at least one pixel
    taken = np.rint(np.arange(count + 1) * (size / count)).astype(np.int64)  # number of pixels changed after each step
    p = np.empty((len(case.x), count + 1))
    for image, heat in enumerate(case.heatmaps):
        rank = ranks(heat)
        rank = size - 1 - rank if ascending else rank
        pixels = case.x[image]
        hidden = empty(pixels, case.explainer.bundle.manifest.input, baseline)
        first, then = (hidden, pixels) if inserting else (pixels, hidden)
        for start in range(0, count + 1, _BATCH):
            rows = slice(start, min(start + _BATCH, count + 1))
            # Step s has changed the taken[s] first pixels: [H,W] < [b,1,1] -> [b,H,W], then an axis for the colours.
            reached = case.layered(np.stack([rank < count for count in taken[rows]]))
            p[image, rows] = case.predict(np.where(reached, then, first), np.full(len(reached), image))
    return taken / size, p


def ranks(heat: Array) -> Index:
    """The rank of each pixel of a map, [H,W]: 0 for the highest; ties in reading order."""
    rank = np.empty(heat.size, np.int64)
    rank[np.argsort(-heat.ravel(), kind="stable")] = np.arange(heat.size)
    return rank.reshape(heat.shape)
