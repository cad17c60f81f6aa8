"""Refuse outputs that join numbers of several kinds on the axis of their classes, and tell of those that may.

A detector of one stage may put objectness (Sigmoid), distances (Tanh) and classes (Softmax) into one map [85,h,w]. By its shape it
holds the scores of 85 classes; but no class is chosen among such numbers, and none has a probability.
"""

from __future__ import annotations

import onnx_ir as ir

from ...errors import GraphError
from ...graph.reading import attribute, signals
from ...passes.clean import CleanGraph
from .dense import Dense

_PROBABILITIES = ("Sigmoid", "HardSigmoid", "Softmax")
_FUNCTIONS = (*_PROBABILITIES, "LogSoftmax", "Tanh", "Exp", "Softplus")
_MOVING = {
    "Identity",
    "Cast",
    "QuantizeLinear",
    "DequantizeLinear",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
}
_SCALING = {"Add", "Sub", "Mul", "Div", "Pow", "Clip"}
_NAMED = 6
"""So many parts are named at most: there may be one for each class."""


def may_join(activation: str, kind: str) -> bool:
    """Whether probabilities of an image may be those of several questions: they do not sum to 1 as the network gives them."""
    return activation == "independent" or (activation, kind) == ("normalised", "derived")


def check_joined(clean: CleanGraph, output: ir.Value, dense: Dense | None, shares: bool = False) -> str | None:
    """Refuse an output whose classes are put together of parts that different functions gave, one of them a probability.

    Numbers in [0,1] may hold a part without a function: the background's, 1 - max(p).

    Args:
        clean: The network.
        output: One of its outputs.
        dense: The scores at many positions that it holds; None: it holds numbers of an image.
        shares: The numbers of an image lie in [0,1].

    Returns:
        What to tell of parts that may be of one kind, for the graph does not show it: the raw head of a detector joins distances,
        objectness and classes, all without a function. None: nothing is joined.

    Raises:
        GraphError: It is such an output.
    """
    classes = max(clean.shapes.per_image(output.name) or (1,)) if dense is None else dense.shape[0]
    parts = [(part, size, _function(part)) for part, size in _parts(clean, output, classes)]
    functions = {function for _, _, function in parts}
    if shares or (dense is not None and dense.activation == "independent"):
        functions.discard(None)
    if len(functions) > 1 and functions & set(_PROBABILITIES):
        said = ", ".join(f"{size} of {function or 'no function'} ({part.name!r})" for part, size, function in parts)
        advice = ", or take all as they are with --task numbers" if dense is None else ""
        raise GraphError(
            f"the output {output.name!r} joins numbers of several kinds: {said}; they are not the scores of {classes} classes. "
            f"Name the part to explain with --output{advice}"
        )
    if len(parts) < 2:
        return None
    said = ", ".join(f"{size} of {part.name!r}" for part, size, _ in parts[:_NAMED])
    more = f" and {len(parts) - _NAMED} more" if len(parts) > _NAMED else ""
    return (
        f"The output {output.name!r} joins {len(parts)} parts to {classes} classes: {said}{more}. If they are not all scores of "
        "classes, name the part to explain with --output."
    )


def _parts(clean: CleanGraph, output: ir.Value, classes: int) -> list[tuple[ir.Value, int]]:
    """The tensors that are joined on the axis of the classes, and how many of the classes each holds; none if nothing is joined."""
    value = output
    while (node := value.producer()) is not None and node.inputs[0] is not None:
        if node.op_type == "Concat":
            break
        if node.op_type not in _MOVING and node.op_type != "Resize":
            return []
        value = node.inputs[0]
    if node is None:
        return []
    axis, whole = int(attribute(node, "axis", 0)), clean.shapes.dims(value)
    if whole[axis] != classes:
        return []
    parts = [part for part in node.inputs if part is not None]
    return [(part, clean.shapes.dims(part)[axis] or 0) for part in parts]


def _function(part: ir.Value) -> str | None:
    """The function that gave a part, after operators that move numbers or scale them by constants; None without one."""
    value = part
    while (node := value.producer()) is not None:
        if node.op_type in _FUNCTIONS:
            return node.op_type
        data = signals(node)
        if node.op_type not in _MOVING | _SCALING or len(data) != 1:
            return None
        value = data[0]
    return None
