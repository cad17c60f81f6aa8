"""Products along an axis up to each position: equal shares (Achtibat et al. 2024, arXiv:2402.05602, equation 13)."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..backward.rules import Step
from ..graph.emit import Ops
from .table import relevance


@relevance("CumProd")
def cumulative_product(op: Ops, step: Step, r: ir.Value) -> ir.Value:
    """y_j = product of n_j factors: R_i = sum of R_j / n_j over the y_j with the factor x_i. A product of none gives nothing."""
    axis = step.constant(1)
    assert axis is not None
    where = step.axis(axis.item())
    size = step.dims(step.x)[where]
    if size is None:
        raise step.refuse("it multiplies over the batch: an image's result depends on its neighbours")
    reverse, exclusive = step.attr("reverse", 0), step.attr("exclusive", 0)
    factors = np.arange(size) + (0 if exclusive else 1)
    share = 1.0 / np.maximum(factors[::-1] if reverse else factors, 1)
    along = share.reshape([-1 if i == where else 1 for i in range(len(step.dims(step.x)))])
    return op.CumSum(op.Mul(r, along), step.input(1), exclusive=exclusive, reverse=1 - reverse)
