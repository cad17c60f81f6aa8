"""Kernel SHAP: Shapley values of segments by a weighted regression (Lundberg and Lee 2017, arXiv:1705.07874)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import OptionError
from ..format.bundle import Manifest
from .hiding import STEP, Hidden, Hiding, Numbers, Shown, Valued, check_hiding, drawn, hidings, painted
from .lime import standard_errors
from .method import Array, Forward, Method, Score, Seed, methods, require_varying_score, why_no_score


@methods.register("kernel-shap")
@dataclass(frozen=True)
class KernelShap(Method):
    """Shapley values phi of M segments: the minimum of sum_z w(|z|) (f(z) - f(0) - z . phi)^2 under sum phi = f(1) - f(0).

    f(z) is the score of the image that shows the segments in z, f(0) that of the baseline. w(s) = (M - 1) / (C(M,s) s (M - s))
    (theorem 2). With 2^M - 2 samples or more all z are taken and the values are exact. With fewer, the sizes s are drawn with
    probability proportional to 1 / (s (M - s)), the segments uniformly, and each z with its complement (Covert and Lee 2021,
    arXiv:2012.01536). All images get the same z.

    The map holds a segment's value divided among its pixels, so its sum is f(1) - f(0). Its standard error, reported with the map,
    is that of the values over other draws (HC3, as in `lime`; 0 if exact), as root mean square over the segments; beside it the
    `passes` and the `relative_error`, as in `lime`. The first samples of a seed do not depend on their number.

    Attributes:
        segments: "grid:N" (N x N cells), "slic:N" (about N superpixels; extra `segments`), or a file of labels (.npy, .png).
        samples: Images seen besides the whole one and the baseline; at least 2 per segment.
        baseline: What a hidden segment shows, see `hiding.Hidden`.
        score: f: the network's own "probability" (softmax, sigmoid, or another output), its "logit", or the "softmax" of
            the logits, for any network.
        seed: Seed of the samples, 0 or more.
        tolerance: See images, 64 at a time and at most `samples`, until the standard error is at most this share of the values' own
            root mean square, for each image and target. Without effect if the values are exact.

    Raises:
        OptionError: Segments that are described otherwise, fewer than 2 samples, or a tolerance that is not above 0.
    """

    segments: str = "grid:7"
    samples: int = 2000
    baseline: Hidden = "mean"
    score: Score = "probability"
    seed: int = 0
    tolerance: float | None = None

    shows: ClassVar[str] = "segments, each with its Shapley value"
    plainly: ClassVar[str] = (
        "A part is bright if showing it raises the score, on average over the orders in which parts may be shown."
    )
    passes: ClassVar[str] = "2002, 1 per sample"
    slow: ClassVar[bool] = True
    needs_layer: ClassVar[bool] = False
    roles: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        check_hiding("kernel-shap", self.segments, self.samples, 2, self.seed, self.tolerance)

    def signed(self, contrast: bool) -> bool:
        """See `Method.signed`."""
        return True

    def why_not(self, manifest: Manifest) -> str | None:
        """See `Method.why_not`."""
        return why_no_score(self.score, manifest)

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,H,W]; see `Method.maps`."""
        require_varying_score("kernel-shap", self.score, forward)
        images = hidings("kernel-shap", forward, seeds, self.segments, self.baseline, self.score)
        return painted(forward, images, self._values, shared=True)

    def _values(self, image: Hiding) -> Valued:
        """The Shapley values [T,M]."""
        count = image.count
        f0, f1 = image.scores(np.array([[False] * count, [True] * count])).T
        change = f1 - f0
        nothing = np.zeros(len(change))
        if count == 1:
            return Valued(change[:, None], {"standard_error": nothing, "relative_error": nothing}, nothing + 2)
        exact = count < 60 and 2**count - 2 <= self.samples
        shown, weights = every_half(count) if exact else self._drawn(count)

        def fit(rows: Shown, scores: Numbers) -> tuple[Numbers, Numbers]:
            between = scores[:, ::2] - scores[:, 1::2]
            values, errors = shapley(rows[::2], weights[: between.shape[1]], between, change)
            return values, errors * 0 if exact else errors

        pairs = np.stack([shown, ~shown], axis=1).reshape(-1, count)
        tolerance = None if exact else self.tolerance
        return drawn("kernel-shap", image, pairs, max(2 * count, STEP), tolerance, fit, beside=2)

    def _drawn(self, count: int) -> tuple[Shown, Numbers]:
        """One of each pair of complements, [pairs,M], with equal weights; drawn one by one."""
        pairs = self.samples // 2
        if pairs < count:
            raise OptionError(
                f"kernel-shap: {self.samples} samples are too few for {count} segments; give at least {2 * count}, or fewer "
                "segments"
            )
        rng = np.random.default_rng(self.seed)
        sizes = np.arange(1, count)
        share = 1 / (sizes * (count - sizes))
        shown = np.zeros((pairs, count), bool)
        for row in shown:
            size = rng.choice(sizes, p=share / share.sum())
            row[rng.choice(count, size, replace=False)] = True
        return shown, np.ones(pairs)


def every_half(count: int) -> tuple[Shown, Numbers]:
    """One of each pair of complements of `count` segments, but for all and none, with Shapley's kernel as weight."""
    numbers = np.arange(1, 2 ** (count - 1))  # the last segment is hidden in each
    shown = ((numbers[:, None] >> np.arange(count)) & 1).astype(bool)
    sizes = shown.sum(axis=1)
    kernel = np.array([(count - 1) / (math.comb(count, s) * s * (count - s)) for s in range(1, count)])
    return shown, kernel[sizes - 1]


def shapley(shown: Shown, weights: Numbers, between: Numbers, change: Numbers) -> tuple[Numbers, Numbers]:
    """The values that minimise the squares under the constraint on their sum.

    A set and its complement give one equation: with z' = z - |z| / M, half the difference of their scores is
    (|z| / M - 1/2) * change + z' . phi. Their mean says nothing of phi. With d, that half without its first term, the solution is
    phi = change / M + G^+ sum w z' d, G = sum w z' z'^T.

    Args:
        shown: z, one of each pair, [p,M].
        weights: w, [p].
        between: f(z) - f(1 - z), [T,p].
        change: f(1) - f(0), [T].

    Returns:
        The values [T,M] and their standard errors [T,M], of pairs drawn at random.
    """
    count = shown.shape[1]
    share = shown.mean(axis=1)
    z = shown - share[:, None]
    d = between / 2 - (share - 0.5) * change[:, None]
    gram = z.T @ (weights[:, None] * z)
    # G is 0 along (1, ..., 1), where z' has no part: what is added there makes it invertible and changes nothing else.
    inverse = np.asarray(np.linalg.pinv(gram + np.trace(gram) / count**2, hermitian=True), np.float64)
    part = (d * weights) @ z @ inverse
    return change[:, None] / count + part, standard_errors(z, np.asarray(d - part @ z.T), weights, inverse, 0.0)
