"""ROAD: remove and debias (Rong et al. 2022, arXiv:2202.00449): pixels are replaced by what their neighbours suggest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ... import resample
from ...errors import OptionError
from .curves import ranks
from .metric import Array, Case, Column, Numbers, Region, metrics

_SHARES = np.arange(1, 10) / 10  # of the pixels, as in the paper
_RESIDUAL = 1e-5  # of the image's range: 0.1 to 0.3 % of error in the values, below the noise


@metrics.register("road")
@dataclass(frozen=True)
class Road:
    """The mean of p when 10, 20, ..., 90 % of the pixels are replaced by noisy linear imputation: `road-most`, the highest of the
    map first (lower is better), `road-least`, the lowest first (higher is better), and `road`, least minus most. -1 to 1.

    A replaced pixel is the mean of its eight neighbours (the four nearest weigh 1/6, the diagonal ones 1/12), which may be replaced
    themselves: a linear system. Then comes noise. So the shape of what is removed tells little of the class. The paper counts how
    often the class stays predicted (Quantus 0.6 does, too); p says it for a single image.

    Attributes:
        noise: Its standard deviation, as a share of the range from black to white.
        seed: Seed of the noise, 0 or more.
    """

    noise: float = 0.01
    seed: int = 0

    needs: ClassVar[frozenset[str]] = frozenset({"images"})  # eight neighbours are those of a plane

    def __post_init__(self) -> None:
        if not 0 <= self.noise < np.inf or self.seed < 0:
            raise OptionError("road: noise and seed are 0 or more")

    def columns(self, randomised: int) -> Sequence[Column]:
        """See `Metric`."""
        return (Column("road", "higher"), Column("road-most", "lower"), Column("road-least", "higher"))

    def measure(self, case: Case) -> Mapping[str, Numbers]:
        """See `Metric`."""
        most, least = np.empty(len(case.x)), np.empty(len(case.x))
        for image, heat in enumerate(case.heatmaps):
            order = ranks(heat)
            taken = np.rint(_SHARES * heat.size)
            most[image] = self._mean(case, image, [order < count for count in taken])
            least[image] = self._mean(case, image, [order >= heat.size - count for count in taken])
        return {"road": least - most, "road-most": most, "road-least": least}

    def _mean(self, case: Case, image: int, removed: Sequence[Region]) -> float:
        """The mean of p of one image without each of several sets of pixels [H,W]."""
        spec = case.explainer.bundle.manifest.input
        axis, x = spec.channel_axis - 1, case.x[image]
        planes = np.moveaxis(x, axis, 0).astype(np.float64)  # [C,H,W]
        black, white = spec.preprocess.ends()
        spread = np.abs(white - black)[:, None, None]
        rng = np.random.default_rng(self.seed)
        images = []
        for hidden in removed:
            noise = self.noise * spread * rng.standard_normal(planes.shape)
            images.append(np.moveaxis(np.where(hidden, imputed(planes, ~hidden) + noise, planes), 0, axis))
        # a pixel that is not hidden keeps its value
        return float(case.predict(case.as_input(np.stack(images)), np.full(len(images), image)).mean())


def imputed(planes: NDArray[Any], known: Region) -> Array:
    """Planes [C,H,W] whose unknown pixels solve D u = S u: each is the weighted mean of its neighbours inside the image.

    By conjugate gradients, from the solution of the same problem at half the size.

    Args:
        planes: Values; only those of known pixels count.
        known: [H,W]; at least one.
    """
    planes = np.where(known, planes, 0).astype(np.float32)
    if known.all():
        return planes
    height, width = known.shape
    if min(height, width) > 8:
        padding = ((0, height % 2), (0, width % 2))
        counts, sums = _pooled(np.pad(known, padding).astype(np.float32)), _pooled(np.pad(planes, ((0, 0), *padding)))
        coarse = imputed(sums / np.maximum(counts, 1), counts > 0)
        start = resample.resize(coarse, 2 * coarse.shape[1], 2 * coarse.shape[2])[:, :height, :width]
    else:
        start = np.broadcast_to(planes.sum((1, 2), keepdims=True) / known.sum(), planes.shape)
    return _solved(known, np.where(known, planes, start).astype(np.float32))


def _pooled(values: Array) -> Array:
    """Sums of 2 x 2 values, [...,H,W] of even sides."""
    return np.asarray(values[..., ::2, ::2] + values[..., 1::2, ::2] + values[..., ::2, 1::2] + values[..., 1::2, 1::2])


def _solved(known: Region, u: Array) -> Array:
    """Conjugate gradients with the diagonal as preconditioner; the matrix is symmetric and positive definite.

    Args:
        known: [H,W].
        u: The values of known pixels, and where to begin, [C,H,W].
    """
    around = _around(np.ones((1, *known.shape), np.float32))
    hidden: Array = (~known).astype(np.float32)
    diagonal: Array = around * hidden
    inverse: Array = hidden / around
    limit = _RESIDUAL * float(np.ptp(u[:, known])) + 1e-6 * float(np.abs(u).max())  # the latter is float32's rounding
    residual: Array = hidden * _around(u) - diagonal * u
    direction: Array = residual * inverse
    power = _dot(residual, direction)
    for _ in range(int(hidden.sum())):  # exact after so many; it takes far fewer
        if np.abs(residual).max() <= limit:
            break
        image = diagonal * direction - hidden * _around(direction)
        length = _dot(direction, image)
        step = np.divide(power, length, out=np.zeros_like(power), where=length > 0)
        u = np.asarray(u + step * direction, np.float32)
        residual -= step * image
        scaled, before = residual * inverse, power
        power = _dot(residual, scaled)
        direction *= np.divide(power, before, out=np.zeros_like(power), where=before > 0)
        direction += scaled
    return u


def _dot(a: Array, b: Array) -> Array:
    """Of each plane, [C,1,1]."""
    return np.asarray(np.einsum("chw,chw->c", a, b)[:, None, None])


def _around(v: Array) -> Array:
    """The weighted sum of each pixel's neighbours inside the image, [C,H,W]: ((1,2,1) x (1,2,1) - 4) / 12."""
    rows = 2 * v
    rows[:, 1:] += v[:, :-1]
    rows[:, :-1] += v[:, 1:]
    total = 2 * rows
    total[:, :, 1:] += rows[:, :, :-1]
    total[:, :, :-1] += rows[:, :, 1:]
    total -= 4 * v
    total /= 12
    return total
