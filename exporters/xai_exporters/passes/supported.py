"""Refuse what a bundle's graphs may not hold: operators of a runtime's own, and control flow."""

from __future__ import annotations

import onnx_ir as ir

from ..errors import GraphError
from ..graphs import called

_ADVICE = {  # how a domain begins -> what it is, and what to do
    "qonnx": "QONNX's (brevitas, FINN); export it in QDQ form (brevitas.export.export_onnx_qcdq)",
    "onnx.brevitas": "brevitas' own; export it in QDQ form (brevitas.export.export_onnx_qcdq)",
    "finn": "FINN's; export the network before FINN's transformations, in QDQ form",
    "ai.onnx.ml": "for trees, linear models and text, not for images; export the network alone",
    "org.openvinotoolkit": "OpenVINO's; export the network from its framework in standard ONNX operators",
    "org.pytorch.aten": "ATen's fallback; export again without operator_export_type ONNX_ATEN_FALLBACK, with a newer opset",
    "mmdeploy": "MMDeploy's; export the classifier for the backend onnxruntime without custom operators",
    "mmcv": "MMCV's; export the network without MMCV's custom operators",
    "TRT": "TensorRT's; export before TensorRT's plugins are put in",
    "trt": "TensorRT's; export before TensorRT's plugins are put in",
}


def _advice(domain: str, op: str) -> str:
    """Whose an operator is, and how the network is exported without it."""
    for start, advice in _ADVICE.items():
        if domain.startswith(start):
            return advice
    if domain == "com.microsoft" and (
        "Q" in op[:6] or "Quant" in op or "Integer" in op or op.endswith(("NBits", "Bnb4"))
    ):
        return (
            "quantised in ONNX Runtime's own form, which only that runtime knows; quantise the network in QDQ form "
            "(quantize_static with quant_format=QuantFormat.QDQ), without optimising it for a runtime before"
        )
    return "which only some runtimes know; export the network in standard ONNX operators (without a runtime's own optimisation)"


def require_standard_ops(model: ir.Model) -> None:
    """Check that only operators of the standard domain are left, without subgraphs.

    Raises:
        GraphError: Names the operator and the node, and says what to do.
    """
    for node in model.graph:
        place = called(node.name, (v.name for v in node.outputs))
        if node.domain not in ("", "ai.onnx"):
            raise GraphError(f"{place} is {node.domain}.{node.op_type}, {_advice(node.domain, node.op_type)}")
        if any(attr.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attr in node.attributes.values()):
            raise GraphError(
                f"{place} is {node.op_type}: control flow can't be cut or differentiated; export the network "
                "with its branches resolved (for torch: by torch.export)"
            )
