"""Refuse outputs that hold decisions, not scores: a small change of the image does not change them, so nothing explains them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ...errors import GraphError
from ...graph.reading import STRAIGHT, WRITTEN, numbers_of, signals

_INDEX = "the number of the class that {op} chose"
_DECIDED = "decisions or rounded values of {op}, which small changes of an image almost never change"
_LIST = "a list made by {op}, not one score per class in the order of the classes"
_SUPPRESSED = "a list of boxes that NonMaxSuppression chose"
_DECISIONS = {
    **dict.fromkeys(("ArgMax", "ArgMin"), _INDEX),
    **dict.fromkeys(("TopK", "NonZero", "Compress", "Unique"), _LIST),
    "NonMaxSuppression": _SUPPRESSED,
    **dict.fromkeys(
        ("OneHot", "Hardmax", "Round", "Floor", "Ceil", "Sign", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"),
        _DECIDED,
    ),
    **dict.fromkeys(("Equal", "And", "Or", "Not", "Xor", "IsNaN", "IsInf", "Bernoulli"), _DECIDED),
}
_FOLLOWED = {"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "QuantizeLinear", "Concat"} | {
    "DequantizeLinear", "Mul", "Div", "Add", "Sub", "Neg", "Abs", "Relu", "Clip", "Min", "Max", "Where", "Gather",
    "GatherElements", "ScatterElements", "ScatterND", "Slice", "Expand", "ReduceSum", "Resize", "Softmax", "Sigmoid", "Sum",
    "Mean",
}  # fmt: skip
_SPREAD = ("Gather", "ScatterElements", "ScatterND", "Where")
"""The operators that turn a class's number into one number per class."""
_CODES = (ir.DataType.UINT8, ir.DataType.INT8)
_CODES_OF_16_BITS = (ir.DataType.UINT16, ir.DataType.INT16)
_GIVE_FLOATS = "quantise the network with outputs of floats (TensorFlow: converter.inference_output_type = tf.float32)"


def refuse_decisions(output: ir.Value, alone: bool) -> None:
    """Refuse an output that is not made of scores.

    Args:
        output: The output.
        alone: Whether the network has no other output.

    Raises:
        GraphError: It is not; the message says what it holds, and what to do.
    """
    held = _decision(output)
    if held is None and _rounded(output):
        if output.dtype in _CODES_OF_16_BITS:
            raise GraphError(f"the output {output.name!r} holds codes of 16 bits ({_name(output)}); {_GIVE_FLOATS}")
        held = f"integers ({_name(output)})"
    if held is None:
        return
    if held == _SUPPRESSED:
        raise GraphError(
            f"the output {output.name!r} holds {held}: no gradient passes it. Export the detector up to its boxes and scores; the "
            "suppression is then done when it is explained"
        )
    advice = "export the network up to its scores"
    if (scores := _scores_before(output)) is not None:
        advice += f", which seem to be {scores!r}, or name these with --output"
    elif not alone:
        advice += ", or name another output with --output"
    raise GraphError(f"the output {output.name!r} holds {held}; {advice}")


def _decision(output: ir.Value) -> str | None:
    """What the output holds, in words, if every path back from it through views and simple arithmetic ends in a decision."""
    pending, seen, held, spread = [output], {output}, None, False
    while pending:
        node = pending.pop().producer()
        if node is None:  # the network's input: a path without a decision
            return None
        if node.metadata_props.get(STRAIGHT, WRITTEN) != WRITTEN:  # the rounding of a quantiser
            return None
        if node.op_type in _DECISIONS:
            said = _DECISIONS[node.op_type]
            held = (_DECIDED if spread and said != _SUPPRESSED else said).format(op=node.op_type)
            continue
        if _is_float(output) and _truncates(node):
            held = _DECIDED.format(op="a Cast to integers")
            continue
        if _says_nothing(node):
            continue
        sources = signals(node)
        if node.op_type not in _FOLLOWED or not sources:
            return None
        spread = spread or node.op_type in _SPREAD
        pending += [source for source in sources if source not in seen]
        seen.update(sources)
    return held


def _says_nothing(node: ir.Node) -> bool:
    """Whether a node gives the same for every image; the tensors that scores are scattered onto are often made this way."""
    if node.op_type in ("Shape", "Size", "ConstantOfShape", "EyeLike"):
        return True
    if node.op_type in ("Sub", "Div"):
        return node.inputs[0] is node.inputs[1]  # x - x, x / x
    constants = [array for x in node.inputs if (array := numbers_of(x)) is not None]
    return node.op_type == "Mul" and any(not array.any() for array in constants)  # x * 0


def refuse_two_values(value: ir.Value, rows: NDArray[Any]) -> None:
    """Refuse an output that holds only two numbers on all probes: 0 and another one, or a number and its opposite.

    However it was computed (a steep Clip, a large power), no small change of the image shows in it.

    Args:
        value: The output, or the tensor before its views.
        rows: Its values on images of many kinds, [n,classes].

    Raises:
        GraphError: It is such an output.
    """
    low, high = float(rows.min()), float(rows.max())
    close = 1e-6 * max(abs(low), abs(high))
    two = high - low > close and bool((np.minimum(rows - low, high - rows) <= close).all())
    same = bool((np.ptp(rows, axis=0) <= close).all())
    # numbers that no image changes are refused only if the larger one is 1
    if rows.shape[1] > 1 and two and (abs(low) <= close or abs(low + high) <= close) and (not same or high == 1):
        raise GraphError(
            f"the output {value.name!r} holds only {low:g} and {high:g} on {len(rows)} images of many kinds: a decision, "
            "which small changes of an image almost never change; export the network up to its scores instead"
        )


def _truncates(node: ir.Node) -> bool:
    """Whether a node is a Cast of floats to integers. Casts to 8 bits do not count: they may belong to quantisation."""
    source, kind = node.inputs[0] if node.op_type == "Cast" else None, node.outputs[0].dtype
    return source is not None and _is_float(source) and kind is not None and kind.is_integer() and kind not in _CODES


def _is_float(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_floating_point()


def _rounded(output: ir.Value) -> bool:
    """Whether the output holds integers that are not 8-bit codes of a quantised network."""
    value: ir.Value | None = output
    while value is not None and (node := value.producer()) is not None and node.op_type in _FOLLOWED:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):  # the integers stand for floats
            return False
        if node.op_type == "Cast":
            break
        value = node.inputs[0]
    return value is not None and value.dtype is not None and value.dtype.is_integer() and value.dtype not in _CODES


def _scores_before(output: ir.Value) -> str | None:
    """The name of the nearest tensor of floats before the decision, along the first input of each node; None if there is none."""
    value, passed = output, False
    while (node := value.producer()) is not None:
        if passed and value.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
            return str(value.name)
        passed = passed or node.op_type in _DECISIONS or node.op_type == "Cast"
        if node.inputs[0] is None:
            return None
        value = node.inputs[0]
    return None


def _name(value: ir.Value) -> str:
    return value.dtype.name.lower() if value.dtype is not None else "of an unknown type"
