"""Between which numbers the values of a large tensor of integers lie: a Clip at its end says so, whatever was computed before."""

from __future__ import annotations

from .rules import Call

_KEEPING = ("Concat", "Expand", "Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Tile", "Transpose", "Unsqueeze")
"""Operators that only move or repeat numbers; of Concat all inputs count, of the others the first."""


def bounds_of(call: Call, whole: set[str]) -> tuple[int, int] | None:
    """The least and the largest value that a node's result can hold; None if that is not known.

    Args:
        call: The node.
        whole: The tensors that hold integers. Of floats nothing is said: a NaN passes a Clip.
    """
    node = call.node
    if not node.inputs or node.inputs[0] not in whole:
        return None
    if node.op == "Clip" and call.opset >= 12:
        low, high = (None if (bound := call.get(i)) is None else bound.values for i in (1, 2))
        if low is None or high is None or low.size != 1 or high.size != 1 or low.item() > high.item():
            return None
        return int(low.item()), int(high.item())
    if node.op not in _KEEPING:
        return None
    held = [one.bounds for one in (call.given() if node.op == "Concat" else [call[0]])]
    if any(bounds is None for bounds in held):
        return None
    return min(bounds[0] for bounds in held if bounds), max(bounds[1] for bounds in held if bounds)
