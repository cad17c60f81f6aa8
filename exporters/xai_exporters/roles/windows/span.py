"""Which cells of a map one position of the layer can change, along one axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Whole = NDArray[np.int64]


@dataclass(frozen=True)
class Sweep:
    """How a convolution or a pooling passes over one axis: kernel, stride, padding before the first cell, dilation."""

    kernel: int
    stride: int = 1
    before: int = 0
    dilation: int = 1

    @property
    def reach(self) -> int:
        """The cells from the kernel's first to its last."""
        return (self.kernel - 1) * self.dilation + 1


@dataclass(frozen=True)
class Span:
    """The windows along one axis of a map, one for each of the layer's positions.

    Attributes:
        start: [h]. A window's first cell; it may lie before the map.
        first, last: [h]. The cells of the map that may change; none if `last` is below `first`. All others in the window are junk.
        length: [h]. Cells of the window, 1 or more.
        size: Cells of the map.
    """

    start: Whole
    first: Whole
    last: Whole
    length: Whole
    size: int

    @property
    def key(self) -> bytes:
        """Equal for equal spans."""
        return b"".join(a.tobytes() for a in (self.start, self.first, self.last, self.length)) + str(self.size).encode()

    @property
    def longest(self) -> int:
        """The length of the longest window."""
        return int(self.length.max())

    @property
    def cells(self) -> Whole:
        """[h,longest]. The cells of each window, those outside of the map too."""
        cells: Whole = self.start[:, None] + np.arange(self.longest)
        return cells

    @property
    def changed(self) -> NDArray[np.bool_]:
        """[h,longest]. Whether a window's cell is one that may change."""
        changed: NDArray[np.bool_] = (self.cells >= self.first[:, None]) & (self.cells <= self.last[:, None])
        return changed

    def within(self, start: Whole, count: int) -> Whole:
        """[h,count]. For each cell from `start` on its place in the window; -1 if it does not change."""
        cells = start[:, None] + np.arange(count)
        inside = (cells >= self.first[:, None]) & (cells <= self.last[:, None])
        return np.where(inside, cells - self.start[:, None], -1)


def positions(size: int) -> Span:
    """Each position of the layer by itself."""
    each = np.arange(size, dtype=np.int64)
    return Span(each, each, each, np.ones(size, np.int64), size)


def swept(span: Span, sweep: Sweep, size: int, apart: bool = False) -> Span:
    """The windows after a convolution or a pooling.

    The windows of all positions lie side by side on one axis, each with `length * stride` cells of what the sweep reads, from
    `start * stride - before` on. So a sweep reads up to `reach - stride` cells of the next window. They hold zeros: `start` is the
    first result that the first changed cell reaches, so that this cell lies `reach - stride` or more after the window's beginning.
    `length` covers all changed cells that a valid result reads.

    Args:
        span: The windows before it.
        sweep: The convolution or pooling.
        size: The length of its result.
        apart: It does not read zeros beside a window, so that each window holds all cells that it reads.
    """
    start = -(-(span.first + sweep.before - sweep.reach + 1) // sweep.stride)
    nothing = span.last < span.first
    first = np.maximum(start, 0)
    last = np.where(nothing, first - 1, np.minimum((span.last + sweep.before) // sweep.stride, size - 1))
    begin = start * sweep.stride - sweep.before
    read = (last - start) * sweep.stride + sweep.reach
    held = read if apart else np.minimum(span.last - begin + 1, read)
    length = np.maximum(np.maximum(last - start + 1, -(-held // sweep.stride)), 1)
    return Span(start, first, last, np.where(nothing, 1, length), size)


def united(spans: Sequence[Span]) -> Span:
    """Windows that hold the changed cells of several tensors of one map, and no other cells if one position changes them."""
    if len({span.key for span in spans}) == 1:
        return spans[0]
    none = [span.last < span.first for span in spans]
    far = np.int64(spans[0].size)
    first = np.stack([np.where(no, far, span.first) for no, span in zip(none, spans, strict=True)]).min(axis=0)
    last = np.stack([np.where(no, -1, span.last) for no, span in zip(none, spans, strict=True)]).max(axis=0)
    first = np.minimum(first, spans[0].size - 1)
    return Span(first, first, last, np.maximum(last - first + 1, 1), spans[0].size)


def begins(size: int, count: int) -> list[int]:
    """The first positions of the parts in which an axis is taken, `count` positions each; the last part may overlap."""
    return [min(i, size - count) for i in range(0, size, count)]


def part_lengths(span: Span, count: int) -> NDArray[Any]:
    """The length of the windows in each part of an axis: that of its longest one."""
    return np.array([span.length[i : i + count].max() for i in begins(len(span.length), count)])
