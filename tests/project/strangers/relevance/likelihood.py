"""A stranger's relevance of NegativeLogLikelihoodLoss: all of it to the class of each position."""

import numpy as np
import onnx_ir as ir
from xai_exporters.backward.rules import Step
from xai_exporters.graph.emit import Ops
from xai_exporters.relevance.table import relevance


@relevance("NegativeLogLikelihoodLoss")
def likelihood(op: Ops, step: Step, r: ir.Value) -> ir.Value:
    """R_cd = R_d for c = t(d), else 0."""
    classes = np.arange(step.dims(step.x)[1] or 1).reshape(1, -1, 1)
    hit = op.Equal(classes, op.Unsqueeze(step.input(1), [1]))
    return op.Where(hit, op.Unsqueeze(r, [1]), 0.0)
