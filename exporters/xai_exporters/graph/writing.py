"""Renames the values of an ONNX graph, and serialises it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from ..errors import GraphError
from .apart import keep_factors_apart
from .row_reductions import keep_reductions_apart

IR_VERSION = 10  # read by every runtime that reads opset 18-21; onnxruntime 1.31 stops at 13
TRANSLATED = "openvino"  # the producer of what our own readers write of a file that OpenVINO reads

_LIMIT = (1 << 31) - (1 << 20)  # protobuf's 2 GB, and room for the structure around the weights


def rename(graph: ir.Graph, names: Mapping[ir.Value, str]) -> None:
    """Give values new names; another value that has one of these names is renamed too."""
    taken = set(names.values())
    others = [*graph.inputs, *graph.initializers.values(), *(v for node in graph for v in node.outputs)]
    for value in others:
        if value.name in taken and names.get(value) != value.name:
            step_aside(graph, value)
    for value, name in names.items():
        value.name = name


def step_aside(graph: ir.Graph, value: ir.Value) -> None:
    """Rename a value to "name/inner", so that its name is free.

    An initializer is replaced by another one, because its tensor, name included, is shared with the source.
    """
    name = str(value.name)
    if value.const_value is None or name not in graph.initializers:
        value.name = f"{name}/inner"
        return
    tensor = ir.tensor(value.const_value.numpy(), name=f"{name}/inner")
    inner = ir.Value(name=tensor.name, shape=value.shape, type=value.type, const_value=tensor)
    value.replace_all_uses_with(inner)
    del graph.initializers[name]
    graph.register_initializer(inner)


def name_outputs(graph: ir.Graph, names: Sequence[str]) -> None:
    """Name the outputs; a tensor that is an output twice (the tap of a layer that is itself an output) becomes two tensors."""
    for i, (value, name) in enumerate(zip(list(graph.outputs), names, strict=True)):
        if value in graph.outputs[:i]:
            again = ir.node("Identity", [value], name=f"{name}/again")
            graph.append(again)
            graph.outputs[i] = again.outputs[0]
        graph.outputs[i].name = name


def to_bytes(model: ir.Model) -> bytes:
    """Serialise, weights inside, the same bytes each time.

    Raises:
        GraphError: The weights exceed what one protobuf file can hold (2 GB).
    """
    size = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)
    if size > _LIMIT:
        raise GraphError(f"the graph's weights take {size >> 20} MiB; a self-contained ONNX file holds at most 2 GB")
    proto = ir.to_proto(model)
    del proto.graph.value_info[:]  # shapes of intermediate tensors and weights
    for noted in (*proto.graph.initializer, *(a for node in proto.graph.node for a in node.attribute)):
        noted.ClearField("doc_string")  # may hold anything, file paths too
    return bytes(proto.SerializeToString(deterministic=True))


def make_model(graph: ir.Graph, notes: Mapping[str, str] | None = None) -> ir.Model:
    """A model that holds a graph and the metadata `notes`, and nothing else; its weights are in the order of their names."""
    keep_factors_apart(graph)
    keep_reductions_apart(graph)
    for node in graph:
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*graph.inputs, *graph.outputs, *graph.initializers.values()):
        value.metadata_props.clear()
        value.doc_string = None
    graph.metadata_props.clear()
    graph.doc_string = None
    weights = sorted(graph.initializers.items())  # a graph cut out of another one has them in the order of a set
    graph.initializers.clear()
    graph.initializers.update(weights)
    for domain in [d for d in graph.opset_imports if d]:  # their operators are no longer there
        del graph.opset_imports[domain]
    name = "xai-deploy-exporters"
    return ir.Model(graph, ir_version=IR_VERSION, producer_name=name, metadata_props=dict(notes or {}))
