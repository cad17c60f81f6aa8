"""Operators that move values about without changing them: their gradient moves them back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ..backward.rules import FLOATS, Step
from ..graph.emit import Ops
from ..graph.reading import constant_of
from ..graph.shapes import reshape
from .axis import from_positions
from .table import vjp

_TO_THE_END = 1 << 24  # an end from here on means all of the batch: tf2onnx writes 1e9 or the largest int32


@vjp("Reshape", "Flatten", "Squeeze", "Unsqueeze", finite=True)
def view(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """Back to the input's shape."""
    return reshape(op, dy, step.dims(step.x), step.x, step.dims(step.y))


@vjp("Identity", finite=True)
def identity(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y = x."""
    return dy


@vjp("Dropout", finite=True)
def dropout(op: Ops, step: Step, dy: ir.Value, *_: ir.Value | None) -> ir.Value:
    """y = x in inference."""
    training = step.constant(2)
    if training is not None and training.any():
        raise step.refuse("it is in training mode; export the network in evaluation mode")
    return dy


@vjp("Cast", "CastLike")
def cast(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """Back to the input's element type; an image of integers gets its gradient in floats."""
    dtype = step.x.dtype
    if dtype is None:
        raise step.refuse("the element type of its input is not known")
    return op.Cast(dy, to=int(dtype)) if dtype in FLOATS else dy


@vjp("Transpose", finite=True)
def transpose(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """The inverse permutation; without one the axes are reversed."""
    rank = len(step.dims(step.x))
    return op.Transpose(dy, perm=[int(i) for i in np.argsort(step.attr("perm", list(range(rank))[::-1]))])


@vjp("Expand", broadcasts=True, finite=True)
def expand(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """Broadcasting; the walker sums it up."""
    return dy


@vjp("Concat", finite=True)
def concat(op: Ops, step: Step, dy: ir.Value) -> list[ir.Value | None]:
    """Each input gets its slice."""
    axis = step.axis(step.attr("axis"))
    results: list[ir.Value | None] = []
    start = 0
    for i in range(len(step.node.inputs)):
        size = step.dims(step.input(i))[axis]
        if size is None:
            raise step.refuse("it concatenates along the batch")
        results.append(op.Slice(dy, [start], [start + size], [axis]) if i in step.leads else None)
        start += size
    return results


@vjp("Split", finite=True)
def split(op: Ops, step: Step, *dys: ir.Value | None) -> ir.Value:
    """The pieces joined again; a piece through which nothing comes back counts as zeros."""
    pieces = [op.Expand(0.0, op.Shape(y)) if dy is None else dy for y, dy in zip(step.node.outputs, dys, strict=True)]
    return op.Concat(*pieces, axis=step.axis(step.attr("axis", 0)))


@vjp("Slice", finite=True)
def slice_(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """A slice of step 1 gets zeros around it; with another step each value goes back to its position."""
    dims = step.dims(step.x)
    if _takes_first_rows(step):
        rest = op.Slice(step.x, step.input(2), [_TO_THE_END], [0])
        return op.Concat(dy, op.Expand(0.0, op.Shape(rest)), axis=0)
    starts, ends, axes, steps = (step.constant(i) for i in range(1, 5))
    assert starts is not None
    assert ends is not None
    if axes is None:
        axes = np.arange(len(starts))
    if steps is None:
        steps = np.ones(len(starts), np.int64)
    before, after = [0] * len(dims), [0] * len(dims)
    for start, end, counted, stride in zip(*(map(int, a) for a in (starts, ends, axes, steps)), strict=True):
        axis, size = counted % len(dims), dims[counted]
        if size is None:
            if (start, stride) == (0, 1) and end >= _TO_THE_END:
                continue  # all of the batch
            raise step.refuse("it slices along the batch")
        # with a negative step, an end before the first position means: down to that position
        positions = range(size)[slice(start, end if stride > 0 or end >= -size else None, stride)]
        if stride == 1:
            before[axis], after[axis] = positions.start, size - positions.start - len(positions)
        else:
            dy = from_positions(op, dy, axis, len(dims), np.array(positions), size)
    return op.Pad(dy, [*before, *after], 0.0) if any(before + after) else dy


def _takes_first_rows(step: Step) -> bool:
    """Whether a slice takes as many of the first rows as there are images (`x[:batch]` of frames or windows).

    Rows of other images are among them. Whether that changes a result is seen when single images are compared with several.
    """
    start, axes, stride = (
        None if i >= len(step.node.inputs) or step.node.inputs[i] is None else constant_of(step.input(i))
        for i in (1, 3, 4)
    )
    computed = step.node.inputs[2] is not None and constant_of(step.input(2)) is None
    first = start is not None and start.tolist() == [0] and (axes is None or axes.tolist() == [0])
    return computed and first and (stride is None or stride.tolist() == [1])


@vjp("Pad", finite=True)
def pad(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """Constant padding is cut off again; reflected, edge and wrapped values are added to the values that they copy."""
    step.only_first()
    dims = step.dims(step.x)
    rank = len(dims)
    amounts, axes = step.constant(1), step.constant(3)
    if amounts is None:
        amounts = np.asarray(step.attr("pads"))
    axes = np.arange(rank) if axes is None else axes % rank
    mode = step.attr("mode", "constant")
    starts, ends = [0] * rank, [0] * rank
    # `pads` holds all begins, then all ends
    for axis, before, after in zip(*(map(int, a) for a in (axes, *np.split(amounts, 2))), strict=True):
        size = dims[axis]
        if before == after == 0:
            continue
        if size is None:
            raise step.refuse("it pads along the batch")
        if mode == "constant":
            starts[axis], ends[axis] = before, after
        else:
            # negative padding crops; np.pad on the positions says which value each padded one copies
            positions = np.arange(-min(before, 0), size + min(after, 0))
            positions = np.pad(positions, (max(before, 0), max(after, 0)), mode=mode)
            dy = from_positions(op, dy, int(axis), rank, positions, size)
    return _crop(op, dy, starts, ends)


def _crop(op: Ops, value: ir.Value, before: Sequence[int], after: Sequence[int]) -> ir.Value:
    """Crop by these amounts before and after along each axis; negative amounts add zeros."""
    axes = [i for i, pair in enumerate(zip(before, after, strict=True)) if max(pair) > 0]
    if axes:
        # an end of 0 would leave nothing; 1 << 62 is the whole axis
        ends = [-max(after[i], 0) or 1 << 62 for i in axes]
        value = op.Slice(value, [max(before[i], 0) for i in axes], ends, axes)
    if min(*before, *after) < 0:
        value = op.Pad(value, [max(-p, 0) for p in (*before, *after)], 0.0)
    return value


@vjp("Tile")
def tile(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """The sum over the copies."""
    repeats, dims = step.constant(1), step.dims(step.x)
    assert repeats is not None
    split_shape: list[int] = []
    for count, size in zip(map(int, repeats), dims, strict=True):
        if size is None and count > 1:
            raise step.refuse("it repeats the batch")
        split_shape += [count, -1 if size is None else size]
    # [count 0, size 0, count 1, size 1, ...]: the copies lie along the even axes
    copies = [2 * i for i, count in enumerate(repeats)]
    return op.ReduceSum(op.Reshape(dy, split_shape), copies, keepdims=0)


@vjp("DepthToSpace", finite=True)
def depth_to_space(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """The inverse of [N,C*b*b,h,w] -> [N,C,h*b,w*b]; the channels are ordered b,b,C (DCR) or C,b,b (CRD)."""
    _, channels, h, w = step.dims(step.x)
    b = int(step.attr("blocksize"))
    if channels is None or h is None or w is None:
        raise step.refuse("a size other than the batch is open")
    c = channels // (b * b)
    blocks = op.Reshape(dy, [-1, c, h, b, w, b])
    perm = [0, 3, 5, 1, 2, 4] if step.attr("mode", "DCR") == "DCR" else [0, 1, 3, 5, 2, 4]
    return op.Reshape(op.Transpose(blocks, perm=perm), [-1, channels, h, w])


@vjp("SpaceToDepth", finite=True)
def space_to_depth(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """DepthToSpace in its default order b,b,C (DCR) is the inverse."""
    return op.DepthToSpace(dy, blocksize=int(step.attr("blocksize")))


@vjp("CenterCropPad")
def center_crop_pad(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """Cropped and padded back: both leave half of the difference, rounded down, before the first value."""
    dims = step.dims(step.x)
    axes = [step.axis(a) for a in step.attr("axes", list(range(len(dims))))]
    sizes = [dims[a] for a in axes]
    if None in sizes:
        raise step.refuse("it crops or pads along the batch")
    return op.CenterCropPad(dy, sizes, axes=axes)


@vjp("ReverseSequence")
def reverse_sequence(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """Its own inverse."""
    axes = {name: int(step.attr(name, default)) for name, default in (("batch_axis", 1), ("time_axis", 0))}
    return op.ReverseSequence(dy, step.input(1), **axes)
