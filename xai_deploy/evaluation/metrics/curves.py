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
from .metric import Case, Column, Numbers, metrics

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
        _check("deletion", self.steps)

    def columns(self, randomised: int) -> Sequence[Column]:
        """See `Metric`."""
        return (Column("deletion", "lower"),)

    def measure(self, case: Case) -> Mapping[str, Numbers]:
        """See `Metric`."""
        areas, curves = _measure(case, self.steps, self.baseline, inserting=False)
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
        _check("insertion", self.steps)

    def columns(self, randomised: int) -> Sequence[Column]:
        """See `Metric`."""
        return (Column("insertion", "higher"),)

    def measure(self, case: Case) -> Mapping[str, Numbers]:
        """See `Metric`."""
        areas, curves = _measure(case, self.steps, self.baseline, inserting=True)
        return {"insertion": areas, "insertion curve": curves}


def _check(name: str, steps: Steps) -> None:
    if steps != "cells" and steps < 1:
        raise OptionError(f'{name}: steps are at least 1, or "cells", not {steps}')


def _measure(case: Case, steps: Steps, baseline: Baseline, inserting: bool) -> tuple[Numbers, Numbers]:
    """The areas [n], and the curves [n,points] of p at even shares of the pixels from 0 to 1."""
    manifest = case.explainer.bundle.manifest
    if steps == "cells" and not manifest.is_cut:
        raise OptionError("steps=cells: cells are the layer's positions, and this network is not cut; give a number")
    cells = math.prod(manifest.target.shape[1:])
    size = case.heatmaps[0].size
    count = min(cells if steps == "cells" else steps, size)  # a step changes at least one pixel
    taken = np.rint(np.arange(count + 1) * (size / count)).astype(np.int64)  # number of pixels changed after each step
    areas, curves = np.empty(len(case.x)), np.empty((len(case.x), min(count + 1, POINTS)))
    for image, heat in enumerate(case.heatmaps):
        rank = np.empty(size, np.int64)  # rank[i] = 0 for the highest pixel; ties in reading order
        rank[np.argsort(-heat.ravel(), kind="stable")] = np.arange(size)
        rank = rank.reshape(heat.shape)
        pixels, hidden = case.x[image], empty(case.x[image], manifest.input, baseline)
        first, then = (hidden, pixels) if inserting else (pixels, hidden)
        p = np.empty(count + 1)
        for start in range(0, count + 1, _BATCH):
            rows = slice(start, min(start + _BATCH, count + 1))
            # Step s has changed the taken[s] highest pixels: [H,W] < [b,1,1] -> [b,H,W], then an axis for the colours.
            reached = case.layered(rank[None] < taken[rows, None, None])
            p[rows] = case.predict(np.where(reached, then, first), np.full(len(reached), image))
        # sum_s (p_s + p_(s+1)) / 2 * (share_(s+1) - share_s)
        areas[image] = (0.5 * (p[1:] + p[:-1]) * np.diff(taken / size)).sum()
        # Step s has changed s / count of the pixels, but for rounding to whole pixels.
        at = np.linspace(0, count, curves.shape[1])
        curves[image] = np.interp(at, np.arange(count + 1), p)
    return areas, curves
