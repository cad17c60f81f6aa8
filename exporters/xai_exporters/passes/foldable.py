"""Which nodes of constants are computed ahead: onnxscript computes a node before it looks at how large its result is.

Its input is small, but a value in it may ask for any size: Expand to 960^3 took 7 GB and seconds, before the network was refused.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

_MOST = 1 << 24  # numbers, 64 times as many as onnxscript keeps
_INPUT = 8192  # numbers of an input; onnxscript computes no node of a larger one


def may_fold(node: ir.Node) -> bool | None:
    """What `onnxscript.optimizer.fold_constants` asks: False if the result is larger than it would keep, else None, its own choice.

    Args:
        node: A node all of whose inputs are constants.
    """
    held = [None if value is None else value.const_value for value in node.inputs]
    if node.domain not in ("", "ai.onnx") or any(one is not None and one.size > _INPUT for one in held):
        return None
    try:
        large = _numbers(node.op_type, [None if one is None else one.numpy() for one in held]) > _MOST
    except (ArithmeticError, LookupError, TypeError, ValueError):  # a malformed node, which a runtime refuses
        return None
    return False if large else None


def _numbers(op: str, inputs: list[NDArray[Any] | None]) -> float:
    """How many numbers the result has, if a value of an input decides that; else 0."""
    count: float = 0
    match op, inputs:
        case "Expand", [np.ndarray() as x, np.ndarray() as shape]:
            pairs = itertools.zip_longest(reversed(x.shape), reversed(shape.ravel().tolist()), fillvalue=1)
            count = math.prod(max(pair) for pair in pairs)
        case "Tile", [np.ndarray() as x, np.ndarray() as repeats]:
            count = math.prod([x.size, *repeats.ravel().tolist()])
        case "OneHot", [np.ndarray() as index, np.ndarray() as depth, *_]:
            count = index.size * math.prod(depth.ravel().tolist())
        case "Range", [np.ndarray() as start, np.ndarray() as limit, np.ndarray() as delta] if delta.any():
            count = float(((limit.astype(np.float64) - start) / delta).flat[0])
        case "Pad", [np.ndarray() as x, np.ndarray() as pads, *rest]:
            axes = range(x.ndim) if len(rest) < 2 or rest[1] is None else rest[1].ravel().tolist()
            sides = dict(enumerate(x.shape))
            for axis, more in zip(axes, pads.reshape(2, -1).sum(axis=0, dtype=object), strict=True):
                sides[axis % x.ndim] += more
            count = math.prod(max(side, 0) for side in sides.values())
        case "Resize", [np.ndarray() as x, _, np.ndarray() as scales] if scales.size:
            count = math.prod([x.size, *scales.ravel().tolist()])
        case "Resize", [_, _, _, np.ndarray() as sizes]:
            count = math.prod(sizes.ravel().tolist())
    return count
