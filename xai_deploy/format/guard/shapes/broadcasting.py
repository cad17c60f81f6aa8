"""Operators that broadcast their inputs against each other."""

from __future__ import annotations

from .rules import Call, Known, broadcast, exact, rule


@rule(
    "Add", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Max", "Mean", "Min", "Mod", "Mul",
    "PRelu", "Pow", "Sub", "Sum",
)  # fmt: skip
def arithmetic(call: Call) -> list[Known]:
    given = call.given()
    return [Known(broadcast(*given), max(known.size for known in given), exact=exact(*given))]


@rule("And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Or", "Xor")
def comparison(call: Call) -> list[Known]:
    return [Known(broadcast(call[0], call[1]), 1, exact=exact(call[0], call[1]))]


@rule("Where")
def where(call: Call) -> list[Known]:
    given = call[0], call[1], call[2]
    return [Known(broadcast(*given), max(call[1].size, call[2].size), exact=exact(*given))]
