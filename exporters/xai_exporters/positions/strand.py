"""Coordinates of a tensor's elements in the image, as small arrays: an axis along which they stay the same has size 1.

A `Strand` gives each element one position (y,x). A tensor of features has one strand, an attention matrix two (of the query and
of the key), a pooled vector none. Coordinates count the cells of the network's current grid: only their order and equality mean
anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Coordinates: TypeAlias = NDArray[np.int32]

NONE = -(1 << 20)
"""The coordinate of what has none: a class token, a constant, a mean over the axis. It agrees with every other one."""
_FAR = 1 << 20


@dataclass(frozen=True)
class Strand:
    """One position per element.

    Attributes:
        y, x: int32, of the tensor's rank, broadcast to its shape.
    """

    y: Coordinates
    x: Coordinates

    def map(self, change: Callable[[Coordinates], Coordinates]) -> Strand:
        """The strand with both coordinates changed alike."""
        return Strand(change(self.y), change(self.x))

    @property
    def known(self) -> bool:
        """Whether any element has any coordinate."""
        return bool((self.y != NONE).any() or (self.x != NONE).any())

    @property
    def axes(self) -> frozenset[int]:
        """The axes along which the position changes."""
        return varying(self.y) | varying(self.x)


Positions: TypeAlias = tuple[Strand, ...]


def varying(a: NDArray[Any]) -> frozenset[int]:
    """The axes along which an array changes, for its other axes have size 1."""
    return frozenset(i for i, size in enumerate(a.shape) if size > 1)


def nowhere(rank: int) -> Coordinates:
    """The coordinate of a tensor that has none."""
    return np.full((1,) * rank, NONE, np.int32)


def kept(strands: Iterable[Strand]) -> Positions:
    """The strands that still know something."""
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
    """Axes of size 1 in front, as broadcasting adds them."""
    return a.reshape((1,) * (rank - a.ndim) + a.shape)


def reshaped(a: Coordinates, old: Sequence[int], new: Sequence[int]) -> Coordinates:
    """The coordinates of a reshaped tensor: axes are joined and divided in row-major order, group by group."""
    before: list[int] = []
    after: list[int] = []
    i = j = 0
    while i < len(old) or j < len(new):
        i0, j0 = i, j
        i, j = min(i + 1, len(old)), min(j + 1, len(new))
        while (p := np.prod(old[i0:i], dtype=int)) != (q := np.prod(new[j0:j], dtype=int)):
            if (p < q and i < len(old)) or j == len(new):
                i += 1
            else:
                j += 1
        changes = any(size > 1 for size in a.shape[i0:i])
        before += old[i0:i] if changes else [1] * (i - i0)
        after += new[j0:j] if changes else [1] * (j - j0)
    return squash(np.broadcast_to(a, before).reshape(after))


def contracted(a: Coordinates, axes: Iterable[int], coarsen: bool) -> Coordinates:
    """The coordinates of a sum over `axes`, which stay with size 1.

    Where all terms of each sum lie at one coordinate it is that one. Where they cover equal, adjacent stretches of more than one (a
    patch, a pooling window) and `coarsen` is set, the stretches are counted. Else the sum lies nowhere.
    """
    over = tuple(axis for axis in axes if a.shape[axis] > 1)
    if not over:
        return a
    low = np.where(a == NONE, _FAR, a).min(over, keepdims=True)
    high = a.max(over, keepdims=True)
    if ((low == high) | (high == NONE)).all():
        return squash(high)
    if not coarsen or (high == NONE).any():
        return nowhere(a.ndim)
    width = int((high - low).flat[0]) + 1
    start = low - low.min()
    if (high - low + 1 != width).any() or (start % width).any() or not start.any():
        return nowhere(a.ndim)
    return squash((start // width).astype(np.int32))


def merged(states: Iterable[Positions], rank: int) -> Positions:
    """The positions of an elementwise result of broadcast tensors.

    Strands that agree become one. Of two that differ, the one that changes along fewer axes is context (a mean that is broadcast)
    and goes; two that each change along an axis of their own are both kept (query and key); two along the same axes cancel.
    """
    found: list[Strand] = []
    for strand in (s.map(lambda a: at_rank(a, rank)) for state in states for s in state):
        _add(found, strand)
    return tuple(found)


def _add(found: list[Strand], new: Strand) -> None:
    for i, old in enumerate(found):
        both = _agreed(old, new) or _agreed(_counted(old), _counted(new))
        if both is not None:
            found[i] = both
            return
        if new.axes < old.axes:
            return
        if old.axes < new.axes:
            found[i] = new
            return
        if new.axes == old.axes:
            del found[i]
            return
    found.append(new)


def _agreed(a: Strand, b: Strand) -> Strand | None:
    y, x = _same(a.y, b.y), _same(a.x, b.x)
    return None if y is None or x is None else Strand(y, x)


def _same(a: Coordinates, b: Coordinates) -> Coordinates | None:
    return squash(np.maximum(a, b)) if ((a == b) | (a == NONE) | (b == NONE)).all() else None


def _counted(strand: Strand) -> Strand:
    """The strand of a crop, its cells counted from 0."""
    return strand.map(lambda a: a - a.min() if unit_steps(a) is not None else a)


def unit_steps(a: Coordinates) -> int | None:
    """The one axis along which a coordinate counts 0, 1, 2, ... (from anywhere); None for any other."""
    axes = varying(a)
    if len(axes) != 1 or not (np.diff(a.reshape(-1)) == 1).all():
        return None
    return next(iter(axes))


def resized(strand: Strand, old: Sequence[int], new: Sequence[int], axes: Iterable[int]) -> Strand:
    """The positions behind a convolution, a pooling window or a resize that changes sizes along `axes`: its cells are counted anew.

    Axes whose size stays keep their positions: the window moves in steps of one there.
    """
    y, x = strand.y, strand.x
    for axis in axes:
        if old[axis] != new[axis] and max(y.shape[axis], x.shape[axis]) > 1:
            both = y.shape[axis] > 1 and x.shape[axis] > 1
            y, x = (_recounted(a, axis, new[axis], both) for a in (y, x))
    return Strand(y, x)


def _recounted(a: Coordinates, axis: int, size: int, both: bool) -> Coordinates:
    if a.shape[axis] == 1:
        return a
    if both or size == 1 or varying(a) != {axis} or (np.diff(a.reshape(-1)) < 0).any():
        return nowhere(a.ndim)
    return ladder(a.ndim, axis, size)


def ladder(rank: int, axis: int, size: int, start: int = 0) -> Coordinates:
    """A coordinate that counts along an axis."""
    shape = [1] * rank
    shape[axis] = size
    return np.arange(start, start + size, dtype=np.int32).reshape(shape)
