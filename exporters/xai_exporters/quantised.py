"""Quantised activations in graphs that propagate back: the same numbers in floats.

    QuantizeLinear:    codes = clip(round(x / scale) + zero, least, greatest), as floats
    DequantizeLinear:  y = (codes - zero) scale

Round goes half to even, as QuantizeLinear does, so the numbers are the same to the bit. OpenVINO (2026.4) moves the scales of a
quantised network from one operator to the next, and forgets who else reads a tensor on the way: where the rules of the way back
read a convolution's output before it is quantised, *the network's own logits* change. It looks for QuantizeLinear; in floats it
finds nothing to move. The weights stay integers in the file. (A second, quantised copy beside, for the network's own
outputs, was tried: OpenVINO spoils it through the weights that both share.)
"""

from __future__ import annotations

import onnx_ir as ir

from .emit import Emitter, Ops
from .graphs import constant_of
from .rules import Step, floats_of
from .runtime import Measured
from .vjp.quantization import codes_of, codes_type, limits_of, scale_of, zero_of

_FLOAT = int(ir.DataType.FLOAT)
_CODES = (ir.DataType.UINT8, ir.DataType.INT8, ir.DataType.UINT16, ir.DataType.INT16)


def to_floats(graph: ir.Graph, shapes: Measured) -> None:
    """Replace the QuantizeLinear and DequantizeLinear of activations; those of weights and of integer inputs stay.

    What stands between the two (Transpose, MaxPool, Concat ... of codes) is left, and gets floats.

    Args:
        graph: Its first nodes are the forward graph in order; changed in place, and no longer in order.
        shapes: Of the forward graph's tensors.
    """
    emit = Emitter(graph, "floats")
    codes: dict[ir.Value, ir.DataType] = {}
    for node in list(graph):
        if not any(x in codes for x in node.inputs) and not _quantises(node):
            continue
        y = node.outputs[0]
        op = Ops(emit, str(node.name), floats_of(y if node.op_type == "DequantizeLinear" else node.inputs[0] or y))
        step = Step(node, shapes, frozenset())
        if node.op_type == "QuantizeLinear":
            low, high = limits_of(step)
            new = op.Clip(codes_of(op, step), low, high)
            codes[new] = codes_type(node)
        elif node.op_type == "DequantizeLinear":
            new = op.Mul(op.Sub(step.x, zero_of(op, step)), scale_of(op, step))
        else:
            _pass_on(op, node, codes)
            continue
        new.shape, new.type = y.shape, ir.TensorType(ir.DataType.from_numpy(op.floats))
        name, y.name = y.name, f"{y.name}/codes"
        new.name = name
        y.replace_all_uses_with(new, replace_graph_outputs=True)
        graph.remove(node, safe=True)
    for value, kind in codes.items():
        for i, output in enumerate(graph.outputs):
            if output is value:
                _end_in_codes(emit, i, kind)


def _quantises(node: ir.Node) -> bool:
    """Whether a node quantises an activation to codes that have a rule."""
    if node.op_type != "QuantizeLinear" or constant_of(node.inputs[0]) is not None:
        return False
    block = node.attributes.get("block_size")
    return (block is None or not block.as_int()) and codes_type(node) in _CODES


def _pass_on(op: Ops, node: ir.Node, codes: dict[ir.Value, ir.DataType]) -> None:
    """What an operator does with codes it does with floats; those beside them become floats too."""
    if node.op_type in ("Shape", "Size", "Cast"):
        return
    for i, x in enumerate(node.inputs):
        if x is not None and x not in codes and x.dtype in _CODES:
            node.replace_input_with(i, op.Cast(x, to=_FLOAT))
    for y in node.outputs:
        if y.dtype in _CODES:
            codes[y] = y.dtype
            y.type = ir.TensorType(ir.DataType.FLOAT)


def _end_in_codes(emit: Emitter, position: int, kind: ir.DataType) -> None:
    """An output of the graph that is codes."""
    value = emit.graph.outputs[position]
    name, value.name = str(value.name), f"{value.name}/floats"
    cast = emit.node("Cast", [value], name, {"to": int(kind)})
    cast.name, cast.shape, cast.type = name, value.shape, ir.TensorType(kind)
    emit.graph.outputs[position] = cast
