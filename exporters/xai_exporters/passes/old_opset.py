"""Bring a model of opset 1 to 6 to opset 7. From there ONNX Runtime runs it, and ONNX's own converter brings it further.

Opset 7 changed four things (ONNX's Changelog.md). Broadcasting follows numpy's rules; before, the attributes `broadcast` and `axis`
stated it. Operators run in inference mode; before, `is_test` stated it. `consumed_inputs` is gone. Some attributes have other
names, or became inputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from ..errors import GraphError
from ..graph.reading import called, opset_of
from .runtime_domain import put_aside

OLDEST = 7
_BROADCASTING = {"Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less", "PRelu"}
_UNKNOWN = {"ATen", "ConstantFill", "GRUUnit", "GivenTensorFill", "RNN", "GRU", "LSTM", "Loop", "If", "Scan"}


def upgrade_old(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model at opset 7 if it is older, else the model itself.

    Raises:
        GraphError: An operator whose old form is not known here, or a result that ONNX's checker refuses.
    """
    version = opset_of(model)
    if version >= OLDEST:
        return model
    require_known(model)
    new = onnx.ModelProto()
    new.CopyFrom(model)
    ranks = _ranks(model)
    nodes: list[NodeProto] = []
    for index, node in enumerate(new.graph.node):
        if node.domain in ("", "ai.onnx"):
            _upgrade(node, new, ranks, nodes, f"opset7/{index}")
        nodes.append(node)
    # copies, because `del` takes the nodes away from the message that owns them
    kept = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del new.graph.node[:]
    new.graph.node.extend(kept)
    others = [i for i in new.opset_import if i.domain not in ("", "ai.onnx")]
    imports = [helper.make_opsetid("", OLDEST), *(helper.make_opsetid(i.domain, i.version) for i in others)]
    del new.opset_import[:]
    new.opset_import.extend(imports)
    new.ir_version = max(new.ir_version, 8)
    try:
        onnx.checker.check_model(put_aside(new))
    except Exception as error:  # its message names the operator that it does not know
        reason = " ".join(str(error).split())[:200]
        raise GraphError(f"the model has opset {version} and can't be brought to {OLDEST}: {reason}") from None
    return new


def require_known(model: onnx.ModelProto) -> None:
    """Refuse operators of opsets before 7 that were experimental, or whose old form is not known here.

    Raises:
        GraphError: Names the operator and the node.
    """
    for node in model.graph.node if opset_of(model) < OLDEST else ():
        if node.domain in ("", "ai.onnx") and node.op_type in _UNKNOWN:
            raise GraphError(
                f"{called(node.name, node.output)} is {node.op_type} of an opset before {OLDEST}, which was experimental or has "
                "changed; export again with a newer opset"
            )


def _upgrade(node: NodeProto, model: onnx.ModelProto, ranks: dict[str, int], nodes: list[NodeProto], name: str) -> None:
    op = node.op_type
    given = _take(node, "consumed_inputs", "is_test", "broadcast")
    if op in ("BatchNormalization", "Dropout", "InstanceNormalization"):
        if op == "BatchNormalization" and _take(node, "spatial").get("spatial", 1) == 0:
            raise GraphError(
                f"{called(node.name, node.output)} is a BatchNormalization that is not spatial; export again with a newer opset"
            )
        del node.output[1:]  # the others are for training: running statistics, a mask
    if op in _BROADCASTING:
        axis = _take(node, "axis").get("axis")
        if given.get("broadcast", 0) and axis is not None:
            _broadcast(node, int(axis), ranks, nodes, name)
    # one slope per channel: numpy would align it with the width
    if op == "PRelu" and ranks.get(node.input[1]) == 1 and ranks.get(node.input[0], 1) > 2:
        _broadcast(node, 1, ranks, nodes, name)
    if op == "Reshape" and len(node.input) == 1:
        node.input.append(_constant(model, name, np.array(_take(node, "shape")["shape"], np.int64)))
    if op == "Pad" and (pads := _take(node, "paddings").get("paddings")) is not None:
        node.attribute.append(helper.make_attribute("pads", pads))
    # Cast-1 names the type ("FLOAT"), later ones give its number
    if op == "Cast" and isinstance(to := _take(node, "to").get("to"), bytes | int):
        to = onnx.TensorProto.DataType.Value(to.decode().upper()) if isinstance(to, bytes) else to
        node.attribute.append(helper.make_attribute("to", to))
    # LpPool-1 and GlobalLpPool-1 have p as a float, later ones as an integer
    if op in ("LpPool", "GlobalLpPool") and isinstance(p := _take(node, "p").get("p"), float | int):
        if p != int(p):
            raise GraphError(
                f"{called(node.name, node.output)} is {op} with p = {p:g}; only whole numbers are known from opset 2 on"
            )
        node.attribute.append(helper.make_attribute("p", int(p)))
    # Concat-1 has the default 1; later ones have none
    if op == "Concat" and not any(a.name == "axis" for a in node.attribute):
        node.attribute.append(helper.make_attribute("axis", 1))
    if op == "Upsample" and "height_scale" in (scales := _take(node, "height_scale", "width_scale")):
        factors = [1.0, 1.0, float(scales["height_scale"]), float(scales["width_scale"])]
        node.attribute.append(helper.make_attribute("scales", factors))


def _broadcast(node: NodeProto, axis: int, ranks: dict[str, int], nodes: list[NodeProto], name: str) -> None:
    """Give the second input dimensions of 1 at its end: numpy aligns the last axes, opset 6 aligned the first one at `axis`."""
    if not {node.input[0], node.input[1]} <= ranks.keys():
        raise GraphError(
            f"{called(node.name, node.output)} ({node.op_type}) broadcasts along axis {axis} of a tensor of unknown shape"
        )
    # The second input's axes are `axis` to `axis + other - 1` of the first one's; `missing` axes follow them.
    rank, other = ranks[node.input[0]], ranks[node.input[1]]
    missing = rank - (axis + rank if axis < 0 else axis) - other
    if missing > 0:
        axes = list(range(other, other + missing))
        nodes.append(helper.make_node("Unsqueeze", [node.input[1]], [name], name=name, axes=axes))
        node.input[1] = name


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    """The number of dimensions of each tensor that is known.

    ONNX infers hardly any shapes before opset 5, so they are those of opset 7. What broadcasts has the shape of its first input.
    """
    later = onnx.ModelProto()
    later.CopyFrom(model)
    nodes: list[NodeProto] = []
    for index, node in enumerate(model.graph.node):
        first = node.op_type in _BROADCASTING and any(a.name == "broadcast" and a.i for a in node.attribute)
        if first or node.op_type == "PRelu":
            nodes.append(helper.make_node("Identity", node.input[:1], node.output))
            continue
        nodes.append(NodeProto.FromString(node.SerializeToString()))
        if node.domain in ("", "ai.onnx"):
            _upgrade(nodes[-1], later, {}, nodes, f"opset7/{index}")
    del later.graph.node[:], later.opset_import[:]
    later.graph.node.extend(nodes)
    later.opset_import.append(helper.make_opsetid("", OLDEST))
    graph = onnx.shape_inference.infer_shapes(later).graph
    ranks = {t.name: len(t.dims) for t in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            ranks[value.name] = len(value.type.tensor_type.shape.dim)
    return ranks


def _take(node: NodeProto, *names: str) -> dict[str, Any]:
    """Remove attributes from the node; returns those that it had."""
    taken = {a.name: helper.get_attribute_value(a) for a in node.attribute if a.name in names}
    kept = [a for a in node.attribute if a.name not in names]
    kept = [onnx.AttributeProto.FromString(a.SerializeToString()) for a in kept]
    del node.attribute[:]
    node.attribute.extend(kept)
    return taken


def _constant(model: onnx.ModelProto, name: str, value: np.ndarray[Any, Any]) -> str:
    model.graph.initializer.append(numpy_helper.from_array(value, f"{name}/constant"))
    return f"{name}/constant"
