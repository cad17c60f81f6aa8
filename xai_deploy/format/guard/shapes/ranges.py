"""Between which numbers each entry of a small tensor of integers lies, if it depends on how much an operator found in the image.

Suppression and NonZero give as many rows as an image has, up to a number that is known. Sizes that are computed from such sizes are
then bounded, too: all the arithmetic of sizes here grows with each of its inputs, but for the second one of Sub. It does so only
while no number leaves its type: 16 times 2^60 is 0 in int64, and 1 times 2^60 is not. So bounds are computed exactly, and dropped
if they do not fit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..tensors import DTYPES
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
    dtype = (
        DTYPES.get(call.number("to", 1)) if op == "Cast" else next(pair for pair in ends if pair is not None)[0].dtype
    )
    if dtype is None or np.dtype(dtype).kind not in "iu":
        return nothing
    low, high = (_folded(call, ends, shapes, end) for end in (0, 1))
    return [_checked(a, b, np.dtype(dtype)) for a, b in zip(low, high, strict=True)]


def ends_of(known: Known) -> Ends | None:
    """The least and the largest value of each entry of a tensor; None if these are not known."""
    if known.values is not None:
        return (known.values, known.values) if known.values.dtype.kind in "iu" else None
    return known.range


def _folded(call: Call, ends: list[Ends | None], shapes: list[tuple[int, ...]], end: int) -> list[NDArray[Any] | None]:
    """The outputs' least (`end` 0) or largest values (1), as numbers of any size."""
    op, inputs = call.node.op, list(call.inputs)
    for i, (one, pair) in enumerate(zip(call.inputs, ends, strict=True)):
        if one is not None and pair is not None:
            value = pair[1 - end if (op, i) == ("Sub", 1) else end]
            is_number = i < _EXACT.get(op, len(inputs)) or op == "Div"
            inputs[i] = replace(one, values=value.astype(object) if is_number else value)
    if op == "Cast":
        return [inputs[0].values if inputs[0] is not None else None]
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
    return _checked(low, high, low.dtype)


def _checked(low: NDArray[Any] | None, high: NDArray[Any] | None, dtype: np.dtype[Any]) -> Ends | None:
    """The ends in the type that a runtime computes in, unless they do not fit it or are very large."""
    if low is None or high is None:
        return None
    info = np.iinfo(dtype)
    least, most = max(int(info.min), 1 - _LARGEST), min(int(info.max), _LARGEST - 1)
    if not all(least <= value <= most for end in (low, high) for value in end.reshape(-1).tolist()):
        return None
    return low.astype(dtype), high.astype(dtype)
