"""Operators that pick values by index; their gradient puts them back.

Indices that are constants become an inverse picking (`axis.from_positions`), which every runtime runs. Computed indices take
the Scatter operators with addition, which few runtimes beyond onnxruntime and OpenVINO run.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from ..backward.rules import Step
from ..graph.emit import Ops
from ..graph.reading import constant_of
from ..graph.shapes import reshape
from .axis import from_positions
from .table import vjp


@vjp("Gather", finite=True)
def gather(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y = x[..., indices, ...] along an axis."""
    x, dims = step.x, step.dims(step.x)
    axis = step.axis(step.attr("axis", 0))
    indices, shape = constant_of(step.input(1)), step.dims(step.input(1))
    rank, size = len(dims), dims[axis]
    if indices is not None and size is not None:
        if indices.size == 1:  # one position, for example the class token: zeros around it
            position = int(indices.reshape(())) % size  # negative indices count from the end
            flat = reshape(op, dy, (*dims[:axis], 1, *dims[axis + 1 :]), x)
            pads = [0] * (2 * rank)
            pads[axis], pads[rank + axis] = position, size - 1 - position
            return op.Pad(flat, pads, 0.0)
        if indices.ndim > 1:  # the axes of the indices become one
            dy = reshape(op, dy, (*dims[:axis], indices.size, *dims[axis + 1 :]), x)
        return from_positions(op, dy, axis, rank, indices.reshape(-1) % size, size)
    if axis != 0 or len(shape) != 1:
        raise step.refuse("its indices are computed, and not a list along the first axis")
    # ScatterND takes coordinates along the last axis: here one, the row; and int64 alone, while Gather takes int32, too
    rows = op.Unsqueeze(op.Cast(step.input(1), to=int(ir.DataType.INT64)), [1])
    return op.ScatterND(_zeros(op, x), rows, dy, reduction="add")


@vjp("GatherElements")
def gather_elements(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y[i] = x[index[i]] along an axis, separately at each position of the other axes."""
    axis = step.axis(step.attr("axis", 0))
    return op.ScatterElements(_zeros(op, step.x), step.input(1), dy, axis=axis, reduction="add")


@vjp("GatherND")
def gather_nd(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y = x[index]: the last axis of the index holds coordinates; x and index share the first `batch_dims` axes."""
    return op.ScatterND(_zeros(op, step.x), _coordinates(op, step), dy, reduction="add")


def _coordinates(op: Ops, step: Step) -> ir.Value:
    """The indices of GatherND with the coordinates along the shared axes put before them: ScatterND has no `batch_dims`."""
    indices, common = step.input(1), int(step.attr("batch_dims", 0))
    if common == 0:
        return indices
    rank = len(step.dims(indices))
    shape = op.Concat(op.Shape(indices, start=0, end=rank - 1), [1], axis=0)
    columns = []
    for axis in range(common):
        count = op.Squeeze(op.Shape(indices, start=axis, end=axis + 1), [0])
        # 0, 1, ... along this axis, broadcast to one coordinate per index
        along = op.Reshape(op.Range(np.int64(0), count, np.int64(1)), [1] * axis + [-1] + [1] * (rank - axis - 1))
        columns.append(op.Expand(along, shape))
    return op.Concat(*columns, indices, axis=rank - 1)


@vjp("ScatterND")
def scatter_nd(op: Ops, step: Step, dy: ir.Value) -> list[ir.Value | None]:
    """y = x, overwritten by the updates at the indices, or combined with them; see `_scattered`."""
    indices = step.input(1)
    return _scattered(
        op,
        step,
        dy,
        lambda onto, updates, **how: op.ScatterND(onto, indices, updates, **how),
        lambda value: op.GatherND(value, indices),
    )


@vjp("ScatterElements")
def scatter_elements(op: Ops, step: Step, dy: ir.Value) -> list[ir.Value | None]:
    """As ScatterND, along an axis."""
    indices, axis = step.input(1), step.axis(step.attr("axis", 0))
    return _scattered(
        op,
        step,
        dy,
        lambda onto, updates, **how: op.ScatterElements(onto, indices, updates, axis=axis, **how),
        lambda value: op.GatherElements(value, indices, axis=axis),
    )


def _scattered(
    op: Ops, step: Step, dy: ir.Value, scatter: Callable[..., ir.Value], gather: Callable[[ir.Value], ir.Value]
) -> list[ir.Value | None]:
    """dy goes to the updates and not to x where it was overwritten; to both if they are added.

    Of a maximum or minimum it goes in equal shares to all that equal it (as torch.amax). Of a product see `_multiplied`.
    """
    x, updates = step.x, step.input(2)
    match step.attr("reduction", "none"):
        case "none":
            return [scatter(dy, _zeros(op, updates)), None, gather(dy)]
        case "add":
            return [dy, None, gather(dy)]
        case "mul":
            return _multiplied(op, step, dy, scatter, gather)
    own = op.Where(op.Equal(x, step.y), 1.0, 0.0)
    others = op.Where(op.Equal(updates, gather(step.y)), 1.0, 0.0)
    share = op.Div(dy, scatter(own, others, reduction="add"))
    return [op.Mul(share, own), None, op.Mul(gather(share), others)]


def _multiplied(
    op: Ops, step: Step, dy: ir.Value, scatter: Callable[..., ir.Value], gather: Callable[[ir.Value], ir.Value]
) -> list[ir.Value | None]:
    """Each factor gets dy times the product of the others: a single 0 gets that of the rest; beside a 0 the others get nothing."""
    x, updates = step.x, step.input(2)
    ones = op.Expand(1.0, op.Shape(x))
    of_x = op.Mul(dy, scatter(ones, updates, reduction="mul")) if 0 in step.leads else None
    if 2 not in step.leads:
        return [of_x]
    zero = op.Equal(updates, 0.0)
    rest = op.Where(zero, 1.0, updates)
    product = op.Mul(x, scatter(ones, rest, reduction="mul"))
    zeros = scatter(_zeros(op, x), op.Where(zero, 1.0, 0.0), reduction="add")  # how many at each place
    alone = op.Equal(op.Sub(gather(zeros), op.Where(zero, 1.0, 0.0)), 0.0)
    of_updates = op.Where(alone, op.Mul(gather(dy), op.Div(gather(product), rest)), 0.0)
    return [of_x, None, of_updates]


def _zeros(op: Ops, like: ir.Value) -> ir.Value:
    return op.Expand(0.0, op.Shape(like))
