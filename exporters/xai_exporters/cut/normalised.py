"""Whether a tensor holds normalised tokens, however the normalisation is written.

Before opset 17 there is no LayerNormalization, and before opset 23 no RMSNormalization. Exporters then write
(x - mean x) / sqrt(mean (x - mean x)^2 + eps) * w + b, or x * (mean x^2 + eps)^(-1/2) * w, in operators. TensorFlow writes
x m + (b - m mean x) with m = w (mean (x - mean x)^2 + eps)^(-1/2), Flax (x - mean x) m with the variance mean x^2 - (mean x)^2.
"""

from __future__ import annotations

import onnx_ir as ir

from ..graph.reading import before_rounding, signals, stored_of
from ..passes.clean import CleanGraph

_FUSED = ("LayerNormalization", "RMSNormalization")
_SUMS = ("ReduceMean", "ReduceL2", "ReduceSum", "ReduceSumSquare")
_ROOTS = ("Pow", "ReduceL2", "Sqrt")
_UNARY = ("Abs", "Add", "Cast", "Clip", "Div", "Max", "Mul", "Pow", "Reciprocal", "Reshape", "Sqrt", "Unsqueeze")
"""Operators that may lie between the sum and the factor, with constants beside it."""


def is_normalised(clean: CleanGraph, value: ir.Value, by_length: bool) -> bool:
    """Whether tokens [N,T,K] are normalised over their channels; scales and offsets by constants of one number or K may follow.

    Args:
        clean: The graph.
        value: A tensor of it.
        by_length: Whether to count tokens that are divided by their length, too: some attention compares queries and keys so.
    """
    sums = _SUMS if by_length else _SUMS[:1]
    while (node := before_rounding(value).producer()) is not None:
        if node.op_type in _FUSED:
            return True
        inputs = signals(node)
        if node.op_type in ("Div", "Mul") and len(node.inputs) == len(inputs) == 2:
            pairs = [tuple(inputs)] if node.op_type == "Div" else [tuple(inputs), tuple(inputs[::-1])]
            scales = ("Cast", "Mul")  # gains may be in the factor, or before it
            plain = [(_without_constants(x, scales), _without_constants(factor, scales)) for x, factor in pairs]
            return any(_normalises(clean, x, factor, sums) for x, factor in plain)
        if node.op_type in ("Add", "Sub") and len(node.inputs) == len(inputs) == 2:
            return any(_is_shifted(clean, one, other, sums) for one, other in (inputs, inputs[::-1]))
        if node.op_type not in ("Add", "Cast", "Mul") or len(inputs) != 1 or not _along_channels(node):
            return False
        value = inputs[0]
    return False


def _is_shifted(clean: CleanGraph, scaled: ir.Value, shift: ir.Value, sums: tuple[str, ...]) -> bool:
    """Whether two tensors are x m and b - m mean x, TensorFlow's form."""
    found = scaled_and_shifted(scaled, shift)
    return found is not None and _normalises(clean, found[0], _without_constants(found[1], ("Cast", "Mul")), sums)


def scaled_and_shifted(scaled: ir.Value, shift: ir.Value, along: bool = True) -> tuple[ir.Value, ir.Value] | None:
    """x and m if two tensors are x m and b - m mean x, or its negative; else None.

    Args:
        scaled, shift: The tensors.
        along: Whether b has to be one number, or one for each channel along the last axis.
    """
    passed = ("Add", "Cast", "Neg", "Sub")
    outer, inner = before_rounding(scaled).producer(), _without_constants(shift, passed, along).producer()
    if outer is None or inner is None or outer.op_type != "Mul" or inner.op_type != "Mul":
        return None
    for x, m in (tuple(outer.inputs), tuple(outer.inputs)[::-1]):
        if x is None or m is None:
            continue
        same = before_rounding(m)
        others = [value for value in inner.inputs if value is not None and before_rounding(value) is not same]
        if len(others) != 1:
            continue
        mean = _without_constants(others[0], ("Cast", "Neg", "Reshape", "Unsqueeze"), along).producer()
        read = None if mean is None or mean.op_type != "ReduceMean" else mean.inputs[0]
        if read is not None and before_rounding(read) is before_rounding(x):
            return x, m
    return None


def _without_constants(value: ir.Value, passed: tuple[str, ...], along: bool = True) -> ir.Value:
    """The tensor before some operators that take nothing else but constants; `along`: one number, or one for each channel."""
    while (node := before_rounding(value).producer()) is not None and node.op_type in passed:
        inputs = signals(node)
        if len(inputs) != 1 or (along and not _along_channels(node)):
            break
        value = inputs[0]
    return before_rounding(value)


def _along_channels(node: ir.Node) -> bool:
    """Whether the constants beside a tensor are one number, or one for each channel."""
    constants = [c for c in map(stored_of, node.inputs) if c is not None]
    return all(c.size == 1 or c.shape[-1] == c.size for c in constants)


def _normalises(clean: CleanGraph, x: ir.Value, factor: ir.Value, sums: tuple[str, ...]) -> bool:
    """Whether a factor [N,T,1] is a root of a sum over the channels of x, or of what x is made of by taking out the mean."""
    shape, of = clean.shapes.two.get(str(factor.name)), clean.shapes.two.get(str(x.name))
    if shape is None or of is None or shape != (*of[:-1], 1):
        return False
    sources, rooted, value = {before_rounding(x), *_centred(x)}, False, factor
    while (node := before_rounding(value).producer()) is not None:
        inputs = {before_rounding(v) for v in signals(node)}
        if node.op_type == "Sub" and _is_squared_mean(node):  # mean x^2 - (mean x)^2
            inputs = {before_rounding(signals(node)[0])}
        rooted = rooted or node.op_type in _ROOTS
        if len(inputs) != 1 or node.op_type not in (*_UNARY, *sums, "Sub"):
            return False
        value = inputs.pop()
        if value in sources:
            return rooted
        # ONNX's converter and some networks take the mean out once more for the variance
        made = value.producer()
        if node.op_type not in sums and made is not None and made.op_type == "Sub" and not _is_squared_mean(made):
            return rooted and not sources.isdisjoint(_centred(value))
    return False


def _is_squared_mean(node: ir.Node) -> bool:
    """Whether a Sub takes the square of a mean from another tensor."""
    inputs = signals(node)
    square = before_rounding(inputs[1]).producer() if len(inputs) == 2 else None
    if square is None or square.op_type not in ("Mul", "Pow") or len({*signals(square)}) != 1:
        return False
    mean = before_rounding(signals(square)[0]).producer()
    return mean is not None and mean.op_type in ("ReduceMean", "Unsqueeze", "Reshape")


def _centred(x: ir.Value) -> list[ir.Value]:
    """The tensor whose mean was taken out of x; none if x is no difference."""
    node = before_rounding(x).producer()
    if node is None or node.op_type != "Sub" or node.inputs[0] is None:
        return []
    return [before_rounding(node.inputs[0])]
