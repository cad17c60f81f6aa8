"""Shapes: the same elements in another form, or more of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ....graph.emit import Ops
from ..layer import Layer, rule
from .elementwise import cast

_FAR = np.iinfo(np.int64).max


@rule("Reshape")
def reshape(op: Ops, layer: Layer) -> ir.Value:
    """Reshape; a 0 copies the size if `special_zero` says so."""
    shape = layer.constant(1)
    if shape is None:
        return op.Reshape(layer.x(), layer.int64(op, 1), allowzero=int(not layer.attr("special_zero")))
    if not layer.attr("special_zero") and (shape == 0).any():
        raise layer.refuse("gives a tensor without elements")
    return op.Reshape(layer.x(), shape.astype(np.int64).ravel())


@rule("Transpose")
def transpose(op: Ops, layer: Layer) -> ir.Value:
    """Another order of the dimensions; an empty one reverses them."""
    order = layer.ints(1, "dimensions' order") or list(reversed(range(len(layer.dims()))))
    return op.Transpose(layer.x(), perm=[layer.axis(a) for a in order])


@rule("Squeeze")
def squeeze(op: Ops, layer: Layer) -> ir.Value:
    """Without some dimensions of size 1; OpenVINO skips an axis that is larger."""
    dims = layer.dims()
    if len(layer) > 1:
        axes = [layer.axis(a) for a in layer.ints(1, "axes")]
        axes = [a for a in axes if dims[a] == 1 or dims[a] is None]
    else:
        axes = [a for a, d in enumerate(dims) if d == 1]
    return op.Squeeze(layer.x(), np.array(sorted(axes))) if axes else op.Identity(layer.x())


@rule("Unsqueeze")
def unsqueeze(op: Ops, layer: Layer) -> ir.Value:
    """With new dimensions of size 1; axes count in the result."""
    rank = len(layer.result())
    return op.Unsqueeze(layer.x(), np.array(sorted(a % rank for a in layer.ints(1, "axes"))))


@rule("Concat")
def concat(op: Ops, layer: Layer) -> ir.Value:
    """Joined along an axis."""
    return op.Concat(*(layer.x(i) for i in range(len(layer))), axis=layer.axis(int(layer.attr("axis"))))


@rule("Split")
def split(op: Ops, layer: Layer) -> Sequence[ir.Value]:
    """Equal parts along an axis."""
    axis = layer.axis(layer.ints(1, "axis")[0])
    count = int(layer.attr("num_splits"))
    return _split(op, layer, axis, [_whole(layer, axis) // count] * count)


@rule("VariadicSplit")
def variadic_split(op: Ops, layer: Layer) -> Sequence[ir.Value]:
    """Parts of given lengths along an axis; one may be -1, for the rest."""
    axis = layer.axis(layer.ints(1, "axis")[0])
    lengths = layer.ints(2, "lengths")
    if -1 in lengths:
        lengths[lengths.index(-1)] = _whole(layer, axis) - sum(length for length in lengths if length != -1)
    return _split(op, layer, axis, lengths)


def _whole(layer: Layer, axis: int) -> int:
    """The size of the axis that is split. Others, as the batch after the three of Q, K and V, may be open."""
    size = layer.dims()[axis]
    if size is None:
        raise layer.refuse("the size that it splits is not known; give the image's size with --input-shape C,H,W")
    return size


def _split(op: Ops, layer: Layer, axis: int, lengths: Sequence[int]) -> Sequence[ir.Value]:
    """Parts as slices: each has one output, and any length is allowed."""
    ends = np.cumsum(lengths)
    starts = ends - np.array(lengths)
    return [
        op.Slice(layer.x(), np.array([a]), np.array([b]), np.array([axis])) for a, b in zip(starts, ends, strict=True)
    ]


@rule("ShapeOf")
def shape_of(op: Ops, layer: Layer) -> ir.Value:
    """Sizes; a batch that is not known stays symbolic."""
    return cast(op, op.Shape(layer.x()), np.dtype(np.int64), layer.out_kind())


@rule("Broadcast")
def broadcast(op: Ops, layer: Layer) -> ir.Value:
    """Expand; with `explicit`, dimensions go to the axes that the mapping names."""
    mode = str(layer.attr("mode")).lower()
    if mode not in ("numpy", "bidirectional", "explicit"):
        raise layer.refuse(f"broadcasts in the mode {mode}; convert the model with a newer OpenVINO")
    x = layer.x()
    if mode == "explicit":
        axes = set(layer.ints(2, "axes"))
        missing = [a for a in range(len(layer.result())) if a not in axes]
        x = op.Unsqueeze(x, np.array(missing)) if missing else x
    return op.Expand(x, layer.int64(op, 1))


@rule("Tile")
def tile(op: Ops, layer: Layer) -> ir.Value:
    """Repeated along each dimension; the shorter of shape and repeats gets leading 1s. An open batch is counted."""
    given, count, rank = layer.constant(1), layer.sizes(1)[0], len(layer.dims())
    x, ones = layer.x(), np.ones(max(rank - count, 0), np.int64)
    if count > rank:
        x = op.Unsqueeze(x, np.arange(count - rank))
    if given is not None:
        return op.Tile(x, np.concatenate([ones, given.astype(np.int64)]))
    return op.Tile(x, op.Concat(ones, layer.int64(op, 1), axis=0) if ones.size else layer.int64(op, 1))


@rule("Pad")
def pad(op: Ops, layer: Layer) -> ir.Value:
    """Constant, edge or reflected borders; negative ones crop."""
    mode = str(layer.attr("pad_mode")).lower()
    if mode == "symmetric":
        return _mirrored(op, layer)
    if mode not in ("constant", "edge", "reflect"):
        raise layer.refuse(f"pads in the mode {mode}, which ONNX does not have")
    if layer.constant(1) is None or layer.constant(2) is None:  # a list of boxes that is filled up
        pads: ir.Value | NDArray[Any] = op.Concat(layer.int64(op, 1), layer.int64(op, 2), axis=0)
    else:
        pads = np.array(layer.ints(1, "widths") + layer.ints(2, "widths"))
    if mode != "constant":
        return op.Pad(layer.x(), pads, mode=mode)
    value = layer.require(3, "value").reshape(()) if len(layer) > 3 else np.zeros((), layer.kind())
    return op.Pad(layer.x(), pads, op.emit.shared(value.astype(layer.kind())), mode=mode)


def _mirrored(op: Ops, layer: Layer) -> ir.Value:
    """Borders that repeat the first and the last element, which ONNX's `reflect` leaves out: parts in reverse, axis by axis."""
    x = layer.x()
    for axis, (before, after) in enumerate(zip(layer.ints(1, "widths"), layer.ints(2, "widths"), strict=True)):
        if min(before, after) < 0:
            raise layer.refuse("pads in the mode symmetric and crops; export the crop as an operator of its own")
        where, back = np.array([axis]), np.array([-1])
        parts = [x]
        if before:
            parts.insert(0, op.Slice(x, np.array([before - 1]), np.array([-_FAR]), where, back))
        if after:
            parts.append(op.Slice(x, np.array([_FAR]), np.array([-after - 1]), where, back))
        x = op.Concat(*parts, axis=axis) if len(parts) > 1 else x
    return x if x is not layer.x() else op.Identity(x)


@rule("DepthToSpace")
def depth_to_space(op: Ops, layer: Layer) -> ir.Value:
    """Channels become positions, of any number of dimensions; ONNX's operator has two."""
    size, first = int(layer.attr("block_size")), str(layer.attr("mode")).lower() == "blocks_first"
    count = len(layer.dims()) - 2
    if count == 2:
        return op.DepthToSpace(layer.x(), blocksize=size, mode="DCR" if first else "CRD")
    channels, *sizes = layer.sizes(0, 1)
    channels //= size**count
    blocks = [size] * count
    parts = op.Reshape(layer.x(), [0, *(blocks if first else []), channels, *([] if first else blocks), *sizes])
    channel, block = (count + 1, 1) if first else (1, 2)
    order = [axis for i in range(count) for axis in (count + 2 + i, block + i)]
    return op.Reshape(op.Transpose(parts, perm=[0, channel, *order]), [0, channels, *(n * size for n in sizes)])


@rule("SpaceToDepth")
def space_to_depth(op: Ops, layer: Layer) -> ir.Value:
    """Positions become channels; ONNX has the order `blocks_first` of two dimensions alone."""
    size, first = int(layer.attr("block_size")), str(layer.attr("mode")).lower() == "blocks_first"
    count = len(layer.dims()) - 2
    if first and count == 2:
        return op.SpaceToDepth(layer.x(), blocksize=size)
    channels, *sizes = layer.sizes(0, 1)
    parts = op.Reshape(layer.x(), [0, channels, *(n for whole in sizes for n in (whole // size, size))])
    inside, places = [3 + 2 * i for i in range(count)], [2 + 2 * i for i in range(count)]
    moved = op.Transpose(parts, perm=[0, *([*inside, 1] if first else [1, *inside]), *places])
    return op.Reshape(moved, [0, channels * size**count, *(n // size for n in sizes)])


@rule("ShuffleChannels")
def shuffle_channels(op: Ops, layer: Layer) -> ir.Value:
    """Channels of g groups, interleaved: [g, c/g] -> [c/g, g]."""
    axis, groups = layer.axis(int(layer.attr("axis"))), int(layer.attr("group"))
    if axis != 1:
        raise layer.refuse(f"shuffles the axis {axis}; only that of the channels, 1, is known here")
    channels, *rest = layer.sizes(0, 1)
    parts = op.Reshape(layer.x(), [0, groups, channels // groups, *rest])
    moved = op.Transpose(parts, perm=[0, 2, 1, *range(3, len(rest) + 3)])
    return op.Reshape(moved, [0, channels, *rest])
