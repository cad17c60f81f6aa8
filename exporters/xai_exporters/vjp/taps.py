"""Interpolation between the cells of a grid, as a sum over taps: y[n,:,p] = sum over t of weight[n,t,p] x[n,:,index[n,t,p]]."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ..graph.emit import Ops

_ALPHA = -0.75  # of the cubic kernel (Keys 1981), as ONNX and torch have it


@dataclass(frozen=True)
class Tap:
    """One neighbour of a coordinate c along one axis, for all points [N,1,P].

    Attributes:
        cell: Its number, an integer as a float; it may lie outside the grid.
        weight: What it contributes; None stands for 1.
        slope: d weight / d c; None stands for 0.
    """

    cell: ir.Value
    weight: ir.Value | None
    slope: ir.Value | None


@dataclass(frozen=True)
class Samples:
    """All taps of some points, joined: T taps of P points make T*P, the taps one after the other.

    Attributes:
        count: T.
        index: The cell of the flattened grid, int64 [N,1,T*P].
        weight: [N,1,T*P].
        slopes: d weight / d c along each axis, [N,1,T*P]; None for steps (nearest).
    """

    count: int
    index: ir.Value
    weight: ir.Value
    slopes: tuple[ir.Value, ...] | None


def nearest(op: Ops, c: ir.Value) -> list[Tap]:
    """The cell that is nearest; of two, the even one."""
    return [Tap(op.Round(c), None, None)]


def linear(op: Ops, c: ir.Value) -> list[Tap]:
    """1 - t and t, t = c - floor(c)."""
    low = op.Floor(c)
    t = op.Sub(c, low)
    one = op.Add(op.Mul(t, 0.0), 1.0)
    return [Tap(low, op.Sub(1.0, t), op.Neg(one)), Tap(op.Add(low, 1.0), t, one)]


def cubic(op: Ops, c: ir.Value) -> list[Tap]:
    """The kernel k at the distances 1 + t, t, 1 - t and 2 - t (Keys 1981); with a = -0.75

    k(d) = (a + 2) d^3 - (a + 3) d^2 + 1 for d <= 1, and a d^3 - 5 a d^2 + 8 a d - 4 a for 1 < d < 2.
    """
    low = op.Floor(c)
    t = op.Sub(c, low)
    a = _ALPHA
    near, far = (a + 2, -(a + 3), 0.0, 1.0), (a, -5 * a, 8 * a, -4 * a)

    def tap(step: int, polynomial: tuple[float, float, float, float], distance: ir.Value, sign: float) -> Tap:
        a3, a2, a1, a0 = polynomial
        weight = op.Add(op.Mul(op.Add(op.Mul(op.Add(op.Mul(distance, a3), a2), distance), a1), distance), a0)
        slope = op.Add(op.Mul(op.Add(op.Mul(distance, 3 * a3), 2 * a2), distance), a1)
        return Tap(op.Add(low, float(step)), weight, op.Mul(slope, sign))

    return [
        tap(-1, far, op.Add(t, 1.0), 1.0),
        tap(0, near, t, 1.0),
        tap(1, near, op.Sub(1.0, t), -1.0),
        tap(2, far, op.Sub(2.0, t), -1.0),
    ]


KERNELS: dict[str, Callable[[Ops, ir.Value], list[Tap]]] = {
    "nearest": nearest, "linear": linear, "bilinear": linear, "cubic": cubic, "bicubic": cubic,
}  # fmt: skip
"""Mode of GridSample -> its kernel; up to opset 19 two of them have other names."""


def reflected(op: Ops, c: ir.Value, low: float, high: float) -> tuple[ir.Value, ir.Value]:
    """A coordinate outside low ... high reflected at the bounds until it lies inside, and the derivative, 1 or -1."""
    span = high - low
    if span == 0:
        return op.Add(op.Mul(c, 0.0), low), op.Mul(c, 0.0)
    u = op.Sub(c, low)
    # a triangular wave of period 2 span; inside it is c, without rounding
    u = op.Sub(u, op.Mul(op.Floor(op.Div(u, 2 * span)), 2 * span))
    wave = op.Sub(low + span, op.Abs(op.Sub(u, span)))
    inside = op.And(op.GreaterOrEqual(c, low), op.LessOrEqual(c, high))
    sign = op.Where(op.Less(u, span), 1.0, -1.0)
    return op.Where(inside, c, wave), op.Where(inside, 1.0, sign)


def cells(op: Ops, taps: Sequence[Tap], size: int, padding: str, bounds: tuple[float, float]) -> list[Tap]:
    """The taps inside the grid: outside there are zeros, the last cell (border), or the cells mirrored (reflection)."""
    results = []
    for tap in taps:
        weight, slope = tap.weight, tap.slope
        if padding == "reflection":
            cell = op.Round(reflected(op, tap.cell, *bounds)[0])
        elif padding == "zeros":
            cell = tap.cell
            inside = op.And(op.GreaterOrEqual(cell, 0.0), op.LessOrEqual(cell, float(size - 1)))
            weight = op.Where(inside, 1.0 if weight is None else weight, 0.0)
            slope = None if slope is None else op.Where(inside, slope, 0.0)
        else:
            cell = tap.cell
        results.append(Tap(op.Clip(cell, 0.0, float(size - 1)), weight, slope))  # an index is always valid
    return results


def joined(op: Ops, axes: Sequence[Sequence[Tap]], sizes: Sequence[int]) -> Samples:
    """The taps of several axes: products of the weights, and one number per cell of the flattened grid."""
    strides = [int(np.prod(sizes[i + 1 :])) for i in range(len(sizes))]
    indices, weights, slopes = [], [], [list[ir.Value]() for _ in axes]
    for taps in itertools.product(*axes):
        terms = [op.Mul(tap.cell, float(s)) if s != 1 else tap.cell for tap, s in zip(taps, strides, strict=True)]
        # as integers before they are added: float32 counts to 2^24 only
        indices.append(functools.reduce(op.Add, [op.Cast(term, to=int(ir.DataType.INT64)) for term in terms]))
        one = op.Add(op.Mul(taps[0].cell, 0.0), 1.0)
        known = [tap.weight for tap in taps if tap.weight is not None]
        weights.append(functools.reduce(op.Mul, known) if known else one)
        for axis, own in enumerate(taps):
            if own.slope is not None:
                others = [tap.weight for i, tap in enumerate(taps) if i != axis and tap.weight is not None]
                slopes[axis].append(functools.reduce(op.Mul, others, own.slope))
    smooth = all(slopes)

    def along(values: list[ir.Value]) -> ir.Value:
        return values[0] if len(values) == 1 else op.Concat(*values, axis=2)

    # where no number comes in, none beyond the grid goes out: runtimes and the engine's guard rely on it
    index = op.Clip(along(indices), 0, int(np.prod(sizes)) - 1)
    return Samples(len(weights), index, along(weights), tuple(map(along, slopes)) if smooth else None)


def scattered(op: Ops, samples: Samples, dy: ir.Value, channels: int, cells_of_grid: int, like: ir.Value) -> ir.Value:
    """dx of x [N,C,S] for dy [N,C,P]: each cell gets the sum of the dy that it contributed to, times its weight."""
    repeated = dy if samples.count == 1 else op.Concat(*[dy] * samples.count, axis=2)
    index = op.Expand(samples.index, [1, channels, 1])
    zeros = op.Expand(0.0, op.Concat(op.Shape(like, start=0, end=1), [channels, cells_of_grid], axis=0))
    return op.ScatterElements(zeros, index, op.Mul(repeated, samples.weight), axis=2, reduction="add")


def sloped(op: Ops, samples: Samples, dy: ir.Value, x: ir.Value, channels: int) -> list[ir.Value]:
    """The gradients of the coordinates, [N,1,P] for each axis: sum over channels and taps of dy x slope; x is [N,C,S]."""
    assert samples.slopes is not None
    taken = op.GatherElements(x, op.Expand(samples.index, [1, channels, 1]), axis=2)
    repeated = op.Concat(*[dy] * samples.count, axis=2)
    summed = op.ReduceSum(op.Mul(repeated, taken), [1], keepdims=1)  # [N,1,T*P]
    results = []
    for slope in samples.slopes:
        terms = op.Reshape(op.Mul(summed, slope), [0, samples.count, -1])
        results.append(op.ReduceSum(terms, [1], keepdims=1))
    return results
