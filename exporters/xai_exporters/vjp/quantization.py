"""Quantised networks, straight through: rounding counts as the identity, saturation as the clipping that it is.

(Bengio et al. 2013, arXiv:1308.3432; in a quantised network a Relu may exist only as saturation.)
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..emit import Ops
from ..rules import Step, floats_of
from .table import vjp


@vjp("QuantizeLinear")
def quantize(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y = saturate(round(x / scale) + zero): dx = dy / scale where it does not saturate. dy stands for codes, as floats."""
    step.only_first()
    op = Ops(op.emit, str(step.node.name), floats_of(step.x))
    scale = _along(op, step)
    point = step.optional(2)
    zero = 0.0 if point is None else op.Cast(_shaped(op, step, point), to=int(ir.DataType.from_numpy(op.floats)))
    codes = op.Add(op.Round(op.Div(step.x, scale)), zero)
    codes_type = (point if point is not None else step.y).dtype  # the zero point's; without one uint8
    kind = codes_type.numpy() if codes_type is not None else np.dtype(np.uint8)
    if kind not in (np.uint8, np.int8, np.uint16, np.int16):
        raise step.refuse(f"its codes are {kind}; only integers of 8 and 16 bits have a rule")
    limits = np.iinfo(kind)
    inside = op.And(op.GreaterOrEqual(codes, float(limits.min)), op.LessOrEqual(codes, float(limits.max)))
    return op.Where(inside, op.Div(dy, scale), 0.0)


@vjp("DequantizeLinear")
def dequantize(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y = (x - zero) scale: dx = dy scale."""
    step.only_first()
    return op.Mul(dy, _along(op, step))


def _along(op: Ops, step: Step) -> ir.Value:
    """The scale, one for all or one per channel along `axis`, ready to be broadcast."""
    return _shaped(op, step, step.input(1))


def _shaped(op: Ops, step: Step, value: ir.Value) -> ir.Value:
    if step.attr("block_size", 0):
        raise step.refuse("it is quantised in blocks")
    dims = step.dims(value)
    if not dims or dims == (1,):
        return value
    shape = [1] * len(step.dims(step.x))
    shape[step.axis(step.attr("axis", 1))] = -1
    return op.Reshape(value, shape)
