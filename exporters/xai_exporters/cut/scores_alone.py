"""The scores of a detector's classes alone: what a box's score needs, without the branch that computes the boxes."""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as common

from xai_deploy.format.bundle import CHOICE, DENSE, LOGITS, WHERE

from ..graph.emit import Emitter
from ..graph.writing import IR_VERSION
from .chosen import copied
from .scores.rows import row_pieces


def scores_alone(tail: ir.Graph, classes: int) -> ir.Graph:
    """A detector's tail that gives the scores of the regions alone.

        logits[n,r,c] = sum_p where[n,r,p] * scores[n,c,p]

    Args:
        tail: A graph that gives `logits` [N,R,entries] and dense scores [N,entries,rows]; not changed.
        classes: C, how many scores a row has.

    Returns:
        The same inputs -> `logits` [N,R,C] and the places that TopK chose. Its dense scores are [N,C,rows].
    """
    graph = copied(tail)
    dense = next(value for node in graph for value in node.outputs if value.name == DENSE)
    [where] = [value for value in graph.inputs if value.name == WHERE]
    [logits] = [value for value in graph.outputs if value.name == LOGITS]
    assert dense.shape is not None  # `split` states both
    assert logits.shape is not None
    emit = Emitter(graph, "scores")
    alone = emit.node("Identity", [row_pieces(dense)[0]], "dense")
    turned = emit.node("Transpose", [where], "where_last", {"perm": [0, 2, 1]})
    summed = emit.node("MatMul", [alone, turned], "of_classes")  # [N,C,R]
    result = emit.node("Transpose", [summed], "of_regions", {"perm": [0, 2, 1]})
    for own, other, shape in (
        (alone, dense, [dense.shape[0], classes, dense.shape[2]]),
        (result, logits, [*logits.shape[:2], classes]),
    ):
        own.type, own.shape = other.type, ir.Shape(shape)
        own.name, other.name = other.name, own.name
    choices = [value for value in graph.outputs if str(value.name).startswith(CHOICE)]
    graph.outputs.clear()
    graph.outputs.extend([result, *choices])
    graph.sort()
    common.RemoveUnusedNodesPass()(ir.Model(graph, ir_version=IR_VERSION))
    return graph
