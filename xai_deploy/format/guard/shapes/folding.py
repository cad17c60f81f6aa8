"""Values of small tensors that depend on constants and sizes only, computed by NumPy as a runtime would."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..messages import Tensor
from ..tensors import DTYPES, FEW_INTEGERS
from .rules import Call, Unknowable, rules

Array = NDArray[Any]
Fold = Callable[[Call, list[Any]], Any]


def _divide(call: Call, given: list[Any]) -> Any:
    a, b = given
    if a.dtype.kind not in "iuO":  # O: whole numbers of any size, see `ranges`
        return a / b
    if not b.all():
        raise Unknowable
    return ((abs(a) // abs(b)) * np.sign(a) * np.sign(b)).astype(a.dtype)  # ONNX rounds towards zero, NumPy down


def _axes(call: Call, x: Array) -> tuple[int, ...] | None:
    axes = call.axes(1, x.ndim)
    if axes:
        return tuple(axes)
    return () if call.number("noop_with_empty_axes", 0) else None  # () reduces nothing, None all axes


def _in_any_order(function: Callable[..., Any], x: Array) -> bool:
    """Whether a sum or a product is the same in whatever order a runtime takes the numbers: all on the way is exact."""
    if x.dtype.kind != "f":
        return True
    largest = float(function(np.maximum(np.abs(x.astype(np.float64)), float(function is np.prod))))
    return bool((x == np.rint(x)).all()) and largest <= 2.0 ** (np.finfo(x.dtype).nmant + 1)


def _reduce(function: Callable[..., Any]) -> Fold:
    def fold(call: Call, given: list[Any]) -> Any:
        x = given[0]
        if function in (np.sum, np.prod) and not _in_any_order(function, x):
            raise Unknowable
        return np.asarray(function(x, axis=_axes(call, x), keepdims=bool(call.number("keepdims", 1)))).astype(x.dtype)

    return fold


def _slice(call: Call, given: list[Any]) -> Any:
    x = given[0]
    if call.opset < 10:
        starts, ends, axes, steps = call.ints("starts") or [], call.ints("ends") or [], call.ints("axes"), None
    else:
        starts, ends, axes, steps = (call.values(i) for i in (1, 2, 3, 4))  # type: ignore[assignment]
    cut = [slice(None)] * x.ndim
    for i, (first, end) in enumerate(zip(starts, ends, strict=True)):
        # With a negative step, a start before the first element means the first one: none in Python.
        start = first if steps is None or steps[i] > 0 else max(first, -x.shape[axes[i] if axes else i])
        # With a negative step, an end before the first element means "through the first one": None in Python.
        stop = end if not (steps is not None and steps[i] < 0 and end < -x.shape[axes[i] if axes else i]) else None
        cut[axes[i] if axes is not None else i] = slice(start, stop, steps[i] if steps is not None else 1)
    return x[tuple(cut)]


def _split(call: Call, given: list[Any]) -> Any:
    x, parts = given[0], len(call.node.outputs)
    axis = call.number("axis", 0)
    sizes = call.ints("split") or call.values(1)
    step = -(-x.shape[axis] // parts)  # rounded up; the last part may be smaller
    return np.split(x, np.cumsum(sizes)[:-1] if sizes else range(step, x.shape[axis], step), axis)


def _constant(call: Call, given: list[Any]) -> Any:
    [(name, value)] = call.node.attributes.items()
    return np.asarray(value, np.int64 if "int" in name else np.float32)  # value_int(s), value_float(s)


def _cast(call: Call, given: list[Any]) -> Any:
    to, x = DTYPES.get(call.number("to", 1)), given[0]
    if to is None:
        raise Unknowable
    if np.dtype(to).kind in "iu" and x.size:
        info, most = np.iinfo(to), 2.0**31 if x.dtype.kind == "f" else math.inf
        if not all(info.min <= value <= info.max and abs(value) < most for value in (x.min().item(), x.max().item())):
            raise Unknowable  # runtimes differ in what they make of numbers that do not fit
    return x.astype(to)


def _power(call: Call, given: list[Any]) -> Any:
    result = np.power(*given).astype(given[0].dtype)
    if result.dtype.kind != "f" and not (np.abs(np.power(*(x.astype(np.float64) for x in given))) < 2.0**53).all():
        raise Unknowable  # ONNX Runtime computes powers of whole numbers in float64
    return result


def _filled(call: Call, given: list[Any]) -> Any:
    value = call.node.attributes.get("value")
    if isinstance(value, Tensor):
        raise Unknowable  # its contents lie in the file: see `run`
    return np.zeros(given[0].tolist(), np.float32)


def _clip(call: Call, given: list[Any]) -> Any:
    x = given[0]
    if call.opset < 11:
        low, high = (call.node.attributes.get(name) for name in ("min", "max"))
    else:
        low, high = ((None if (bound := call.get(i)) is None else bound.values) for i in (1, 2))
    above = x if low is None else np.maximum(x, low)  # where low is above high, high holds
    return np.asarray(above if high is None else np.minimum(above, high)).astype(x.dtype)


def _gather(call: Call, given: list[Any]) -> Any:
    axis = call.number("axis", 0)
    indices, size = given[1], given[0].shape[axis]
    if indices.size and not (-size <= indices.min() and indices.max() < size):
        raise Unknowable
    return np.take(given[0], indices, axis)


def _reshape(call: Call, given: list[Any]) -> Any:
    x = given[0]
    zero = bool(call.number("allowzero", 0))
    # 0 copies the size of the input, unless `allowzero` is set.
    return x.reshape([x.shape[i] if size == 0 and not zero else size for i, size in enumerate(given[1].tolist())])


def _range(call: Call, given: list[Any]) -> Any:
    start, limit, delta = (value.item() for value in given)
    return np.arange(start, limit, delta).astype(given[0].dtype)


def _plain(function: Callable[..., Any]) -> Fold:
    return lambda call, given: function(*given)


def _to_first(function: Callable[..., Any]) -> Fold:
    return lambda call, given: np.asarray(function(*given)).astype(given[0].dtype)


folds: dict[str, Fold] = {
    "Abs": _plain(np.abs),
    "Add": _to_first(np.add),
    "And": _plain(np.logical_and),
    "Cast": _cast,
    "Ceil": _plain(np.ceil),
    "Clip": _clip,
    "Concat": lambda call, given: np.concatenate(given, axis=call.number("axis", 1)),
    "Constant": _constant,
    "ConstantOfShape": _filled,
    "Div": _divide,
    "Equal": _plain(np.equal),
    "Expand": lambda call, given: given[0] * np.ones(given[1].tolist(), given[0].dtype),
    "Flatten": lambda call, given: given[0].reshape(int(np.prod(given[0].shape[: call.number("axis", 1)])), -1),
    "Floor": _plain(np.floor),
    "Gather": _gather,
    "Greater": _plain(np.greater),
    "GreaterOrEqual": _plain(np.greater_equal),
    "Identity": _plain(np.asarray),
    "Less": _plain(np.less),
    "LessOrEqual": _plain(np.less_equal),
    "Max": lambda call, given: np.maximum.reduce(np.broadcast_arrays(*given)),
    "Min": lambda call, given: np.minimum.reduce(np.broadcast_arrays(*given)),
    "Mod": lambda call, given: np.fmod(*given) if call.number("fmod", 0) else np.mod(*given),
    "Mul": _to_first(np.multiply),
    "Neg": _plain(np.negative),
    "Not": _plain(np.logical_not),
    "Or": _plain(np.logical_or),
    "Pow": _power,
    "Range": _range,
    "ReduceMax": _reduce(np.max),
    "ReduceMin": _reduce(np.min),
    "ReduceProd": _reduce(np.prod),
    "ReduceSum": _reduce(np.sum),
    "Relu": lambda call, given: np.maximum(given[0], given[0].dtype.type(0)),
    "Reshape": _reshape,
    "Round": _plain(np.rint),
    "Sign": _plain(np.sign),
    "Slice": _slice,
    "Split": _split,
    "Sqrt": _plain(np.sqrt),
    "Squeeze": lambda call, given: np.squeeze(
        given[0], None if (a := call.axes(1, given[0].ndim)) is None else tuple(a)
    ),
    "Sub": _to_first(np.subtract),
    "Sum": lambda call, given: sum(given[1:], given[0]),
    "Tile": lambda call, given: np.tile(given[0], given[1].tolist()),
    "Transpose": lambda call, given: np.transpose(given[0], call.ints("perm")),
    "Unsqueeze": lambda call, given: given[0].reshape(rules["Unsqueeze"](call)[0].shape),
    "Where": _plain(np.where),
}


def fold(call: Call, shapes: list[tuple[int, ...]]) -> list[Array | None]:
    """The values of a node's outputs; None if an input's values are unknown, an output is large, or the operator is not folded.

    Args:
        call: The node and its inputs.
        shapes: The shapes of its outputs, by the operator's shape rule.
    """
    nothing: list[Array | None] = [None] * len(shapes)
    function = folds.get(call.node.op)
    given = [known.values for known in call.given()]
    if (
        function is None
        or any(value is None for value in given)
        or any(math.prod(shape) > FEW_INTEGERS for shape in shapes)
    ):
        return nothing
    try:
        with np.errstate(all="ignore"):
            results = function(call, given)
    except (Unknowable, ValueError, TypeError, IndexError, OverflowError, ZeroDivisionError):
        return nothing
    arrays = [np.asarray(one) for one in (results if isinstance(results, list) else [results])]
    if [array.shape for array in arrays] != shapes:  # NumPy and the shape rule disagree: trust neither's values
        return nothing
    return list(arrays)
