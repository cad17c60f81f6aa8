"""Operators that look up an image between its pixels, at places that another input gives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ..backward.rules import Step
from ..graph.emit import Ops
from ..graph.shapes import reshape
from .table import vjp
from .taps import KERNELS, Samples, Tap, cells, joined, reflected, scattered, sloped
from .window import spatial


@vjp("GridSample")
def grid_sample(op: Ops, step: Step, dy: ir.Value) -> list[ir.Value | None]:
    """y = x at the places of a grid [N,...,r] that counts from -1 to 1 along each of the r axes, the last axis first."""
    x, grid, sizes = step.x, step.input(1), spatial(step, step.x)
    channels = step.dims(x)[1]
    points = [d for d in step.dims(step.y)[2:] if d is not None]
    if channels is None or len(points) != len(sizes):
        raise step.refuse("a size other than the batch is open")
    mode, padding = _text(step.attr("mode", "linear")), _text(step.attr("padding_mode", "zeros"))
    aligned = bool(step.attr("align_corners", 0))
    taps: list[list[Tap]] = []
    rates: list[ir.Value | None] = []  # d coordinate / d grid
    cells_of_grid = 1
    for axis, size in enumerate(sizes):
        cells_of_grid *= size
        given = op.Gather(grid, len(sizes) - 1 - axis, axis=-1)
        placed, rate = _coordinate(op, op.Reshape(given, [0, 1, -1]), size, mode, padding, aligned)
        taps.append(cells(op, KERNELS[mode](op, placed), size, padding, _bounds(size, aligned)))
        rates.append(rate)
    samples = joined(op, taps, sizes)
    flat = op.Reshape(dy, [0, channels, -1])
    dx = dgrid = None
    if 0 in step.leads:
        dx = reshape(op, scattered(op, samples, flat, channels, cells_of_grid, x), step.dims(x), x)
    if 1 in step.leads and samples.slopes is not None:
        dgrid = _of_grid(op, step, samples, flat, rates)
    return [dx, dgrid]


@vjp("AffineGrid")
def affine_grid(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y = (x, y, ..., 1) theta^T at each place of a grid [N,...,r], theta [N,r,r+1]: d theta = dy^T (x, y, ..., 1)."""
    step.only_first()
    rank = step.dims(step.x)[1] or 0
    sizes = [d for d in step.dims(step.y)[1:-1] if d is not None]
    if len(sizes) != rank:
        raise step.refuse("a size other than the batch is open")
    aligned = bool(step.attr("align_corners", 0))
    axes = [np.linspace(-1, 1, n) if aligned else (2 * np.arange(n) + 1) / n - 1 for n in sizes]
    places = np.stack([*np.meshgrid(*axes, indexing="ij")[::-1], np.ones(sizes)], axis=-1).reshape(-1, rank + 1)
    return op.MatMul(op.Transpose(op.Reshape(dy, [0, -1, rank]), perm=[0, 2, 1]), places)


def _of_grid(op: Ops, step: Step, samples: Samples, dy: ir.Value, rates: Sequence[ir.Value | None]) -> ir.Value:
    grid, channels = step.input(1), step.dims(step.x)[1] or 1
    slopes = sloped(op, samples, dy, op.Reshape(step.x, [0, channels, -1]), channels)
    columns = [
        op.Reshape(op.Mul(slope, rate), [0, -1, 1])
        for slope, rate in zip(slopes, rates, strict=True)
        if rate is not None
    ]
    return reshape(op, op.Concat(*columns[::-1], axis=2), step.dims(grid), grid)


def _coordinate(
    op: Ops, g: ir.Value, size: int, mode: str, padding: str, aligned: bool
) -> tuple[ir.Value, ir.Value | None]:
    """The coordinate in pixels of a place g of the grid, and its derivative; -1 and 1 are the middle of the first and last
    pixel (aligned), or their outer edges. A cubic kernel keeps its weights beyond the border: each tap is brought inside alone (so
    ONNX Runtime, OpenVINO and torch; onnx's reference evaluator brings the place inside first)."""
    rate = (size - 1) / 2 if aligned else size / 2
    c = op.Mul(op.Add(g, 1.0), rate)
    c = c if aligned else op.Sub(c, 0.5)
    if mode == "nearest":
        c = op.Round(c)
    low, high = _bounds(size, aligned)
    if padding == "border" and mode not in ("cubic", "bicubic"):
        inside = op.And(op.GreaterOrEqual(c, low), op.LessOrEqual(c, high))
        return op.Where(inside, c, op.Clip(c, 0.0, float(size - 1))), op.Where(inside, rate, 0.0)
    if padding == "reflection":
        placed, sign = reflected(op, c, low, high)
        return placed, op.Mul(sign, rate)
    return c, op.Add(op.Mul(c, 0.0), rate)


def _bounds(size: int, aligned: bool) -> tuple[float, float]:
    """The coordinates of the grid's -1 and 1."""
    return (0.0, float(size - 1)) if aligned else (-0.5, size - 0.5)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
