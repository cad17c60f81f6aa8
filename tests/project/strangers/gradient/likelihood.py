"""A stranger's gradient of NegativeLogLikelihoodLoss, one value for each position."""

import numpy as np
import onnx_ir as ir
from xai_exporters.backward.rules import Step
from xai_exporters.graph.emit import Ops
from xai_exporters.vjp.table import vjp


@vjp("NegativeLogLikelihoodLoss")
def likelihood(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y_d = -x_t(d),d: dx is -dy at the class t of each position."""
    classes = np.arange(step.dims(step.x)[1] or 1).reshape(1, -1, 1)
    hit = op.Equal(classes, op.Unsqueeze(step.input(1), [1]))
    return op.Where(hit, op.Neg(op.Unsqueeze(dy, [1])), 0.0)
