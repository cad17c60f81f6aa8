"""Operators that ONNX Runtime registers in the standard domain, though ONNX has them later or never.

Its optimiser writes LayerNormalization into files of any opset, and SimplifiedLayerNormalization. The onnx package's checker and
converter refuse both, so these operators get the runtime's own domain while the package looks at a model.
"""

from __future__ import annotations

import onnx

from ..graph.reading import opset_of
from .fused_node import OURS

_SINCE = {"LayerNormalization": 17, "SimplifiedLayerNormalization": None}
"""Operator -> the opset in which ONNX has it, or None."""


def put_aside(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with such operators in the runtime's domain; the model itself if it has none."""
    version = opset_of(model)

    def foreign(node: onnx.NodeProto) -> bool:
        if node.domain not in ("", "ai.onnx") or node.op_type not in _SINCE:
            return False
        since = _SINCE[node.op_type]
        return since is None or version < since

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
        if node.domain == OURS and node.op_type in _SINCE:
            node.domain = ""
    return model
