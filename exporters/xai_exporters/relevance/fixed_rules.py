"""Rules that look at no weights: pass, and winner takes all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from ..backward.rules import Result, Step
from ..graph.emit import Ops
from ..graph.shapes import unbroadcast
from ..vjp.table import vjp
from .facts import is_signal
from .named_rules import rules

WINNERS = ("MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin", "Max", "Min")


@rules.register("pass")
@dataclass(frozen=True)
class Pass:
    """R_in = R: the identity rule of activations and normalisations.

    With several inputs, all relevance goes to the first one on the path to the target.
    """

    kinds: ClassVar[tuple[str, ...]] = ()

    def __call__(self, op: Ops, step: Step, r: ir.Value | None, *further: ir.Value | None) -> Result:
        if r is None or any(part is not None for part in further):
            raise step.refuse("the scores read its further outputs, too, and no rule divides their relevance")
        return give(op, step, r, min(step.leads))


@rules.register("winner-takes-all")
@dataclass(frozen=True)
class WinnerTakesAll:
    """R goes to the largest value of its window, as the VJP of the maximum does; ties are resolved as there."""

    kinds: ClassVar[tuple[str, ...]] = WINNERS

    def __call__(self, op: Ops, step: Step, *rs: ir.Value | None) -> Result:
        if step.node.op_type not in WINNERS:
            raise step.refuse("the rule 'winner-takes-all' is for maxima")
        r = next(r for r in rs if r is not None)
        if sum(x is not None and is_signal(x) for x in step.node.inputs) == 1 and step.node.op_type in ("Max", "Min"):
            return give(op, step, r, min(step.leads))  # a maximum with a constant is an activation
        rule = vjp.find(step.node)
        results = rule.function(op, step, *rs)
        if not rule.broadcasts or isinstance(results, ir.Value):
            return results
        have = step.dims(step.y)
        return [
            None if part is None else unbroadcast(op, part, have, step.dims(step.input(i)), step.input(i))
            for i, part in enumerate(results or [])
        ]


def give(op: Ops, step: Step, r: ir.Value, position: int) -> list[ir.Value | None]:
    """All relevance goes to one input, summed over the axes along which that was broadcast.

    Raises:
        RuleError: The node changes the shape of the input otherwise.
    """
    x = step.input(position)
    have, want = step.dims(step.y), step.dims(x)
    # broadcasting adds leading axes and repeats axes of size 1
    fits = len(want) <= len(have) and all(w in (1, h) for h, w in zip(have[len(have) - len(want) :], want, strict=True))
    if not fits:
        raise step.refuse("relevance can't pass it as it is, for it changes the shape")
    return [None] * position + [unbroadcast(op, r, have, want, x)]
