"""Operators that make a tensor out of a few numbers: a Range, the two values of a OneHot."""

from __future__ import annotations

import onnx_ir as ir

from ..backward.rules import Step
from ..graph.emit import Ops
from .table import vjp


@vjp("Range")
def range_(op: Ops, step: Step, dy: ir.Value) -> list[ir.Value | None]:
    """y_i = start + i delta: d start = sum of dy_i, d delta = sum of i dy_i. The limit only says how many there are."""
    count = op.Squeeze(op.Shape(step.y), [0])
    places = op.CastLike(op.Range(0, count, 1), dy)
    along = op.ReduceSum(op.Mul(places, dy), keepdims=0)
    return [op.ReduceSum(dy, keepdims=0), None, along]


@vjp("OneHot")
def one_hot(op: Ops, step: Step, dy: ir.Value) -> list[ir.Value | None]:
    """y is values[1] at the index and values[0] elsewhere: each of the two gets the sum of dy where it stands."""
    on = op.OneHot(step.input(0), step.input(1), [0.0, 1.0], axis=step.attr("axis", -1))
    at, everywhere = op.ReduceSum(op.Mul(dy, on), keepdims=0), op.ReduceSum(dy, keepdims=0)
    return [None, None, op.Concat(*(op.Unsqueeze(part, [0]) for part in (op.Sub(everywhere, at), at)), axis=0)]
