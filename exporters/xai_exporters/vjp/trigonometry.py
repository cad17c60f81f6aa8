"""Trigonometric and hyperbolic functions, and their inverses."""

from __future__ import annotations

import onnx_ir as ir

from ..backward.rules import Step
from ..graph.emit import Ops
from .table import vjp


@vjp("Sin")
def sin(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y' = cos(x)."""
    return op.Mul(dy, op.Cos(step.x))


@vjp("Cos")
def cos(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y' = -sin(x)."""
    return op.Neg(op.Mul(dy, op.Sin(step.x)))


@vjp("Tan")
def tan(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y' = 1 + y^2."""
    return op.Mul(dy, op.Add(op.Mul(step.y, step.y), 1.0))


@vjp("Sinh")
def sinh(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y' = cosh(x)."""
    return op.Mul(dy, op.Cosh(step.x))


@vjp("Cosh")
def cosh(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y' = sinh(x)."""
    return op.Mul(dy, op.Sinh(step.x))


@vjp("Asin")
def asin(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y' = 1 / sqrt(1 - x^2)."""
    return op.Div(dy, op.Sqrt(op.Sub(1.0, op.Mul(step.x, step.x))))


@vjp("Acos")
def acos(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y' = -1 / sqrt(1 - x^2)."""
    return op.Neg(op.Div(dy, op.Sqrt(op.Sub(1.0, op.Mul(step.x, step.x)))))


@vjp("Atan")
def atan(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y' = 1 / (1 + x^2)."""
    return op.Div(dy, op.Add(op.Mul(step.x, step.x), 1.0))


@vjp("Asinh")
def asinh(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y' = 1 / sqrt(x^2 + 1)."""
    return op.Div(dy, op.Sqrt(op.Add(op.Mul(step.x, step.x), 1.0)))


@vjp("Acosh")
def acosh(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y' = 1 / sqrt(x^2 - 1)."""
    return op.Div(dy, op.Sqrt(op.Sub(op.Mul(step.x, step.x), 1.0)))


@vjp("Atanh")
def atanh(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y' = 1 / (1 - x^2)."""
    return op.Div(dy, op.Sub(1.0, op.Mul(step.x, step.x)))
