"""Coordinates of a tensor's elements in the image, as small arrays: an axis along which they stay the same has size 1.

A `Strand` gives each element one position: (y,x), or (z,y,x) in a volume. A tensor of features has one strand, an attention matrix
two (of the query and of the key), a pooled vector none. Coordinates count the cells of the network's current grid. Only their order
and equality mean anything; a `Frame` for each says where the cells lie in the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .frame import Frame, Window

Coordinates: TypeAlias = NDArray[np.int32]

NONE = -(1 << 20)
"""The coordinate of an element without a position: a class token, a constant, a mean over the axis. It agrees with every other."""
_FAR = 1 << 20


@dataclass(frozen=True)
class Strand:
    """One position per element.

    Attributes:
        places: The coordinates y and x, in a volume z, y and x: int32, of the tensor's rank, broadcast to its shape.
        frames: The place in the image of the cells that each of them counts.
    """

    places: tuple[Coordinates, ...]
    frames: tuple[Frame, ...]

    def map(self, change: Callable[[Coordinates], Coordinates]) -> Strand:
        """The strand with all coordinates changed alike; the frames stay."""
        return replace(self, places=tuple(map(change, self.places)))

    def map_with_frames(self, change: Callable[[Coordinates, Frame], tuple[Coordinates, Frame]]) -> Strand:
        """The strand with all coordinates and their frames changed alike."""
        places, frames = zip(*map(change, self.places, self.frames), strict=True)
        return Strand(places, frames)

    @property
    def known(self) -> bool:
        """Whether any element has any coordinate."""
        return any(bool((a != NONE).any()) for a in self.places)

    @property
    def axes(self) -> frozenset[int]:
        """The axes along which the position changes."""
        return frozenset().union(*map(varying, self.places))


Positions: TypeAlias = tuple[Strand, ...]


def varying(a: NDArray[Any]) -> frozenset[int]:
    """The axes along which an array changes; its other axes have size 1."""
    return frozenset(i for i, size in enumerate(a.shape) if size > 1)


def nowhere(rank: int) -> Coordinates:
    """The coordinate of a tensor that has none."""
    return np.full((1,) * rank, NONE, np.int32)


def kept(strands: Iterable[Strand]) -> Positions:
    """The strands that still have a coordinate."""
    return tuple(s for s in strands if s.known)


def squash(a: Coordinates) -> Coordinates:
    """Give size 1 to the axes along which nothing changes."""
    for axis in varying(a):
        first = a.take([0], axis)
        if (a == first).all():
            a = first
    return a


def full(a: Coordinates, axis: int, size: int) -> Coordinates:
    """The array with its full size along an axis."""
    return np.broadcast_to(a, (*a.shape[:axis], size, *a.shape[axis + 1 :]))


def at_rank(a: Coordinates, rank: int) -> Coordinates:
    """The array at a higher rank: axes of size 1 come first, as broadcasting adds them."""
    return a.reshape((1,) * (rank - a.ndim) + a.shape)


def reshaped(a: Coordinates, old: Sequence[int], new: Sequence[int]) -> Coordinates:
    """The coordinates of a reshaped tensor: axes are joined and divided in row-major order, group by group."""
    before: list[int] = []
    after: list[int] = []
    i = j = 0
    # Each turn takes the smallest group of old axes and the smallest group of new ones with the same number of elements.
    while i < len(old) or j < len(new):
        i0, j0 = i, j
        i, j = min(i + 1, len(old)), min(j + 1, len(new))
        while (p := np.prod(old[i0:i], dtype=int)) != (q := np.prod(new[j0:j], dtype=int)):
            if (p < q and i < len(old)) or j == len(new):
                i += 1
            else:
                j += 1
        changes = any(size > 1 for size in a.shape[i0:i])
        # a group along which nothing changes stays at size 1
        before += old[i0:i] if changes else [1] * (i - i0)
        after += new[j0:j] if changes else [1] * (j - j0)
    return squash(np.broadcast_to(a, before).reshape(after))


def contracted(strand: Strand, axes: Iterable[int], coarsen: bool) -> Strand:
    """The positions of a sum over `axes`, which stay with size 1.

    If all terms of each sum lie at one coordinate, the sum lies there. If they cover equal, adjacent stretches of more than one
    coordinate (a patch, a pooling window) and `coarsen` is set, the stretches are the new cells. Else the sum lies nowhere.
    """
    axes = tuple(axes)
    return strand.map_with_frames(lambda a, frame: _contracted(a, frame, axes, coarsen))


def _contracted(a: Coordinates, frame: Frame, axes: Iterable[int], coarsen: bool) -> tuple[Coordinates, Frame]:
    over = tuple(axis for axis in axes if a.shape[axis] > 1)
    if not over:
        return a, frame
    low = np.where(a == NONE, _FAR, a).min(over, keepdims=True)  # terms without a position do not count
    high = a.max(over, keepdims=True)  # NONE, below all others, only if no term has a position
    if ((low == high) | (high == NONE)).all():
        return squash(high), frame
    if not coarsen or (high == NONE).any():
        return nowhere(a.ndim), frame
    width, first = int((high - low).flat[0]) + 1, int(low.min())
    start = low - first
    # unequal stretches, stretches that do not start at a multiple of the width, or a single stretch
    if (high - low + 1 != width).any() or (start % width).any() or not start.any():
        return nowhere(a.ndim), frame
    return squash((start // width).astype(np.int32)), frame.counted(first, width)


def merged(states: Iterable[Positions], rank: int) -> Positions:
    """The positions of an elementwise result of broadcast tensors.

    Strands that agree become one. If two differ, the one that changes along fewer axes is context (a mean that is broadcast) and
    is dropped. Two that each change along an axis of their own are both kept (query and key). Of two along the same axes, the one
    that repeats its positions (a query that all windows share) is context, too; if both have as many positions, they cancel.
    """
    kept: list[Strand] = []
    for strand in (s.map(lambda a: at_rank(a, rank)) for state in states for s in state):
        _add(kept, strand)
    return tuple(kept)


def _add(kept: list[Strand], new: Strand) -> None:
    for i, old in enumerate(kept):
        # crops of one grid agree if their cells are counted from 0
        both = _agreed(old, new) or _agreed(_counted(old), _counted(new))
        if both is not None:
            kept[i] = both
            return
        if new.axes < old.axes:
            return
        if old.axes < new.axes:
            kept[i] = new
            return
        if new.axes == old.axes:
            places, others = _distinct(new), _distinct(old)
            if places > others:
                kept[i] = new
            elif places == others:
                del kept[i]
            return
    kept.append(new)


def _distinct(strand: Strand) -> int:
    """How many positions there are."""
    # coordinates lie between -_FAR and _FAR, which is 2^20: three of them fit in 64 bits
    each = np.stack([a.reshape(-1) for a in np.broadcast_arrays(*strand.places)]).astype(np.int64)
    return len(np.unique(((2 * _FAR) ** np.arange(len(each))) @ each))


def _agreed(a: Strand, b: Strand) -> Strand | None:
    places, frames = [], []
    for one, other, frame, another in zip(a.places, b.places, a.frames, b.frames, strict=True):
        cells = _same(one, other)
        if cells is None:
            return None
        places.append(cells)
        frames.append(_wider(frame, another, cells))
    return Strand(tuple(places), tuple(frames))


def _wider(a: Frame, b: Frame, cells: Coordinates) -> Frame:
    """The one of two frames of the same cells that covers more of the image; of two that cover as much, the one with less border.

    A convolution of stride 2 and its transposed one put a result half a cell before its place. In a residual branch that is no
    border: the cells lie where those of the input lie.
    """
    inside, outside = [], []
    for frame in (a, b):
        low, high = covered(cells, frame)
        inside.append(min(high, frame.size) - max(low, 0.0))
        outside.append(max(-low, 0.0) + max(high - frame.size, 0.0))
    return a if (inside[0], -outside[0]) >= (inside[1], -outside[1]) else b


def covered(cells: Coordinates, frame: Frame) -> tuple[float, float]:
    """The pixels at which the cells of a coordinate begin and end; the whole side if it has no cells."""
    known = cells[cells != NONE]
    return frame.edges(int(known.min()), int(known.max())) if known.size else (0.0, float(frame.size))


def _same(a: Coordinates, b: Coordinates) -> Coordinates | None:
    # NONE is below every coordinate, so the maximum is the one that is known
    return squash(np.maximum(a, b)) if ((a == b) | (a == NONE) | (b == NONE)).all() else None


def _counted(strand: Strand) -> Strand:
    """The strand of a crop, its cells counted from 0."""

    def counted(a: Coordinates, frame: Frame) -> tuple[Coordinates, Frame]:
        return (a, frame) if unit_steps(a) is None else (a - a.min(), frame.counted(int(a.min())))

    return strand.map_with_frames(counted)


def unit_steps(a: Coordinates) -> int | None:
    """The one axis along which a coordinate counts 0, 1, 2, ..., from any start; None if there is no such axis."""
    axes = varying(a)
    if len(axes) != 1 or not (np.diff(a.reshape(-1)) == 1).all():
        return None
    return next(iter(axes))


def resized(strand: Strand, old: Sequence[int], new: Sequence[int], windows: Mapping[int, Window | None]) -> Strand:
    """The positions after a convolution, a pooling window or a resize that changes sizes: its cells are counted from 0.

    Axes whose size stays keep their positions: the window moves in steps of one there.

    Args:
        strand: The positions before it.
        old: The shape before it.
        new: The shape after it.
        windows: The window along each axis; None for a resize.
    """
    for axis, window in windows.items():
        along = sum(a.shape[axis] > 1 for a in strand.places)
        if old[axis] != new[axis] and along:
            both = along > 1
            strand = strand.map_with_frames(
                lambda a, frame, axis=axis, window=window, both=both: _recounted(
                    a, frame, axis, new[axis], window, both
                )  # type: ignore[misc]
            )
    return strand


def _recounted(
    a: Coordinates, frame: Frame, axis: int, size: int, window: Window | None, both: bool
) -> tuple[Coordinates, Frame]:
    if a.shape[axis] == 1:
        return a, frame
    if both or size == 1:  # two coordinates lie along the same axis, or one result remains
        return nowhere(a.ndim), frame
    if varying(a) != {axis}:
        return _recounted_parts(a, frame, axis, size)
    line = a.reshape(-1)
    if (np.diff(line) < 0).any():
        return nowhere(a.ndim), frame
    return ladder(a.ndim, axis, size), frame.windowed(int(line[0]), int(line[-1]), size, window)


def _recounted_parts(a: Coordinates, frame: Frame, axis: int, size: int) -> tuple[Coordinates, Frame]:
    """As `_recounted`, of an image in parts of the same length (patches, windows): each part is divided into `size` cells.

    The parts begin at multiples of their length, and count up along the axis.
    """
    length = a.shape[axis]
    starts, low = a.take([0], axis), int(a.min())
    counts_up = (np.diff(a, axis=axis) == 1).all()
    if low == NONE or not counts_up or ((starts - low) % length).any() or (length % size and size % length):
        return nowhere(a.ndim), frame
    edges = frame.edges(low, int(a.max()))
    cells = (starts - low) // length * size + ladder(a.ndim, axis, size)
    return cells.astype(np.int32), frame.spread(*edges, (int(a.max()) - low + 1) * size // length)


def ladder(rank: int, axis: int, size: int, start: int = 0) -> Coordinates:
    """A coordinate that counts along an axis."""
    shape = [1] * rank
    shape[axis] = size
    return np.arange(start, start + size, dtype=np.int32).reshape(shape)
