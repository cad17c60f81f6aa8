"""Refuse what a bundle's graphs may not hold: operators of a runtime's own, and control flow."""

from __future__ import annotations

import onnx_ir as ir

from ..errors import GraphError


def require_standard_ops(model: ir.Model) -> None:
    """Check that only operators of the standard domain are left, without subgraphs.

    Raises:
        GraphError: Names the operator and the node, and says what to do.
    """
    for node in model.graph:
        if node.domain not in ("", "ai.onnx"):
            raise GraphError(
                f"node {node.name!r} is {node.domain}.{node.op_type}, which only some runtimes know; export the network in "
                "standard ONNX operators (without a runtime's own optimisation)"
            )
        if any(attr.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attr in node.attributes.values()):
            raise GraphError(
                f"node {node.name!r} is {node.op_type}: control flow can't be cut or differentiated; export the network "
                "with its branches resolved (for torch: by torch.export)"
            )
