"""Dense scores as scores of regions: a region's score of a class is the sum of its scores at all positions, weighted by the region.

    logits[n,r,c] = sum_p where[n,r,p] * dense_scores[n,c,p]

A region whose weights sum to 1 gives the mean of the scores in it (Seg-Grad-CAM, Vinogradova et al. 2020, equation 2, divided by
the number of positions). So a segmentation network is explained as a classifier of regions. What propagates back starts at the
dense scores, with the region's weights times those of the classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx_ir as ir

from ..graph.emit import Emitter
from .scores.logits import Logits

REGIONS = "R"
"""The name of the dimension of an image's regions."""


@dataclass(frozen=True)
class Regions:
    """The tensors of a graph that scores regions.

    Attributes:
        where: [N,R,H,W] float32 ([N,R,D,H,W] of volumes), the weights of each region: a further input.
        dense: [N,C,H*W] float32, the scores at each position.
        scores: [N,R,C], the scores of the regions.
        shares: [N,R,C], the mean probabilities in the regions; None if the network has none.
    """

    where: ir.Value
    dense: ir.Value
    scores: ir.Value
    shares: ir.Value | None


def add_regions(emit: Emitter, value: ir.Value, logits: Logits, batch: int | str) -> Regions:
    """Add the scores of regions to a graph.

    Args:
        emit: Adds nodes to the graph.
        value: The graph's tensor of dense scores, as `logits` describes it.
        logits: What is explained.
        batch: The first dimension of the graph's inputs.
    """
    classes, *places = logits.scores.shape
    positions, last = math.prod(places), len(places) + 1
    if logits.class_axis == last:
        value = emit.node("Transpose", [value], "classes_first", {"perm": [0, last, *range(1, last)]})
    if logits.value.dtype != ir.DataType.FLOAT:
        value = emit.node("Cast", [value], "dense_float32", {"to": int(ir.DataType.FLOAT)})
    dense = emit.node("Reshape", [value, emit.ints([-1, classes, positions], "dense_shape")], "dense")
    where = ir.Value(name="where/new", shape=ir.Shape([batch, REGIONS, *places]), type=ir.TensorType(ir.DataType.FLOAT))
    flat = emit.node("Reshape", [where, emit.ints([0, 0, positions], "where_shape")], "where_flat")
    turned = emit.node("Transpose", [flat], "where_last", {"perm": [0, 2, 1]})

    def summed(values: ir.Value, name: str) -> ir.Value:
        product = emit.node("MatMul", [values, turned], f"{name}_of_classes")  # [N,C,R]
        return emit.node("Transpose", [product], name, {"perm": [0, 2, 1]})

    shares = None
    if logits.scores.rows is not None:  # its entries are no classes alone
        pass
    elif logits.activation in ("softmax", "none") and classes > 1:
        shares = emit.node("Softmax", [dense], "probabilities", {"axis": 1})
    elif logits.activation == "sigmoid":
        shares = emit.node("Sigmoid", [dense], "probabilities")
    elif logits.activation == "independent":
        shares = dense
    return Regions(
        where, dense, summed(dense, "region_scores"), None if shares is None else summed(shares, "region_shares")
    )
