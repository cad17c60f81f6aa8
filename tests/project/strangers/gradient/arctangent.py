"""A stranger's gradient of Atan."""

import onnx_ir as ir
from xai_exporters.backward.rules import Step
from xai_exporters.graph.emit import Ops
from xai_exporters.vjp.table import vjp


@vjp("Atan")
def arctangent(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y' = 1 / (1 + x^2)."""
    return op.Div(dy, op.Add(op.Mul(step.x, step.x), 1.0))
