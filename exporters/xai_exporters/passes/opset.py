"""Bring a model to opset 18, up or down; a newer model whose operators do not allow it keeps its own opset."""

from __future__ import annotations

import collections
import logging

import onnx
import onnx.shape_inference
import onnx.version_converter

from ..errors import GraphError
from ..graph.reading import called, opset_of
from .runtime_domain import put_aside, put_back

log = logging.getLogger(__name__)

OPSET = 18
_RESIZE = 11
"""The opset from which Resize says where a result's pixel lies in the source. Before, and in Upsample, it is pixel / scale."""

_OF_ONE_AXIS = 13
"""The opset from which Softmax and its kin are of one axis. Before, they are of all axes from `axis` on, together."""


def to_common_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model at opset 18 if its operators allow.

    1. Opset 18 already: returned as it is.
    2. Older: converted up; a failure is an error, because older operators have other meanings.
    3. Newer: converted down; if an operator has no older form (Gelu of opset 20), the model keeps its opset.

    The converter drops node metadata (module paths), so it is carried over by output name. It gives Upsample and the Resize of
    opset 10 the places of a later Resize; `_keep_old_places` mends that. It makes three nodes of a Softmax; `_join_softmaxes` makes
    one of them again, which is found as a network's last function.

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
    if version < _OF_ONE_AXIS:
        _join_softmaxes(converted)
        _check_hardmaxes(converted)
    metadata = {output: node.metadata_props for node in model.graph.node for output in node.output}
    for node in converted.graph.node:
        for output in node.output:
            if output in metadata and not node.metadata_props:
                node.metadata_props.extend(metadata[output])
    return put_back(converted)


def _join_softmaxes(new: onnx.ModelProto) -> None:
    """Flatten, Softmax, Reshape as one Softmax, where only the last axis was flattened; `new` is changed."""
    makers = {output: node for node in new.graph.node for output in node.output}
    readers = collections.Counter(name for node in new.graph.node for name in node.input)
    readers.update(output.name for output in new.graph.output)
    joined: list[onnx.NodeProto] = []
    ranks: dict[str, int] = {}
    for last in new.graph.node:
        softmax = makers.get(last.input[0]) if last.op_type == "Reshape" else None
        if softmax is None or softmax.op_type not in ("Softmax", "LogSoftmax"):
            continue
        flat, shape = makers.get(softmax.input[0]), makers.get(last.input[1])
        if flat is None or shape is None or (flat.op_type, shape.op_type) != ("Flatten", "Shape"):
            continue
        ranks = ranks or _ranks(new)
        axis = next((a.i for a in flat.attribute if a.name == "axis"), 1)
        alone = readers[flat.output[0]] == readers[softmax.output[0]] == 1
        if not alone or shape.input[0] != flat.input[0] or axis not in (-1, ranks.get(flat.input[0], 0) - 1):
            continue
        softmax.input[0], softmax.output[0] = flat.input[0], last.output[0]  # its axis is the last one already
        joined += [flat, last]
    for node in joined:
        new.graph.node.remove(node)


def _check_hardmaxes(new: onnx.ModelProto) -> None:
    """Refuse what ONNX's converter leaves as it was, and now means another thing.

    Raises:
        GraphError: A Hardmax is of several axes together.
    """
    for node in (one for one in new.graph.node if one.op_type == "Hardmax"):
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        if axis not in (-1, _ranks(new).get(node.input[0], 0) - 1):
            raise GraphError(
                f"{called(node.name, node.output)} is Hardmax of several axes together, in the form of an opset before "
                f"{_OF_ONE_AXIS}; export it again with a newer opset"
            )


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(put_aside(model)).graph
    shaped = (v for v in (*graph.value_info, *graph.input) if v.type.tensor_type.HasField("shape"))
    return {value.name: len(value.type.tensor_type.shape.dim) for value in shaped}


def _keep_old_places(new: onnx.ModelProto) -> None:
    """Give each Resize that was Upsample, or Resize of opset 10, the places that it had; `new` is changed.

    Pixel p of the result lies at p / scale. `nearest` takes the pixel before it, or the one after it if the axis shrinks (as ONNX
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
