"""Write the quantised activations of a graph that propagates back as floats; the numbers stay the same.

    QuantizeLinear:    codes = clip(round(x / scale) + zero, least, greatest), as floats
    DequantizeLinear:  y = (codes - zero) scale

Round rounds half to even, as QuantizeLinear does, so the numbers are the same to the bit. The weights stay integers in the file.

The reason is a fault of OpenVINO 2026.4. It moves the scales of a quantised network from one operator to the next, and it does not
look whether a further node reads the tensor between them. The rules of gradients and relevance do read such tensors: a
convolution's output before it is quantised. Then *the network's own logits* change. OpenVINO looks for QuantizeLinear; a graph
of floats has none. (We tried to keep a second, quantised copy for the network's own outputs. OpenVINO changes that copy too,
because both share their weights.)
"""

from __future__ import annotations

import onnx_ir as ir

from ..backward.rules import Step, floats_of
from ..graph.emit import Emitter, Ops
from ..graph.measure import Measured
from ..graph.reading import attribute, constant_of
from .quantization import codes_of, codes_type, limits_of, scale_of, zero_of

_FLOAT = int(ir.DataType.FLOAT)
_CODES = (ir.DataType.UINT8, ir.DataType.INT8, ir.DataType.UINT16, ir.DataType.INT16)


def to_floats(graph: ir.Graph, shapes: Measured) -> None:
    """Replace the QuantizeLinear and DequantizeLinear of activations; those of weights and of integer inputs stay.

    Operators between the two (Transpose, MaxPool, Concat ... of codes) stay as well, and compute with floats; Resize between codes
    gives codes, as on integers.

    Args:
        graph: Its first nodes are the forward graph, in order. It is changed in place, and must be sorted afterwards.
        shapes: The shapes of the forward graph's tensors.

    Raises:
        RuleError: A DequantizeLinear with a block size.
    """
    emit = Emitter(graph, "floats")
    codes: dict[ir.Value, ir.DataType] = {}  # tensors of codes that are floats now -> the integer type they had
    for node in list(graph):
        if not any(x in codes for x in node.inputs) and not _quantises(node):
            continue  # it neither makes codes nor reads some that are floats now
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
        # the new tensor takes over the name of the old one, which may be an output of the graph
        name, y.name = y.name, f"{y.name}/codes"
        new.name = name
        y.replace_all_uses_with(new, replace_graph_outputs=True)
        graph.remove(node, safe=True)
    for value, kind in codes.items():
        for i, output in enumerate(graph.outputs):
            if output is value:
                end_in_codes(emit, i, kind)


def _quantises(node: ir.Node) -> bool:
    """Whether a node quantises an activation to codes that have a rule."""
    if node.op_type != "QuantizeLinear" or constant_of(node.inputs[0]) is not None:
        return False
    block = node.attributes.get("block_size")
    return (block is None or not block.as_int()) and codes_type(node) in _CODES


def _pass_on(op: Ops, node: ir.Node, codes: dict[ir.Value, ir.DataType]) -> None:
    """Let an operator on codes compute with floats instead; its other inputs of codes are cast to floats."""
    if node.op_type in ("Shape", "Size", "Cast"):  # the type of their result does not depend on that of the input
        return
    for i, x in enumerate(node.inputs):
        if x is not None and x not in codes and x.dtype in _CODES:
            node.replace_input_with(i, op.Cast(x, to=_FLOAT))
    for y in node.outputs:
        if y.dtype in _CODES:
            codes[y] = kind = y.dtype
            y.type = ir.TensorType(ir.DataType.FLOAT)
            if node.op_type == "Resize" and attribute(node, "mode", "nearest") != "nearest":
                codes[_truncated(op, y)] = kind


def _truncated(op: Ops, y: ir.Value) -> ir.Value:
    """A mean of codes as ONNX gives it: a code, the next one towards 0. It takes over the name and the readers."""
    whole = op.Cast(y, to=int(ir.DataType.INT32))
    new = op.Cast(whole, to=_FLOAT)
    new.shape, new.type = y.shape, ir.TensorType(ir.DataType.FLOAT)
    name, y.name = y.name, f"{y.name}/means"
    new.name = name
    own = whole.producer()
    y.replace_all_uses_with(new, replace_graph_outputs=True)
    assert own is not None
    own.replace_input_with(0, y)
    return new


def end_in_codes(emit: Emitter, position: int, kind: ir.DataType) -> None:
    """Cast an output of the graph back to the codes' type."""
    value = emit.graph.outputs[position]
    name, value.name = str(value.name), f"{value.name}/floats"
    cast = emit.node("Cast", [value], name, {"to": int(kind)})
    cast.name, cast.shape, cast.type = name, value.shape, ir.TensorType(kind)
    emit.graph.outputs[position] = cast
