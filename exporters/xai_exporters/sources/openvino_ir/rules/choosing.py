"""Boxes and places that a graph chooses by its own numbers; how many, depends on the image. No gradient passes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ....graph.emit import Ops
from ..layer import Layer, rule
from .elementwise import cast
from .indexing import top

_INT64 = np.dtype(np.int64)


@rule("NonMaxSuppression")
def non_max_suppression(op: Ops, layer: Layer) -> Sequence[ir.Value]:
    """The triples (image, class, box) that are left [n,3], what they score [n,3] (image, class, score), and n.

    Inputs: boxes [N,B,4], scores [N,C,B], then the most boxes of a class, the overlap and the score that decide, and the sigma of
    soft suppression, which has no equal in ONNX. ONNX lists by image, class and score; sorted, OpenVINO lists by score alone.
    """
    if len(layer) > 5 and layer.require(5, "sigma").any():
        raise layer.refuse("lowers the scores of boxes that overlap (soft_nms_sigma); convert the network without it")
    most = layer.int64(op, 2) if len(layer) > 2 else op.emit.shared(np.array([0]))
    limits = [
        op.Reshape(layer.x(i), [1]) if len(layer) > i else op.emit.shared(np.zeros(1, np.float32)) for i in (3, 4)
    ]
    centre = int(str(layer.attr("box_encoding")).lower() == "center")
    chosen = op.NonMaxSuppression(layer.x(0), layer.x(1), most, *limits, center_point_box=centre)
    score = op.GatherND(layer.x(1), chosen)
    if layer.attr("sort_result_descending") and layer.dims(1)[:2] != [1, 1]:
        _, order = top(op, layer.name, score, op.Shape(score))
        chosen, score = op.Gather(chosen, order, axis=0), op.Gather(score, order, axis=0)
    where = cast(op, op.Slice(chosen, [0], [2], [1]), _INT64, np.dtype(np.float32))
    scores = op.Concat(where, op.Unsqueeze(score, [1]), axis=1)
    count = op.Slice(op.Shape(chosen), [0], [1], [0])
    return cast(op, chosen, _INT64, layer.out_kind(0)), scores, cast(op, count, _INT64, layer.out_kind(2))


@rule("NonZero")
def non_zero(op: Ops, layer: Layer) -> ir.Value:
    """The places of all numbers that are not 0 [rank,n], in order."""
    return cast(op, op.NonZero(layer.x()), _INT64, layer.out_kind(0))
