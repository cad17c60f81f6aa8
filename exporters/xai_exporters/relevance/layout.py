"""Operators that move, copy or pick values: relevance moves back with them, as gradients do."""

from __future__ import annotations

import onnx_ir as ir

from ..backward.rules import Result, Step
from ..graph.emit import Ops
from ..vjp.table import vjp
from .facts import is_signal
from .fixed_rules import Pass
from .table import relevance


def _move(op: Ops, step: Step, *rs: ir.Value | None) -> Result:
    return vjp.find(step.node).function(op, step, *rs)


relevance("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Concat", "Split", "Slice", "Pad", "Tile")(_move)
relevance("DepthToSpace", "SpaceToDepth", "Gather", "GatherElements", "GatherND")(_move)
relevance("TopK", "Compress", "Trilu", "CenterCropPad", "ReverseSequence", "Unique")(_move)
relevance("Expand", "Where", broadcasts=True)(_move)
relevance("Identity", "Dropout", "Cast", "CastLike", "QuantizeLinear", "DynamicQuantizeLinear", "DequantizeLinear")(
    Pass()
)


@relevance("ScatterND", "ScatterElements")
def scatter(op: Ops, step: Step, r: ir.Value) -> Result:
    """What overwrites x takes the relevance there, as the largest does of a maximum. Values that are added share by the zero rule.

    A constant that is added takes nothing, and of a product x takes all.
    """
    x, updates, how = step.x, step.input(2), step.attr("reduction", "none")
    if how == "mul" and not is_signal(x):
        raise step.refuse("it multiplies signals into a constant, for which no rule of relevance is known")
    if how == "mul" or (how == "add" and not is_signal(updates)):
        return [r]
    if how != "add":
        return _move(op, step, r)
    total = step.y if is_signal(x) else op.Sub(step.y, x)
    share = op.Where(op.Greater(op.Abs(total), 1e-20), op.Div(r, total), 0.0)
    parts = vjp.find(step.node).function(op, step, share)
    assert isinstance(parts, list)
    return [op.Mul(x, parts[0]) if is_signal(x) else None, None, op.Mul(updates, parts[2])]
