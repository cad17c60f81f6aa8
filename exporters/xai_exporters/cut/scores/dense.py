"""Find dense scores: a score for each class at each position, as segmentation, depth and text detection give.

The tensor explained lies before a final Softmax or Sigmoid over the classes, and before the ArgMax in which many exports end. A
Resize in between stays in the network: what is explained are the scores as they are compared with each other in the end. Only if
the Softmax or the Sigmoid itself comes before a Resize, the scores before both are explained, at their own size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from ...graph.layouts import sides
from ...graph.reading import attribute, constant_of
from ...passes.clean import CleanGraph
from .intervals import Intervals

_COARSE = 8
"""Pixels of a side that a position stands for: segmenters for people give finer maps."""
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)
_SAME = {"Identity", "Cast", "QuantizeLinear", "DequantizeLinear"}
_RESHAPING = {"Reshape", "Squeeze", "Unsqueeze"}


@dataclass(frozen=True)
class Dense:
    """Dense scores.

    Attributes:
        value: The tensor, of shape [N,C,H,W], [N,H,W,C], or [N,H,W] for one class; of volumes [N,C,D,H,W] ...
        class_axis: The axis of its classes; None if it has none.
        shape: (C,H,W); (C,D,H,W) of volumes.
        activation: The function that turns the scores of a position into probabilities.
        holds: What the network's output holds.
    """

    value: ir.Value
    class_axis: int | None
    shape: tuple[int, ...]
    activation: Literal["softmax", "sigmoid", "none", "independent"]
    holds: Literal["logits", "probabilities", "derived"]


def find_dense(clean: CleanGraph, output: ir.Value) -> Dense | None:
    """The dense scores that an output is computed from; None if it is not dense.

    Args:
        clean: The network.
        output: One of its outputs. A dense one has the proportions of the network's input.
    """
    decision = _unviewed(output, _SAME | _RESHAPING)
    node = decision.producer()
    if node is not None and node.op_type == "ArgMax" and node.inputs[0] is not None:
        decided = node.inputs[0]
        rank = len(clean.shapes.dims(decided))
        axis = int(attribute(node, "axis", 0)) % rank
        own = _of(clean, decided, (axis,))
        if own is None:
            return None
        softmax = _before_function(clean, own, ("Softmax",))
        return _dense(clean, own, "none", "derived") if softmax is None else _dense(clean, *softmax, "derived")
    last = len(clean.image_shape)  # the last axis, the batch counted
    of_input = last not in sides(clean.graph.inputs[0], clean.image_shape)
    own = _of(clean, output, (last, 1) if of_input else (1, last))
    if own is None:
        return None
    found = _before_function(clean, own, ("Softmax", "Sigmoid"))
    if found is not None:
        return _dense(clean, *found, "probabilities")
    low, high = Intervals(clean.shapes).of(own[0])
    if low >= -1e-6 and high <= 1 + 1e-6:
        return _dense(clean, own, "independent", "probabilities")
    return _dense(clean, own, "none", "logits")


def said_of_coarse(clean: CleanGraph, output: ir.Value, dense: Dense) -> str | None:
    """What to tell of numbers without a function on a coarse grid: so does a detector's raw head look, [N,A(5+C),h,w]."""
    classes, *places = dense.shape
    image = [clean.image_shape[axis - 1] for axis in sides(clean.graph.inputs[0], clean.image_shape)]
    if dense.activation != "none" or dense.holds != "logits" or image[-1] < _COARSE * places[-1]:
        return None
    at = " x ".join(map(str, places))
    return (
        f"The output {output.name!r} is read as the scores of {classes} classes at {at} positions. If it is the raw head of a "
        "detector, export the network up to its boxes and scores."
    )


def _of(clean: CleanGraph, value: ir.Value, axes: Sequence[int]) -> tuple[ir.Value, int | None] | None:
    """A tensor and the first of some axes that can be that of its classes: the other two are the image's. None without one."""
    shape = clean.shapes.per_image(value.name)
    rank = len(clean.image_shape)
    if shape is None or len(shape) not in (rank - 1, rank):
        return None
    # axes count the batch, `image_shape` does not
    image = [clean.image_shape[side - 1] for side in sides(clean.graph.inputs[0], clean.image_shape)]
    tried: Sequence[int | None] = axes if len(shape) == rank else (None,)
    for axis in tried:
        places = [d for i, d in enumerate(shape, 1) if i != axis]
        if len(places) == rank - 1 and _alike(places, image):
            return value, axis
    return None


def _alike(places: Sequence[int], image: Sequence[int]) -> bool:
    """Whether a grid of several positions has the image's proportions, up to a position at the border."""
    if min(places) < 2:
        return False
    scale = max(place / side for place, side in zip(places, image, strict=True))
    return all(abs(place - scale * side) <= 1.01 for place, side in zip(places, image, strict=True))


def _unviewed(value: ir.Value, passed: set[str]) -> ir.Value:
    """The first tensor on the way back that none of these operators gives."""
    while (node := value.producer()) is not None and node.op_type in passed and node.inputs[0] is not None:
        value = node.inputs[0]
    return value


def _before_function(
    clean: CleanGraph, own: tuple[ir.Value, int | None], functions: tuple[str, ...]
) -> tuple[tuple[ir.Value, int | None], Literal["softmax", "sigmoid"]] | None:
    """The input of the Softmax or Sigmoid that gave these scores, its class axis, and the function's name; None without one."""
    value, axis = own
    while (node := value.producer()) is not None and node.inputs[0] is not None:
        source, rank = node.inputs[0], len(clean.shapes.dims(value))
        if node.op_type in functions:
            if node.op_type == "Softmax":
                new = clean.graph.opset_imports.get("", 18) >= 13
                over = int(attribute(node, "axis", -1 if new else 1)) % rank
                if over != axis or (not new and over != rank - 1):
                    return None
            return (source, axis), "softmax" if node.op_type == "Softmax" else "sigmoid"
        if node.op_type == "Transpose":
            perm = attribute(node, "perm", None) or list(range(rank))[::-1]
            if perm[0] != 0:
                return None
            axis = None if axis is None else perm[axis]
        elif node.op_type == "Resize":
            before, after = clean.shapes.dims(source), clean.shapes.dims(value)
            if axis is not None and before[axis] != after[axis]:
                return None
        elif node.op_type not in _SAME:
            return None
        value = source
    return None


def _dense(
    clean: CleanGraph,
    own: tuple[ir.Value, int | None],
    activation: Literal["softmax", "sigmoid", "none", "independent"],
    holds: Literal["logits", "probabilities", "derived"],
) -> Dense | None:
    """Dense scores from a tensor and its class axis; codes and integers count as the floats that they were made of."""
    value, axis = own
    while value.dtype not in _FLOATS:
        node = value.producer()
        if (
            node is None
            or node.op_type not in _SAME
            or node.inputs[0] is None
            or constant_of(node.inputs[0]) is not None
        ):
            return None
        value = node.inputs[0]
    shape = clean.shapes.per_image(value.name)
    if shape is None:
        return None
    places = (d for i, d in enumerate(shape, 1) if i != axis)
    classes = 1 if axis is None else shape[axis - 1]
    if classes == 1 and activation == "softmax":
        return None
    return Dense(value, axis, (classes, *places), activation, holds)
