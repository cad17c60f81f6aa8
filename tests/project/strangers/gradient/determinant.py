"""A stranger's gradient of Det, for matrices of two rows."""

import numpy as np
import onnx_ir as ir
from xai_exporters.backward.rules import Step
from xai_exporters.graph.emit import Ops
from xai_exporters.vjp.table import vjp


@vjp("Det")
def determinant(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y = a d - b c: its derivatives by (a,b,c,d) are (d,-c,-b,a)."""
    entries = op.Reshape(step.x, [0, 0, 4])
    turned = op.Mul(op.Gather(entries, np.array([3, 2, 1, 0]), axis=2), np.array([1.0, -1, -1, 1]))
    return op.Reshape(op.Mul(op.Unsqueeze(dy, [2]), turned), [0, 0, 2, 2])
