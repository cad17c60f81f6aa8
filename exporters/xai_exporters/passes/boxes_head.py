"""A head for a network that suppresses boxes itself: the best of the boxes that it gives, as one output of a fixed size.

How many boxes there are differs from image to image. Rows without a box follow those with one: their score is -1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

BOXES, FRACTIONS = "best_boxes", "_in_fractions"
"""The output's name, and its end if the corners are fractions of the image; else they are pixels."""
MOST = 300
"""As many boxes as the runtime shows at most (`DetectionLimits.most`)."""


@dataclass(frozen=True)
class Columns:
    """Columns of an output: how many entries its rows have, and which of them."""

    output: str
    size: int
    at: tuple[int, ...]


def add_boxes_head(
    proto: onnx.ModelProto, boxes: Columns, score: Columns, label: Columns | None, count: str | None, fractions: bool
) -> str:
    """Give the best boxes as the only output, [1,300,6] float32: left, top, right, bottom, score, class.

    Args:
        proto: The network; changed in place.
        boxes: Left, top, right, bottom.
        score: The score.
        label: The number of the class; None: there is one class.
        count: The output that says how many rows are filled; None: all that have a score above 0.
        fractions: The corners are fractions of the image.

    Returns:
        The new output's name.
    """
    head = _Head(proto, f"{BOXES}{FRACTIONS}" if fractions else BOXES)
    parts = [head.columns(boxes), head.columns(score), *(() if label is None else (head.columns(label),))]
    if label is None:
        parts.append(head.node("Mul", [parts[1], head.constant(np.float32(0))]))
    filled = head.node("Greater", [parts[1], head.constant(np.float32(0))])
    if count is not None:
        # 1, 2, 3, ...: the running sum of ones
        ones = head.node(
            "Add", [head.node("Mul", [parts[1], head.constant(np.float32(0))]), head.constant(np.float32(1))]
        )
        place = head.node("CumSum", [ones, head.constant(np.int64(0))])
        number = head.node("Reshape", [head.floats(count), head.constant(np.array([1], np.int64))])
        filled = head.node("And", [filled, head.node("LessOrEqual", [place, number])])
    parts[1] = head.node("Where", [filled, parts[1], head.constant(np.float32(-1))])
    empty = np.zeros((MOST, 6), np.float32)
    empty[:, 4] = -1
    rows = head.node("Concat", [head.node("Concat", parts, axis=1), head.constant(empty)], axis=0)
    scores = head.node(
        "Reshape", [head.node("Gather", [rows, head.constant(np.int64(4))], axis=1), head.constant(np.array([-1]))]
    )
    best = head.node("TopK", [scores, head.constant(np.array([MOST], np.int64))], outputs=2)
    first = head.constant(np.array([0], np.int64))
    head.node("Unsqueeze", [head.node("Gather", [rows, best], axis=0), first], name=head.output)
    del proto.graph.output[:]
    shape = onnx.helper.make_tensor_value_info(head.output, onnx.TensorProto.FLOAT, [1, MOST, 6])
    proto.graph.output.append(shape)
    return head.output


class _Head:
    """Appends nodes to a network, in the opset that it has (13 or later, as `clean` leaves it)."""

    def __init__(self, proto: onnx.ModelProto, name: str) -> None:
        self._graph = proto.graph
        self._taken = {name for node in proto.graph.node for name in node.output}
        self._taken |= {value.name for value in (*proto.graph.input, *proto.graph.initializer)}
        self.output = name

    def columns(self, given: Columns) -> str:
        """Columns [n,k] of an output, float32."""
        rows = self.node("Reshape", [self.floats(given.output), self.constant(np.array([-1, given.size], np.int64))])
        if given.at == tuple(range(given.size)):
            return rows
        return self.node("Gather", [rows, self.constant(np.array(given.at, np.int64))], axis=1)

    def floats(self, output: str) -> str:
        """An output as float32."""
        return self.node("Cast", [output], to=onnx.TensorProto.FLOAT)

    def constant(self, array: NDArray[np.generic] | np.generic) -> str:
        """A constant's name."""
        name = self._free(f"{BOXES}/constant")
        self._graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, op: str, inputs: Sequence[str], outputs: int = 1, name: str | None = None, **attributes: int) -> str:
        """Append a node; returns the name of its last output."""
        given = [name or self._free(f"{BOXES}/{op}") for _ in range(outputs)]
        made = onnx.helper.make_node(op, inputs, given, given[0])
        made.attribute.extend(onnx.helper.make_attribute(key, value) for key, value in attributes.items())
        self._graph.node.append(made)
        return given[-1]

    def _free(self, name: str) -> str:
        """The name, or the name with a number if it is taken; it is taken from now on."""
        free, number = name, 1
        while free in self._taken:
            number += 1
            free = f"{name}_{number}"
        self._taken.add(free)
        return free
