"""Cut a graph at one tensor into head and tail.

The *side tensors* are what the tail needs beside the activation: inputs of the activation's descendants that are neither
constants, nor descendants, nor made from the batch alone (those the tail computes again, from its own batch).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from xai_deploy.bundle import ACTIVATION, LOGITS

from .clean import CleanGraph
from .emit import Emitter
from .errors import LayerError
from .graphs import ancestors, attribute, constant_of, data_inputs, descendants
from .logits import Logits

Layout = Literal["NCHW", "NHWC"]

_CHANNELS_FIRST = {
    "Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "GroupNormalization", "MaxPool", "AveragePool",
    "GlobalAveragePool", "GlobalMaxPool", "LpPool", "GlobalLpPool", "LRN", "DepthToSpace", "SpaceToDepth", "Resize",
}  # fmt: skip
_ELEMENTWISE = {
    "Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Gelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Erf", "Mish",
    "Softplus", "Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Clip", "Min", "Max", "Sum", "Identity", "Dropout", "Cast",
    "QuantizeLinear", "DequantizeLinear", "Concat",
}  # fmt: skip


@dataclass(frozen=True)
class Cut:
    """Where a graph is cut.

    Attributes:
        target: The tensor.
        shape: (K,h,w) of the activation, channels first.
        layout: The tensor's own layout.
        sides: The side tensors, in the graph's order.
    """

    target: ir.Value
    shape: tuple[int, int, int]
    layout: Layout
    sides: tuple[ir.Value, ...]


@dataclass(frozen=True)
class Parts:
    """Head and tail, and for each of the network's own outputs the tail's tensor that holds it."""

    head: ir.Graph
    tail: ir.Graph
    tensors: dict[str, str]


def plan_cut(clean: CleanGraph, target: ir.Value, logits: Logits, ends: Sequence[ir.Value], name: str) -> Cut:
    """Check that the graph can be cut at `target`, and find the side tensors.

    Args:
        clean: The graph.
        target: The tensor to cut at.
        logits: The explained output.
        ends: Further tensors that the tail has to give.
        name: What the user called the layer, for messages.

    Raises:
        LayerError: Says what stands against the cut.
    """
    if target in clean.graph.inputs:
        raise LayerError(f"{name!r} gives the image as it is; split at an activation behind it")
    image_shape = clean.shapes.per_image(target.name)
    if image_shape is None or len(image_shape) != 3:
        shape = clean.shapes.two.get(str(target.name), ())
        raise LayerError(
            f"{name!r} has shape {['N', *shape[1:]]}: a layer to explain gives [N,K,h,w]; --list-layers shows those that do"
        )
    if target.dtype is not None and target.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
        raise LayerError(f"{name!r} holds {target.dtype.name}, not floats; split behind its DequantizeLinear")
    if logits.value not in descendants([target]) or logits.value is target:
        raise LayerError(f"the logits do not depend on {name!r}; split at a layer on the way to them")
    sides = side_tensors(clean, target, [logits.value, *ends])
    for side in sides:
        if clean.shapes.per_image(side.name) is None:
            raise LayerError(
                f"the cut at {name!r} needs {side.name!r} beside it, whose shape {clean.shapes.two.get(str(side.name))} "
                "does not start with the batch; split at another layer"
            )
    layout = find_layout(target) or "NCHW"
    first, second, third = image_shape
    shape = (third, first, second) if layout == "NHWC" else (first, second, third)
    return Cut(target, shape, layout, sides)


def side_tensors(clean: CleanGraph, target: ir.Value, ends: Sequence[ir.Value]) -> tuple[ir.Value, ...]:
    """What `ends` need beside `target`; see the module's docstring."""
    after = descendants([target])
    data = descendants(clean.graph.inputs)
    if clean.batch is not None:
        data -= descendants([clean.batch]) - descendants(_image_users(clean))
    found: set[ir.Value] = set()
    pending, seen = list(ends), set()
    while pending:
        value = pending.pop()
        if value in seen or value is target or value is clean.batch:
            continue
        seen.add(value)
        if value in data and value not in after:
            found.add(value)
            continue
        producer = value.producer()
        if producer is not None:
            pending.extend(v for v in producer.inputs if v is not None)
    return tuple(v for node in clean.graph for v in node.outputs if v in found) + tuple(
        v for v in clean.graph.inputs if v in found
    )


def _image_users(clean: CleanGraph) -> list[ir.Value]:
    """What is computed from the image's content, not from its batch."""
    [image] = clean.graph.inputs
    return [v for node, _ in image.uses() for v in node.outputs if v is not clean.batch]


def split(clean: CleanGraph, cut: Cut, logits: Logits) -> Parts:
    """Head and tail of a planned cut, with the bundle's tensor names.

    Head: image -> `activation` [N,K,h,w], `side_0`, ...; tail: these -> `logits` [N,classes] and the network's outputs.
    """
    graph = clean.graph
    head = ir.convenience.extract(graph, graph.inputs, [cut.target, *cut.sides])
    ends = list(dict.fromkeys([logits.value, *graph.outputs]))
    passed_on = [v for v in ends if v in cut.sides]  # outputs that do not depend on the activation
    computed = [v for v in ends if v not in passed_on]
    batch = [] if clean.batch is None else [clean.batch]
    tail = ir.convenience.extract(graph, [cut.target, *cut.sides, *batch], computed)
    in_tail = dict(zip(computed, tail.outputs, strict=True))
    in_tail |= {v: tail.inputs[1 + cut.sides.index(v)] for v in passed_on}
    if batch:
        _batch_from_activation(tail)
    _finish_head(head, cut, clean)
    tensors = _finish_tail(tail, cut, clean, logits, [(str(v.name), v, in_tail[v]) for v in graph.outputs])
    return Parts(head, tail, tensors)


def _finish_head(head: ir.Graph, cut: Cut, clean: CleanGraph) -> None:
    emit = Emitter(head, "head")
    outputs = list(head.outputs)
    if cut.layout == "NHWC":
        outputs[0] = emit.node("Transpose", [outputs[0]], "channels_first", {"perm": [0, 3, 1, 2]})
    outputs = [emit.node("Identity", [v], "image") if v in head.inputs else v for v in outputs]
    _replace_outputs(head, outputs)
    _rename(head, dict(zip(outputs, [ACTIVATION, *side_names(cut)], strict=True)))
    _declare(head.inputs[0], clean.image_shape, head.inputs[0].dtype)
    for value, source, shape in zip(outputs, [cut.target, *cut.sides], _shapes(cut, clean), strict=True):
        _declare(value, shape, source.dtype)


def _finish_tail(
    tail: ir.Graph, cut: Cut, clean: CleanGraph, logits: Logits, outputs: Sequence[tuple[str, ir.Value, ir.Value]]
) -> dict[str, str]:
    """Name inputs and outputs; returns own output name -> tail tensor."""
    emit = Emitter(tail, "tail")
    flat = tail.outputs[0]
    _rename(tail, dict(zip(tail.inputs, [ACTIVATION, *side_names(cut)], strict=True)))
    if cut.layout == "NHWC":
        activation = tail.inputs[0]
        users = list(activation.uses())
        native = emit.node("Transpose", [activation], "channels_last", {"perm": [0, 2, 3, 1]})
        for user, position in users:
            user.replace_input_with(position, native)
    if clean.shapes.per_image(logits.value.name) != (logits.classes,):
        flat = emit.node("Reshape", [flat, emit.ints([-1, logits.classes], "logits_shape")], "logits")
    results: dict[ir.Value, str] = {flat: LOGITS}
    _declare(flat, (logits.classes,), logits.value.dtype)
    tensors = {}
    for name, source, value in outputs:
        result = emit.node("Identity", [value], "passed_on") if value in tail.inputs else value
        reserved = name in (ACTIVATION, LOGITS, *side_names(cut))
        tensors[name] = results.setdefault(result, f"output/{name}" if reserved else name)
        if result is not flat:
            _declare(result, clean.shapes.two[str(source.name)][1:], source.dtype)
    _replace_outputs(tail, list(results))
    _rename(tail, results)
    for value, source, shape in zip(tail.inputs, [cut.target, *cut.sides], _shapes(cut, clean), strict=True):
        _declare(value, shape, source.dtype)
    tail.sort()
    return tensors


def _batch_from_activation(tail: ir.Graph) -> None:
    """The tail's batch is its activation's: Shape(activation)[0] in place of the bounding input."""
    stand_in = tail.inputs.pop()
    batch = Emitter(tail, "tail").node("Shape", [tail.inputs[0]], "batch", {"start": 0, "end": 1})
    stand_in.replace_all_uses_with(batch)
    tail.sort()


def _shapes(cut: Cut, clean: CleanGraph) -> list[tuple[int, ...]]:
    return [cut.shape, *(clean.shapes.two[str(side.name)][1:] for side in cut.sides)]


def _declare(value: ir.Value, shape: Sequence[int], dtype: ir.DataType | None) -> None:
    value.shape = ir.Shape(["N", *shape])
    value.type = ir.TensorType(dtype or ir.DataType.FLOAT)


def _replace_outputs(graph: ir.Graph, outputs: Sequence[ir.Value]) -> None:
    graph.outputs.clear()
    graph.outputs.extend(outputs)


def _rename(graph: ir.Graph, names: Mapping[ir.Value, str]) -> None:
    """Give values new names; another value that has one of them steps aside."""
    taken = set(names.values())
    others = [*graph.inputs, *graph.initializers.values(), *(v for node in graph for v in node.outputs)]
    for value in others:
        if value.name in taken and names.get(value) != value.name:
            value.name = f"{value.name}/inner"
    for value, name in names.items():
        value.name = name


def side_names(cut: Cut) -> list[str]:
    """The side tensors' names in the bundle."""
    return [f"side_{i}" for i in range(len(cut.sides))]


def find_layout(value: ir.Value) -> Layout | None:
    """Whether a 4-D activation is [N,K,h,w] or [N,h,w,K], told by the operators around it; None where nothing tells.

    Elementwise operators are looked through, consumers first: what comes next is what reads the layout.
    """
    pending, seen = [value], set()
    while pending:
        current = pending.pop(0)
        if current in seen:
            continue
        seen.add(current)
        for node, position in current.uses():
            told = _read_as(node, position)
            if told is not None:
                return told
            if node.op_type in _ELEMENTWISE:
                pending.extend(node.outputs)
    current = value
    while (producer := current.producer()) is not None:
        if producer.op_type in _CHANNELS_FIRST:
            return "NCHW"
        if producer.op_type in ("MatMul", "LayerNormalization"):
            return "NHWC"
        if producer.op_type == "Transpose":
            perm = list(attribute(producer, "perm", []))
            return {(0, 3, 1, 2): "NCHW", (0, 2, 3, 1): "NHWC"}.get(tuple(perm))  # type: ignore[return-value]
        inputs = data_inputs(producer)
        if producer.op_type not in _ELEMENTWISE or not inputs:
            return None
        current = inputs[0]
    return None


def _read_as(node: ir.Node, position: int) -> Layout | None:
    """The layout in which a node reads its input."""
    if node.op_type in _CHANNELS_FIRST and position == 0:
        return "NCHW"
    if node.op_type == "LayerNormalization":
        return "NHWC" if attribute(node, "axis", -1) in (-1, 3) else None
    if node.op_type == "MatMul" and position == 0 and constant_of(node.inputs[1]) is not None:
        return "NHWC"
    if node.op_type == "Transpose":
        return {(0, 3, 1, 2): "NHWC", (0, 2, 3, 1): "NCHW"}.get(tuple(attribute(node, "perm", [])))  # type: ignore[return-value]
    if node.op_type == "ReduceMean":
        axes = reduced_axes(node)
        return "NCHW" if axes == (2, 3) else "NHWC" if axes == (1, 2) else None
    return None


def reduced_axes(node: ir.Node) -> tuple[int, ...] | None:
    """The axes of a reduction over a 4-D tensor, not negative and sorted; None where they are not constant."""
    axes = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
    if axes is None:
        listed = attribute(node, "axes", None)
        if listed is None:
            return None
        axes = np.array(listed)
    return tuple(sorted(int(a) % 4 for a in axes))


def auto_layer(clean: CleanGraph, logits: Logits) -> ir.Value:
    """The last 4-D activation before global pooling or flattening that needs no side tensor.

    Raises:
        LayerError: There is none, or the network works on tokens behind it.
    """
    leading = ancestors([logits.value])
    candidates = [v for node in clean.graph for v in node.outputs if v in leading]
    for value in reversed(candidates):
        shape = clean.shapes.per_image(value.name)
        layout = find_layout(value) if shape is not None and len(shape) == 3 else None
        if shape is None or layout is None or value.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
            continue
        height, width = shape[1:] if layout == "NCHW" else shape[:2]
        if height * width > 1 and not side_tensors(clean, value, [logits.value]):
            if any(node.op_type == "Softmax" for node in _nodes_between(value, logits.value)):
                break
            return value
    raise LayerError(
        "no 4-D activation leads straight to the logits; name a layer with --split (--list-layers shows them)"
    )


def _nodes_between(value: ir.Value, end: ir.Value) -> set[ir.Node]:
    between = descendants([value]) & ancestors([end])
    return {producer for v in between if v is not value and (producer := v.producer()) is not None}
