"""Parts of a tensor: slices, gathers, the largest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ....graph.emit import Ops
from ..layer import Layer, rule
from .elementwise import cast

_END = np.iinfo(np.int64).max
_CHOSEN = (np.float32, np.float64, np.int32, np.int64, np.uint8)
"""The types between which ONNX Runtime's Where chooses."""


@rule("StridedSlice")
def strided_slice(op: Ops, layer: Layer) -> ir.Value:
    """Slices as TensorFlow writes them: masks say which bounds do not count, and which dimensions go, come or are skipped."""
    begins, ends = layer.ints(1, "bounds"), layer.ints(2, "bounds")
    steps = layer.ints(3, "steps") if len(layer) > 3 else [1] * len(begins)
    masks = {
        name: [*map(bool, layer.attr(f"{name}_mask") or []), *[False] * len(begins)]
        for name in ("begin", "end", "new_axis", "shrink_axis", "ellipsis")
    }
    rank, axis, out = len(layer.dims()), 0, 0
    parts: list[tuple[int, int, int, int]] = []
    shrunk, new = [], []
    consumed = sum(not masks["new_axis"][i] and not masks["ellipsis"][i] for i in range(len(begins)))
    for i, (begin, end, step) in enumerate(zip(begins, ends, steps, strict=True)):
        if masks["ellipsis"][i]:
            axis, out = axis + rank - consumed, out + rank - consumed
            continue
        if masks["new_axis"][i]:
            new.append(out)
            out += 1
            continue
        if masks["shrink_axis"][i]:
            first = 0 if masks["begin"][i] else begin  # OpenVINO's way; TensorFlow leaves the mask out
            parts.append((axis, first, _END if first == -1 else first + 1, 1))
            shrunk.append(axis)
        else:
            first, last = (0, _END) if step > 0 else (_END, -_END)
            part = (axis, first if masks["begin"][i] else begin, last if masks["end"][i] else end, step)
            if part[1:] != (0, _END, 1):
                parts.append(part)
            out += 1
        axis += 1
    x = layer.x()
    if parts:
        axes, starts, stops, by = (np.array(column) for column in zip(*parts, strict=True))
        x = op.Slice(x, starts, stops, axes, by)
    if shrunk:
        x = op.Squeeze(x, np.array(shrunk))
    return op.Unsqueeze(x, np.array(new)) if new else x if parts or shrunk else op.Identity(x)


@rule("ReverseSequence")
def reverse_sequence(op: Ops, layer: Layer) -> ir.Value:
    """The whole of an axis in reverse, as TensorFlow's reader writes ReverseV2."""
    axis = layer.axis(int(layer.attr("seq_axis")))
    if set(layer.ints(1, "lengths")) != {layer.dims()[axis]}:
        raise layer.refuse("reverses a part of each row; only whole rows are known here")
    return op.Slice(layer.x(), np.array([_END]), np.array([-_END]), np.array([axis]), np.array([-1]))


@rule("Slice")
def sliced(op: Ops, layer: Layer) -> ir.Value:
    """start to stop by step."""
    axes = layer.int64(op, 4) if len(layer) > 4 else None
    return op.Slice(layer.x(), *(layer.int64(op, i) for i in (1, 2)), axes, layer.int64(op, 3))


@rule("Gather")
def gather(op: Ops, layer: Layer) -> ir.Value:
    """x at indices along an axis; with `batch_dims` each row of the first dimensions has its own."""
    axis, rank = layer.axis(layer.ints(2, "axis")[0]), len(layer.dims(1))
    indices, batches = layer.constant(1), int(layer.attr("batch_dims", 0))
    batches += rank if batches < 0 else 0
    if batches:
        return _gather_of_rows(op, layer, axis, batches)
    return op.Gather(layer.x(), _places(op, layer) if indices is None else indices.astype(np.int64), axis=axis)


def _gather_of_rows(op: Ops, layer: Layer, axis: int, batches: int) -> ir.Value:
    """Each row of the first dimensions has its own indices. The axis comes first after them meanwhile."""
    rank, more = len(layer.dims(1)), len(layer.dims(1)) - batches
    places = op.Unsqueeze(cast(op, layer.x(1), layer.kind(1), np.dtype(np.int64)), np.array([rank]))
    if axis == batches:
        return op.GatherND(layer.x(), places, batch_dims=batches)
    others = [i for i in range(batches, len(layer.dims())) if i != axis]
    y = op.GatherND(op.Transpose(layer.x(), perm=[*range(batches), axis, *others]), places, batch_dims=batches)
    before = range(rank, rank + axis - batches)  # dimensions of x that lie in front of the axis
    after = range(rank + axis - batches, rank + len(others))
    return op.Transpose(y, perm=[*range(batches), *before, *range(batches, batches + more), *after])


def _places(op: Ops, layer: Layer) -> ir.Value:
    """Input 1 in a type that ONNX takes for indices."""
    kind = layer.kind(1)
    return layer.x(1) if kind == np.int32 else cast(op, layer.x(1), kind, np.dtype(np.int64))


@rule("GatherElements")
def gather_elements(op: Ops, layer: Layer) -> ir.Value:
    """x at one index per element along an axis."""
    return op.GatherElements(layer.x(), _places(op, layer), axis=layer.axis(int(layer.attr("axis"))))


@rule("GatherND")
def gather_nd(op: Ops, layer: Layer) -> ir.Value:
    """x at vectors of indices."""
    return op.GatherND(
        layer.x(), cast(op, layer.x(1), layer.kind(1), np.dtype(np.int64)), batch_dims=int(layer.attr("batch_dims", 0))
    )


@rule("TopK")
def top_k(op: Ops, layer: Layer) -> Sequence[ir.Value]:
    """The k largest or smallest along an axis, and their indices; sorted by value, or in any order.

    OpenVINO's readers write ArgMax and ArgMin as the index of the one; so they are called by their names again.
    """
    sort = str(layer.attr("sort")).lower()
    k = layer.ints(1, "number")
    if sort == "index" and k != [1]:
        raise layer.refuse("sorts by index, which ONNX's TopK does not do")
    if k == [1] and not layer.node.output(0).get_target_inputs():
        axis, kind = layer.axis(int(layer.attr("axis"))), "Max" if str(layer.attr("mode")).lower() == "max" else "Min"
        index = getattr(op, f"Arg{kind}")(layer.x(), axis=axis, keepdims=1)
        value = getattr(op, f"Reduce{kind}")(layer.x(), [axis], keepdims=1)  # nothing reads it
        return value, cast(op, index, np.dtype(np.int64), layer.out_kind(1))
    axis, largest = layer.axis(int(layer.attr("axis"))), int(str(layer.attr("mode")).lower() == "max")
    ordered = int(sort == "value")
    values, places = top(
        op, layer.name, layer.x(), op.emit.shared(np.array(k)), axis=axis, largest=largest, sorted=ordered
    )
    return values, cast(op, places, np.dtype(np.int64), layer.out_kind(1))


def top(op: Ops, name: str, x: ir.Value, k: ir.Value, **attributes: int) -> tuple[ir.Value, ir.Value]:
    """TopK's values and their places, int64; `k` is an int64 vector of one number."""
    node = ir.node("TopK", [x, k], attributes=attributes, num_outputs=2, name=op.emit.unique(f"inner/{name}/TopK"))
    for value, part in zip(node.outputs, ("values", "indices"), strict=True):
        value.name = op.emit.unique(f"inner/{name}/{part}")
    op.emit.graph.append(node)
    return node.outputs[0], node.outputs[1]


@rule("CumSum")
def cumulative_sum(op: Ops, layer: Layer) -> ir.Value:
    """Sums along an axis up to each position."""
    flags = {name: int(bool(layer.attr(name, False))) for name in ("exclusive", "reverse")}
    return op.CumSum(layer.x(), np.array(layer.axis(layer.ints(1, "axis")[0])), **flags)


@rule("Range")
def arange(op: Ops, layer: Layer) -> ir.Value:
    """start, start + step, ... below stop."""
    return op.Range(*(cast(op, layer.x(i), layer.kind(i), layer.out_kind()) for i in range(3)))


@rule("ScatterUpdate")
def scatter_slices(op: Ops, layer: Layer) -> ir.Value:
    """x with other slices at indices along an axis: TensorFlow writes the steps of an LSTM so. The axis comes first meanwhile."""
    axis, rank, more = layer.axis(layer.ints(3, "axis")[0]), len(layer.dims()), len(layer.dims(1))
    rows = op.Unsqueeze(cast(op, layer.x(1), layer.kind(1), np.dtype(np.int64)), np.array([more]))
    if axis == 0:
        return op.ScatterND(layer.x(), rows, layer.x(2))
    first = [axis, *(i for i in range(rank) if i != axis)]
    own = range(axis, axis + more)
    updates = op.Transpose(layer.x(2), perm=[*own, *(i for i in range(rank - 1 + more) if i not in own)])
    y = op.ScatterND(op.Transpose(layer.x(), perm=first), rows, updates)
    return op.Transpose(y, perm=[int(i) for i in np.argsort(first)])


@rule("ScatterNDUpdate")
def scatter_nd(op: Ops, layer: Layer) -> ir.Value:
    """x with other values at vectors of indices, or these added, multiplied ..."""
    places = cast(op, layer.x(1), layer.kind(1), np.dtype(np.int64))
    return op.ScatterND(layer.x(), places, layer.x(2), **_reduction(layer))


@rule("ScatterElementsUpdate")
def scatter_elements(op: Ops, layer: Layer) -> ir.Value:
    """x with other values at one index per element along an axis, or these added, multiplied ..."""
    if not layer.attr("use_init_val", True):
        raise layer.refuse("leaves out what was at the places before (use_init_val false), which ONNX does not do")
    axis = layer.axis(layer.ints(3, "axis")[0])
    return op.ScatterElements(layer.x(), layer.x(1), layer.x(2), axis=axis, **_reduction(layer))


def _reduction(layer: Layer) -> dict[str, str]:
    known = {"none": "none", "sum": "add", "prod": "mul", "min": "min", "max": "max"}
    name = str(layer.attr("reduction", "none")).lower()
    if name not in known:
        raise layer.refuse(f"scatters with the reduction {name}, which ONNX does not have")
    return {} if name == "none" else {"reduction": known[name]}


@rule("SliceScatter")
def scatter_slice(op: Ops, layer: Layer) -> ir.Value:
    """x, with other values start to stop by step: a choice between x and the values, repeated to its size."""
    starts, stops, steps = (layer.ints(i, "bounds") for i in (2, 3, 4))
    axes = [layer.axis(a) for a in layer.ints(5, "axes")] if len(layer) > 5 else list(range(len(starts)))
    values = layer.x(1)
    inside = np.ones([1] * len(layer.dims()), bool)
    for axis, bounds in zip(axes, zip(starts, stops, steps, strict=True), strict=True):
        size = layer.dims()[axis]
        places = None if size is None else np.arange(size)[slice(*_within(bounds, size))]
        if size is None or places is None:
            raise layer.refuse(
                "the size that it writes to is not known; give the image's size with --input-shape C,H,W"
            )
        source = np.zeros(size, np.int64)
        source[places] = np.arange(len(places))
        values = op.Gather(values, source, axis=axis)
        shape = [1] * len(layer.dims())
        shape[axis] = size
        inside = inside & np.isin(np.arange(size), places).reshape(shape)
    return op.Where(op.emit.shared(inside), values, layer.x(0))


def _within(bounds: tuple[int, int, int], size: int) -> tuple[int | None, int | None, int]:
    """Bounds for Python's slice: a stop before the first element is none."""
    start, stop, step = bounds
    return start, None if step < 0 and stop < -size else stop, step


@rule("OneHot")
def one_hot(op: Ops, layer: Layer) -> ir.Value:
    """`on` at the index along a new axis, `off` elsewhere. A negative index is none, or else counts from the end (ONNX's way)."""
    off, on = (layer.require(i, "values").reshape(()) for i in (3, 2))
    depth, kind = layer.ints(1, "number")[0], layer.out_kind()
    axis = int(layer.attr("axis")) % (len(layer.dims()) + 1)
    indices = op.Unsqueeze(cast(op, layer.x(), layer.kind(), np.dtype(np.int64)), np.array([axis]))
    places = np.arange(depth).reshape(-1, *(1,) * (len(layer.dims()) - axis))
    there = op.Equal(indices, places)
    if str(layer.attr("negative_indices_mode", "ignore_negative")).lower() == "normalize":
        there = op.Or(there, op.Equal(indices, places - depth))
    held = kind if kind in _CHOSEN else np.dtype(np.int32)
    return cast(op, op.Where(there, *(op.emit.shared(value.astype(held)) for value in (on, off))), held, kind)


@rule("Roll")
def roll(op: Ops, layer: Layer) -> ir.Value:
    """Shifted in a circle: along each axis the last `shift` elements come first."""
    shifts, axes = layer.ints(1, "shifts"), layer.ints(2, "axes")
    shifts = shifts * len(axes) if len(shifts) == 1 else shifts  # one is for each axis
    x = layer.x()
    for axis, shift in zip(map(layer.axis, axes), shifts, strict=True):
        size = layer.dims()[axis]
        if size is None:
            raise layer.refuse("the size that it shifts is not known; give the image's size with --input-shape C,H,W")
        if shift % size:
            ends = (size - shift % size, size), (0, size - shift % size)
            x = op.Concat(*(op.Slice(x, np.array([a]), np.array([b]), np.array([axis])) for a, b in ends), axis=axis)
    return x if x is not layer.x() else op.Identity(x)
