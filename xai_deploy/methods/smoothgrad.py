"""SmoothGrad (Smilkov et al. 2017, arXiv:1706.03825)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..format.bundle import Manifest
from .elsewhere import add_rows, check_noise, gradients_at, noisy, why_no_floats
from .method import INPUT_ADVICE, Array, Forward, Method, Seed, methods
from .saliency import Channels, over_channels


@methods.register("smoothgrad")
@dataclass(frozen=True)
class SmoothGrad(Method):
    """The mean of dy/dx over noisy copies of the image; its colours then become one map as in `gradient`.

    Attributes:
        samples: Noisy copies, at least 1.
        sigma: Standard deviation of the noise, as a share of the image's own range (max - min of the network's input).
        seed: Seed of the noise, 0 or more.
        squared: Take the mean of the squares (SmoothGrad-squared, Hooker et al. 2019, arXiv:1806.10758).
        channels: How colours become one map, see `saliency.over_channels`.

    Raises:
        OptionError: Fewer than 1 sample, or a negative sigma or seed.
    """

    samples: int = 50
    sigma: float = 0.15
    seed: int = 0
    squared: bool = False
    channels: Channels = "max-abs"

    shows: ClassVar[str] = "the pixels' gradient, averaged over noisy copies"
    plainly: ClassVar[str] = "A pixel is bright if the score changes quickly with it, on average over noisy copies."
    passes: ClassVar[str] = "100, 2 per copy"
    at_pixels: ClassVar[bool] = True
    needs_layer: ClassVar[bool] = False
    slow: ClassVar[bool] = True
    roles: ClassVar[Mapping[str, str]] = INPUT_ADVICE

    def __post_init__(self) -> None:
        check_noise("smoothgrad", self.samples, self.sigma, self.seed)

    def signed(self, contrast: bool) -> bool:
        """See `Method.signed`; magnitudes and squares have no sign."""
        return self.channels == "sum" and not self.squared

    def why_not(self, manifest: Manifest) -> str | None:
        """See `Method.why_not`."""
        return why_no_floats(manifest)

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,H,W]; see `Method.maps`."""
        total = np.zeros((len(seeds), *forward.x.shape))  # float64: many terms are added up
        inputs = noisy("smoothgrad", forward, self.sigma, self.seed)
        for t, _, image, g in gradients_at(forward, "input-gradient", seeds, inputs, self.samples, "smoothgrad"):
            add_rows(total[t], image, g * g if self.squared else g)
        return np.stack([over_channels(forward, mean, self.channels) for mean in total / self.samples])
