"""The elementwise operators before a pooling's sum over positions: they belong to the pooling, though they keep positions.

The generalised mean (mean of x^p)^(1/p), however its power is written (as exp(p log x), too), the standard deviation
sqrt(mean of (x - mean of x)^2), the log-sum-exp, and the mean weighted with a softmax over positions begin with such operators. A
map of x^p is not a map of x.
"""

from __future__ import annotations

import onnx_ir as ir

from ..graph.folded import calls
from ..graph.reading import ancestors, attribute, before_rounding, stored_of
from ..passes.clean import CleanGraph
from .featuremap import is_feature_map

_POWERS = ("Abs", "Exp", "Log", "Pow")
_POWERS_IN_THE_SUM = ("ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceSumSquare")
_BOUNDS = ("Clip", "Max")
_SCALES = ("Add", "Cast", "Div", "Mul", "Sub")
_NO_BOUND = 1e30
"""A bound that no activation reaches: Paddle2ONNX writes the largest float for none."""
_MEANS = ("GlobalAveragePool", "ReduceMax", "ReduceMean", "ReduceSum", "GlobalMaxPool")


def before_pooling(clean: CleanGraph, value: ir.Value) -> ir.Value:
    """The tensor before a pooling's own operators; the value itself if none of them made it.

    Bounds, scales by one number, and the subtraction of the same tensor from all positions belong to the pooling if a power, or a
    sum of powers, follows. A bound into which the network's own ReLU was merged stays: the activation comes after it.

    Args:
        clean: The graph.
        value: A feature map that is summed over positions.
    """
    chosen = before = value
    powers = any(node.op_type in _POWERS_IN_THE_SUM for node in _readers(value))
    while (step := _step(clean, before)) is not None:
        before, is_power = step
        powers = powers or is_power
        # without a power after it, the operator may be the network's own
        if powers and is_feature_map(clean, before) is not None:
            chosen = before
    return chosen


def _readers(value: ir.Value) -> list[ir.Node]:
    """What reads a tensor, or its quantised form."""
    nodes = [node for node, _ in value.uses()]
    rounding = [node for node in nodes if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    return nodes + [reader for node in rounding for reader in _readers(node.outputs[0])]


def _step(clean: CleanGraph, value: ir.Value) -> tuple[ir.Value, bool] | None:
    """The tensor before the pooling's operator that gives a value, and whether it is a power; None for any other operator."""
    node = before_rounding(value).producer()
    if node is None:
        return None
    inputs = [v for v in node.inputs if v is not None and stored_of(v) is None]
    if (base := _base(value)) is not None:
        return base, True
    if len(inputs) == 1:
        if node.op_type in _POWERS:
            return inputs[0], True
        if node.op_type in _BOUNDS:
            return None if _has_taken_in(clean, node) or _is_bounded(node) else (inputs[0], False)
        return (inputs[0], False) if node.op_type in _SCALES and _is_one_number(node) else None
    if len(inputs) == 2:
        for this, other in (inputs, inputs[::-1]):
            if node.op_type in ("Add", "Sub") and _is_mean_of(clean, other, this):
                return this, False
            # a weighted mean counts like a power: the operators before it may belong to the pooling
            if node.op_type == "Mul" and _weighs_positions(clean, other) and is_feature_map(clean, this) is not None:
                return this, True
    return None


def _base(value: ir.Value) -> ir.Value | None:
    """The x in x * x, x * x * x and so on; None for any other tensor."""
    node = before_rounding(value).producer()
    if node is None or node.op_type != "Mul":
        return None
    a, b = node.inputs
    if a is None or b is None or stored_of(a) is not None:
        return None
    if _same(a, b) or _same(_base(a), b):
        return b
    return a if _same(_base(b), a) else None


def _same(a: ir.Value | None, b: ir.Value) -> bool:
    """Whether two tensors are one, or quantised forms of one."""
    return a is not None and before_rounding(a) is before_rounding(b)


def _is_mean_of(clean: CleanGraph, mean: ir.Value, of: ir.Value) -> bool:
    """Whether a tensor is the same at all positions, and is a mean, a sum or the largest value of another tensor."""
    if is_feature_map(clean, mean) is not None:
        return False
    pending = mean
    while not _same(pending, of):
        node = before_rounding(pending).producer()
        inputs = [] if node is None else [v for v in node.inputs if v is not None and stored_of(v) is None]
        if (
            node is None
            or not inputs
            or node.op_type not in (*_MEANS, "Expand", "Neg", "Reshape", "Unsqueeze", "Squeeze", "Mul", "Div")
        ):
            return False
        pending = inputs[0]
    return True


def _weighs_positions(clean: CleanGraph, value: ir.Value) -> bool:
    """Whether a tensor is a Softmax over positions."""
    for before in ancestors([value]):
        node, traced = before.producer(), clean.positions.get(before)
        if node is None or node.op_type != "Softmax" or traced is None:
            continue
        axis = attribute(node, "axis", -1) % max(len(clean.shapes.two[str(before.name)]), 1)
        if any(axis in strand.axes for strand in traced.strands) and _leads_straight(before, value):
            return True
    return False


def _leads_straight(start: ir.Value, end: ir.Value) -> bool:
    """Whether only operators that move elements, or quantise them, lie between two tensors."""
    value = before_rounding(end)
    while value is not start:
        node = value.producer()
        if (
            node is None
            or node.op_type not in ("Expand", "Reshape", "Transpose", "Unsqueeze", "Squeeze")
            or node.inputs[0] is None
        ):
            return False
        value = before_rounding(node.inputs[0])
    return True


def _is_one_number(node: ir.Node) -> bool:
    """Whether a node's constants are one number each; a scale per channel belongs to a normalisation."""
    constants = [stored_of(v) for v in node.inputs]
    return all(c is None or c.size == 1 for c in constants)


def _has_taken_in(clean: CleanGraph, node: ir.Node) -> bool:
    """Whether the recorded call of a node reads a ReLU that is not in the graph, because it was merged into the node."""
    read = calls(node)
    names = {str(v.name) for n in clean.graph for v in n.outputs}
    return bool(read) and any(name.startswith("relu") and name not in names for name in read)


def _is_bounded(node: ir.Node) -> bool:
    """Whether a Clip has an upper bound; then it is the network's own activation, ReLU6."""
    if node.op_type != "Clip" or len(node.inputs) < 3 or node.inputs[2] is None:
        return False
    bound = stored_of(node.inputs[2])
    return bound is None or bool((bound < _NO_BOUND).all())
