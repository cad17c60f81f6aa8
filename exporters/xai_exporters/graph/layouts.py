"""The layouts of activations: [N,K,h,w], [N,h,w,K], and tokens [N,T,K], a grid in any order with others before and after.

A bundle's activation is always [N,K,h,w]: the head brings the tensor into that form, the tail brings it back. Volumes have one axis
more, their slices: [N,K,d,h,w] and [N,d,h,w,K]. An input may also be [N,D,C,H,W]: frames, each of which is an image.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from .emit import Emitter
from .reading import ancestors, attribute, constant_of, data_inputs

Layout = Literal["NCHW", "NHWC", "NTC", "NCDHW", "NDHWC"]
InputLayout = Literal["NCHW", "NHWC", "NCDHW", "NDHWC", "NDCHW"]

_CHANNELS_FIRST = {
    "Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "GroupNormalization", "MaxPool", "AveragePool",
    "GlobalAveragePool", "GlobalMaxPool", "LpPool", "GlobalLpPool", "LRN", "DepthToSpace", "SpaceToDepth",
}  # fmt: skip
_ELEMENTWISE = {
    "Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Gelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Erf", "Mish",
    "Softplus", "Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Clip", "Min", "Max", "Sum", "Identity", "Dropout", "Cast",
    "QuantizeLinear", "DequantizeLinear", "Concat",
}  # fmt: skip


_Ordered = Literal["NCHW", "NHWC", "NCDHW", "NDHWC"]
_FIRST: tuple[_Ordered, _Ordered] = ("NCHW", "NCDHW")
_LAST: tuple[_Ordered, _Ordered] = ("NHWC", "NDHWC")
_TO_FIRST = {4: (0, 3, 1, 2), 5: (0, 4, 1, 2, 3)}  # the `perm` of a Transpose, by rank
_TO_LAST = {4: (0, 2, 3, 1), 5: (0, 2, 3, 4, 1)}


@dataclass(frozen=True)
class Grid:
    """How a tensor holds an activation.

    Attributes:
        layout: The tensor's own layout.
        shape: (K,h,w) of the activation; (K,d,h,w) in a network of volumes.
        prefix: Number of tokens before the grid: class and register tokens.
        suffix: Number of tokens after it: the detection tokens of YOLOS.
        order: For each cell of the grid, row by row, which of the tokens after the prefix lies there; None if they are in order.
    """

    layout: Layout
    shape: tuple[int, ...]
    prefix: int = 0
    order: tuple[int, ...] | None = None
    suffix: int = 0

    @property
    def beside(self) -> int:
        """Number of tokens that are not of the grid."""
        return self.prefix + self.suffix


def to_channels_first(emit: Emitter, value: ir.Value, grid: Grid) -> list[ir.Value]:
    """The activation [N,K,h,w], and the tokens beside the grid [N,prefix + suffix,K] if there are any."""
    if grid.layout in _FIRST:
        return [value]
    if grid.layout in _LAST:
        rank = len(grid.shape) + 1
        return [emit.node("Transpose", [value], "channels_first", {"perm": [0, rank - 1, *range(1, rank - 1)]})]
    channels, *places = grid.shape
    count = math.prod(places)
    beside = []
    patches = value
    if grid.beside:
        before, [patches], after = _parts(emit, value, (grid.prefix, count, grid.suffix))
        others = [*before, *after]
        beside = others if len(others) == 1 else [emit.node("Concat", others, "beside", {"axis": 1})]
    if grid.order is not None:
        patches = emit.node("Gather", [patches, emit.ints(grid.order, "grid_order")], "in_order", {"axis": 1})
    rows = emit.node("Transpose", [patches], "channels_first", {"perm": [0, 2, 1]})  # [N,K,hw]
    return [emit.node("Reshape", [rows, emit.ints([-1, channels, *places], "grid_shape")], "grid"), *beside]


def _parts(emit: Emitter, value: ir.Value, counts: Sequence[int]) -> list[list[ir.Value]]:
    """The tokens [N,T,K] in parts of so many tokens: each part as a list of one tensor, an empty list for no tokens."""
    if sum(map(bool, counts)) == 1:
        return [[value] if count else [] for count in counts]
    ends = [0, *itertools.accumulate(counts)]
    # one constant for each bound of the slices along axis 1, and for the axis
    bound = {n: emit.ints([n], f"tokens_{n}") for n in sorted({1, *ends})}
    return [
        [emit.node("Slice", [value, bound[start], bound[end], bound[1]], "part")] if end > start else []
        for start, end in itertools.pairwise(ends)
    ]


def from_channels_first(emit: Emitter, activation: ir.Value, beside: ir.Value | None, grid: Grid) -> ir.Value:
    """The tensor in its own layout; `beside` are the tokens that are not of the grid."""
    if grid.layout in _FIRST:
        return activation
    if grid.layout in _LAST:
        return emit.node("Transpose", [activation], "channels_last", {"perm": [0, *range(2, len(grid.shape) + 1), 1]})
    channels, *places = grid.shape
    rows = emit.node("Reshape", [activation, emit.ints([-1, channels, math.prod(places)], "rows_shape")], "rows")
    patches = emit.node("Transpose", [rows], "patches", {"perm": [0, 2, 1]})  # [N,hw,K]
    if grid.order is not None:
        back = emit.ints(np.argsort(grid.order).tolist(), "token_order")
        patches = emit.node("Gather", [patches, back], "reordered", {"axis": 1})
    if beside is None:
        return patches
    before, after = _parts(emit, beside, (grid.prefix, grid.suffix))
    return emit.node("Concat", [*before, patches, *after], "tokens", {"axis": 1})


def channel_layouts(rank: int) -> tuple[_Ordered, _Ordered]:
    """The layouts of this rank: the channels first, the channels last."""
    return (_FIRST[0], _LAST[0]) if rank == 4 else (_FIRST[1], _LAST[1])


def find_layout(value: ir.Value, rank: int = 4) -> _Ordered | None:
    """Whether an activation is [N,K,h,w] or [N,h,w,K], judged by the operators around it; None if none of them shows it.

    The search passes through elementwise operators and parts of axes. It asks the consumers first, because they are the ones that
    read the layout.

    Args:
        value: The activation.
        rank: Its rank: 4, or 5 for volumes.
    """
    first, last = channel_layouts(rank)
    pending, seen = [value], set()
    while pending:
        current = pending.pop(0)
        if current in seen:
            continue
        seen.add(current)
        for node, position in current.uses():
            layout = _read_as(node, position, rank)
            if layout is not None:
                return layout
            if node.op_type in _ELEMENTWISE or node.op_type == "Resize" or (position == 0 and _keeps_axes(node)):
                pending.extend(node.outputs)
    current = value  # no consumer shows it: go back along the first data inputs
    while (producer := current.producer()) is not None:
        if producer.op_type in _CHANNELS_FIRST:
            return first
        if producer.op_type == "Resize" and (resized := _resized(producer, rank)) is not None:
            return resized
        if producer.op_type == "LayerNormalization":
            return last
        if producer.op_type == "MatMul":  # of two computed tensors it is attention, which has no channels
            weights = producer.inputs[1]
            return None if weights is None or any(x.is_graph_input() for x in ancestors([weights])) else last
        if producer.op_type == "Transpose":
            perm = tuple(attribute(producer, "perm", []))  # the layout of the Transpose's result
            return {_TO_FIRST[rank]: first, _TO_LAST[rank]: last}.get(perm)
        inputs = data_inputs(producer)
        if (producer.op_type not in _ELEMENTWISE and producer.op_type != "Resize") or not inputs:
            return None
        current = inputs[0]
    return None


def _keeps_axes(node: ir.Node) -> bool:
    """Whether a node takes parts of some axes, and leaves their order: the colours of RGBX pixels, the columns of a stem."""
    if node.op_type == "Gather":
        indices = node.inputs[1]
        return indices is not None and indices.shape is not None and len(indices.shape) == 1
    return node.op_type in ("Slice", "Pad")


def _read_as(node: ir.Node, position: int, rank: int) -> _Ordered | None:
    """The layout in which a node reads its input."""
    first, last = channel_layouts(rank)
    if node.op_type in _CHANNELS_FIRST and position == 0:
        return first
    if node.op_type == "Resize" and position == 0:
        return _resized(node, rank)
    if node.op_type == "LayerNormalization":
        return last if attribute(node, "axis", -1) in (-1, rank - 1) else None
    if node.op_type == "MatMul" and position == 0 and constant_of(node.inputs[1]) is not None:
        return last
    if node.op_type == "Transpose":  # this is its input's layout; `find_layout` has the reverse table
        return {_TO_FIRST[rank]: last, _TO_LAST[rank]: first}.get(tuple(attribute(node, "perm", [])))
    if node.op_type == "ReduceMean":
        axes = reduced_axes(node, rank)
        return first if axes == tuple(range(2, rank)) else last if axes == tuple(range(1, rank - 1)) else None
    return None


def _resized(node: ir.Node, rank: int) -> _Ordered | None:
    """The layout that a Resize shows: it leaves the channels as they are. None if they could be first or last."""
    first, last = channel_layouts(rank)
    scales, sizes = (constant_of(node.inputs[i]) if i < len(node.inputs) else None for i in (2, 3))
    axes = [axis % rank for axis in attribute(node, "axes", range(rank))]
    before = node.inputs[0].shape if node.inputs[0] is not None else None
    if scales is not None and scales.size:
        factors = dict(zip(axes, scales.tolist(), strict=False))
        kept = {axis for axis in range(1, rank) if factors.get(axis, 1) == 1}
    elif sizes is not None and before is not None:
        wanted = dict(zip(axes, sizes.tolist(), strict=False))
        kept = {axis for axis in range(1, rank) if wanted.get(axis, before[axis]) == before[axis]}
    else:
        return first
    return {(True, False): first, (False, True): last}.get((1 in kept, rank - 1 in kept))


def reduced_axes(node: ir.Node, rank: int = 4) -> tuple[int, ...] | None:
    """The axes of a reduction over a tensor of this rank, not negative and sorted; None if they are not constant."""
    # an input since opset 18 (ReduceSum: 13), an attribute before
    axes = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
    if axes is None:
        listed = attribute(node, "axes", None)
        if listed is None:
            return None
        axes = np.array(listed)
    return tuple(sorted(int(a) % rank for a in axes))


def input_layout(image: ir.Value, shape: tuple[int, ...]) -> InputLayout:
    """The layout of the network's input.

    The operators that read it show the layout. If they do not, it is NHWC only if the last dimension is 1 or 3
    and the first is not; and NDCHW if of four dimensions the second alone is.

    Args:
        image: The input.
        shape: The shape of one image.
    """
    rank = len(shape) + 1
    if rank == 5 and (frames := _frames(image, shape)) is not None:
        return frames
    layout = find_layout(image, rank)
    if layout is None and rank == 5 and shape[1] in (1, 3) and not {shape[0], shape[3]} & {1, 3}:
        return "NDCHW"
    first, last = channel_layouts(rank)
    if layout is None:
        layout = last if shape[-1] in (1, 3) and shape[0] not in (1, 3) else first
    return layout


def _frames(image: ir.Value, shape: tuple[int, ...]) -> InputLayout | None:
    """The layout of an input of frames, if the first operators show it: they exchange the two axes, or make images of the frames.

    Args:
        image: The input.
        shape: The shape of one film.
    """
    for node in _first(image):
        if node.op_type == "Transpose" and tuple(attribute(node, "perm", [])) == (0, 2, 1, 3, 4):
            return "NDCHW" if find_layout(node.outputs[0], 5) in (None, "NCDHW") else None
        if _makes_images(node, shape):
            of_image = find_layout(node.outputs[0])
            return None if of_image is None else "NDCHW" if of_image == "NCHW" else "NDHWC"
    return None


def frames_apart(image: ir.Value, shape: tuple[int, ...]) -> bool:
    """Whether the first operators make images of a film's frames, so that frame d of film n is image n * D + d."""
    return len(shape) == 4 and any(_makes_images(node, shape) for node in _first(image))


def _first(image: ir.Value) -> Iterator[ir.Node]:
    """The nodes that read an input, or what elementwise operators make of it."""
    pending = [image]
    while pending:
        for node, _ in pending.pop(0).uses():
            yield node
            if node.op_type in _ELEMENTWISE:
                pending.extend(node.outputs)


def _makes_images(node: ir.Node, shape: tuple[int, ...]) -> bool:
    """Whether a node is [N,D, ...] -> [N*D, ...]."""
    sizes = constant_of(node.inputs[1]) if node.op_type == "Reshape" else None
    return sizes is not None and tuple(sizes.tolist()[1:]) == shape[1:]


def sides(image: ir.Value, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of the input's sides, the batch counted: (2,3) for NCHW, (1,3,4) for NDCHW."""
    layout = input_layout(image, shape)
    return tuple(layout.index(side) for side in "DHW" if side in layout)
