"""Smooth masks with few parameters, and an image that fades into its blurred self (Fong, Patrick & Vedaldi 2019, arXiv:1910.08485).

A mask's parameters lie on a coarse grid. A pixel of the mask is the smooth maximum of the parameters around it, each weighted by a
kernel of its distance: a mask can't have details smaller than the kernel, and a parameter of 1 makes a plateau of 1 (section 3.2).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .method import Array

_COLDNESS = 20.0  # of the smooth maximum, as in the authors' code


class SmoothMasks:
    """m(u) = sum_k v_k exp(c v_k) / sum_k exp(c v_k), v_k = p_k K(|u - u_k| / sigma), K(z) = exp(-2 max(z - 1/2, 0)^2), c = 20.

    u_k are the grid's nodes around u. The mask is larger than the image by a margin of sigma on each side, so that the image's
    borders are no borders of the mask.

    Args:
        size: (H,W) of the image.
        step: Distance of the grid's nodes, in pixels.
        sigma: Size of the kernel, in pixels; a multiple of `step`, or the mask would not reach the image's last pixels.

    Attributes:
        grid: (rows, columns) of the parameters.
        full: (rows, columns) of the mask with its margin.
    """

    def __init__(self, size: tuple[int, ...], step: int, sigma: int) -> None:
        self._size, self._step, self._margin = size, step, sigma
        self._padding, radius = 1 + math.ceil(2 * sigma / step), 1 + math.ceil(sigma / step)
        self._side = 2 * radius + 1  # nodes around a pixel, along each axis
        self.grid = tuple(math.ceil(n / step) for n in size)
        self._cells = tuple(n + 2 * self._padding - self._side + 1 for n in self.grid)
        self.full = tuple(step * (n - 1) + 1 for n in self._cells)
        # distance of each place in a cell to each node around it, [side,step], the same along both axes
        places = np.arange(step) - sigma - step * (np.arange(self._side)[:, None] - self._padding)
        apart = np.sqrt(places[:, None, :, None] ** 2.0 + places[None, :, None, :] ** 2.0) / sigma
        self._kernel = np.exp(-2 * np.maximum(apart - 0.5, 0) ** 2).astype(np.float32)  # [side,side,step,step]

    def masks(self, parameters: Array) -> tuple[Array, Array]:
        """Masks of the image, [b,H,W], and with their margin, [b,*full].

        Args:
            parameters: [b,*grid] in [0,1].
        """
        whole = self._pooled(parameters)[0].reshape(len(parameters), *(n * self._step for n in self._cells))
        full = whole[:, : self.full[0], : self.full[1]]
        return full[(slice(None), *self._image)], full

    def gradient(self, parameters: Array, of_masks: Array, of_full: Array) -> Array:
        """The gradient at the parameters, [b,*grid], from those at the image's masks and at the masks with their margin."""
        at = np.zeros((len(parameters), *(n * self._step for n in self._cells)), np.float32)
        at[:, : self.full[0], : self.full[1]] = of_full
        at[(slice(None), *self._image)] += of_masks
        g = at.reshape(self._shape(len(parameters)))
        pooled, total = self._pooled(parameters)
        padded = np.zeros((len(parameters), *(n + 2 * self._padding for n in self.grid)), np.float32)
        for part, kernel, v in self._around(parameters):
            # dm/dv_k = exp(c v_k) / sum exp(c v) (1 + c (v_k - m))
            share = g * np.exp(_COLDNESS * v) / total * (1 + _COLDNESS * (v - pooled))
            padded[part] += np.einsum("byaxc,ac->byx", share, kernel)
        inner = slice(self._padding, -self._padding)
        return padded[:, inner, inner]

    @property
    def _image(self) -> tuple[slice, slice]:
        height, width = self._size
        return slice(self._margin, self._margin + height), slice(self._margin, self._margin + width)

    def _shape(self, count: int) -> tuple[int, ...]:
        return count, self._cells[0], self._step, self._cells[1], self._step

    def _pooled(self, parameters: Array) -> tuple[Array, Array]:
        """The smooth maximum, and the sum of exponentials, [b,cells,step,cells,step]."""
        above, total = (np.zeros(self._shape(len(parameters)), np.float32) for _ in range(2))
        for _, _, v in self._around(parameters):
            share = np.exp(_COLDNESS * v)
            total += share
            above += v * share
        return above / total, total

    def _around(self, parameters: Array) -> Iterator[tuple[Any, Array, Array]]:
        """Yield, for each node around a pixel: its place among the padded parameters, its kernel, and v for every pixel."""
        wide = [(0, 0), *[(self._padding, self._padding)] * 2]
        padded, (rows, columns) = np.pad(parameters, wide), self._cells
        for y in range(self._side):
            for x in range(self._side):
                part = (slice(None), slice(y, y + rows), slice(x, x + columns))
                kernel = self._kernel[y, x]
                yield part, kernel, padded[part][:, :, None, :, None] * kernel[:, None, :]


class Fading:
    """An image that a mask fades into something without information: m = 1 the image, m = 0 blurred most, linear between levels.

    Args:
        planes: [C,H,W].
        levels: How many versions of the image there are, the image among them; 2: a straight mixture.
        blur: The largest standard deviation, in pixels; the others lie evenly between it and 0. Beyond the image there are zeros.
    """

    def __init__(self, planes: Array, levels: int, blur: float) -> None:
        spreads = blur * (1 - np.arange(levels) / (levels - 1))
        self._versions = np.stack([_blurred(planes, spread) for spread in spreads])  # [levels,C,H,W]

    def images(self, masks: Array) -> tuple[Array, Array]:
        """The faded images [b,C,H,W] for masks [b,H,W] in [0,1], and their derivatives by the masks, of the same shape."""
        last = len(self._versions) - 1
        level = masks * last
        below = np.minimum(level.astype(np.int64), last - 1)  # at m = 1 the derivative is the one from below
        rows, columns = np.ogrid[: masks.shape[1], : masks.shape[2]]
        low, high = (np.moveaxis(self._versions[k, :, rows, columns], -1, 1) for k in (below, below + 1))
        rise = high - low
        return low + (level - below)[:, None] * rise, rise * np.float32(last)


def _blurred(planes: Array, spread: float) -> Array:
    """[C,H,W] after a Gaussian of 4 standard deviations to each side, whose weights sum to 1."""
    reach = math.ceil(4 * spread)
    if reach == 0:
        return planes
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / spread) ** 2)
    taps /= taps.sum()

    def matrix(n: int) -> NDArray[np.float32]:
        apart = np.arange(n)[:, None] - np.arange(n)
        return np.where(np.abs(apart) <= reach, taps[np.clip(apart + reach, 0, 2 * reach)], 0).astype(np.float32)

    return np.asarray(matrix(planes.shape[1]) @ planes @ matrix(planes.shape[2]), np.float32)
