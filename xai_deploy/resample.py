"""Separable image resampling in NumPy: one weight matrix per axis, two matrix products.

With `antialias` it equals torchvision's resize of tensors, and PIL's up to what PIL does between the two axes: it rounds to 8
bits, and clips there, too. The bicubic filter overshoots at edges between black and white, so that PIL's result differs by up to
some 30 of 255 beside them (10 to 21 in black text on white, 7 in photographs). Fused graphs and the web page compute the same as
this module. Without `antialias` it is plain interpolation with half-pixel centres, `align_corners=False`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

_ONE_THREAD = 1 << 18  # multiply-adds; above it OpenBLAS calls its other threads
_KEPT = 1 << 20  # numbers of a matrix that is kept for the next image; a strip of 65,535 pixels would keep 58 MB
_BLOCK = 1 << 20  # numbers of a matrix that are computed at a time, in float64
_PIXELS = 1 << 21  # numbers of an image that are held as float32 at a time


def weights(
    source: int,
    size: int,
    interpolation: str = "bilinear",
    antialias: bool = False,
    part: tuple[int, int] | None = None,
) -> tuple[int, Array]:
    """The matrix that resamples an axis of length `source` to length `size`.

    Output pixel i has its centre at c = (i + 0.5) * source / size in source coordinates and takes the source pixels
    j with weight f((j + 0.5 - c) / s), normalised to sum 1; s = max(source / size, 1) with antialiasing, else 1. Beyond
    the border the edge pixel repeats (plain interpolation) or the filter is cut (antialiased), as the references do.

    Args:
        source: Present length of the axis.
        size: New length.
        interpolation: "nearest", "bilinear" (triangle) or "bicubic" (Keys; a = -0.5 antialiased, -0.75 plain, as
            PIL and OpenCV have it).
        antialias: Widen the filter when shrinking.
        part: (first, count) of the output pixels wanted; None for all. A crop of an enlarged panorama costs no more than the crop.

    Returns:
        The first source pixel that is used, and the matrix [count, number of source pixels used from there on].
    """
    start, count = part or (0, size)
    made = _kept if count * source <= _KEPT else _weights
    return made(source, size, interpolation, antialias, start, count)


def _weights(source: int, size: int, interpolation: str, antialias: bool, start: int, count: int) -> tuple[int, Array]:
    centre = (np.arange(start, start + count, dtype=np.float64) + 0.5) * (source / size)
    stretch = max(source / size, 1.0) if antialias else 1.0
    reach = 2.0 * stretch + 1  # half the width of the widest filter (bicubic), and 1 for rounding
    low = min(max(int(centre[0] - reach), 0), source - 1)
    high = min(max(int(centre[-1] + reach) + 1, low + 1), source)
    if antialias and interpolation != "nearest":
        return low, _widened(np.arange(low, high), centre, stretch, interpolation)
    matrix = np.zeros((count, high - low))
    rows = np.arange(count)
    if interpolation == "nearest":
        matrix[rows, (2 * (start + rows) + 1) * source // (2 * size) - low] = 1  # floor of the centre, exactly
    else:
        first = np.floor(centre - 0.5).astype(int)
        for offset in (0, 1) if interpolation == "bilinear" else (-1, 0, 1, 2):
            weight = _kernel(interpolation, first + offset + 0.5 - centre, a=-0.75)
            # Added, not assigned, because several taps fall on the same pixel at the border.
            np.add.at(matrix, (rows, np.clip(first + offset, 0, source - 1) - low), weight)
    return low, matrix.astype(np.float32)


_kept = lru_cache(maxsize=16)(_weights)


def _widened(columns: NDArray[np.int_], centre: NDArray[np.floating[Any]], stretch: float, interpolation: str) -> Array:
    """The matrix with antialiasing, made in blocks of rows.

    PIL takes the pixels whose centres lie within the support, which the filter's zeros do on their own.
    """
    matrix = np.empty((len(centre), len(columns)), np.float32)
    rows = max(_BLOCK // len(columns), 1)
    for first in range(0, len(centre), rows):
        block = slice(first, first + rows)
        weight = _kernel(interpolation, (columns + 0.5 - centre[block, None]) / stretch, a=-0.5)
        matrix[block] = weight / weight.sum(axis=1, keepdims=True)
    return matrix


def _kernel(interpolation: str, t: NDArray[np.float64], a: float) -> NDArray[np.float64]:
    """The filter f(t): the triangle max(1 - |t|, 0), or the cubic of Keys (1981) with the parameter a, zero from |t| = 2 on."""
    t = np.abs(t)
    if interpolation == "bilinear":
        return np.maximum(1 - t, 0)
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return np.where(t < 1, near, np.where(t < 2, far, 0))


def resize(
    maps: NDArray[np.generic],
    *size: int,
    interpolation: str = "bilinear",
    antialias: bool = False,
    part: tuple[int, ...] | None = None,
) -> Array:
    """Resample the last axes, float32: [..., h, w] to [..., height, width], or [..., d, h, w] to [..., depth, height, width].

    Args:
        maps: The maps.
        *size: The new size of each of the last axes, two or three.
        interpolation: See `weights`; "bilinear" is trilinear in volumes.
        antialias: See `weights`.
        part: What of the result is wanted: the first of each axis, then how many (top, left, rows, columns); None for all.
    """
    rank = len(size)
    source = maps.shape[-rank:]
    corner, extent = (part[:rank], part[rank:]) if part else ((0,) * rank, size)
    if source == size:
        same: Any = (..., *(slice(first, first + count) for first, count in zip(corner, extent, strict=True)))
        return np.array(maps[same], dtype=np.float32, order="C")
    # result = down @ maps @ across.T, from the first source row and column that have a weight; in volumes the slices come last
    axes = [
        weights(n, m, interpolation, antialias, (first, count))
        for n, m, first, count in zip(source, size, corner, extent, strict=True)
    ]
    needed: Any = (..., *(slice(first, first + matrix.shape[1]) for first, matrix in axes))
    *deep, down, across = (matrix for _, matrix in axes)
    resized = _product(down, _across(maps[needed], across))
    for matrix in deep:
        *others, depth, height, width = resized.shape
        slices = _product(matrix, resized.reshape(*others, depth, height * width))
        resized = slices.reshape(*others, len(matrix), height, width)
    return resized


def _across(maps: NDArray[np.generic], across: Array) -> Array:
    """maps @ across.T; of a large image some rows at a time, so that no float32 copy of the whole is made."""
    rows = max(_PIXELS // max(maps.size // maps.shape[-2], 1), 1)  # no maps at all: none of Group-CAM's groups varies
    if rows >= maps.shape[-2]:
        return maps.astype(np.float32, copy=False) @ across.T
    result = np.empty((*maps.shape[:-1], len(across)), np.float32)
    for first in range(0, maps.shape[-2], rows):
        block = (..., slice(first, first + rows), slice(None))
        result[block] = maps[block].astype(np.float32, copy=False) @ across.T
    return result


def _product(down: Array, maps: Array) -> Array:
    """down @ maps, in blocks of rows so small that OpenBLAS stays on the calling thread, if a block has at least 8 rows.

    Its other threads would go on spinning after the product, and take cores from the inference that follows.
    """
    rows = _ONE_THREAD // (down.shape[1] * maps.shape[-1])
    if rows < 8 or rows >= len(down):
        whole: Array = down @ maps
        return whole
    product = np.empty((*maps.shape[:-2], len(down), maps.shape[-1]), dtype=np.float32)
    for start in range(0, len(down), rows):
        np.matmul(down[start : start + rows], maps, out=product[..., start : start + rows, :])
    return product
