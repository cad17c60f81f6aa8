"""Arithmetic, comparisons and types, elementwise with NumPy's broadcasting."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from ....graph.emit import Ops
from ..layer import Layer, rule
from . import quantisation

_BINARY = {
    "Add": "Add", "Subtract": "Sub", "Multiply": "Mul", "Divide": "Div", "Power": "Pow", "Maximum": "Max", "Minimum": "Min",
    "Equal": "Equal", "Greater": "Greater", "GreaterEqual": "GreaterOrEqual", "Less": "Less", "LessEqual": "LessOrEqual",
    "LogicalAnd": "And", "LogicalOr": "Or", "LogicalXor": "Xor",
}  # fmt: skip
_UNARY = {
    **{name: name for name in ("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cos", "Cosh", "Erf", "Exp", "Floor",
                               "Identity", "IsNaN", "Log", "Sign", "Sin", "Sinh", "Sqrt", "Tan")},
    "Ceiling": "Ceil", "LogicalNot": "Not", "Negative": "Neg",
}  # fmt: skip


def binary(op: Ops, layer: Layer) -> ir.Value:
    """The operator of the same meaning in ONNX."""
    check_broadcast(layer)
    return getattr(op, _BINARY[layer.type])(layer.x(0), layer.x(1))  # type: ignore[no-any-return]


def unary(op: Ops, layer: Layer) -> ir.Value:
    """The operator of the same meaning in ONNX. Integers have no fraction to round."""
    if layer.type in ("Floor", "Ceiling") and not layer.is_float():
        return op.Identity(layer.x())
    return getattr(op, _UNARY[layer.type])(layer.x())  # type: ignore[no-any-return]


def bitwise(op: Ops, layer: Layer) -> ir.Value:
    """Of booleans the logical operator, which torch writes so; of integers that of their bits."""
    name = layer.type.removeprefix("Bitwise") if layer.kind().kind == "b" else layer.type
    if len(layer) > 1:
        check_broadcast(layer)
    return getattr(op, name)(*(layer.x(i) for i in range(len(layer))))  # type: ignore[no-any-return]


for _type in ("BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor"):
    rule(_type)(bitwise)
for _type in sorted(set(_BINARY) - {"Multiply"}):
    rule(_type)(binary)
for _type in _UNARY:
    rule(_type)(unary)


def check_broadcast(layer: Layer, first: int = 0) -> None:
    """Refuse Caffe's and Paddle's broadcasting (`pdpd`), which aligns other dimensions.

    Raises:
        GraphError: Such a broadcast of different shapes.
    """
    if layer.attr("auto_broadcast", "numpy") == "pdpd" and layer.dims(first) != layer.dims(first + 1):
        raise layer.refuse("broadcasts as PaddlePaddle does; convert the model with a newer OpenVINO")


@rule("NotEqual")
def not_equal(op: Ops, layer: Layer) -> ir.Value:
    """Not(a = b)."""
    check_broadcast(layer)
    return op.Not(op.Equal(layer.x(0), layer.x(1)))


@rule("IsInf")
def is_infinite(op: Ops, layer: Layer) -> ir.Value:
    """Whether it is infinity of the signs that count."""
    signs = {f"detect_{sign}": int(bool(layer.attr(f"detect_{sign}", True))) for sign in ("negative", "positive")}
    return op.IsInf(layer.x(), **signs)


@rule("IsFinite")
def is_finite(op: Ops, layer: Layer) -> ir.Value:
    """Neither infinity nor NaN."""
    return op.Not(op.Or(op.IsInf(layer.x()), op.IsNaN(layer.x())))


@rule("SquaredDifference")
def squared_difference(op: Ops, layer: Layer) -> ir.Value:
    """(a - b)^2."""
    check_broadcast(layer)
    difference = op.Sub(layer.x(0), layer.x(1))
    return op.Mul(difference, difference)


@rule("Mod")
def mod(op: Ops, layer: Layer) -> ir.Value:
    """The remainder with the dividend's sign."""
    return op.Mod(layer.x(0), layer.x(1), fmod=1)


@rule("FloorMod")
def floor_mod(op: Ops, layer: Layer) -> ir.Value:
    """The remainder with the divisor's sign: a - floor(a / b) b."""
    a, b = layer.x(0), layer.x(1)
    return op.Sub(a, op.Mul(op.Floor(op.Div(a, b)), b)) if layer.is_float() else op.Mod(a, b)


@rule("Round")
def rounded(op: Ops, layer: Layer) -> ir.Value:
    """To the nearest integer; halves to the even one, as ONNX does, or away from zero: sign(x) floor(|x| + 0.5)."""
    if str(layer.attr("mode", "half_to_even")).lower() == "half_to_even":
        return op.Round(layer.x())
    return op.Mul(op.Sign(layer.x()), op.Floor(op.Add(op.Abs(layer.x()), 0.5)))


@rule("Clamp")
def clamp(op: Ops, layer: Layer) -> ir.Value:
    """min(max(x, low), high); ReLU if that is what it is."""
    low, high = float(layer.attr("min")), float(layer.attr("max"))
    if not layer.is_float():
        bounds = np.iinfo(layer.kind())
        ends = [math.ceil(max(low, bounds.min)), math.floor(min(high, bounds.max))]
        return op.Clip(layer.x(), *(op.emit.shared(np.array(end, layer.kind())) for end in ends))
    if low == 0 and high >= np.finfo(np.float32).max:
        return op.Relu(layer.x())
    return op.Clip(layer.x(), *(None if abs(end) >= np.finfo(np.float32).max else end for end in (low, high)))


@rule("Convert")
def convert(op: Ops, layer: Layer) -> ir.Value:
    """Another element type; between half precision and float32 nothing is left to do."""
    quantised = quantisation.codes(op, layer)
    return cast(op, layer.x(), layer.kind(), layer.out_kind()) if quantised is None else quantised


@rule("Multiply")
def multiply(op: Ops, layer: Layer) -> ir.Value:
    """a b, or the dequantisation that ends in it."""
    dequantised = quantisation.floats(op, layer)
    return binary(op, layer) if dequantised is None else dequantised


@rule("ConvertLike")
def convert_like(op: Ops, layer: Layer) -> ir.Value:
    """The element type of the second input."""
    return cast(op, layer.x(), layer.kind(), layer.out_kind())


def cast(op: Ops, x: ir.Value, before: np.dtype[np.generic], after: np.dtype[np.generic]) -> ir.Value:
    """Cast, if the types differ."""
    return x if before == after else op.Cast(x, to=ir.DataType.from_numpy(after))


@rule("Select")
def select(op: Ops, layer: Layer) -> ir.Value:
    """condition ? a : b."""
    check_broadcast(layer, 1)
    return op.Where(layer.x(0), layer.x(1), layer.x(2))
