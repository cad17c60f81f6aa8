"""Bring a model to opset 18, up or down; a newer model whose operators do not allow it keeps its own opset."""

from __future__ import annotations

import logging

import onnx
import onnx.version_converter

from ..errors import GraphError
from ..graph.reading import opset_of
from .runtime_domain import put_aside, put_back

log = logging.getLogger(__name__)

OPSET = 18


def to_common_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model at opset 18 if its operators allow.

    1. Opset 18 already: returned as it is.
    2. Older: converted up; a failure is an error, because older operators have other meanings.
    3. Newer: converted down; if an operator has no older form (Gelu of opset 20), the model keeps its opset.

    The converter drops node metadata (module paths), so it is carried over by output name.

    Raises:
        GraphError: An older model can't be converted up.
    """
    version = opset_of(model)
    if version == OPSET:
        return model
    try:
        converted = onnx.version_converter.convert_version(put_aside(model), OPSET)
        if version > OPSET:
            onnx.checker.check_model(converted)  # the converter keeps attributes that opset 18 does not know
    except Exception as error:  # the converter raises bare RuntimeErrors, and worse
        if version < OPSET:
            # without the converter's own source line
            reason = " ".join(str(error).split()).rpartition("failed: ")[2][:200]
            raise GraphError(
                f"the model has opset {version}, and ONNX's converter can't bring it to {OPSET} ({reason}); export it again with "
                f"opset {OPSET}"
            ) from error
        log.info("the model keeps opset %d: %s", version, error)
        return model
    metadata = {output: node.metadata_props for node in model.graph.node for output in node.output}
    for node in converted.graph.node:
        for output in node.output:
            if output in metadata and not node.metadata_props:
                node.metadata_props.extend(metadata[output])
    return put_back(converted)
