"""Operators without a gradient: those on integers and booleans, and steps, whose derivative is 0 almost everywhere."""

from __future__ import annotations

from .table import vjp

vjp.flat("Shape", "Size", "ConstantOfShape", "NonZero", "EyeLike")
vjp.flat("ArgMax", "ArgMin", "Hardmax", "NonMaxSuppression", "IsNaN", "IsInf")
vjp.flat("BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot")
vjp.flat("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Not", "Xor")
vjp.flat("Floor", "Ceil", "Round", "Sign")
