"""Sums, products and quotients of tensors."""

from __future__ import annotations

import onnx_ir as ir

from ..backward.recurrent import GATE
from ..backward.rules import Result, Step
from ..graph.emit import Ops
from ..graph.reading import constant_of
from .facts import is_signal, origin
from .fixed_rules import give
from .layer_rules import Zero
from .table import relevance

relevance("Add", "Sum", "Mean")(Zero())


@relevance("Sub")
def sub(op: Ops, step: Step, r: ir.Value) -> Result:
    """As a sum; but x - mean(x), the first half of a normalisation, passes relevance to x, and so does x - max(x) of a softmax."""
    taken = step.input(1).producer()
    if (
        taken is not None
        and taken.op_type in ("ReduceMean", "ReduceMax")
        and taken.inputs[0] is step.x
        and 0 in step.leads
    ):
        return give(op, step, r, 0)
    return Zero()(op, step, r)


@relevance("Mul")
def mul(op: Ops, step: Step, r: ir.Value) -> list[ir.Value | None]:
    """Two signals get half of R each (Achtibat et al. 2024); a single signal gets all of it.

    A tensor times an elementwise function of itself (x sigmoid(x), a Gelu written out) is a single signal.
    """
    a, b = step.x, step.input(1)
    if not (is_signal(a) and is_signal(b)) or origin(a) is origin(b):
        return give(op, step, r, min(step.leads))
    for i, factor in enumerate(
        (b, a)
    ):  # a gate of an LSTM or a GRU weighs the signal: that takes all (Arras et al. 2017)
        if factor.meta.get(GATE):
            return give(op, step, r, i) if i in step.leads else []
    for i, factor in enumerate((b, a)):  # times the reciprocal of a signal is a quotient, see `div`
        if _is_reciprocal(factor):
            return give(op, step, r, i) if i in step.leads else []
    half = op.Mul(r, 0.5)
    return [give(op, step, half, i)[i] if i in step.leads else None for i in (0, 1)]


@relevance("Div")
def div(op: Ops, step: Step, r: ir.Value) -> list[ir.Value | None]:
    """All relevance goes to the numerator: the denominator is a normalising factor, and counts as constant.

    If the numerator is a constant, all relevance goes to the denominator.
    """
    if is_signal(step.x):
        return give(op, step, r, 0) if 0 in step.leads else []
    return give(op, step, r, 1)


_MOVED = ("Mul", "Div", "Cast", "Identity", "Reshape", "Expand", "Squeeze", "Unsqueeze")


def _is_reciprocal(value: ir.Value) -> bool:
    """Whether a value is a constant over a signal, or a negative power of one; scaled by constants, moved or repeated."""
    while (made := value.producer()) is not None:
        signals = [x for x in made.inputs if x is not None and is_signal(x)]
        if made.op_type == "Reciprocal" or (made.op_type == "Div" and signals == [made.inputs[1]]):
            return True
        if made.op_type == "Pow" and signals == [made.inputs[0]]:
            exponent = constant_of(made.inputs[1])
            return exponent is not None and bool((exponent < 0).all())
        if made.op_type not in _MOVED or len(signals) != 1:
            return False
        value = signals[0]
    return False
