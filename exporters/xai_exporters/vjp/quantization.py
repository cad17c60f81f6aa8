"""The straight-through estimator for quantised networks: rounding counts as the identity, saturation as clipping.

(Bengio et al. 2013, arXiv:1308.3432; in a quantised network a Relu may exist only as saturation.)
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..backward.rules import Step, floats_of
from ..graph.emit import Ops
from .table import vjp


@vjp("QuantizeLinear")
def quantize(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y = saturate(round(x / scale) + zero): dx = dy / scale if x does not saturate, else 0. dy belongs to the codes, as floats."""
    step.only_first()
    # the walker's `op` goes by the output, which holds codes; constants have the type of x
    op = Ops(op.emit, str(step.node.name), floats_of(step.x))
    codes, (low, high) = codes_of(op, step), limits_of(step)
    inside = op.And(op.GreaterOrEqual(codes, low), op.LessOrEqual(codes, high))
    return op.Where(inside, op.Div(dy, scale_of(op, step)), 0.0)


@vjp("DequantizeLinear")
def dequantize(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y = (x - zero) scale: dx = dy scale."""
    step.only_first()
    return op.Mul(dy, scale_of(op, step))


@vjp("DynamicQuantizeLinear")
def quantize_dynamically(op: Ops, step: Step, dy: ir.Value, *_: object) -> ir.Value:
    """y = round(x / scale) + zero, which never saturates: dx = dy / scale. How scale and zero depend on x is left out."""
    return op.Div(dy, positive_scale(op, step.node.outputs[1]))


def positive_scale(op: Ops, scale: ir.Value) -> ir.Value:
    """The scale of DynamicQuantizeLinear; 1 if every value is 0, for which ONNX Runtime gives the scale 1 and OpenVINO 0."""
    return op.Where(op.Greater(scale, 0.0), scale, 1.0)


def codes_of(op: Ops, step: Step) -> ir.Value:
    """round(x / scale) + zero of a QuantizeLinear, as floats; computed once in a graph."""
    known = step.node.meta.get(_CODES)  # the gradient and `to_floats` share the nodes
    if known is None:
        known = op.Round(op.Div(step.x, scale_of(op, step)))
        if step.optional(2) is not None:
            known = op.Add(known, zero_of(op, step))
        step.node.meta[_CODES] = known
    codes: ir.Value = known
    return codes


def codes_type(node: ir.Node) -> ir.DataType:
    """The type of a QuantizeLinear's result: the zero point's; without a zero point the output's, uint8 if that is unknown."""
    point = node.inputs[2] if len(node.inputs) > 2 else None
    dtype = (point if point is not None else node.outputs[0]).dtype
    return ir.DataType.UINT8 if dtype is None else dtype


def limits_of(step: Step) -> tuple[float, float]:
    """The least and the greatest code.

    Raises:
        RuleError: Codes that are no integers of 8 or 16 bits.
    """
    kind = codes_type(step.node).numpy()
    if kind not in (np.uint8, np.int8, np.uint16, np.int16):
        raise step.refuse(f"its codes are {kind}; only integers of 8 and 16 bits have a rule")
    return float(np.iinfo(kind).min), float(np.iinfo(kind).max)


def scale_of(op: Ops, step: Step) -> ir.Value:
    """The scale, one for all or one per channel along `axis`, ready to be broadcast."""
    return _shaped(op, step, step.input(1))


def zero_of(op: Ops, step: Step) -> ir.Value | float:
    """The zero point in the same form, as floats; 0 if there is none."""
    point = step.optional(2)
    if point is None:
        return 0.0
    cast: ir.Value = op.Cast(_shaped(op, step, point), to=int(ir.DataType.from_numpy(op.floats)))
    return cast


def _shaped(op: Ops, step: Step, value: ir.Value) -> ir.Value:
    if step.attr("block_size", 0):
        raise step.refuse("it is quantised in blocks")
    dims = step.dims(value)
    if not dims or dims == (1,):
        return value
    shape = [1] * len(step.dims(step.y))
    shape[step.axis(step.attr("axis", 1), step.y)] = -1
    return op.Reshape(value, shape)


_CODES = "xai/codes"  # the key of a node's `meta` that keeps its codes
