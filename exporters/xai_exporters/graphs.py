"""Questions asked of an ONNX graph, and its way to bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from .errors import GraphError

IR_VERSION = 10  # read by every runtime that reads opset 18-21; onnxruntime 1.31 stops at 13

_LIMIT = (1 << 31) - (1 << 20)  # protobuf's 2 GB, and room for the structure around the weights


def constant_of(value: ir.Value | None) -> NDArray[Any] | None:
    """The array of an initializer or a Constant node, or of a Cast of one; else None."""
    if value is None:
        return None
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None:
        return tensor.numpy()
    made = value.producer()
    if made is None or made.op_type != "Cast" or value.dtype is None:
        return None
    array = constant_of(made.inputs[0])
    return None if array is None else array.astype(value.dtype.numpy())


def called(name: str | None, outputs: Iterable[str | None]) -> str:
    """What a message calls a node: its name, or the tensors that it gives if it has no name, which ONNX allows."""
    return f"node {name!r}" if name else f"the node that gives {', '.join(repr(o) for o in outputs if o)}"


def opset_of(model: onnx.ModelProto) -> int:
    """The opset of the standard operators; 1 if the model does not say, as ONNX has it."""
    return next((int(i.version) for i in model.opset_import if i.domain in ("", "ai.onnx")), 1)


def attribute(node: ir.Node, name: str, default: Any) -> Any:
    """An attribute's value, or the operator's default."""
    attr = node.attributes.get(name)
    return default if attr is None else attr.value


def is_dynamically_quantised(nodes: Iterable[ir.Node]) -> bool:
    """Whether a network is quantised by the range of each input, so that it computes in integers and no gradient passes."""
    return any(node.op_type == "DynamicQuantizeLinear" for node in nodes)


def data_inputs(node: ir.Node) -> list[ir.Value]:
    """The inputs of a node that are not constants."""
    return [v for v in node.inputs if v is not None and constant_of(v) is None]


def descendants(values: Iterable[ir.Value]) -> set[ir.Value]:
    """Every value computed from one of these, themselves included."""
    return _closure(values, lambda v: (o for node, _ in v.uses() for o in node.outputs))


def content_of(image: ir.Value) -> set[ir.Value]:
    """Every value computed from what an image holds, not from its shape alone."""
    readers = (node for node, _ in image.uses() if node.op_type not in ("Shape", "Size"))
    return descendants(v for node in readers for v in node.outputs)


def ancestors(values: Iterable[ir.Value]) -> set[ir.Value]:
    """Every value that one of these is computed from, themselves included."""

    def before(value: ir.Value) -> Iterable[ir.Value]:
        producer = value.producer()
        return () if producer is None else (v for v in producer.inputs if v is not None)

    return _closure(values, before)


def _closure(values: Iterable[ir.Value], step: Callable[[ir.Value], Iterable[ir.Value]]) -> set[ir.Value]:
    found, pending = set(), list(values)
    while pending:
        value = pending.pop()
        if value not in found:
            found.add(value)
            pending.extend(step(value))
    return found


def rename(graph: ir.Graph, names: Mapping[ir.Value, str]) -> None:
    """Give values new names; another value that has one of them steps aside."""
    taken = set(names.values())
    others = [*graph.inputs, *graph.initializers.values(), *(v for node in graph for v in node.outputs)]
    for value in others:
        if value.name in taken and names.get(value) != value.name:
            step_aside(graph, value)
    for value, name in names.items():
        value.name = name


def step_aside(graph: ir.Graph, value: ir.Value) -> None:
    """Give up a name: "name/inner" instead.

    An initializer is replaced by another one, for its tensor, name included, is shared with the source.
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
    """Name the outputs; a tensor that is an output twice (the tap of a layer that is one) becomes two tensors."""
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
        noted.ClearField("doc_string")  # may hold anything, paths among it
    return bytes(proto.SerializeToString(deterministic=True))


def make_model(graph: ir.Graph, notes: Mapping[str, str] | None = None) -> ir.Model:
    """A model around a graph, stripped of everything but the graph, its weights in the order of their names, and what it says of
    itself in `notes`."""
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
    weights = sorted(graph.initializers.items())  # a graph that was cut out of another has them in the order of a set
    graph.initializers.clear()
    graph.initializers.update(weights)
    for domain in [d for d in graph.opset_imports if d]:  # of operators that are not there any more
        del graph.opset_imports[domain]
    name = "xai-deploy-exporters"
    return ir.Model(graph, ir_version=IR_VERSION, producer_name=name, metadata_props=dict(notes or {}))
