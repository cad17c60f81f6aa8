"""FullGrad (Srinivas & Fleuret, NeurIPS 2019, arXiv:1905.00780): the gradient at the image and at every bias, as one map.

A network of ReLUs is f(x) = x . df/dx + sum over its biases b . df/db, exactly. The map adds up where these terms lie:

    map = psi(x * df/dx) + sum over layers psi(b * df/dy),    y = the output of the layer that adds b,

each b at every position of y. psi takes the magnitude, rescales it to [0,1] over all channels and positions, sums it over the
channels and resizes it to the image by linear interpolation. This is how the authors' code rescales; pytorch-grad-cam rescales each
channel for itself. The authors' code resizes with aligned corners; this one with half-pixel centres, as every other map here.

A bias is what a layer adds to each channel, whatever the image: that of a convolution or a normalisation, and a constant with one
number per channel that is added or subtracted. A BatchNormalization that was folded into its convolution is part of that one's
bias: b = beta - mean * gamma / sqrt(variance + epsilon), as the authors count it. Biases without positions, such as a
classifier's, have no place in the map. A constant with a number for each position, as an embedding of positions has, is not
counted.
"""

from __future__ import annotations

import functools
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from xai_deploy.format.bundle import FULL_GRADIENT, Input

from ..backward.rules import floats_of
from ..errors import RuleError
from ..graph.emit import Emitter, Ops
from ..graph.interpolation import along, interpolating
from ..graph.measure import Measured, batch_of
from ..graph.reading import ancestors, attribute, constant_of, content_of
from .graph import backward_graph
from .table import vjp

_THIRD = ("Conv", "ConvTranspose", "InstanceNormalization", "GroupNormalization")
_LEAST = 1e-30  # a layer whose terms are all alike counts nothing: 0 / _LEAST


@dataclass(frozen=True)
class Bias:
    """A layer's bias.

    Attributes:
        y: The layer's output.
        values: The bias, in a shape that broadcasts to y.
        axis: The axis of y along which it has its values.
    """

    y: ir.Value
    values: np.ndarray[tuple[int, ...], np.dtype[np.floating]]
    axis: int


def full_gradient_graph(forward: ir.Graph, classes: int, image: Input) -> ir.Graph:
    """As `graph.gradient_graph` from the image, but for its output `full_gradient` [N,H,W] float32, which is not negative.

    Args:
        forward: Image -> `logits` [N,classes] and other outputs; not changed.
        classes: Number of classes.
        image: What the image is.

    Raises:
        RuleError: An operator on the way has no rule, or the network has no biases with positions.
    """
    return backward_graph(forward, classes, lambda _: vjp, FULL_GRADIENT, ends=_Terms(image))


class _Terms:
    """Where the walk ends: at the image and at the output of each layer with a bias; what came back there becomes the map."""

    def __init__(self, image: Input) -> None:
        self._image = image
        self._biases: list[Bias] = []

    names = (FULL_GRADIENT,)

    def targets(self, graph: ir.Graph, logits: ir.Value, shapes: Measured) -> list[ir.Value]:
        """See `graph.Ends`."""
        leading = content_of(graph.inputs[0]) & ancestors([logits])
        rank = len(shapes.dims(graph.inputs[0]))
        self._biases = [one for one in biases(graph, shapes, leading) if len(shapes.dims(one.y)) == rank]
        if not self._biases:
            raise RuleError(
                "FullGrad adds up the gradients at biases, and no layer of this network with positions has one"
            )
        return [graph.inputs[0], *(one.y for one in self._biases)]

    def results(
        self, graph: ir.Graph, logits: ir.Value, shapes: Measured, targets: Sequence[ir.Value], back: Sequence[ir.Value]
    ) -> list[ir.Value]:
        """See `graph.Ends`."""
        op = Ops(Emitter(graph, FULL_GRADIENT), "sum", floats_of(back[0]))
        x: ir.Value = op.CastLike(targets[0], back[0])
        axis, size = self._image.channel_axis, self._image.size
        sums = {size: self._term(op, op.Mul(x, back[0]), self._image.channels, axis, size)}
        for bias, gradient in zip(self._biases, back[1:], strict=True):
            dims = shapes.dims(bias.y)
            channels, *places = [_fixed(dims[i], bias.y) for i in (bias.axis, *_places(len(dims), bias.axis))]
            term = self._term(op, op.Mul(gradient, bias.values.astype(op.floats)), channels, bias.axis, places)
            own = tuple(places)
            sums[own] = op.Add(sums[own], term) if own in sums else term
        total = functools.reduce(op.Add, [_resized(op, value, own, size) for own, value in sums.items()])
        result: ir.Value = op.Cast(total, to=int(ir.DataType.FLOAT))
        result.name, result.type = FULL_GRADIENT, ir.TensorType(ir.DataType.FLOAT)
        result.shape = ir.Shape([batch_of(graph.inputs[0]), *size])
        return [result]

    def _term(self, op: Ops, value: ir.Value, channels: int, axis: int, places: Sequence[int]) -> ir.Value:
        """psi without the resize: [N,channels,...places] (or the channels at another axis) -> [N,...places].

        Of a = |value| it is the sum over the channels of (a - min a) / (max a - min a).
        """
        size: ir.Value = op.Abs(value)
        axes = list(range(1, 2 + len(places)))
        low, high = op.ReduceMin(size, axes, keepdims=1), op.ReduceMax(size, axes, keepdims=1)
        above = op.Sub(op.ReduceSum(size, [axis], keepdims=1), op.Mul(low, float(channels)))
        ratio = op.Div(above, op.Max(op.Sub(high, low), _LEAST))
        return op.Squeeze(ratio, [axis])


def _resized(op: Ops, value: ir.Value, have: Sequence[int], want: Sequence[int]) -> ir.Value:
    """A map [N,...have] as [N,...want]."""
    for place, (source, size) in enumerate(zip(have, want, strict=True)):
        if source != size:
            value = along(op, value, 1 + place, 1 + len(want), interpolating(source, size).T)
    return value


def _places(rank: int, axis: int) -> list[int]:
    """The axes of a tensor that are neither the batch's nor the channels'."""
    return [i for i in range(1, rank) if i != axis]


def _fixed(size: int | None, y: ir.Value) -> int:
    """A size that does not grow with the batch.

    Raises:
        RuleError: It does.
    """
    if size is None:
        raise RuleError(f"the tensor {y.name!r}, to which a bias is added, holds several images in one row")
    return size


def biases(graph: ir.Graph, shapes: Measured, leading: Container[ir.Value]) -> Iterator[Bias]:
    """The biases of a graph's layers, in its order.

    Args:
        graph: The graph.
        shapes: The shapes of its tensors.
        leading: The tensors on the way from the image's content to the logits.

    Raises:
        RuleError: The numbers of a bias are computed in the graph.
    """
    for node in graph:
        y = node.outputs[0]
        rank = len(shapes.dims(y)) if str(y.name) in shapes.two else 0
        if rank < 2 or y not in leading:
            continue
        if node.op_type == "BatchNormalization":
            gamma, beta, mean, variance = (constant_of(value) for value in node.inputs[1:5])
            if gamma is not None and beta is not None and mean is not None and variance is not None:
                added = beta - mean * gamma / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
                yield Bias(y, added.reshape(-1, *[1] * (rank - 2)), 1)
        elif node.op_type in _THIRD:
            given = _third(node)
            if given is not None and given.any():
                yield Bias(y, given.reshape(-1, *[1] * (rank - 2)), 1)
        elif node.op_type == "LayerNormalization":
            given = _third(node)
            if given is not None and given.ndim == 1:
                yield Bias(y, given, rank - 1)
        elif node.op_type in ("Add", "Sub"):
            yield from _added(node, y, rank)


def _added(node: ir.Node, y: ir.Value, rank: int) -> Iterator[Bias]:
    """A constant with one number per channel that a node adds or subtracts. Its sign is lost in the magnitude."""
    for value in node.inputs:
        given = _numbers(value)
        if given is None or given.dtype.kind != "f" or given.size < 2 or given.size != max(given.shape):
            continue
        axis = rank - given.ndim + int(np.argmax(given.shape))
        if axis in (1, rank - 1):  # channels first or last
            yield Bias(y, given, axis)


def _third(node: ir.Node) -> np.ndarray[tuple[int, ...], np.dtype[Any]] | None:
    """The numbers of a node's third input, its bias; None if it has none.

    Raises:
        RuleError: They are computed: left out, they would be missing in the map.
    """
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return None
    given = _numbers(node.inputs[2])
    if given is None:
        raise RuleError(f"FullGrad needs the numbers of each bias, and that of {node.name!r} is computed")
    return given


def _numbers(value: ir.Value | None) -> np.ndarray[tuple[int, ...], np.dtype[Any]] | None:
    """A constant, or the dequantised codes (q - zero point) * scale of one; else None."""
    given, made = constant_of(value), value.producer() if value is not None else None
    if given is not None or made is None or made.op_type != "DequantizeLinear":
        return given
    codes, scale, *zero = (constant_of(one) for one in made.inputs)
    if codes is None or scale is None or any(one is None for one in zero) or (scale.size > 1 and codes.ndim > 1):
        return None
    shifts = [one.astype(np.float64) for one in zero if one is not None]
    return np.asarray((codes.astype(np.float64) - sum(shifts)) * scale)
