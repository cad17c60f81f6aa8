"""What passes where a condition holds: the derivative of functions that are constant elsewhere."""

from __future__ import annotations

import onnx_ir as ir

from ..backward.rules import Step
from ..graph.emit import Ops


def positive(op: Ops, value: ir.Value) -> ir.Value:
    """Whether a tensor that is nowhere negative is above 0: half the time of a comparison."""
    result: ir.Value = op.Cast(value, to=int(ir.DataType.BOOL))
    return result


def masked(op: Ops, step: Step, condition: ir.Value, dy: ir.Value) -> ir.Value:
    """dy where the condition holds, 0 elsewhere.

    ONNX Runtime takes three times as long for a Where as for a product with the condition as a number. But where dy is infinite
    (after the square root of 0, for example) the product with 0 is NaN, so it is taken only if dy is known to be finite.
    """
    if step.finite:
        return op.Mul(dy, op.Cast(condition, to=int(ir.DataType.from_numpy(op.floats))))
    return op.Where(condition, dy, 0.0)
