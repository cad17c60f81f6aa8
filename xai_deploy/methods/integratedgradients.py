"""Integrated gradients (Sundararajan et al., ICML 2017, arXiv:1703.01365)."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError
from ..format.bundle import Manifest
from .elsewhere import add_rows, floats, gradients_at, why_no_floats
from .method import INPUT_ADVICE, Array, Forward, Index, Method, Seed, methods
from .path_integral import FIRST, At, Numbers, integrate, span
from .saliency import Channels, over_channels
from .ticking import ticking
from .tolerance import check_tolerance

log = logging.getLogger(__name__)

_GAP = 0.05  # share of the score's change; a larger gap is logged as a warning


@methods.register("integrated-gradients")
@dataclass(frozen=True)
class IntegratedGradients(Method):
    """M = sum_c (x - x0)_c int_0^1 dy/dx_c(x0 + a (x - x0)) da (equation 1), by Gauss-Legendre quadrature.

    The quadrature is exact for polynomials of degree 2 steps - 1 along the path; a Riemann sum is exact for constants.

    Complete: the map's sum is y(x) - y(x0). A gap above 5 % is logged as a warning; more steps close it. The explanation's
    diagnostics hold the `gap`, as a share of y(x) - y(x0), the `baseline`, y(x0), and the `passes`: 2 per point, the baseline
    among them.

    With `tolerance` the points lie where the score bends (see `path_integral`), and each map gets as many as close its gap.

    Attributes:
        steps: Points on the path, at least 1.
        baseline: x0: "zeros" in the network's input (usually the mean colour), or a "black" image.
        channels: How colours become one map; only "sum" is complete.
        tolerance: The gap at which to stop, in place of a number of steps.
        budget: With `tolerance`, the most points, at least 5. They are kept in memory, each as large as the image.

    Raises:
        OptionError: Fewer than 1 step; a tolerance that is not above 0, or steps beside it; a budget below 5, or without tolerance.
    """

    steps: int = 50
    baseline: Literal["zeros", "black"] = "zeros"
    channels: Channels = "sum"
    tolerance: float | None = None
    budget: int = 300

    shows: ClassVar[str] = "each pixel's share of the score's change from a baseline"
    plainly: ClassVar[str] = "A pixel is bright if it moved the score on the way from a plain picture to this one."
    passes: ClassVar[str] = "100, 2 per step"
    at_pixels: ClassVar[bool] = True
    needs_layer: ClassVar[bool] = False
    slow: ClassVar[bool] = True
    roles: ClassVar[Mapping[str, str]] = INPUT_ADVICE

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise OptionError(f"integrated-gradients: steps are at least 1, not {self.steps}")
        check_tolerance("integrated-gradients", self.tolerance)
        if self.tolerance is not None and self.steps != type(self).steps:
            raise OptionError("integrated-gradients: tolerance finds the steps; leave one of the two out")
        if self.tolerance is None and self.budget != type(self).budget:
            raise OptionError(
                "integrated-gradients: budget is the most points up to a tolerance; give tolerance with it"
            )
        if self.budget < FIRST:
            raise OptionError(f"integrated-gradients: budget is at least {FIRST} points, not {self.budget}")

    def signed(self, contrast: bool) -> bool:
        """See `Method.signed`; magnitudes have no sign."""
        return self.channels == "sum"

    def why_not(self, manifest: Manifest) -> str | None:
        """See `Method.why_not`."""
        return why_no_floats(manifest)

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,H,W]; see `Method.maps`."""
        x = floats("integrated-gradients", forward).astype(np.float32)
        start = forward.black if self.baseline == "black" else np.zeros_like(x[:1])
        if self.tolerance is None:
            maps, gaps, low = self._even(forward, seeds, x, start)
            points = np.full(gaps.shape, self.steps + 1.0)
        else:
            maps, gaps, low, points = self._bent(forward, seeds, x, start, self.tolerance)
        forward.report("gap", gaps)
        forward.report("baseline", low)
        forward.report("passes", 2 * points)
        self._warn(float(gaps.max()))
        return maps

    def _even(
        self, forward: Forward, seeds: Sequence[Seed], x: Array, start: Array
    ) -> tuple[Array, Numbers, NDArray[np.floating]]:
        """The maps of `steps` points [T,n,H,W], their gaps [T,n] and the baseline's scores [T,n]."""
        nodes, shares = np.polynomial.legendre.leggauss(self.steps)
        points, shares = (nodes + 1) / 2, shares / 2  # from [-1,1] to [0,1]; the shares then sum to 1

        def inputs(sample: Index, image: Index) -> NDArray[Any]:
            way = points[sample].astype(np.float32).reshape(-1, *(1,) * (x.ndim - 1))  # [b,1,...,1]
            return start + way * (x[image] - start)

        total = np.zeros((len(seeds), *x.shape))
        for t, sample, image, g in gradients_at(
            forward, "input-gradient", seeds, inputs, self.steps, "integrated-gradients"
        ):
            add_rows(total[t], image, g * shares[sample].astype(np.float32).reshape(-1, *(1,) * (x.ndim - 1)))
        total *= x - start  # sum_i share_i g_i -> (x - x0) times the integral
        every = np.arange(len(x))
        below = forward.at(np.repeat(start, len(every), axis=0), every)
        # The gradient graph gives the logits too, so this one run saves a run of head and tail for the baseline.
        below.backward("input-gradient", seeds[0])
        high, low = (np.stack([seed.of(one.logits) for seed in seeds]) for one in (forward, below))
        gap = np.abs(total.reshape(*high.shape, -1).sum(axis=2) - (high - low)) / span(high, low)
        return np.stack([over_channels(forward, values, self.channels) for values in total]), gap, low

    def _bent(
        self, forward: Forward, seeds: Sequence[Seed], x: Array, start: Array, tolerance: float
    ) -> tuple[Array, Numbers, Numbers, Numbers]:
        """As `_even`, of points where the score bends, and how many there are [T,n]."""
        gaps, low, points = (np.zeros((len(seeds), len(x))) for _ in range(3))
        maps = np.zeros((len(seeds), len(x), *forward.image_size), np.float32)
        for i, (t, seed) in itertools.product(range(len(x)), enumerate(seeds)):
            which = f", map {i * len(seeds) + t + 1} of {gaps.size}" if gaps.size > 1 else ""
            with ticking(forward, self.budget, f"points of integrated-gradients, at most{which}") as tick:
                found = integrate(self._along(forward, seed, x[i : i + 1], i, start, tick), tolerance, self.budget)
            maps[t, i] = over_channels(forward, found.value[None], self.channels)[0]
            gaps[t, i], low[t, i], points[t, i] = found.error, found.first, found.points
        return maps, gaps, low, points

    def _along(self, forward: Forward, seed: Seed, x: Array, i: int, start: Array, tick: Callable[[int], None]) -> At:
        """(x - x0) times the gradient at points of the path of image `i`, and the scores there."""

        def at(points: Numbers) -> tuple[Array, Numbers]:
            if points[-1] == 1.0:  # the image itself, whose logits the explanation needs anyway: one run gives both
                before = at(points[:-1])
                last = (x - start) * forward.backward("input-gradient", seed)[i : i + 1]
                tick(1)
                return np.concatenate([before[0], last]), np.append(before[1], seed.of(forward.logits)[i])
            values, scores = [], []
            for first in range(0, len(points), forward.batch_size):
                way = points[first : first + forward.batch_size].astype(np.float32)
                image = np.full(len(way), i)
                there = forward.at(start + way.reshape(-1, *(1,) * (x.ndim - 1)) * (x - start), image)
                own = seed.rows(image)
                values.append((x - start) * there.backward("input-gradient", own))
                scores.append(own.of(there.logits).astype(np.float64))
                tick(len(way))
            return np.concatenate(values), np.concatenate(scores)

        return at

    def _warn(self, gap: float) -> None:
        if gap > (self.tolerance or _GAP):
            what = f"the tolerance is {self.tolerance:g}; give a larger budget" if self.tolerance else "give more steps"
            now = self.steps if self.tolerance is None else self.budget
            log.warning(
                "integrated-gradients: the map's sum differs from the change of the score by %.3g %%; %s (now %d)",
                100 * gap,
                what,
                now,
            )
