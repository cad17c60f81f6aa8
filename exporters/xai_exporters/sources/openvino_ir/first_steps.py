"""The first steps of a graph, as OpenVINO's PrePostProcessor writes them or as a network has them inside.

They stay in the graph. What they are shows which pixels it takes: the mean 123.7 is subtracted from pixels of 0 to 255, the mean
0.485 from pixels of 0 to 1. Steps that the converter has folded into the first weights don't show: the scale after a mean, and
often a reversal of the channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from ...graph.reading import attribute, constant_of

_PASSED = ("Cast", "Identity", "Transpose")
_MEANS = 0.1, 0.9  # of 0 to 1: in use are 0.13 (MNIST) to 0.5
_DIVISORS = 0.1, 1.0  # of 0 to 1: in use are 0.2 to 1


@dataclass(frozen=True)
class FirstSteps:
    """What a graph does to its image before anything else.

    Attributes:
        mean: Subtracted from each channel, in the input's order; None if nothing is.
        divisor: Each channel is divided by it; None if it is not.
        reversed: The channels' order is reversed.
        resized: The image is resized.
        integers: The input holds integers.
        replaced: Interpolation and antialias of a resize that the input's size replaces; None if there is none.
        layout: The input's layout that the file states; "" if it states none.
        merged: OpenVINO has merged a reversal of the channels into the first layer's weights.
    """

    mean: tuple[float, ...] | None = None
    divisor: tuple[float, ...] | None = None
    reversed: bool = False
    resized: bool = False
    integers: bool = False
    replaced: tuple[str, bool] | None = None
    layout: str = ""
    merged: bool = False

    @property
    def scale(self) -> float | None:
        """The factor from 8-bit pixels to what the graph takes: 1 or 1/255; None if that does not show."""
        for top in (1.0, 255.0):
            inside = [
                values is None or all(low * top <= value <= high * top for value in values)
                for values, (low, high) in ((self.mean, _MEANS), (self.divisor, _DIVISORS))
            ]
            # without a mean a divisor shows only that pixels become smaller
            if all(inside) and (self.mean is not None or (self.divisor is not None and top == 255)):
                return top / 255
        return None

    def __str__(self) -> str:
        """ "reversed channels, mean 10 20 30, scale 50 60 70"; "" if there are none."""
        parts = ["resize"] if self.resized else []
        parts += ["reversed channels"] if self.reversed else []
        parts += ["channels reversed in the first layer's weights"] if self.merged else []
        for name, values in (("mean", self.mean), ("scale", self.divisor)):
            if values is not None:
                several = values if len(set(values)) > 1 else values[:1]
                parts.append(f"{name} {' '.join(f'{value:.6g}' for value in several)}")
        return ", ".join(parts)


def read(model: onnx.ModelProto) -> FirstSteps:
    """Follow the image through steps that have no other reader, up to the first that is no step of preprocessing."""
    graph = ir.from_proto(model).graph
    images = [value for value in graph.inputs if value.shape is not None and len(value.shape) == 4]
    if len(images) != 1:
        return FirstSteps()
    value, found = images[0], _Followed()
    while len(value.uses()) == 1 and value not in graph.outputs:
        node = next(iter(value.uses())).node
        if not (node.op_type in _PASSED or found.take(node, value)):
            break
        value = node.outputs[0]
    dtype = images[0].dtype
    return found.result(dtype is not None and dtype.is_integer())


class _Followed:
    """y = factor x + offset per channel, in the present order of the channels."""

    def __init__(self) -> None:
        self.factor: NDArray[np.float64] = np.ones(1)
        self.offset: NDArray[np.float64] = np.zeros(1)
        self.reversed = False
        self.resized = False

    def take(self, node: ir.Node, value: ir.Value) -> bool:
        """Whether the node is a step of preprocessing; it is then added."""
        if node.op_type == "Resize":
            self.resized = True
            return True
        others = [v for v in node.inputs if v is not value]
        if len(others) != 1 or node.op_type not in ("Gather", "Add", "Sub", "Mul", "Div"):
            return False
        other = constant_of(others[0])
        if other is None:
            return False
        if node.op_type == "Gather":
            return self._reverse(node, other)
        if node.inputs[0] is not value and node.op_type in ("Sub", "Div"):
            return False
        if other.dtype.kind != "f" or other.size not in (1, 3) or (other.size == 3 and 3 not in other.shape):
            return False
        number = other.astype(np.float64).ravel()
        if node.op_type in ("Add", "Sub"):
            self.offset = self.offset + (number if node.op_type == "Add" else -number)
        else:
            times = number if node.op_type == "Mul" else 1 / number
            self.factor, self.offset = self.factor * times, self.offset * times
        return bool(np.isfinite(self.factor).all() and self.factor.all())

    def _reverse(self, node: ir.Node, indices: NDArray[Any]) -> bool:
        if attribute(node, "axis", 0) % 4 not in (1, 3) or indices.tolist() != [2, 1, 0]:
            return False
        self.factor, self.offset, self.reversed = self.factor[::-1], self.offset[::-1], not self.reversed
        return True

    def result(self, integers: bool) -> FirstSteps:
        factor, offset = np.broadcast_arrays(self.factor, self.offset)
        if self.reversed:
            factor, offset = factor[::-1], offset[::-1]
        mean, divisor = -offset / factor, 1 / factor
        return FirstSteps(
            tuple(map(float, mean)) if mean.any() else None,
            tuple(map(float, divisor)) if (divisor != 1).any() else None,
            self.reversed,
            self.resized,
            integers,
        )
