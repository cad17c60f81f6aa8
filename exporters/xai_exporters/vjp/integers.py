"""Write layers on integers as layers on floats that hold integers, in graphs that propagate back.

ONNX Runtime's `quantize_dynamic` writes a layer W x + b as

    q, s, z = DynamicQuantizeLinear(x)                      the range of x gives the scale s and the zero point z of its codes q
    y = Cast(ConvInteger(q, W, z, z_W)) (s s_W) + b         or MatMulInteger

Here ConvInteger and its Cast become Conv(q - z, W - z_W). Float32 holds integers below 2^24 exactly, so the numbers stay those of
the source. (Conv(s (q - z), s_W (W - z_W)) would round, and a rounded value can fall to the next code of the next layer.) Now the
rules of Conv and MatMul hold. Those of relevance take the scales and the bias from `scaling`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..graph.emit import Emitter, Ops
from ..graph.reading import attribute, constant_of
from .quantised import end_in_codes
from .quantization import positive_scale

LAYERS = {"ConvInteger": "Conv", "MatMulInteger": "MatMul"}
_SAME = {
    "Add", "Sub", "Mul", "Neg", "Abs", "Relu", "Clip", "Max", "Min", "Sum", "Identity", "Reshape", "Flatten", "Transpose",
    "Squeeze", "Unsqueeze", "Concat", "Slice", "Split", "Gather", "Expand", "Tile", "Pad", "Where",
}  # fmt: skip
"""Operators that give the same on floats as on integers."""
_SCALING, _CENTRES = "xai/scaling", "xai/centres"  # keys of a node's `meta`


@dataclass(frozen=True)
class Scaling:
    """How a layer z = (W - z_W) (q - z), on integers, stands for a layer y = factor z + bias on x = scale (q - z).

    Attributes:
        factor: The scale of the output, s s_W.
        scale: The scale of the input; None if it is not known.
        bias: A constant that is added to the scaled output; None if there is none.
    """

    factor: ir.Value
    scale: ir.Value | None
    bias: ir.Value | None


def scaling(node: ir.Node) -> Scaling | None:
    """The scaling of a layer on integers; None for any other layer."""
    known: Scaling | None = node.meta.get(_SCALING)
    return known


def centres(node: ir.Node) -> bool:
    """Whether a node subtracts the zero point from codes."""
    return bool(node.meta.get(_CENTRES))


def to_layers(graph: ir.Graph) -> None:
    """Replace every ConvInteger and MatMulInteger of a graph, in place, and sort the graph."""
    nodes = [node for node in graph if node.op_type in LAYERS]
    if not nodes:
        return
    emit = Emitter(graph, "integers")
    scales = _positive_scales(emit)
    floats: set[ir.Value] = set()  # tensors that were integers
    layers = []
    for node in list(graph):
        op = Ops(emit, str(node.name), np.dtype(np.float32))
        if node.op_type in LAYERS:
            operands = [_centred(op, node, i) for i in (0, 1)]
            made = ir.node(LAYERS[node.op_type], operands, attributes=node.attributes, name=emit.unique(str(node.name)))
            made.meta.update(node.meta)
            zero = _optional(node, 2)
            layers.append((made, None if zero is None else scales.get(zero)))
            _replace(graph, node, made)
            floats.add(made.outputs[0])
        elif node.op_type == "DequantizeLinear" and node.inputs[0] in floats:
            _dequantise(op, node)
        elif any(x in floats for x in node.inputs):
            _pass_on(op, node, floats)
    for node in list(graph):  # a Cast of theirs to floats has nothing to do any more
        x, y = node.inputs[0] if node.inputs else None, node.outputs[0]
        if x in floats and attribute(node, "to", 0) == ir.DataType.FLOAT and not y.is_graph_output():
            y.replace_all_uses_with(x)
    for i, value in enumerate(graph.outputs):
        if value in floats:
            end_in_codes(emit, i, ir.DataType.INT32)
    for made, scale in layers:
        made.meta[_SCALING] = _scaling(made.outputs[0], scale)
    graph.sort()


def _positive_scales(emit: Emitter) -> dict[ir.Value, ir.Value]:
    """Let every reader of a DynamicQuantizeLinear's scale read a positive one; returns zero point -> scale."""
    scales = {}
    for node in [node for node in emit.graph if node.op_type == "DynamicQuantizeLinear"]:
        scale, zero = node.outputs[1:]
        readers = list(scale.uses())
        scales[zero] = positive_scale(Ops(emit, str(node.name), np.dtype(np.float32)), scale)
        for reader, position in readers:
            reader.replace_input_with(position, scales[zero])
    return scales


def _replace(graph: ir.Graph, node: ir.Node, made: ir.Node) -> None:
    """Put a node on floats in the place of one on integers; its result takes over the name."""
    old, new = node.outputs[0], made.outputs[0]
    new.name, new.type, new.shape = old.name, ir.TensorType(ir.DataType.FLOAT), old.shape
    graph.insert_before(node, made)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _pass_on(op: Ops, node: ir.Node, floats: set[ir.Value]) -> None:
    """Let an operator on integers compute with floats, if that gives the same; else give it integers again."""
    if node.op_type in ("Shape", "Size", "Cast"):  # the type of their result does not depend on that of the input
        return
    same = node.op_type in _SAME
    for i, x in enumerate(node.inputs):
        if x is not None and same and x not in floats and x.dtype == ir.DataType.INT32:
            node.replace_input_with(i, op.Cast(x, to=int(ir.DataType.FLOAT)))
        elif x in floats and not same:
            integers = op.Cast(x, to=int(ir.DataType.INT32))
            integers.type = ir.TensorType(ir.DataType.INT32)
            node.replace_input_with(i, integers)
    for y in node.outputs if same else ():
        y.type = ir.TensorType(ir.DataType.FLOAT)
        floats.add(y)


def _dequantise(op: Ops, node: ir.Node) -> None:
    """y = x scale, of int32, which has no zero point (ONNX operator specification, DequantizeLinear)."""
    x, scale = node.inputs[:2]
    assert x is not None
    assert scale is not None
    if scale.shape is None or len(scale.shape):
        after = len(x.shape or ()) - 1 - int(attribute(node, "axis", 1))
        scale = op.Reshape(scale, [-1, *[1] * after]) if attribute(node, "axis", 1) >= 0 else scale
    y, old = op.Mul(x, scale), node.outputs[0]
    y.type, y.shape = old.type, old.shape
    old.replace_all_uses_with(y, replace_graph_outputs=True)
    op.emit.graph.remove(node, safe=True)
    y.name, old.name = old.name, f"{old.name}/integers"


def _centred(op: Ops, node: ir.Node, position: int) -> ir.Value:
    """codes - zero of an operand, as floats."""
    zero, floats = _optional(node, position + 2), op.Cast(node.inputs[position], to=int(ir.DataType.FLOAT))
    if zero is None:
        return floats
    array = constant_of(zero)
    centre: ir.Value | NDArray[Any]
    if array is None:  # computed from the range of an activation: one number
        centre = op.Cast(zero, to=int(ir.DataType.FLOAT))
    elif not array.any():
        return floats
    else:  # one for all, or one for each output of a layer (each row of the first factor)
        of_convolution = position == 1 and node.op_type == "ConvInteger"
        after = constant_of(node.inputs[1]).ndim - 1 if of_convolution else 1 - position  # type: ignore[union-attr]
        centre = array.astype(np.float32).reshape(() if array.size == 1 else (-1, *[1] * after))
    centred = op.Sub(floats, centre)
    made = centred.producer()
    assert made is not None
    made.meta[_CENTRES] = True
    return centred


def _scaling(product: ir.Value, scale: ir.Value | None) -> Scaling | None:
    """The factor of a product, and the bias after it; None if something else reads the product."""
    mul = _only_reader(product, "Mul")
    if mul is None:
        return None
    add = _only_reader(mul.outputs[0], "Add")
    bias = None if add is None else _other(add, mul.outputs[0])
    return Scaling(_other(mul, product), scale, None if constant_of(bias) is None else bias)


def _optional(node: ir.Node, position: int) -> ir.Value | None:
    return node.inputs[position] if len(node.inputs) > position else None


def _other(node: ir.Node, value: ir.Value) -> ir.Value:
    """The input of a product or a sum that is not this one."""
    first, second = node.inputs[:2]
    assert first is not None
    assert second is not None
    return second if first is value else first


def _only_reader(value: ir.Value, kind: str) -> ir.Node | None:
    """The only reader of a tensor, if it is of this kind."""
    readers = [node for node, _ in value.uses()]
    return readers[0] if len(readers) == 1 and readers[0].op_type == kind and not value.is_graph_output() else None
