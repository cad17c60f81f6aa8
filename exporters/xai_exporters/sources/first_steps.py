"""The first steps of a graph, as OpenVINO's PrePostProcessor writes them or as a network has them inside.

They stay in the graph. What they are shows which pixels it takes: the mean 123.7 is subtracted from pixels of 0 to 255, the mean
0.485 from pixels of 0 to 1. Steps that the converter has folded into the first weights don't show: the scale after a mean, and
often a reversal of the channels.

ImageNet's mean, and the weights of a grey picture's colours, show the order of the channels, too: red is the largest of the means,
and green of the weights, blue the least.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from ..graph.reading import attribute, constant_of
from .stated import Stated

_PASSED = ("Cast", "Identity", "Transpose")
_MEANS = 0.1, 0.9  # of 0 to 1: in use are 0.13 (MNIST) to 0.5
_DIVISORS = 0.1, 1.0  # of 0 to 1: in use are 0.2 to 1
_IMAGENET = 0.485, 0.456, 0.406  # of red, green, blue; Caffe's 123.68, 116.78, 103.94 and 123, 117, 104 are within 2 %
_GREY = 0.299, 0.587, 0.114  # ITU-R BT.601
_NEAR = 0.02
ORDER = "the order of colours is not certain, --color RGB or BGR sets it"
"""What is said if nothing shows it."""


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
        weights: Those by which one grey channel is made of three, in the input's order; None if it is not.
    """

    mean: tuple[float, ...] | None = None
    divisor: tuple[float, ...] | None = None
    reversed: bool = False
    resized: bool = False
    integers: bool = False
    replaced: tuple[str, bool] | None = None
    layout: str = ""
    merged: bool = False
    weights: tuple[float, ...] | None = None

    @property
    def color(self) -> Literal["RGB", "BGR"] | None:
        """The order of colours that the mean or the weights of grey show; None if nothing does."""
        means = [tuple(top * mean for mean in _IMAGENET) for top in (1.0, 255.0)]
        for numbers, known in ((self.mean, means), (self.weights, [_GREY])):
            if numbers is not None and any(_near(numbers, order) for order in known):
                return "RGB"
            if numbers is not None and any(_near(numbers[::-1], order) for order in known):
                return "BGR"
        return None

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

    @property
    def said(self) -> str:
        """A sentence for people."""
        takes = {None: "", 1.0: "; it takes pixels of 0 to 255", 1 / 255: "; it takes pixels of 0 to 1"}[self.scale]
        return f"The graph begins with steps of preprocessing, which stay in it: {self}{takes}."

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


def _near(numbers: tuple[float, ...], known: tuple[float, ...]) -> bool:
    return len(numbers) == len(known) and all(abs(a / b - 1) <= _NEAR for a, b in zip(numbers, known, strict=True))


def stated_by(first: FirstSteps, channels: int, embedded: bool = False, reverses: bool = True) -> Stated | None:
    """What the steps say of the preprocessing: the scale of pixels, how they are resized, and the order of their colours.

    Args:
        first: The steps.
        channels: The input's.
        embedded: The graph is known to take pixels of 0 to 255.
        reverses: A reversal is for images of OpenCV, in BGR.

    Returns:
        None if they say nothing.
    """
    scale = 1.0 if embedded or first.integers else first.scale
    if scale is None or channels not in (1, 3) or not (embedded or str(first) or first.replaced or first.color):
        return None
    interpolation, antialias = first.replaced or ("bilinear", True)
    guessed = "BGR" if (first.reversed or first.merged or embedded) and reverses else "RGB"
    fields = {
        "resize": "stretch",
        "interpolation": interpolation,
        "antialias": antialias,
        "color": (first.color or guessed) if channels == 3 else "GRAY",
        "scale": scale,
        "mean": (0.0,) * channels,
        "std": (1.0,) * channels,
    }
    shown = "its mean shows" if first.weights is None else "its weights of grey show"
    ask = ORDER if first.color is None else f"{shown} the order of colours, {first.color}"
    return Stated(None, fields, "the graph's first steps", channels == 1, ask if channels == 3 else "")


def read(model: onnx.ModelProto) -> FirstSteps:
    """Follow the image through steps that have no other reader, up to the first that is no step of preprocessing."""
    try:
        graph = ir.from_proto(model).graph
    except (ir.serde.SerdeError, ValueError, TypeError):  # a damaged graph: whoever reads it next says so
        return FirstSteps()
    images = [value for value in graph.inputs if value.shape is not None and len(value.shape) == 4]
    if len(images) != 1:
        return FirstSteps()
    value, found = images[0], _Followed()
    while len(readers := _readers(graph, value)) == 1 and value not in graph.outputs:
        [node] = readers
        if not (node.op_type in _PASSED or found.take(node, value)):
            break
        value = node.outputs[0]
    dtype = images[0].dtype
    return found.result(dtype is not None and dtype.is_integer())


def _readers(graph: ir.Graph, value: ir.Value) -> list[ir.Node]:
    """The nodes that read a tensor and are read themselves; a translation leaves others behind."""
    return [use.node for use in value.uses() if any(out.uses() or out in graph.outputs for out in use.node.outputs)]


class _Followed:
    """y = factor x + offset per channel, in the present order of the channels."""

    def __init__(self) -> None:
        self.factor: NDArray[np.float64] = np.ones(1)
        self.offset: NDArray[np.float64] = np.zeros(1)
        self.reversed = False
        self.resized = False
        self.decoded: tuple[float, float] | None = None  # what a DequantizeLinear alone has made
        self.weights: NDArray[np.float64] | None = None

    def take(self, node: ir.Node, value: ir.Value) -> bool:
        """Whether the node is a step of preprocessing; it is then added."""
        if node.op_type == "Resize":
            self.resized = True
            return True
        if node.op_type == "Slice":
            return self._flip(node)
        if node.op_type == "DequantizeLinear":
            return self._decode(node)
        if node.op_type == "Conv":
            self._weigh(node)
            return False
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

    def _flip(self, node: ir.Node) -> bool:
        """A Slice of all channels with the step -1."""
        given = [constant_of(v) for v in node.inputs[1:]]
        if len(given) != 4 or any(array is None or array.size != 1 for array in given):
            return False
        start, end, axis, step = (int(array.item()) for array in given if array is not None)
        if step != -1 or axis % 4 not in (1, 3) or not (start == -1 or start >= 2) or end > -4:
            return False
        self.factor, self.offset, self.reversed = self.factor[::-1], self.offset[::-1], not self.reversed
        return True

    def _decode(self, node: ir.Node) -> bool:
        """(x - zero) scale of 8-bit pixels: so is x / 255 read. Alone it is no step: a quantised network's codes begin so, too."""
        scale, zero = constant_of(node.inputs[1]), constant_of(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(1)
        if scale is None or zero is None or scale.size != 1 or zero.size != 1 or self.decoded is not None:
            return False
        self.factor = self.factor * float(scale.item())
        self.offset = (self.offset - float(zero.item())) * float(scale.item())
        self.decoded = float(scale.item()), -float(zero.item()) * float(scale.item())
        return True

    def _weigh(self, node: ir.Node) -> None:
        """One grey channel of three."""
        weights = constant_of(node.inputs[1])
        if weights is not None and weights.shape[:2] == (1, 3) and weights.size == 3:
            self.weights = weights.astype(np.float64).ravel()

    def result(self, integers: bool) -> FirstSteps:
        weights = self.weights if self.weights is None or not self.reversed else self.weights[::-1]
        made = [*self.factor, *self.offset]
        if self.decoded is not None and made == [*self.decoded] and not self.reversed and not self.resized:
            return FirstSteps(integers=integers)
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
            weights=None if weights is None else tuple(map(float, weights)),
        )
