"""RISE's masks as what they are made of: a grid of cells and an offset. Sums over thousands of masks are sums over their grids."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .. import resample

Numbers = NDArray[np.float64]
Index = NDArray[np.intp]


class Enlarged:
    """How a grid becomes a mask: along each axis the bilinear weights of the cells, from each offset on.

    Args:
        size: The masks' size.
        cells: Cells along each side of their grids.
        p: Probability of a visible cell.

    Attributes:
        cells: Cells along each axis.
        steps: Offsets along each axis.
        parts: Parts of an axis in whose products `coarse` gives means: as fine as the masks vary.
    """

    def __init__(self, size: tuple[int, ...], cells: int, p: float) -> None:
        self.cells, self._p = (cells,) * len(size), p
        self.steps = tuple(-(-side // cells) for side in size)
        self._lines = [_lines(side, cells) for side in size]
        most = int(_MOST ** (1 / len(size)))
        self.parts = tuple(min(max(1, 7 * cells // 4), side, most) for side in size)
        means = [_means(side, parts) for side, parts in zip(size, self.parts, strict=True)]
        self._coarse = [mean @ lines for mean, lines in zip(means, self._lines, strict=True)]  # [steps,parts,cells]
        self._means = means
        # A mask is a product over the axes of bilinear weights times independent cells, each of variance p (1 - p).
        self._shared = [
            np.einsum("opc,oxc->px", coarse, lines) / len(lines)
            for coarse, lines in zip(self._coarse, self._lines, strict=True)
        ]

    def draw(self, rng: np.random.Generator, count: int) -> tuple[Numbers, Index]:
        """Grids [count,*cells] and offsets [count,axes]; other ones than those that are drawn one by one."""
        grids = (rng.random((count, *self.cells)) < self._p).astype(np.float64)
        return grids, np.stack([rng.integers(step, size=count) for step in self.steps], axis=1)

    def coarse(self, grids: Numbers, offsets: Index) -> Numbers:
        """Means of masks in parts of the image, [b,F], less their expectation."""
        values = grids
        for axis, table in enumerate(self._coarse):
            moved = np.moveaxis(values, axis + 1, 1)
            product = table[offsets[:, axis]] @ moved.reshape(*moved.shape[:2], math.prod(moved.shape[2:]))
            values = np.moveaxis(product.reshape(len(grids), table.shape[1], *moved.shape[2:]), 1, axis + 1)
        return np.asarray(values.reshape(len(grids), math.prod(self.parts)) - self._p, np.float64)

    def covariance(self) -> Numbers:
        """Of the coarse values, [F,F]."""
        whole: Numbers = np.full((1, 1), self._p * (1 - self._p))
        for shared, mean in zip(self._shared, self._means, strict=True):
            whole = np.asarray(np.kron(whole, shared @ mean.T), np.float64)
        return whole

    def with_pixels(self, weights: Numbers) -> Numbers:
        """Covariance of sum_f weights_f value_f with each pixel of a mask, [H,W]."""
        result = weights.reshape(self.parts)
        for axis, shared in enumerate(self._shared):
            result = np.moveaxis(np.tensordot(result, shared, (axis, 0)), -1, axis)
        return self._p * (1 - self._p) * result

    def total(self, grids: Numbers, offsets: Index, weights: Numbers) -> Numbers:
        """The sum over masks of weight times (mask - p), [H,W]."""
        sums = np.zeros((*self.steps, *self.cells))
        np.add.at(sums, tuple(offsets.T), weights.reshape(-1, *(1 for _ in self.cells)) * (grids - self._p))
        axes = len(self.steps)
        for axis, lines in enumerate(self._lines):
            # the first of the offsets, and the cells of its axis, become that axis' pixels; they come last
            sums = np.tensordot(sums, lines, ((0, axes - axis), (0, 2)))
        return np.asarray(sums, np.float64)


def near(shape: tuple[int, ...]) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Each place of a grid with itself, then with each neighbour, diagonal ones too; each pair once."""
    for ahead in np.ndindex((3,) * len(shape)):
        step = tuple(1 - one for one in ahead)
        if step >= (0,) * len(shape):
            yield (
                tuple(slice(max(one, 0), min(n + one, n)) for one, n in zip(step, shape, strict=True)),
                tuple(slice(max(-one, 0), min(n - one, n)) for one, n in zip(step, shape, strict=True)),
            )


_MOST = 200
"""Coarse values of a mask: 14 along each of two axes, 5 along each of three."""


def _means(side: int, parts: int) -> Numbers:
    """Means of nearly equal parts of an axis, as a matrix [parts,side]."""
    part = np.arange(side) * parts // side
    inside = (part == np.arange(parts)[:, None]).astype(np.float64)
    return np.asarray(inside / inside.sum(axis=1, keepdims=True), np.float64)


def _lines(side: int, cells: int) -> Numbers:
    """The cells' bilinear weights at each pixel, from each offset on, [steps,side,cells]."""
    step = -(-side // cells)
    rows = [resample.resize(cell[None], 1, (cells + 1) * step)[0] for cell in np.eye(cells, dtype=np.float32)]
    weights = np.stack(rows, axis=1).astype(np.float64)  # [enlarged,cells]
    return np.stack([weights[offset : offset + side] for offset in range(step)])
