"""Compute graphs that propagate back in float32, even if the network computes in half precision (float16, bfloat16).

In float16, gradients fall below the smallest number, the denominators of relevance cancel, and rounding in the forward pass flips
the masks of ReLUs. Maps were off by a tenth of their maximum and more. Therefore everything in such a graph is float32, the
forward pass included, because the rules read its tensors. The weights stay in half precision in the file. Each one is followed
by a Cast, which runtimes fold when they load the graph.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..graph.emit import Emitter

HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_FLOAT = ir.TensorType(ir.DataType.FLOAT)
_SMALL = 256  # elements; such a constant is stored as float32, because some runtimes want bounds and pads as constants


def widen(graph: ir.Graph) -> dict[ir.Value, ir.Value]:
    """Compute a graph in float32 wherever it computes in half precision.

    Inputs keep their types; a Cast follows each half-precision one. Outputs of half precision become float32; see `narrow_outputs`.

    Args:
        graph: Changed in place; its nodes stay in order.

    Returns:
        Each input -> the tensor with which the graph computes.
    """
    computed = {value: value for value in graph.inputs}
    emit = Emitter(graph, "float32")
    nodes = list(graph)
    # the tensors that no other operator computes: inputs, initializers, constants
    values = [*graph.inputs, *graph.initializers.values()]
    values += [node.outputs[0] for node in nodes if node.op_type in ("Constant", "ConstantOfShape")]
    for value in [value for value in values if value.dtype in HALVES]:
        wide = _widened(emit, value)
        if value in computed:
            computed[value] = wide
        value.replace_all_uses_with(wide, replace_graph_outputs=True)
        # the line above rewired the new Cast, too: it has to read the narrow value
        if (producer := wide.producer()) is not None:
            producer.replace_input_with(0, value)
        elif value.name in graph.initializers:
            del graph.initializers[str(value.name)]
    for node in nodes:
        # these operators name their output type in an attribute
        for name in {"Cast": ("to",), "EyeLike": ("dtype",), "DequantizeLinear": ("output_dtype",)}.get(
            node.op_type, ()
        ):
            if name in node.attributes and node.attributes[name].as_int() in HALVES:
                node.attributes[name] = ir.AttrInt64(name, int(ir.DataType.FLOAT))
        # constants keep their type: their readers read the widened value
        if node.op_type not in ("Constant", "ConstantOfShape"):
            for value in node.outputs:
                if value.dtype in HALVES:
                    value.type = _FLOAT
    graph.sort()
    return computed


def _widened(emit: Emitter, value: ir.Value) -> ir.Value:
    """The tensor as float32: a new constant if it is a small one, else the result of a Cast."""
    if value.const_value is not None and value.const_value.size <= _SMALL:
        return emit.constant(value.const_value.numpy().astype(np.float32), str(value.name))
    wide = emit.node("Cast", [value], str(value.name), {"to": int(ir.DataType.FLOAT)})
    wide.type, wide.shape = _FLOAT, value.shape
    return wide


def narrow_outputs(graph: ir.Graph, like: ir.Graph) -> None:
    """Give the first outputs back the element types that they have in `like`, if `widen` made them float32."""
    emit = Emitter(graph, "narrow")
    for i, own in enumerate(like.outputs):
        wide = graph.outputs[i]
        if own.dtype not in HALVES or wide.dtype in HALVES:
            continue
        # the Cast takes over the output's name
        name, wide.name = str(wide.name), f"{wide.name}/float32"
        half = emit.node("Cast", [wide], name, {"to": int(own.dtype)})
        half.name, half.shape, half.type = name, wide.shape, own.type
        graph.outputs[i] = half
