"""What the rules need to know about a tensor: whether it carries a signal, whether it is known to be nowhere negative, and what it
is an elementwise function of.
"""

from __future__ import annotations

import onnx_ir as ir

from ..graph.reading import attribute, constant_of
from ..vjp.table import vjp

_SIGNAL, _NONNEGATIVE, _ORIGIN = "xai/signal", "xai/nonnegative", "xai/origin"

# operators whose result is nowhere negative
_ALWAYS = {
    "Relu", "Sigmoid", "HardSigmoid", "Softmax", "Exp", "Softplus", "Abs", "Sqrt", "ReduceL1", "ReduceL2", "ReduceSumSquare",
    "LpPool", "GlobalLpPool",
}  # fmt: skip
RESAMPLINGS = ("Resize", "GridSample", "RoiAlign", "Col2Im")
"""Operators that add up values of their first input with weights of their own; the other inputs say where, and take nothing."""
_UNSIGNED = (ir.DataType.BOOL, ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64)
# operators whose result is nowhere negative if no input is negative anywhere
_IF_ALL_INPUTS = {
    "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "Reshape",
    "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Dropout", "Cast", "Concat", "Split", "Slice", "Gather", "Expand",
    "Tile", "Pad", "Add", "Sum", "Mean", "Mul", "Div", "Min", "Max", "Where", "DepthToSpace", "SpaceToDepth", "LRN",
    "CumSum", "TopK", "Compress", "Trilu", "CenterCropPad",
}  # fmt: skip

_ELEMENTWISE = {
    "Relu", "LeakyRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softplus", "Softsign", "Erf", "Exp", "Log", "Neg",
    "Abs", "Sqrt", "Reciprocal", "Pow", "Mul", "Div", "Add", "Sub", "Min", "Max", "Identity", "Cast",
}  # fmt: skip


def find_facts(graph: ir.Graph, nonnegative: frozenset[str] = frozenset()) -> None:
    """Note the facts on every tensor of a graph, its nodes in order.

    Args:
        graph: The forward graph.
        nonnegative: Names of inputs that are known to be nowhere negative.
    """
    for value in graph.inputs:
        value.meta[_SIGNAL], value.meta[_NONNEGATIVE] = True, value.name in nonnegative
        value.meta[_ORIGIN] = value
    for node in graph:
        inputs = [x for x in node.inputs if x is not None]
        # an operator that stops gradients (Shape, comparisons) makes no signal
        signal = any(is_signal(x) for x in inputs)
        positive = _is_positive(node)
        for value in node.outputs:
            value.meta[_SIGNAL] = signal and not vjp.stops(value, inputs)
            value.meta[_NONNEGATIVE] = positive
            value.meta[_ORIGIN] = _origin(node, value)


def is_signal(value: ir.Value) -> bool:
    """Whether a tensor depends on the content of the image; weights and shapes do not."""
    return bool(value.meta.get(_SIGNAL, False))


def is_nonnegative(value: ir.Value) -> bool:
    """Whether a tensor is known to be nowhere negative."""
    if _NONNEGATIVE in value.meta:
        return bool(value.meta[_NONNEGATIVE])
    array = constant_of(value)
    return array is not None and array.dtype.kind in "fiu" and bool((array >= 0).all())


def origin(value: ir.Value) -> ir.Value:
    """The tensor that a value is an elementwise function of; itself if several tensors, or another operator, made it."""
    noted = value.meta.get(_ORIGIN, value)
    assert isinstance(noted, ir.Value)
    return noted


def _origin(node: ir.Node, value: ir.Value) -> ir.Value:
    """`origin` of a result, from what is noted on the inputs: a recurrent network, step by step, is thousands of nodes deep."""
    if node.op_type not in _ELEMENTWISE:
        return value
    origins = [origin(x) for x in node.inputs if x is not None and is_signal(x)]
    same = origins and all(one is origins[0] for one in origins)
    return origins[0] if same else value


def _is_positive(node: ir.Node) -> bool:
    kind = node.op_type
    if kind == "Clip":
        low = node.inputs[1] if len(node.inputs) > 1 else None
        return low is not None and is_nonnegative(low)
    if kind == "ThresholdedRelu":
        return float(attribute(node, "alpha", 1.0)) >= 0
    if kind in RESAMPLINGS:  # a cubic kernel has negative weights
        first = node.inputs[0]
        return "cubic" not in str(attribute(node, "mode", "")) and first is not None and is_nonnegative(first)
    if kind == "Cast" and node.inputs[0] is not None and node.inputs[0].dtype in _UNSIGNED:
        return True
    inputs = [x for x in node.inputs if x is not None and (x.dtype is None or x.dtype.is_floating_point())]
    if not inputs:  # integers only: their signs are not known
        return False
    if kind == "Max":
        return any(is_nonnegative(x) for x in inputs)
    return kind in _ALWAYS or (kind in _IF_ALL_INPUTS and all(is_nonnegative(x) for x in inputs))
