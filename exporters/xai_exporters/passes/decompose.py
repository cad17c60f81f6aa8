"""Write fused operators as the operators that they stand for (`fused/`): gradients and relevance then have rules for them.

Runtimes and exporters fuse: ONNX Runtime's optimiser writes operators of its own domain, torch writes Attention. A rule may need
the number of dimensions of a tensor, which shape inference can't tell after an operator that it does not know. So the pass goes
through the graph several times: each time it rewrites what is known, and infers shapes again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from ..errors import GraphError
from ..graph.emit import Emitter, Ops
from ..graph.reading import called
from .fused_node import FusedNode, UnknownShape, key, rules

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)


def decompose(model: ir.Model) -> bool:
    """Rewrite the graph in place; the tensors that a fused operator gives keep their names.

    Returns:
        Whether anything was rewritten.

    Raises:
        GraphError: A fused operator is used in a way that no rule covers, or a shape that its rule needs can't be inferred.
    """
    if not any(rules.get(key(node)) for node in model.graph):
        return False
    model.graph.sort()  # shape inference goes through the nodes in their order
    while pending := [node for node in model.graph if rules.get(key(node))]:
        common.ShapeInferencePass(check_type=False, strict_mode=False)(model)
        emit = Emitter(model.graph, "parts")
        if not [node for node in pending if _rewrite(model.graph, emit, node)]:
            if any(node.domain not in ("", "ai.onnx") and rules.get(key(node)) is None for node in model.graph):
                return True  # shapes end at an operator that `require_standard_ops` refuses by its name
            place = called(pending[0].name, (v.name for v in pending[0].outputs))
            raise GraphError(
                f"{place} is {key(pending[0])}, and the shape or the type of its inputs can't be inferred; run "
                "onnx.shape_inference on the file, or give the original file that was optimised"
            )
    return True


def _rewrite(graph: ir.Graph, emit: Emitter, node: ir.Node) -> bool:
    """Replace one node; returns False if its element type, or a shape that its rule needs, is not known yet."""
    found = rules.get(key(node))
    assert found is not None
    start = len(graph)
    kind = node.inputs[0].dtype if node.inputs and node.inputs[0] is not None else None
    if kind is None:
        return False
    floats = kind.numpy() if kind in _FLOATS else np.dtype(np.float32)
    try:
        results = found(Ops(emit, node.name or node.op_type, floats), FusedNode(node))
    except UnknownShape:
        graph.remove(_appended(graph, start))
        return False
    values: Sequence[ir.Value | None] = [results] if isinstance(results, ir.Value) else results
    read = FusedNode(node).wants
    pairs = [(node.outputs[i], new) for i, new in enumerate(values) if new is not None and read(i)]
    made = {value for new in _appended(graph, start) for value in new.outputs}
    # a value that was there before, or that stands for two outputs, has a name of its own already
    seen: set[ir.Value] = set()
    for i, (old, new) in enumerate(pairs):
        if new not in made or new in seen:
            pairs[i] = (old, emit.node("Identity", [new], f"{node.name or node.op_type}/Identity"))
        seen.add(pairs[i][1])
    nodes = _appended(graph, start)
    for new_node in nodes:
        new_node.metadata_props.update(node.metadata_props)
    # they were appended to the graph; their place is the fused node's
    graph.remove(nodes)
    names = [str(old.name) for old, _ in pairs]
    olds, news = [old for old, _ in pairs], [new for _, new in pairs]
    ir.convenience.replace_nodes_and_values(graph, node, [node], nodes, olds, news)
    for value, name in zip(news, names, strict=True):
        value.name = name
        value.dtype = value.dtype or kind  # what a fused operator gives has its first input's element type
    return True


def _appended(graph: ir.Graph, start: int) -> list[ir.Node]:
    """The nodes from a position on, found from the graph's end: from its beginning, each operator would walk the whole graph."""
    return list(islice(reversed(graph), len(graph) - start))[::-1]
