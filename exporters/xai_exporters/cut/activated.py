"""Whether an activation function made a tensor, in one operator or written in several."""

from __future__ import annotations

import onnx_ir as ir

from ..graph.folded import merged_into_rounding
from ..graph.reading import before_rounding, signals

_ALONE = {
    *(
        "Relu",
        "Clip",
        "LeakyRelu",
        "PRelu",
        "ThresholdedRelu",
        "Elu",
        "Selu",
        "Celu",
        "HardSwish",
        "Mish",
        "Gelu",
        "Swish",
    ),
    *("Sigmoid", "HardSigmoid", "Tanh", "Softplus", "Softsign"),
}
_CHOICES = {"Max", "Min", "Where"}
"""LeakyReLU as max(a x, x), ReLU as max(x, 0), ELU as a choice."""
_NONLINEAR = _ALONE | {"Exp", "Erf", "Abs", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", *_CHOICES}
_ONE_BY_ONE = _NONLINEAR | {"Add", "Sub", "Mul", "Div", "Neg", "Log", "Pow", "Sqrt", "Reciprocal", "Cast", "Identity"}
_LINEAR = {"Add", "Sub", "Mul", "Div", "Neg", "Cast", "Identity"}
_STEPS = 12
"""How many operators an activation function is written in at most; GELU by tanh takes eight."""


def is_activated(value: ir.Value) -> bool:
    """Whether an activation function made a tensor, or what it is the quantised form of; a ReLU may be merged into the rounding."""
    if merged_into_rounding(value) is not None:
        return True
    node = before_rounding(value).producer()
    if node is None or node.op_type in _ALONE:
        return node is not None
    parts = signals(node)
    if node.op_type in _CHOICES:
        return len(parts) < 2 or any(all(_reaches(part, _scaled(of))[0] for part in parts) for of in parts)
    if node.op_type == "Mul" and len(parts) == 1:  # 0.5 (x (1 + erf x)); any other product with a constant is linear
        inner = before_rounding(parts[0]).producer()
        return inner is not None and inner.op_type == "Mul" and len(signals(inner)) == 2 and is_activated(parts[0])
    if node.op_type not in ("Mul", "Div") or len(parts) != 2:
        return False
    return any(_reaches(one, _scaled(other)) == (True, True) for one, other in (parts, parts[::-1]))


def _scaled(value: ir.Value) -> set[ir.Value]:
    """A tensor, and those of which it is a linear function with constants."""
    found = {before_rounding(value)}
    while (
        (node := before_rounding(value).producer()) is not None and node.op_type in _LINEAR and len(signals(node)) == 1
    ):
        [value] = signals(node)
        found.add(before_rounding(value))
    return found


def _reaches(value: ir.Value, ends: set[ir.Value]) -> tuple[bool, bool]:
    """Whether a tensor is a function of one of others, element by element; and whether that function is nonlinear."""
    pending, seen, reached, nonlinear = [before_rounding(value)], set[ir.Value](), False, False
    for _ in range(_STEPS):
        if not pending:
            break
        current = pending.pop()
        if current in ends:
            reached = True
            continue
        node = current.producer()
        if node is not None and node.op_type in _ONE_BY_ONE and current not in seen:
            nonlinear = nonlinear or node.op_type in _NONLINEAR
            pending += [before_rounding(part) for part in signals(node)]
            seen.add(current)
    return reached, nonlinear
