"""Between which numbers each entry of a small tensor of integers lies, if it depends on how much an operator found in the image.

Suppression and NonZero give as many rows as an image has, up to a number that is known. Sizes that are computed from such sizes are
then bounded, too: all the arithmetic of sizes here grows with each of its inputs, but for the second one of Sub.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .folding import fold
from .rules import Call, Known

Ends = tuple[NDArray[Any], NDArray[Any]]

_GROWING = (
    "Add", "Cast", "Ceil", "Clip", "Concat", "Expand", "Flatten", "Floor", "Gather", "Identity", "Max", "Min", "ReduceMax",
    "ReduceMin", "ReduceSum", "Relu", "Reshape", "Slice", "Split", "Squeeze", "Sub", "Sum", "Tile", "Transpose", "Unsqueeze",
)  # fmt: skip
_GROWING_ABOVE_0 = ("Div", "Mul", "ReduceProd")
"""These grow with inputs that are not negative. A divisor has to be known."""
_EXACT = dict.fromkeys(
    ("Div", "Expand", "Gather", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Slice", "Split", "Squeeze", "Tile",
     "Unsqueeze"), 1
)  # fmt: skip
"""From which input on they have to be known: these say where, how often, or are divisors."""
_LARGEST = 1 << 31


def range_of(call: Call, shapes: list[tuple[int, ...]]) -> list[Ends | None]:
    """The least and the largest value of each entry of a node's outputs; None if these are not known.

    Args:
        call: The node and its inputs.
        shapes: The shapes of its outputs.
    """
    nothing: list[Ends | None] = [None] * len(shapes)
    op, given = call.node.op, call.inputs
    if op == "Where" and len(given) == 3:
        return [_either(call, shapes)]
    if op not in _GROWING and op not in _GROWING_ABOVE_0:
        return nothing
    ends = [None if one is None else ends_of(one) for one in given]
    if not any(one is not None and one.values is None for one in given):  # all is known, or nothing is
        return nothing
    if any(one is not None and pair is None for one, pair in zip(given, ends, strict=True)):
        return nothing
    if op in _GROWING_ABOVE_0 and any(pair is not None and (pair[0] < 0).any() for pair in ends):
        return nothing
    if any(one is not None and one.values is None for one in given[_EXACT.get(op, len(given)) :]):
        return nothing
    turned = {1} if op == "Sub" else set()
    low, high = (_folded(call, ends, shapes, end, turned) for end in (0, 1))
    return [_checked(a, b) for a, b in zip(low, high, strict=True)]


def ends_of(known: Known) -> Ends | None:
    """The least and the largest value of each entry of a tensor; None if these are not known."""
    if known.values is not None:
        return (known.values, known.values) if known.values.dtype.kind in "iu" else None
    return known.range


def _folded(
    call: Call, ends: list[Ends | None], shapes: list[tuple[int, ...]], end: int, turned: set[int]
) -> list[NDArray[Any] | None]:
    inputs = [
        None if one is None or pair is None else replace(one, values=pair[1 - end if i in turned else end])
        for i, (one, pair) in enumerate(zip(call.inputs, ends, strict=True))
    ]
    return fold(Call(call.node, inputs, call.opset), shapes)


def _either(call: Call, shapes: list[tuple[int, ...]]) -> Ends | None:
    """Of Where: one or the other, if it is not known which."""
    one, other = ends_of(call[1]), ends_of(call[2])
    if one is None or other is None:
        return None
    try:
        low, high = (
            np.broadcast_to(least(one[i], other[i]), shapes[0]) for i, least in enumerate((np.minimum, np.maximum))
        )
    except ValueError:
        return None
    return _checked(low, high)


def _checked(low: NDArray[Any] | None, high: NDArray[Any] | None) -> Ends | None:
    """The ends, unless they are so large that whole numbers overflow."""
    if low is None or high is None or low.dtype.kind not in "iu":
        return None
    if low.size and (np.abs(low).max() >= _LARGEST or np.abs(high).max() >= _LARGEST):
        return None
    return low, high
