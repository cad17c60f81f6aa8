"""Bounds that a tensor's values can't leave, whatever the image: interval arithmetic back through the graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from ...graph.measure import Measured
from ...graph.reading import attribute, numbers_of

Interval: TypeAlias = tuple[float, float]

ANY: Interval = (-math.inf, math.inf)
_DEPTH = 40
"""The number of nodes in a row that are followed back; a tensor further back counts as unbounded."""
_FIXED: dict[str, Interval] = {
    "Softmax": (0, 1),
    "Sigmoid": (0, 1),
    "HardSigmoid": (0, 1),
    "Hardmax": (0, 1),
    "Tanh": (-1, 1),
    "Softsign": (-1, 1),
    "Erf": (-1, 1),
    "Sin": (-1, 1),
    "Cos": (-1, 1),
    "LogSoftmax": (-math.inf, 0),
    "Softplus": (0, math.inf),
    **dict.fromkeys(("Equal", "Not", "And", "Or", "Xor", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"), (0, 1)),
}
_SAME = {"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Gather", "Expand", "Tile"} | {
    "ReduceMean", "ReduceMax", "ReduceMin", "GlobalAveragePool", "GlobalMaxPool",
    "MaxPool", "GatherElements", "Dropout",
}  # fmt: skip
_MONOTONE: dict[str, Callable[[float], float]] = {
    "Relu": lambda x: max(x, 0.0),
    "Exp": lambda x: math.exp(min(x, 700.0)) if x < math.inf else math.inf,  # math.exp overflows at 710
    "Sqrt": lambda x: math.sqrt(max(x, 0.0)),
}


class Intervals:
    """The bounds of a graph's tensors. Each is computed once; without that, residual networks would take 2^depth steps.

    Args:
        shapes: The shapes of the graph's tensors.
    """

    def __init__(self, shapes: Measured) -> None:
        self._shapes = shapes
        self._known: dict[ir.Value, Interval] = {}

    def of(self, value: ir.Value | None, depth: int = 0) -> Interval:
        """The least and the largest number that a tensor can hold; infinite if nothing bounds it.

        A quantised tensor counts as the one that it was rounded from.
        """
        if value is None:
            return ANY
        if value not in self._known:
            constant = numbers_of(value)
            if constant is not None:
                numbers = constant.size and constant.dtype.kind in "fiu"
                self._known[value] = (float(constant.min()), float(constant.max())) if numbers else ANY
            else:
                node = value.producer()
                self._known[value] = ANY if node is None or depth > _DEPTH else self._of_node(node, depth)
        return self._known[value]

    def _of_node(self, node: ir.Node, depth: int) -> Interval:
        op = node.op_type
        if op in _FIXED:
            return _FIXED[op]

        def of(index: int) -> Interval:
            return self.of(node.inputs[index], depth + 1) if index < len(node.inputs) else ANY

        if op in _SAME:
            return of(0)
        if op == "DequantizeLinear":
            codes = node.inputs[0].producer() if node.inputs[0] is not None else None
            coded = codes is not None and codes.op_type == "QuantizeLinear"
            return self.of(codes.inputs[0], depth + 1) if codes is not None and coded else ANY
        if op in _MONOTONE:
            low, high = of(0)
            return _MONOTONE[op](low), _MONOTONE[op](high)
        if op == "Pow":
            return _power(of(0), of(1))
        if op in _OF_ONE:
            return _OF_ONE[op](*of(0))
        if op == "ReduceProd":
            # factors in [0,1] keep the product there
            return (0.0, 1.0) if of(0)[0] >= 0 and of(0)[1] <= 1 else ANY
        if op in ("Concat", "Mean"):
            return _union([of(i) for i in range(len(node.inputs))])
        if op == "OneHot":
            return of(2)  # the values [off, on]
        if op == "Where":
            return _union([of(1), of(2)])
        if op in ("Max", "Min"):
            pick = max if op == "Max" else min
            ends = [of(i) for i in range(len(node.inputs))]
            return pick(low for low, _ in ends), pick(high for _, high in ends)
        if op == "Clip":
            (low, high), bounds = of(0), [node.inputs[i] if len(node.inputs) > i else None for i in (1, 2)]
            least = of(1)[0] if bounds[0] is not None else -math.inf
            most = of(2)[1] if bounds[1] is not None else math.inf
            return min(max(low, least), most), min(max(high, least), most)  # the upper bound wins, as in ONNX
        if op in ("Add", "Sum"):
            ends = [of(i) for i in range(len(node.inputs))]
            return sum(low for low, _ in ends), sum(high for _, high in ends)
        if op == "Sub":
            (a, b), (c, d) = of(0), of(1)
            return a - d, b - c  # least minus largest, largest minus least
        if op == "Mul":
            if node.inputs[0] is node.inputs[1]:  # a square is never negative; two independent factors could be
                low, high = of(0)
                return 0.0 if low <= 0 <= high else min(low * low, high * high), max(low * low, high * high)
            return _product(of(0), of(1))
        if op in ("Div", "Reciprocal"):
            below = of(1) if op == "Div" else of(0)
            if not (below[0] > 0 or below[1] < 0):
                return ANY  # the divisor may be 0
            return _product(of(0) if op == "Div" else (1.0, 1.0), (1 / below[1], 1 / below[0]))
        if op == "ReduceSum":
            return _sum(node, of(0), self._shapes)
        if op in ("MatMul", "Gemm"):
            return _linear(node, of(0), of(2) if len(node.inputs) > 2 else (0.0, 0.0), self._shapes)
        return ANY


_OF_ONE: Mapping[str, Callable[[float, float], Interval]] = {
    "Neg": lambda low, high: (-high, -low),
    "Abs": lambda low, high: (max(low, -high, 0.0), max(abs(low), abs(high))),
}


def _union(ends: Sequence[Interval]) -> Interval:
    return min(low for low, _ in ends), max(high for _, high in ends)


def _power(base: Interval, exponent: Interval) -> Interval:
    """x^e for one positive number e: it rises from 0 on, and is never negative if e is even."""
    e = exponent[0]
    if exponent[0] != exponent[1] or not 0 < e < math.inf:
        return ANY
    if base[0] >= 0:
        return base[0] ** e, base[1] ** e
    return (0.0, max(abs(base[0]), abs(base[1])) ** e) if e % 2 == 0 else ANY


def _product(first: Interval, second: Interval) -> Interval:
    """The product of two intervals; 0 times infinity counts as 0, because a tensor holds no infinity."""
    ends = [0.0 if 0 in (a, b) else a * b for a in first for b in second]
    return min(ends), max(ends)


def _sum(node: ir.Node, each: Interval, shapes: Measured) -> Interval:
    """The bounds of a ReduceSum: the bounds of one element times the number of elements in each sum.

    Shapes measured at batch 2 are enough: a network that takes any batch never sums over the batch.
    """
    name, result = str(node.inputs[0].name) if node.inputs[0] else "", str(node.outputs[0].name)
    if name not in shapes.two or result not in shapes.two:
        return ANY
    count = math.prod(shapes.two[name]) / max(math.prod(shapes.two[result]), 1)
    return _product(each, (count, count))


def _linear(node: ir.Node, each: Interval, bias: Interval, shapes: Measured) -> Interval:
    """x W + b for a constant W: each column's worst case. If x is a Softmax, x W is a mean of weights, because x sums to 1."""
    weight = numbers_of(node.inputs[1]) if len(node.inputs) > 1 else None
    if weight is None or weight.ndim != 2 or not all(map(math.isfinite, each)):  # 0 * inf would be NaN
        return ANY
    if node.op_type == "Gemm" and (attribute(node, "alpha", 1.0) != 1 or attribute(node, "beta", 1.0) != 1):
        return ANY
    if node.op_type == "Gemm" and attribute(node, "transB", 0):
        weight = weight.T
    w = weight.astype(np.float64)
    source = node.inputs[0]
    made = source.producer() if source is not None else None
    if (
        source is not None
        and made is not None
        and made.op_type == "Softmax"
        and len(shapes.two.get(str(source.name), ())) == 2
    ):
        return float(w.min()) + bias[0], float(w.max()) + bias[1]
    # each x_i lies in [a,b], so x_i w_ij lies between w_ij a and w_ij b, whatever the sign of w_ij
    low, high = np.minimum(w * each[0], w * each[1]).sum(0), np.maximum(w * each[0], w * each[1]).sum(0)
    return float(low.min()) + bias[0], float(high.max()) + bias[1]
