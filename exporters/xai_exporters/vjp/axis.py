"""The transpose of picking positions along an axis."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..graph.emit import Ops
from ..graph.interpolation import along

_ROUNDS = 4  # one Gather per round; if a position is picked more often than that, a matrix product is shorter


def from_positions(op: Ops, dy: ir.Value, axis: int, rank: int, positions: NDArray[Any], size: int) -> ir.Value:
    """The transpose of y = x[positions] along an axis of `size`: dx[p] = sum of dy[i] over all i with positions[i] = p.

    It is written as the inverse picking dx = dy[inverse]. A zero is appended to dy for the positions that were not picked. Each
    time a position is picked again takes one more round. (ScatterElements with addition is not portable.)
    """
    counts = np.bincount(positions, minlength=size)
    if counts.max() > _ROUNDS:
        picked = (positions[:, None] == np.arange(size)).astype(op.floats)  # [picked, size]
        return along(op, dy, axis, rank, picked)
    if counts.min() == counts.max() == 1:  # a permutation
        return op.Gather(dy, np.argsort(positions), axis=axis)
    # Pad takes all begins, then all ends: one zero at the end of the axis
    after = [0] * (2 * rank)
    after[rank + axis] = 1
    padded = op.Pad(dy, after, 0.0)
    order = np.argsort(positions, kind="stable")
    # order[first[p] + turn] is where position p was picked for the turn-th time, from 0
    first = np.cumsum(counts) - counts
    parts = []
    for turn in range(counts.max()):
        again = counts > turn
        inverse = np.full(size, len(positions))  # the index of the zero
        inverse[again] = order[first[again] + turn]
        parts.append(op.Gather(padded, inverse, axis=axis))
    return functools.reduce(op.Add, parts)
