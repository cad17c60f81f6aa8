"""Between which numbers the values of a large tensor of integers lie.

A Clip at its end says so, whatever was computed before; and so do values that are known before they are repeated.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .rules import Bounds, Call, Known

_KEEPING = ("Concat", "Expand", "Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Tile", "Transpose", "Unsqueeze")
"""Operators that only move or repeat numbers; of Concat all inputs count, of the others the first."""


def bounds_of(call: Call, whole: set[str]) -> Bounds | None:
    """The least and the largest value that a node's result can hold; None if that is not known.

    Args:
        call: The node.
        whole: The tensors that hold integers. Of floats nothing is said: a NaN passes a Clip.

    Returns:
        Two int64 of no axis; or of one, [last], with an entry for each position on the result's last axis.
    """
    node = call.node
    if not node.inputs or node.inputs[0] not in whole:
        return None
    if node.op == "Clip" and call.opset >= 12:
        low, high = (None if (bound := call.get(i)) is None else bound.values for i in (1, 2))
        if low is None or high is None or low.size != 1 or high.size != 1 or low.item() > high.item():
            return None
        return np.int64(low.item()), np.int64(high.item())
    if node.op not in _KEEPING:
        return None
    given = list(call.given()) if node.op == "Concat" else [call[0]]
    held = [bounds for one in given if (bounds := _own(one)) is not None]
    if not given or len(held) < len(given):
        return None
    if node.op == "Concat" and _is_last(call, given):
        columns = [[np.broadcast_to(end, one.shape[-1:]) for end in of] for one, of in zip(given, held, strict=True)]
        low, high = (np.concatenate(ends) for ends in zip(*columns, strict=True))
        return (low, high) if low.size else None
    if node.op == "Identity":
        return held[0]
    return min(np.min(low) for low, _ in held), max(np.max(high) for _, high in held)


def _own(one: Known) -> Bounds | None:
    """The bounds of an input: those that are known, or of its values."""
    if one.bounds is not None or one.values is None or one.values.size == 0 or one.values.dtype.kind not in "iu":
        return one.bounds
    values: NDArray[np.generic] = one.values
    if values.dtype == np.uint64:  # not all of them are an int64
        return None
    return np.int64(values.min()), np.int64(values.max())


def _is_last(call: Call, given: list[Known]) -> bool:
    """Whether a Concat joins the last axes of tensors whose sizes are known."""
    rank = len(given[0].shape)
    known = all(one.exact and len(one.shape) == rank for one in given)
    return known and rank > 0 and call.axis(call.number("axis", 0), rank) == rank - 1
