"""Bring a model to opset 18, up or down; a newer model whose operators do not allow it keeps its own opset."""

from __future__ import annotations

import logging

import onnx
import onnx.version_converter

from ..errors import GraphError
from ..graph.reading import called, opset_of
from .runtime_domain import put_aside, put_back

log = logging.getLogger(__name__)

OPSET = 18
_RESIZE = 11
"""The opset from which Resize says where a result's pixel lies in the source. Before, and in Upsample, it is pixel / scale."""


def to_common_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model at opset 18 if its operators allow.

    1. Opset 18 already: returned as it is.
    2. Older: converted up; a failure is an error, because older operators have other meanings.
    3. Newer: converted down; if an operator has no older form (Gelu of opset 20), the model keeps its opset.

    The converter drops node metadata (module paths), so it is carried over by output name. It gives Upsample and the Resize of
    opset 10 the places of a later Resize; `_keep_old_places` mends that.

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
    if version < _RESIZE:  # then every Resize is such a one
        _keep_old_places(converted)
    metadata = {output: node.metadata_props for node in model.graph.node for output in node.output}
    for node in converted.graph.node:
        for output in node.output:
            if output in metadata and not node.metadata_props:
                node.metadata_props.extend(metadata[output])
    return put_back(converted)


def _keep_old_places(new: onnx.ModelProto) -> None:
    """Give each Resize that was Upsample, or Resize of opset 10, the places that it had; `new` is changed.

    Pixel p of the result lies at p / scale. `nearest` takes the pixel before it, or the one behind it if the axis shrinks (as ONNX
    Runtime computes it). For whole factors that is what a later Resize takes by default, so nothing is written then.

    Raises:
        GraphError: `nearest` shrinks one axis and stretches another.
    """
    constants = {t.name: t for t in new.graph.initializer}
    constants |= {n.output[0]: n.attribute[0].t for n in new.graph.node if n.op_type == "Constant" and n.attribute}
    for node in new.graph.node:
        if node.op_type != "Resize":
            continue
        scales = constants.get(node.input[2]) if len(node.input) > 2 else None
        factors = None if scales is None else onnx.numpy_helper.to_array(scales)
        mode = next((a.s for a in node.attribute if a.name == "mode"), b"nearest")
        places = {"coordinate_transformation_mode": "asymmetric"}
        if mode == b"nearest":
            if factors is not None and (factors >= 1).all() and (factors == factors.round()).all():
                continue
            shrinks = factors is not None and bool((factors < 1).any())
            if shrinks and factors is not None and (factors > 1).any():
                raise GraphError(
                    f"{called(node.name, node.output)} shrinks one axis and stretches another, in the form of an opset before "
                    f"{_RESIZE}; export it again with a newer opset"
                )
            places["nearest_mode"] = "ceil" if shrinks else "floor"
        node.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in places.items())
