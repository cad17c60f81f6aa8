"""Grad-CAM++ (Chattopadhyay et al., WACV 2018, arXiv:1710.11063) and its smoothed form (Omeiza et al. 2019, arXiv:1908.01224)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..format.bundle import Manifest
from .cam import spatial, weighted_sum
from .elsewhere import add_rows, check_noise, gradients_at, noisy, why_no_floats
from .method import GRADIENT_ADVICE, Array, Forward, Method, Seed, check_epsilon, methods


@methods.register("grad-cam++")
@dataclass(frozen=True)
class GradCamPlusPlus(Method):
    """L = ReLU(sum_k w_k A_k), w_k = sum_ij alpha_kij ReLU(g_kij),
    alpha = g^2 / (2 g^2 + (sum_ab A_kab) g^3), 0 where the denominator is 0 (equation 19).

    Attributes:
        eps: Added to the denominator. None is the authors' form. If global average pooling and one linear layer follow the
            cut, 2 g^2 is about 3e-7, and an epsilon would dominate the map. 1e-6 reproduces pytorch-grad-cam.

    Raises:
        OptionError: An epsilon that is not positive.
    """

    eps: float | None = None

    shows: ClassVar[str] = "as grad-cam, weighted by powers of the positive gradient"
    plainly: ClassVar[str] = (
        "A place is bright if patterns were found there that raise the score somewhere in the picture."
    )
    passes: ClassVar[str] = "1 + a tail"
    roles: ClassVar[Mapping[str, str]] = GRADIENT_ADVICE

    def __post_init__(self) -> None:
        check_epsilon("grad-cam++", self.eps)

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,h,w]; see `Method.maps`."""
        activation = forward.activation
        weights = []
        for seed in seeds:
            g = forward.backward("gradient", seed)
            if self.eps is None:
                weights.append(_exact_weights(g, activation))
            else:
                g = g.astype(np.float64)  # its cube would vanish in float32
                weights.append(_weights(g, g * g, g * g * g, activation, self.eps))
        return np.maximum(weighted_sum(np.stack(weights), activation), 0)


@methods.register("smooth-grad-cam++")
@dataclass(frozen=True)
class SmoothGradCamPlusPlus(Method):
    """Grad-CAM++ of derivatives averaged over noisy copies of the image: alpha takes the means of g^2 and g^3, w_k the mean of
    g; the activation is that of the image itself.

    alpha's numerator is the mean of g^2, as in Grad-CAM++, so without noise the map equals that of Grad-CAM++. torch-cam
    does the same and calls it a correction of the printed formula.

    Attributes:
        samples: Noisy copies, at least 1.
        sigma: Standard deviation of the noise, as a share of the image's own range (max - min of the network's input).
        seed: Seed of the noise, 0 or more.

    Raises:
        OptionError: Fewer than 1 sample, or a negative sigma or seed.
    """

    samples: int = 25
    sigma: float = 0.15
    seed: int = 0

    shows: ClassVar[str] = "Grad-CAM++, its derivatives averaged over noisy copies"
    plainly: ClassVar[str] = (
        "A place is bright if patterns were found there that raise the score somewhere, on average over noisy copies."
    )
    passes: ClassVar[str] = "25 x (1 + a tail)"
    slow: ClassVar[bool] = True
    roles: ClassVar[Mapping[str, str]] = GRADIENT_ADVICE

    def __post_init__(self) -> None:
        check_noise("smooth-grad-cam++", self.samples, self.sigma, self.seed)

    def why_not(self, manifest: Manifest) -> str | None:
        """See `Method.why_not`."""
        return why_no_floats(manifest)

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,h,w]; see `Method.maps`."""
        activation = forward.activation
        moments = np.zeros((3, len(seeds), *activation.shape))
        noise = noisy("smooth-grad-cam++", forward, self.sigma, self.seed)
        for t, _, image, g in gradients_at(forward, "gradient", seeds, noise, self.samples, "smooth-grad-cam++"):
            power = first = g.astype(np.float64)
            for moment in moments[:, t]:  # g, g^2, g^3
                add_rows(moment, image, power)
                power = power * first
        moments /= self.samples
        weights = np.stack([_weights(g, g2, g3, activation, 0.0) for g, g2, g3 in moments.swapaxes(0, 1)])
        return np.maximum(weighted_sum(weights, activation), 0)


def _exact_weights(g: Array, activation: Array) -> Array:
    """w_k [n,K] without epsilon: g^2 cancels, alpha = 1 / (2 + (sum_ab A_kab) g), and no power of g underflows in float32."""
    below = g * activation.sum(axis=spatial(g), keepdims=True)  # a new array, so the next line may write into it
    below += 2
    positive = np.maximum(g, 0)
    shares = np.divide(positive, below, out=positive, where=below != 0)
    shares[below == 0] = 0  # `where` left ReLU(g) there, not the quotient
    weights: Array = shares.sum(axis=spatial(g))
    return weights


def _weights(g: NDArray[Any], squared: NDArray[Any], cubed: NDArray[Any], activation: Array, eps: float) -> Array:
    """w_k [n,K] from g, g^2, g^3 [n,K,h,w] float64."""
    total = activation.sum(axis=spatial(g), dtype=np.float64, keepdims=True)  # sum_ab A_kab, [n,K,1,1]
    below = 2 * squared + total * cubed + eps
    alpha = np.divide(squared, below, out=np.zeros_like(squared), where=below != 0)
    # w_k = sum_ij alpha_kij ReLU(g_kij)
    weights: Array = (alpha * np.maximum(g, 0)).sum(axis=spatial(g)).astype(np.float32)
    return weights
