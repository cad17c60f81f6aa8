"""Operators that ONNX Runtime registers in the standard domain, though ONNX has them later or never.

Its optimiser writes LayerNormalization into files of any opset, and SimplifiedLayerNormalization. It runs GroupNormalization of
opset 18, which ONNX has withdrawn. The onnx package's checker and converter refuse all three, so these operators get the runtime's
own domain while the package looks at a model.

It also runs operators of ONNX's first opsets that were experimental, and old forms that ONNX's converter does not know. These stay
in the runtime's domain, in which `fused/experimental` has rules for them.
"""

from __future__ import annotations

import onnx

from ..graph.reading import opset_of
from .fused_node import OURS

_UNKNOWN = {"LayerNormalization": (1, 16), "SimplifiedLayerNormalization": (1, 1 << 30), "GroupNormalization": (18, 20)}
"""Operator -> the first and the last opset in which ONNX does not have it and ONNX Runtime does."""

EXPERIMENTAL = {
    **dict.fromkeys(("Affine", "Crop", "DynamicSlice", "ImageScaler", "ParametricSoftplus", "Scale", "ScaledTanh"), (1, 10)),
    "ThresholdedRelu": (1, 9), "MeanVarianceNormalization": (1, 8),
}  # fmt: skip
"""The same of operators that have no form in later opsets, or another one."""


def put_aside(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with such operators in the runtime's domain; the model itself if it has none."""
    version = opset_of(model)

    def foreign(node: onnx.NodeProto) -> bool:
        first, last = (_UNKNOWN | EXPERIMENTAL).get(node.op_type, (1, 0))
        return node.domain in ("", "ai.onnx") and first <= version <= last

    if not any(map(foreign, model.graph.node)):
        return model
    aside = onnx.ModelProto()
    aside.CopyFrom(model)
    for node in aside.graph.node:
        if foreign(node):
            node.domain = OURS
    if not any(entry.domain == OURS for entry in aside.opset_import):
        aside.opset_import.append(onnx.helper.make_opsetid(OURS, 1))
    return aside


def put_back(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with such operators in the standard domain; it is changed."""
    for node in model.graph.node:
        if node.domain == OURS and node.op_type in _UNKNOWN:
            node.domain = ""
    return model
