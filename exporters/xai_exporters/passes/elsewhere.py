"""Operators that ONNX Runtime does not compute on a processor: a file with them can't be run here to compare with."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from .decompose import decompose
from .fused_node import OURS, RECURRENT
from .opset import to_common_opset

_ELSEWHERE = {
    "BiasAdd", "BiasDropout", "BiasSoftmax", "BiasSplitGelu", "BitmaskBiasDropout", "BitmaskDropout", "FusedMatMulActivation",
    "GemmFastGelu", "GroupNorm", "NhwcConv", "NhwcFusedConv", "SkipGroupNorm",
}  # fmt: skip


def not_computed_here(model: onnx.ModelProto) -> tuple[str, ...]:
    """The fused operators of a model that no processor computes."""
    return tuple(sorted({node.op_type for node in model.graph.node if _elsewhere(node)}))


def _elsewhere(node: onnx.NodeProto) -> bool:
    if node.domain in ("", "ai.onnx"):  # with the batch first
        return node.op_type in RECURRENT and any(a.name == "layout" and a.i for a in node.attribute)
    if node.domain != OURS:
        return False
    given = [bool(name) for name in node.input]
    if node.op_type == "Attention":  # ONNX Runtime 1.31 ends with a segmentation fault without a bias
        return len(given) < 3 or not given[2]
    if node.op_type == "MultiHeadAttention":  # queries, keys and values, or keys and values, in one tensor
        return len(given) < 3 or not given[2]
    return node.op_type in _ELSEWHERE


def in_standard_operators(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with all fused operators as those that they stand for.

    Raises:
        GraphError: No rule covers one of them.
    """
    held = ir.from_proto(to_common_opset(model))
    decompose(held)
    return ir.to_proto(held)
