"""FullGrad (Srinivas & Fleuret, NeurIPS 2019, arXiv:1905.00780): the gradient at the image and at every bias, as one map.

A network of ReLUs is f(x) = x . df/dx + sum over its biases b . df/db, exactly. The map adds up where these terms lie:

    map = psi(x * df/dx) + sum over layers psi(b * df/dy),    y = the output of the layer that adds b,

each b at every position of y. psi takes the magnitude, rescales it to [0,1] over all channels and positions, sums it over the
channels and resizes it to the image by linear interpolation. This is how the authors' code rescales; pytorch-grad-cam rescales each
channel for itself. The authors' code resizes with aligned corners; this one with half-pixel centres, as every other map here.

A bias is what a layer adds, whatever the image:

- that of a convolution or a normalisation. A BatchNormalization that was folded into its convolution is part of that one's bias:
  b = beta - mean * gamma / sqrt(variance + epsilon), as the authors count it;
- a tensor that an Add, Sub or Sum adds and that does not depend on the image: a constant with a number for each channel, or for
  each position, or what the network computes from its other inputs. A single number is none: activations and norms that are
  written out add the 1 and the epsilon of their formulas;
- such a tensor as further channels, which a Concat adds.

The frames of a film may be images of their own on the way, [N*D,C,h,w]: their biases have places in each frame.

What is added to values without positions, as a classifier's bias, to tokens, or to the scores of an attention, has no place in
the map.
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
from ..graph.layouts import find_layout, frames_apart
from ..graph.measure import Measured, batch_of
from ..graph.reading import ancestors, attribute, constant_of, content_of
from .graph import backward_graph
from .table import vjp

_THIRD = ("Conv", "ConvTranspose", "InstanceNormalization", "GroupNormalization")
_ADDING = ("Add", "Sub", "Sum", "Concat")
_LEAST = 1e-30  # a layer whose terms are all alike counts nothing: 0 / _LEAST


@dataclass(frozen=True)
class Bias:
    """A layer's bias.

    Attributes:
        y: The layer's output.
        values: The bias, in a shape that broadcasts to y: numbers, or a tensor of the graph.
        axis: The channels' axis of y.
        first: The first of its channels in y, if they are some of y's.
        count: How many these are.
    """

    y: ir.Value
    values: np.ndarray[tuple[int, ...], np.dtype[np.floating]] | ir.Value
    axis: int
    first: int = 0
    count: int | None = None


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
        apart = frames_apart(graph.inputs[0], self._image.image_shape)
        self._biases = []
        for one in biases(graph, shapes, leading):
            if len(shapes.dims(one.y)) == rank or (apart and self._of_frames(one, shapes)):
                self._biases.append(one)
            elif rank == 5 and len(shapes.dims(one.y)) == 4 and _made_by(one) not in _ADDING:
                raise RuleError(
                    f"FullGrad: the tensor {one.y.name!r}, to which a bias is added, has no slices; take another method at "
                    "the pixels"
                )
        if not self._biases:
            raise RuleError(
                "FullGrad adds up the gradients at biases, and no layer of this network with positions has one"
            )
        if mixed := next(
            (
                one.y.name
                for one in self._biases
                if not self._of_frames(one, shapes) and shapes.per_image(one.y.name) is None
            ),
            None,
        ):
            raise RuleError(f"FullGrad: the tensor {mixed!r}, to which a bias is added, holds parts of several images")
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
            product, axis = _product(op, gradient, bias), bias.axis
            channels = channels if bias.count is None else bias.count
            if self._of_frames(bias, shapes):  # [N*D, ...] -> [N,D, ...]
                sides = [*places[: axis - 1], channels, *places[axis - 1 :]]
                product, axis = op.Reshape(product, [-1, size[0], *sides]), axis + 1
                places = [size[0], *places]
            term = self._term(op, product, channels, axis, places)
            own = tuple(places)
            sums[own] = op.Add(sums[own], term) if own in sums else term
        total = functools.reduce(op.Add, [_resized(op, value, own, size) for own, value in sums.items()])
        result: ir.Value = op.Cast(total, to=int(ir.DataType.FLOAT))
        result.name, result.type = FULL_GRADIENT, ir.TensorType(ir.DataType.FLOAT)
        result.shape = ir.Shape([batch_of(graph.inputs[0]), *size])
        return [result]

    def _of_frames(self, bias: Bias, shapes: Measured) -> bool:
        """Whether a bias is added to the images of a film's frames, [N*D,C,h,w]."""
        depth, both = self._image.depth, shapes.both(bias.y)
        images = (1, 1) if shapes.one else (2, 3)
        return depth is not None and all(len(d) == 4 and d[0] == n * depth for d, n in zip(both, images, strict=True))

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


def _made_by(bias: Bias) -> str:
    made = bias.y.producer()
    return made.op_type if made is not None else ""


def _product(op: Ops, gradient: ir.Value, bias: Bias) -> ir.Value:
    """The bias times the gradient, at its own channels."""
    if bias.count is not None:
        gradient = op.Slice(gradient, [bias.first], [bias.first + bias.count], [bias.axis])
    values = bias.values
    product: ir.Value = op.Mul(
        gradient, op.CastLike(values, gradient) if isinstance(values, ir.Value) else values.astype(op.floats)
    )
    return product


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
        elif node.op_type in _ADDING and rank in {len(shapes.dims(graph.inputs[0])), 4}:
            yield from _added(graph, node, shapes, leading)


def _added(graph: ir.Graph, node: ir.Node, shapes: Measured, leading: Container[ir.Value]) -> Iterator[Bias]:
    """The tensors that a node adds to those of the image, as numbers or as channels. A sign is lost in the magnitude.

    Raises:
        RuleError: One is computed from another input, and the graph does not show which of its axes are positions.
    """
    y, first = node.outputs[0], 0
    rank = len(shapes.dims(y))
    joins = node.op_type == "Concat"
    for value in node.inputs:
        size = shapes.dims(value)[attribute(node, "axis", 0)] if joins and value is not None else 0
        start, first = first, first + (size or 0)
        if value is None or value in leading:
            continue
        given = _numbers(value)
        if given is not None and (given.dtype.kind != "f" or not given.any() or (given.size < 2 and not joins)):
            continue
        axis = None if given is None or joins else _single(given, rank)
        if axis is None and (axis := _channels(y, rank)) is None:
            if any(one.is_graph_input() and one is not graph.inputs[0] for one in ancestors([value])):
                raise RuleError(_unplaced(node, value))
            continue
        if joins and attribute(node, "axis", 0) % rank != axis:
            raise RuleError(_unplaced(node, value))
        yield Bias(y, value if given is None else given, axis, start, size if joins else None)


def _single(given: np.ndarray[tuple[int, ...], np.dtype[Any]], rank: int) -> int | None:
    """The axis of a constant with one number per channel, first or last; None if it has more."""
    axis = rank - given.ndim + int(np.argmax(given.shape))
    return axis if given.size == max(given.shape) and axis in (1, rank - 1) else None


def _channels(y: ir.Value, rank: int) -> int | None:
    """The axis of a tensor's channels, as the operators around it show it; None if they do not."""
    layout = find_layout(y, rank) if rank in (4, 5) else None
    return None if layout is None else layout.index("C")


def _unplaced(node: ir.Node, value: ir.Value) -> str:
    return (
        f"FullGrad counts what is added to the image's values, and {node.name!r} adds {value.name!r}, which has no channels and "
        "positions that can be told; take another method at the pixels, as integrated-gradients"
    )


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
