"""Integrated gradients (Sundararajan et al., ICML 2017, arXiv:1703.01365)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError
from ..format.bundle import Manifest
from .elsewhere import add_rows, floats, gradients_at, why_no_floats
from .method import INPUT_ADVICE, Array, Forward, Index, Method, Seed, methods
from .saliency import Channels, over_channels

log = logging.getLogger(__name__)

_GAP = 0.05  # share of the score's change; a larger gap is logged as a warning


@methods.register("integrated-gradients")
@dataclass(frozen=True)
class IntegratedGradients(Method):
    """M = sum_c (x - x0)_c int_0^1 dy/dx_c(x0 + a (x - x0)) da (equation 1), by Gauss-Legendre quadrature.

    The quadrature is exact for polynomials of degree 2 steps - 1 along the path; a Riemann sum is exact for constants.

    Complete: the map's sum is y(x) - y(x0). A gap above 5 % is logged as a warning; more steps close it. The explanation's
    diagnostics hold the `gap`, as a share of y(x) - y(x0), and the `baseline`, y(x0).

    Attributes:
        steps: Points on the path, at least 1.
        baseline: x0: "zeros" in the network's input (usually the mean colour), or a "black" image.
        channels: How colours become one map; only "sum" is complete.

    Raises:
        OptionError: Fewer than 1 step.
    """

    steps: int = 50
    baseline: Literal["zeros", "black"] = "zeros"
    channels: Channels = "sum"

    shows: ClassVar[str] = "each pixel's share of the score's change from a baseline"
    passes: ClassVar[str] = "100, 2 per step"
    at_pixels: ClassVar[bool] = True
    needs_layer: ClassVar[bool] = False
    slow: ClassVar[bool] = True
    roles: ClassVar[Mapping[str, str]] = INPUT_ADVICE

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise OptionError(f"integrated-gradients: steps are at least 1, not {self.steps}")

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
        self._check_completeness(forward, seeds, start, total)
        return np.stack([over_channels(forward, values, self.channels) for values in total])

    def _check_completeness(self, forward: Forward, seeds: Sequence[Seed], start: Array, total: NDArray[Any]) -> None:
        every = np.arange(len(forward.x))
        below = forward.at(np.repeat(start, len(every), axis=0), every)
        # The gradient graph gives the logits too, so this one run saves a run of head and tail for the baseline.
        below.backward("input-gradient", seeds[0])
        gaps, baselines = [], []
        for seed, values in zip(seeds, total, strict=True):
            high, low = seed.of(forward.logits), seed.of(below.logits)
            change = high - low
            # A change below this is rounding; 1e-12 keeps the quotient defined if both scores are 0.
            rounding = 1e-4 * (np.abs(high) + np.abs(low)) + 1e-12
            gap = np.abs(values.reshape(len(values), -1).sum(axis=1) - change) / np.maximum(np.abs(change), rounding)
            gaps.append(gap)
            baselines.append(low)
            if gap.max() > _GAP:
                log.warning(
                    "integrated-gradients: the map's sum differs from the change of the score by %.0f %%; give more steps (now %d)",
                    100 * gap.max(),
                    self.steps,
                )
        forward.report("gap", np.stack(gaps))
        forward.report("baseline", np.stack(baselines))
