"""The positions of values that are put, or looked up, elsewhere than their order says: unpooling, sampling at a grid.

A MaxPool's places number the cells of its input. What is put at a place lies where that cell lies.
A GridSample with a constant grid reads its input at known places. If the grid was computed from the image at each place, as the
offsets of a deformable convolution are, its samples belong to these places; how far they lie from them only a run shows.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..reading import attribute, constant_of
from . import strand as s
from .frame import Frame
from .rules import Step, rule
from .strand import Coordinates, Positions, Strand

Numbers = NDArray[np.float64]

_KEEPS_PLACES = ("Cast", "Identity", "Mod", "Reshape")
_EVEN = 1e-3
"""In cells: how far places may lie from even ones and still count as those of a resize."""


@rule("ScatterElements")
def _put(step: Step) -> Positions:
    """What MaxUnpool puts at a MaxPool's places, [N,C,cells]: values, or the numbers of those that stand there.

    It lies where the cells of the pooling's input lie; nowhere if no pooling gave the places, or its input has other cells.
    """
    result = step.results[0]
    pool = _pool_of(step.node.inputs[1])
    if pool is None or pool.inputs[0] is None or int(attribute(step.node, "axis", 0)) != 2 or len(result) != 3:
        return ()
    strands, shape = step.of(pool.inputs[0])
    if shape[:2] != result[:2] or math.prod(shape[2:]) != result[2]:
        return ()
    return s.kept(strand.map(lambda a: s.reshaped(a, shape, result)) for strand in strands)


def _pool_of(value: ir.Value | None) -> ir.Node | None:
    """The MaxPool whose places, counted along the rows, are in a value."""
    while value is not None and (node := value.producer()) is not None:
        if node.op_type == "MaxPool":
            return node if value is node.outputs[1] else None
        value = node.inputs[0] if node.op_type in _KEEPS_PLACES else None
    return None


@rule("GridSample")
def _sampled(step: Step) -> Positions:
    grid = constant_of(step.node.inputs[1])
    if grid is None:
        # [N,rows,columns,2], one position for both numbers -> [N,1,rows,columns]
        return s.kept(strand.map(_at_grid) for strand in step.states[1])
    if not (grid == grid[:1]).all():  # other places in each image
        return ()
    pixels = _pixels(step, grid[0].astype(np.float64))
    return s.kept(_looked_up(strand, step, pixels) for strand in step.states[0])


def _at_grid(a: Coordinates) -> Coordinates:
    return s.nowhere(a.ndim) if a.shape[-1] > 1 else np.expand_dims(a[..., 0], 1)


def _pixels(step: Step, grid: Numbers) -> list[Numbers]:
    """The cells of the input, counted from the middle of the first one, at which each result is read, along each axis."""
    rank = len(step.shape) - 2
    pixels = []
    for axis, size in enumerate(step.shape[2:]):
        share = (grid[..., rank - 1 - axis] + 1) / 2  # x comes first
        pixels.append(share * (size - 1) if attribute(step.node, "align_corners", 0) else share * size - 0.5)
    return pixels


def _looked_up(strand: Strand, step: Step, pixels: list[Numbers]) -> Strand:
    """The places of the nearest cells; cells of their own if the places lie evenly, as a resize's do."""
    lines = [_even(of, axis) for axis, of in enumerate(pixels)]
    counted = [s.unit_steps(a) for a in strand.places]
    if all(line is not None for line in lines) and all(axis is not None and axis > 1 for axis in counted):
        axes = iter(axis - 2 for axis in counted if axis is not None)

        def resampled(a: Coordinates, frame: Frame) -> tuple[Coordinates, Frame]:
            axis = next(axes)
            first, by = lines[axis] or (0.0, 1.0)
            origin = frame.origin + frame.scale * (int(a.min()) + first + 0.5 - by / 2)
            return s.ladder(a.ndim, axis + 2, step.results[0][axis + 2]), Frame(origin, frame.scale * by, frame.size)

        return strand.map_with_frames(resampled)
    nearest = [np.round(of).astype(int) for of in pixels]
    inside = np.all([(of >= 0) & (of < size) for of, size in zip(nearest, step.shape[2:], strict=True)], axis=0)
    cells = tuple(np.clip(of, 0, size - 1) for of, size in zip(nearest, step.shape[2:], strict=True))

    def taken(a: Coordinates) -> Coordinates:
        whole = np.broadcast_to(a, (*a.shape[:2], *step.shape[2:]))
        return s.squash(np.where(inside, whole[(slice(None), slice(None), *cells)], s.NONE).astype(np.int32))

    return strand.map(taken)


def _even(of: Numbers, axis: int) -> tuple[float, float] | None:
    """(first, step) of places that change along one axis alone and lie evenly there; None for others."""
    line = np.moveaxis(of, axis, 0).reshape(of.shape[axis], -1)
    if len(line) < 2 or np.ptp(line, axis=1).max() > _EVEN:
        return None
    steps = np.diff(line[:, 0])
    by = float(steps.mean())
    return (float(line[0, 0]), by) if by > 0 and np.abs(steps - by).max() <= _EVEN else None
