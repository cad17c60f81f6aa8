"""Patches put together to an image."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from ..backward.rules import Step
from ..graph.emit import Ops
from .table import vjp


@vjp("Col2Im")
def col2im(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """Columns [N,C k,L] of patches with k pixels are added up to an image [N,C,...]: dx holds the patches of dy.

    A convolution takes them out: its k filters have a single 1 each.
    """
    step.only_first()
    image, block = ([int(d) for d in np.ravel(step.constant(i))] for i in (1, 2))  # type: ignore[arg-type]
    rank, pixels = len(block), math.prod(block)
    channels, patches = step.dims(step.y)[1], step.dims(step.x)[-1]
    if channels is None or patches is None:
        raise step.refuse("a size other than the batch is open")
    filters = np.eye(pixels).reshape(pixels, 1, *block)
    window = {name: step.attr(name, [1] * rank) for name in ("strides", "dilations")}
    pads = step.attr("pads", [0] * 2 * rank)
    single = op.Reshape(dy, [-1, 1, *image])
    taken = op.Conv(single, filters, kernel_shape=block, pads=pads, **window)
    return op.Reshape(taken, [-1, channels * pixels, patches])
