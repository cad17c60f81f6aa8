"""Refuse what a bundle's graphs may not hold: operators that ONNX lacks, chance, and control flow."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from ..errors import GraphError
from ..graph.reading import called, opset_of
from .runtime_domain import put_aside

_ADVICE = {  # the beginning of a domain -> its owner, and what to do
    "qonnx": "QONNX's (brevitas, FINN); export it in QDQ form (brevitas.export.export_onnx_qcdq)",
    "onnx.brevitas": "brevitas' own; export it in QDQ form (brevitas.export.export_onnx_qcdq)",
    "com.amd.quark": "AMD Quark's; its block formats (BFP, MX) have no ONNX operator: quantise to int8 (XINT8, A8W8), or give the "
    "float network",
    "finn": "FINN's; export the network before FINN's transformations, in QDQ form",
    "ai.onnx.ml": "for trees, linear models and text, not for images; export the network alone",
    "org.openvinotoolkit": "OpenVINO's; export the network from its framework in standard ONNX operators",
    "org.pytorch.aten": "ATen's fallback; export again without operator_export_type ONNX_ATEN_FALLBACK, with a newer opset",
    "com.microsoft.nchwc": "written for one machine by ONNX Runtime's optimisation level all; optimise with ORT_ENABLE_EXTENDED, "
    "or give the original file",
    "com.ms.internal.nhwc": "written for one execution provider of ONNX Runtime; give the original file",
    "mmdeploy": "MMDeploy's; export the classifier for the backend onnxruntime without custom operators",
    "mmcv": "MMCV's; export the network without MMCV's custom operators",
    "TRT": "TensorRT's; export before TensorRT's plugins are added",
    "trt": "TensorRT's; export before TensorRT's plugins are added",
}


_RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
_LOSSES = ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
CHANCE = "draws random numbers: each run gives other scores; export the network in evaluation mode"


def _advice(domain: str, op: str) -> str:
    """The owner of an operator, and how to export the network without it."""
    if op == "FloatQuant":
        return "QONNX's rounding to floats of a few bits, which has no QDQ form; quantise to integers, or give the float network"
    for start, advice in _ADVICE.items():
        if domain.startswith(start):
            return advice
    if domain == "com.microsoft" and op in ("EPContext", "Snpe"):
        return "a network that was compiled for one execution provider; give the ONNX file that it was compiled from"
    if op == "DynamicQuantizeLSTM":
        return (
            "ONNX Runtime's own LSTM on integers, which no other operators are; leave LSTM out of quantize_dynamic "
            "(op_types_to_quantize=['Conv', 'MatMul', 'Gemm']), or give the float network"
        )
    if domain == "com.microsoft" and ("Q" in op[:6] or "Quant" in op or "Integer" in op or op.endswith("NBits")):
        return (
            "quantised in ONNX Runtime's own form, which only that runtime knows; quantise the network in QDQ form "
            "(quantize_static with quant_format=QuantFormat.QDQ), without optimising it for a runtime before"
        )
    return "which only some runtimes know; export the network in standard ONNX operators (without a runtime's own optimisation)"


def require_standard_ops(model: ir.Model) -> None:
    """Check that only operators of the standard domain are left, without subgraphs and without chance.

    Raises:
        GraphError: Names the operator and the node, and says what to do.
    """
    for node in model.graph:
        place = called(node.name, (v.name for v in node.outputs))
        if node.domain not in ("", "ai.onnx"):
            raise GraphError(f"{place} is {node.domain}.{node.op_type}, {_advice(node.domain, node.op_type)}")
        if node.op_type in _RANDOM:
            raise GraphError(f"{place} is {node.op_type}, which {CHANCE}")
        if node.op_type in _LOSSES:
            raise GraphError(
                f"{place} is {node.op_type}, a loss, which is for training; export the network in evaluation mode, "
                "with its scores as the output"
            )
        if node.op_type.startswith(("Sequence", "Optional")) or node.op_type in (
            "ConcatFromSequence",
            "SplitToSequence",
        ):
            raise GraphError(
                f"{place} is {node.op_type}: a graph of a bundle holds tensors alone, no lists and no optional ones, and this "
                "one could not be resolved; export the network without it"
            )
        if any(attr.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attr in node.attributes.values()):
            raise GraphError(
                f"{place} is {node.op_type}: control flow can't be cut or differentiated, and this one depends on the image or "
                "on how many there are; export the network with its branches resolved (for torch: by torch.export)"
            )


def require_known_opset(model: onnx.ModelProto) -> None:
    """Check that the onnx package knows the model's opset.

    Raises:
        GraphError: It is newer.
    """
    version, newest = opset_of(model), onnx.defs.onnx_opset_version()
    if version > newest:
        raise GraphError(
            f"the model has opset {version}, newer than the onnx package here knows ({newest}); update onnx"
        )


def require_known_operators(model: onnx.ModelProto) -> None:
    """Check that ONNX has every operator of the standard domain, in the model's opset.

    Raises:
        GraphError: Names the operator and the node, and says what to do.
    """
    version = opset_of(model)
    model = put_aside(model)
    own = {(function.domain, function.name) for function in model.functions}
    for node in model.graph.node:
        known = node.domain not in ("", "ai.onnx") or (node.domain, node.op_type) in own
        if not known and not onnx.defs.has(node.op_type, max_inclusive_version=version, domain=""):
            raise GraphError(
                f"{called(node.name, node.output)} is {node.op_type!r}, which ONNX does not have in opset {version}: an "
                f"operator of a framework's or a runtime's own; export the network in standard ONNX operators"
            )
