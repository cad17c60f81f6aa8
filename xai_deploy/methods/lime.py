"""LIME: a linear model of the network around one image (Ribeiro et al. 2016, arXiv:1602.04938)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import OptionError
from ..format.bundle import Manifest
from .hiding import Hidden, Hiding, Numbers, Shown, Valued, check_hiding, drawn, hidings, painted
from .method import Array, Forward, Method, Score, Seed, methods, require_varying_score, why_no_score


@methods.register("lime")
@dataclass(frozen=True)
class Lime(Method):
    """The weights b of the segments in the ridge regression that minimises sum_i w_i (f(x_i) - b_0 - z_i . b)^2 + alpha |b|^2.

    z_i in {0,1}^M says which segments image x_i shows. Row 0 shows all; in the others each is shown with probability 1/2.
    w_i = sqrt(exp(-d_i^2 / width^2)), d_i the cosine distance of z_i from all ones (1 if nothing is shown). As `LimeImageExplainer`
    of the package lime 0.2.0.1, whose segments are by default those of quickshift. All images get the same z. The map holds each
    segment's weight at its pixels.

    Its standard error, reported with the map, is that of the weights over other draws of z: the square root of the sandwich's
    diagonal (HC3; MacKinnon and White 1985), as root mean square over the segments. The `passes` and the `relative_error`, its
    share of the weights' own root mean square, stand beside it. The first samples of a seed do not depend on their number.

    Attributes:
        segments: "grid:N" (N x N cells), "slic:N" (about N superpixels; extra `segments`), or a file of labels (.npy, .png).
        samples: Images seen, the whole one among them.
        baseline: What a hidden segment shows, see `hiding.Hidden`.
        width: Width of the kernel.
        alpha: Penalty of the ridge regression.
        score: f: the network's own "probability" (softmax, sigmoid, or another output), its "logit", or the "softmax" of
            the logits, for any network.
        seed: Seed of the samples, 0 or more.
        tolerance: See images, 64 at a time and at most `samples`, until the standard error is at most this share of the weights'
            own root mean square, for each image and target.

    Raises:
        OptionError: Segments that are described otherwise, fewer than 2 samples, or a width, alpha or tolerance that
            is not above 0.
    """

    segments: str = "grid:7"
    samples: int = 1000
    baseline: Hidden = "segment"
    width: float = 0.25
    alpha: float = 1.0
    score: Score = "probability"
    seed: int = 0
    tolerance: float | None = None

    shows: ClassVar[str] = "segments, weighted by a linear model of the score"
    plainly: ClassVar[str] = "A part is bright if the score is higher with it shown, by a straight-line estimate."
    passes: ClassVar[str] = "1000, 1 per sample"
    slow: ClassVar[bool] = True
    needs_layer: ClassVar[bool] = False
    roles: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        check_hiding("lime", self.segments, self.samples, 2, self.seed, self.tolerance)
        if not self.width > 0 or not self.alpha > 0:
            raise OptionError("lime: width and alpha are above 0")

    def signed(self, contrast: bool) -> bool:
        """See `Method.signed`."""
        return True

    def why_not(self, manifest: Manifest) -> str | None:
        """See `Method.why_not`."""
        return why_no_score(self.score, manifest)

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,H,W]; see `Method.maps`."""
        require_varying_score("lime", self.score, forward)
        images = hidings("lime", forward, seeds, self.segments, self.baseline, self.score)
        return painted(forward, images, self._weights)

    def _weights(self, image: Hiding) -> Valued:
        """The segments' weights [T,M]."""
        shown = np.random.default_rng(self.seed).random((self.samples, image.count)) < 0.5
        shown[0] = True

        def fit(rows: Shown, scores: Numbers) -> tuple[Numbers, Numbers]:
            # cos(z, 1) = |z|^2 / (|z| sqrt(M)) = sqrt(share)
            importance = np.sqrt(np.exp(-((1 - np.sqrt(rows.mean(axis=1))) ** 2) / self.width**2))
            return ridge(rows.astype(np.float64), scores, importance, self.alpha)

        return drawn("lime", image, shown, image.count + 2, self.tolerance, fit)


def ridge(z: Numbers, y: Numbers, importance: Numbers, alpha: float) -> tuple[Numbers, Numbers]:
    """Weighted ridge regression with an intercept that is not penalised.

    Args:
        z: [r,M].
        y: [T,r].
        importance: The rows' weights, [r], above 0.
        alpha: Penalty.

    Returns:
        The coefficients [T,M] and their standard errors [T,M], HC3.
    """
    total = importance.sum()
    z = z - importance @ z / total
    y = y - (y @ importance / total)[:, None]
    weighted = importance[:, None] * z
    inverse: Numbers = np.asarray(np.linalg.inv(z.T @ weighted + alpha * np.eye(z.shape[1])), np.float64)
    b = y @ weighted @ inverse
    return b, standard_errors(z, np.asarray(y - b @ z.T), importance, inverse, 1 / float(total))


def standard_errors(z: Numbers, residuals: Numbers, importance: Numbers, inverse: Numbers, mean: float) -> Numbers:
    """Of coefficients of weighted least squares, [T,M]: sqrt(diag(A sum_i (w_i e_i / (1 - h_i))^2 z_i z_i^T A)), HC3.

    Args:
        z: Centred rows, [r,M].
        residuals: e, [T,r].
        importance: w, [r].
        inverse: A, the inverse of the normal matrix, [M,M].
        mean: What the intercept adds to the leverage h of a row of weight 1.
    """
    reach = z @ inverse  # [r,M]
    leverage = importance * (mean + (reach * z).sum(axis=1))
    scaled = residuals * importance / np.maximum(1 - leverage, 1e-6)
    return np.asarray(np.sqrt((scaled**2) @ (reach**2)))
