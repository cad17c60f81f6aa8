"""Operators that move, copy or pick values: relevance moves back with them, as gradients do."""

from __future__ import annotations

import onnx_ir as ir

from ..backward.rules import Result, Step
from ..graph.emit import Ops
from ..vjp.table import vjp
from .fixed_rules import Pass
from .table import relevance


def _move(op: Ops, step: Step, *rs: ir.Value | None) -> Result:
    return vjp.find(step.node).function(op, step, *rs)


relevance("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Concat", "Split", "Slice", "Pad", "Tile")(_move)
relevance("DepthToSpace", "SpaceToDepth", "Gather", "GatherElements", "GatherND", "ScatterND", "ScatterElements")(_move)
relevance("TopK", "Compress", "Trilu", "CenterCropPad", "ReverseSequence")(_move)
relevance("Expand", "Where", broadcasts=True)(_move)
relevance("Identity", "Dropout", "Cast", "CastLike", "QuantizeLinear", "DynamicQuantizeLinear", "DequantizeLinear")(
    Pass()
)
