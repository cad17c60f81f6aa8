"""Elementwise arithmetic with broadcasting: rules return values in the output's shape, and the walker sums them down."""

from __future__ import annotations

import functools

import numpy as np
import onnx_ir as ir

from ..backward.rules import FLOATS, Step
from ..graph.emit import Ops
from ..graph.reading import STRAIGHT, constant_of
from .mask import masked, positive
from .table import vjp


@vjp("Add", "Sum", broadcasts=True, finite=True)
def add(op: Ops, step: Step, dy: ir.Value) -> list[ir.Value]:
    """y = sum of the inputs."""
    return [dy] * len(step.node.inputs)


@vjp("Sub", broadcasts=True, finite=True)
def sub(op: Ops, step: Step, dy: ir.Value) -> list[ir.Value | None]:
    """y = a - b."""
    return [dy, op.Neg(dy) if 1 in step.leads else None]


@vjp("Mul", broadcasts=True, finite=True)
def mul(op: Ops, step: Step, dy: ir.Value) -> list[ir.Value | None]:
    """y = a b. For y = x sigmoid(x) the two ways back to x are one, with fewer passes over memory: see `activation.swish`."""
    a, b = step.x, step.input(1)
    for x, s in ((0, b), (1, a)):
        if step.leads == {0, 1} and s not in step.targets and _is_sigmoid(s, step.input(x)):
            slope = op.Mul(dy, op.Add(s, op.Mul(step.y, _complement(op, step, s))))
            return [slope, None] if x == 0 else [None, slope]
    return [op.Mul(dy, b) if 0 in step.leads else None, op.Mul(dy, a) if 1 in step.leads else None]


def _complement(op: Ops, step: Step, s: ir.Value) -> ir.Value:
    """1 - s. For images as a BatchNormalization, 1 - s = (s - 0) (-1) / sqrt(1) + 1, rounded alike: ONNX Runtime keeps its blocks
    of channels through that, and leaves them for a subtraction from a constant; OpenVINO fuses either."""
    dims = step.dims(s)
    if len(dims) != 4 or dims[1] is None:
        return op.Sub(1.0, s)
    zeros, ones = np.zeros(dims[1]), np.ones(dims[1])
    small = 2.0**-10  # variance + epsilon is exactly 1; OpenVINO takes the default for an attribute that is 0
    return op.BatchNormalization(s, -ones, ones, zeros, ones * (1 - small), epsilon=small)


def _is_sigmoid(s: ir.Value, x: ir.Value) -> bool:
    node = s.producer()
    return node is not None and node.op_type == "Sigmoid" and node.inputs[0] is x


@vjp("Div", broadcasts=True)
def div(op: Ops, step: Step, dy: ir.Value) -> list[ir.Value | None]:
    """y = a / b: dy/b and -dy y/b."""
    share = op.Div(dy, step.input(1))
    return [share, op.Neg(op.Mul(share, step.y)) if 1 in step.leads else None]


@vjp("Pow", broadcasts=True)
def power(op: Ops, step: Step, dy: ir.Value) -> list[ir.Value | None]:
    """y = a^b: dy b a^(b-1) and dy y log(a)."""
    a, b = step.x, step.input(1)
    da = db = None
    if 0 in step.leads:
        exponent = constant_of(b)
        if exponent is not None and exponent.size == 1:
            p = float(exponent.reshape(()))
            # a^(p-1); for p = 1 it is not used, and y only stands in so that no node is added
            below = a if p == 2 else step.y if p == 1 else op.Pow(a, p - 1)
            da = None if p == 0 else dy if p == 1 else op.Mul(dy, op.Mul(below, p))
        else:
            b = op.Cast(b, to=int(ir.DataType.from_numpy(op.floats)))  # the exponent may be an integer tensor
            da = op.Mul(dy, op.Mul(b, op.Pow(a, op.Sub(b, 1.0))))
    if 1 in step.leads:
        db = op.Mul(dy, op.Mul(step.y, op.Log(a)))
    return [da, db]


@vjp("Mod", broadcasts=True)
def mod(op: Ops, step: Step, dy: ir.Value) -> list[ir.Value | None]:
    """y = a - b q with the integer quotient q = (a - y) / b, which is constant almost everywhere: dy and -dy q."""
    quotient = op.Div(op.Sub(step.x, step.y), step.input(1)) if 1 in step.leads else None
    return [dy, None if quotient is None else op.Neg(op.Mul(dy, op.Round(quotient)))]


@vjp("Sqrt")
def sqrt(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y' = 1 / (2 y)."""
    return op.Div(op.Mul(dy, 0.5), step.y)


@vjp("Reciprocal")
def reciprocal(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y' = -y^2."""
    return op.Neg(op.Mul(dy, op.Mul(step.y, step.y)))


@vjp("Exp")
def exp(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y' = y."""
    return op.Mul(dy, step.y)


@vjp("Log")
def log(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y' = 1/x."""
    return op.Div(dy, step.x)


@vjp("Abs", finite=True)
def absolute(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y' = sign(x), 0 at 0."""
    return op.Mul(dy, op.Sign(step.x))


@vjp("Neg", finite=True)
def neg(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y' = -1."""
    return op.Neg(dy)


@vjp("Mean", broadcasts=True, finite=True)
def mean(op: Ops, step: Step, dy: ir.Value) -> list[ir.Value]:
    """y = the inputs' mean, elementwise."""
    share = op.Mul(dy, 1 / len(step.node.inputs))
    return [share] * len(step.node.inputs)


@vjp("Min", "Max", broadcasts=True)
def extremum(op: Ops, step: Step, dy: ir.Value) -> list[ir.Value | None]:
    """dy goes to the inputs that equal y, in equal shares (as torch.maximum divides a tie)."""
    # 1 where an input equals the extremum; the sum over the inputs counts how many share dy
    one = [op.Where(op.Equal(step.input(i), step.y), 1.0, 0.0) for i in range(len(step.node.inputs))]
    share = op.Div(dy, functools.reduce(op.Add, one))
    return [op.Mul(share, equal) if i in step.leads else None for i, equal in enumerate(one)]


@vjp("Clip", finite=True)
def clip(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """dx = dy where min < y < max. At a bound it is 0, as in torch's Relu6; codes reach their bounds: dx = dy there."""
    step.only_first()
    low, high = step.optional(1), step.optional(2)
    if _are_codes(step.x):
        dy = dy if low is None else op.Where(op.GreaterOrEqual(step.x, low), dy, 0.0)
        return dy if high is None else op.Where(op.LessOrEqual(step.x, high), dy, 0.0)
    at_zero = (least := constant_of(low)) is not None and least.size == 1 and not least.any()
    bounds = [] if low is None else [positive(op, step.y) if at_zero else op.Greater(step.y, low)]
    bounds += [] if high is None else [op.Less(step.y, high)]
    return masked(op, step, functools.reduce(op.And, bounds), dy) if bounds else dy


def _are_codes(value: ir.Value) -> bool:
    """Whether these are integers (QuantizeLinear's), or a quantiser's rounding gives them, or its zero point moved them."""
    if value.dtype is not None and value.dtype not in FLOATS:
        return True
    node = value.producer()
    while node is not None and node.op_type in ("Add", "Sub") and STRAIGHT not in node.metadata_props:
        node = next((x.producer() for x in node.inputs if x is not None and x.producer() is not None), None)
    return (
        node is not None and STRAIGHT in node.metadata_props and node.op_type != "Add"
    )  # straight-through code gives floats


@vjp("Where", broadcasts=True)
def where(op: Ops, step: Step, dy: ir.Value) -> list[ir.Value | None]:
    """y = a where the condition holds, else b."""
    condition = step.x
    return [
        None,  # the condition
        op.Where(condition, dy, 0.0) if 1 in step.leads else None,
        op.Where(condition, 0.0, dy) if 2 in step.leads else None,
    ]
