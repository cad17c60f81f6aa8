"""Max, average and Lp pooling, over windows or over all positions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from ..backward.rules import Step
from ..graph.emit import Ops
from ..graph.shapes import expand, reshape
from .mask import masked
from .table import vjp
from .window import Sizes, Window, find_window, fit, spatial, spatial_shape, spread


@vjp("MaxPool", finite=True)
def max_pool(op: Ops, step: Step, dy: ir.Value, *_: ir.Value | None) -> ir.Value:
    """dy goes to the first maximum of its window, in row-major order (as in torch).

    It loops over the offsets of the kernel. The input at one offset is a strided slice. It is compared with the output, and
    where both are equal it takes what is left of dy; the last offset takes all that is left. `_fold` puts the parts back at their
    positions. This is exact for ties, overlapping windows, padding and ceil mode, and it needs no operator beyond Slice, Equal,
    Where, Pad, Concat and simpler ones.
    """
    window = find_window(step, tuple(step.attr("kernel_shape")))
    if window.kernel == window.source and set(window.result) == set(window.dilations) == {1} and not any(window.begin):
        return global_max_pool(op, step, dy)
    # padding must not win against an input
    lowest = float(np.finfo(op.floats).min)
    padded = fit(op, step.x, window.begin, tuple(max(e, 0) for e in window.end), lowest)
    offsets = itertools.product(*map(range, window.kernel))
    starts = [tuple(m * d for m, d in zip(offset, window.dilations, strict=True)) for offset in offsets]
    parts = {}
    for start, here in _shifted(op, padded, starts[:-1], window).items():
        hit = op.Equal(here, step.y)
        parts[start] = masked(op, step, hit, dy)
        # later offsets with the same value get nothing
        dy = op.Sub(dy, parts[start]) if step.finite else op.Where(hit, 0.0, dy)
    return _fold(op, step, {**parts, starts[-1]: dy}, window)


def _shifted(op: Ops, padded: ir.Value, starts: list[Sizes], window: Window) -> dict[Sizes, ir.Value]:
    """Start -> the values that the windows read there, [N,C,*result]: every stride-th one from the start on.

    They are taken from one grid per phase (start mod stride), because a strided Slice takes several times as long as a plain one.
    """
    phases: dict[Sizes, list[Sizes]] = {}
    for start in starts:
        phases.setdefault(tuple(p % s for p, s in zip(start, window.strides, strict=True)), []).append(start)
    values = {}
    for phase, members in phases.items():
        cells = [
            max(p) // s + o for p, s, o in zip(zip(*members, strict=True), window.strides, window.result, strict=True)
        ]
        ends = [p + (c - 1) * s + 1 for p, c, s in zip(phase, cells, window.strides, strict=True)]
        grid = op.Slice(padded, list(phase), ends, window.axes, list(window.strides))
        for start in members:
            shift = [p // s for p, s in zip(start, window.strides, strict=True)]
            until = [q + o for q, o in zip(shift, window.result, strict=True)]
            values[start] = grid if until == cells and not any(shift) else op.Slice(grid, shift, until, window.axes)
    return {start: values[start] for start in starts}


def _fold(op: Ops, step: Step, parts: dict[Sizes, ir.Value], window: Window) -> ir.Value:
    """Add up parts [N,C,*result] to [N,C,*source]; part p lies at the positions p + stride * o of the padded input.

    The positions fall into one grid per phase (p mod stride). Within a phase the parts are shifted by whole cells and added.
    Then the phases are interleaved.
    """
    rank = len(window.kernel)
    # the size of the grid of one phase
    cells = tuple(
        (max(p[i] for p in parts) // s) + o for i, (s, o) in enumerate(zip(window.strides, window.result, strict=True))
    )
    phases: dict[Sizes, ir.Value] = {}
    for start, part in parts.items():
        # p + stride * o is the cell p // stride + o of the phase p % stride
        phase = tuple(p % s for p, s in zip(start, window.strides, strict=True))
        shift = tuple(p // s for p, s in zip(start, window.strides, strict=True))
        rest = tuple(c - o - q for c, o, q in zip(cells, window.result, shift, strict=True))
        placed = fit(op, part, shift, rest)
        phases[phase] = op.Add(phases[phase], placed) if phase in phases else placed
    empty = None
    for phase in itertools.product(*map(range, window.strides)):
        if phase not in phases:  # the stride is larger than the kernel: no window reads there
            empty = op.Expand(0.0, op.Shape(next(iter(phases.values())))) if empty is None else empty
            phases[phase] = empty
    sizes = list(cells)
    for axis in reversed(range(rank)):
        stride = window.strides[axis]
        sizes[axis] *= stride
        if stride > 1:
            # axis 2 + axis is [cells]; the phases are joined along a new axis after it: [cells,stride] -> [cells * stride]
            rows: dict[Sizes, list[ir.Value]] = {}
            for phase in sorted(phases):
                rows.setdefault(phase[:axis] + phase[axis + 1 :], []).append(op.Unsqueeze(phases[phase], [3 + axis]))
            shape = spatial_shape(step.dims(step.x), sizes)
            phases = {key: op.Reshape(op.Concat(*row, axis=3 + axis), shape) for key, row in rows.items()}
        else:
            phases = {phase[:axis] + phase[axis + 1 :]: value for phase, value in phases.items()}
    # take off the padding at the beginning, and pad or crop the end to the size of the source
    [whole] = phases.values()
    after = tuple(i + b - n for i, b, n in zip(window.source, window.begin, sizes, strict=True))
    return fit(op, whole, tuple(-b for b in window.begin), after)


@vjp("AveragePool", finite=True)
def average_pool(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y = sum over the window / its number of inputs: dy / number, summed over the windows that hold an input."""
    window = find_window(step, tuple(step.attr("kernel_shape")))
    return spread(op, op.Div(dy, _counts(step, window).astype(op.floats)), window, step.dims(step.x))


def _counts(step: Step, window: Window) -> np.ndarray:
    """How many inputs each window averages over, [1,1,*result].

    With count_include_pad, positions in the stated padding count, too. Positions that ceil mode adds after it do not.
    """
    rank = len(window.kernel)
    before, after = (0,) * rank, (0,) * rank
    if step.attr("count_include_pad", 0):
        before = window.begin
        stated = tuple(step.attr("pads", [0] * 2 * rank)[rank:])
        # padding that is chosen reaches exactly to the end of the last window
        after = tuple(max(e, 0) for e in window.end) if _chosen(step) else stated
    counts = np.ones((1, 1))
    for axis in range(rank):
        # [result,kernel]: the positions that each window reads; 0 is the first input
        starts = np.arange(window.result[axis]) * window.strides[axis] - window.begin[axis]
        reads = starts[:, None] + np.arange(window.kernel[axis]) * window.dilations[axis]
        valid = (reads >= -before[axis]) & (reads < window.source[axis] + after[axis])
        # a window holds the product of what it holds along each axis
        counts = counts[..., None] * valid.sum(axis=1)
    return counts


def _chosen(step: Step) -> bool:
    """Whether the padding is SAME_UPPER or SAME_LOWER. VALID is none, and comes without `pads`."""
    return str(step.attr("auto_pad", "NOTSET")).startswith("SAME")


@vjp("GlobalAveragePool", finite=True)
def global_average_pool(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y = mean over the positions."""
    return expand(op, op.Div(dy, float(math.prod(spatial(step, step.x)))), step.dims(step.x))


@vjp("GlobalMaxPool", finite=True)
def global_max_pool(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """dy goes to the first maximum."""
    dims = step.dims(step.x)
    positions = math.prod(spatial(step, step.x))
    flat = op.Reshape(step.x, [0, 0, positions])
    first = op.ArgMax(flat, axis=2, keepdims=1)  # the first of equal values
    hit = op.Equal(np.arange(positions).reshape(1, 1, positions), first)
    share = op.Where(hit, op.Reshape(dy, [0, 0, 1]), 0.0)
    return reshape(op, share, dims, step.x)


@vjp("LpPool")
def lp_pool(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y = (sum |x|^p)^(1/p): dx = sign(x) |x|^(p-1) times the sum of dy y^(1-p) over the windows; 0 where y = 0."""
    window = find_window(step, tuple(step.attr("kernel_shape")))
    return _lp(op, step, lambda g: spread(op, g, window, step.dims(step.x)), dy)


@vjp("GlobalLpPool")
def global_lp_pool(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """As LpPool, with one window over everything."""
    return _lp(op, step, lambda g: expand(op, g, step.dims(step.x)), dy)


def _lp(op: Ops, step: Step, back: Callable[[ir.Value], ir.Value], dy: ir.Value) -> ir.Value:
    p = float(step.attr("p", 2))
    if p == 1:
        return op.Mul(op.Sign(step.x), back(dy))
    # the inner Where avoids 0 to a negative power
    positive = op.Greater(step.y, 0.0)
    scaled = op.Where(positive, op.Mul(dy, op.Pow(op.Where(positive, step.y, 1.0), 1 - p)), 0.0)
    power = step.x if p == 2 else op.Mul(op.Sign(step.x), op.Pow(op.Abs(step.x), p - 1))
    return op.Mul(power, back(scaled))
