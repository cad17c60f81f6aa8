"""Where the rows of a detector lie: whether its scores are those of the cells of its levels, each once for each anchor.

Each level's scores are computed on a map and laid out as rows, `[N,A*C,h,w]` -> `[N,rows,C]`, and the levels are put together. Each
element of such a map is given the number of its cell (`graph.positions` knows it); the operators between the maps and the rows move
the numbers as they move the scores. Rows that are queries of a DETR, or that the graph chose among others (TopK), have no number.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from xai_deploy.format.rows import Grid

from ...errors import ExtentError
from ...graph.layouts import Grid as Layout
from ...graph.layouts import reduced_axes
from ...graph.positions.strand import NONE
from ...graph.reading import attribute, constant_of, data_inputs
from ...passes.clean import CleanGraph
from ..featuremap import check_covers

Cells = NDArray[np.int32]

_UNKNOWN = -1
"""The number of an element that lies in no cell."""
_RESHAPES = {"Reshape", "Flatten", "Squeeze", "Unsqueeze"}
_ONE_BY_ONE = {
    *("Identity", "Cast", "Add", "Sub", "Mul", "Div", "Clip", "Exp", "Log", "Pow", "Sqrt"),
    *("Sigmoid", "HardSigmoid", "Tanh", "Softmax", "QuantizeLinear", "DequantizeLinear"),
}
"""Operators that leave every value at its place; a Softmax reads the classes, or the anchors, of one cell."""


def find_grids(clean: CleanGraph, scores: ir.Value, axis: int = 1, start: int = 0) -> tuple[Grid, ...]:
    """The grids of the levels whose cells the rows are, in the rows' order; none if they are no cells.

    Args:
        clean: The network.
        scores: The rows' scores [N,classes,rows] or [N,rows,classes].
        axis: Their axis of classes, counted with the batch.
        start: The first entry along it that is a score.
    """
    walk = _Walk(clean)
    cells = np.moveaxis(walk.cells(scores)[0], axis - 1, 0)[start:]
    line = cells[0]
    if (cells != line).any() or (line == _UNKNOWN).any():
        return ()
    grids = []
    while len(line):
        grid = walk.first_level(line)
        if grid is None:
            return ()
        grids.append(grid)
        line = line[grid.count :]
    return tuple(grids)


@dataclass
class _Walk:
    """The numbers of cells in tensors, back from the rows to the levels' maps.

    Attributes:
        clean: The network.
        first: (height, width) of a level -> the number of its first cell.
    """

    clean: CleanGraph
    first: dict[tuple[int, int], int] = field(default_factory=dict)
    _known: dict[ir.Value, Cells] = field(default_factory=dict)

    def cells(self, value: ir.Value) -> Cells:
        """The cell of each element of a tensor, of its measured shape; `_UNKNOWN` where there is none."""
        if value not in self._known:
            moved = self._moved(value)
            shape = self.clean.shapes.both(value)[0]
            self._known[value] = np.full(shape, _UNKNOWN, np.int32) if moved is None else moved
        return self._known[value]

    def _moved(self, value: ir.Value) -> Cells | None:
        node, shape = value.producer(), self.clean.shapes.both(value)[0]
        if node is None:
            return None
        inputs = data_inputs(node)
        if node.op_type in _RESHAPES:
            return self.cells(inputs[0]).reshape(shape)
        if node.op_type == "Transpose":
            return self.cells(inputs[0]).transpose(attribute(node, "perm", None))
        if node.op_type == "Concat":
            parts = [self.cells(one) for one in node.inputs if one is not None]
            return np.concatenate(parts, axis=int(attribute(node, "axis", 0)))
        if node.op_type in ("Slice", "Split", "Gather"):
            return self._part(node, value)
        if node.op_type in _ONE_BY_ONE:
            return self._together([np.broadcast_to(self.cells(one), shape) for one in inputs])
        if (
            node.op_type in ("ReduceMax", "ReduceMean", "ReduceSum")
            and (merged := self._merged(node, shape)) is not None
        ):
            return merged
        return self._of_map(value, shape)

    def _merged(self, node: ir.Node, shape: tuple[int, ...]) -> Cells | None:
        """The cells over which a node merges classes, such as their best; None if it merges cells."""
        source = node.inputs[0]
        if source is None:
            return None
        whole = self.cells(source)
        axes = reduced_axes(node, whole.ndim)
        if not axes:
            return None
        cells = whole.max(axis=axes)
        return cells.reshape(shape) if (cells == whole.min(axis=axes)).all() and (cells != _UNKNOWN).all() else None

    def _part(self, node: ir.Node, value: ir.Value) -> Cells | None:
        """What a node takes out of its first input; None if it depends on the image what that is."""
        source = node.inputs[0]
        if source is None or constant_of(source) is not None:
            return None
        whole = self.cells(source)
        axis = int(attribute(node, "axis", 0))
        if node.op_type == "Split":
            place = list(node.outputs).index(value)
            sizes = [self.clean.shapes.both(one)[0][axis] for one in node.outputs]
            return np.split(whole, np.cumsum(sizes)[:-1], axis=axis)[place]
        constants = [None if one is None else constant_of(one) for one in node.inputs[1:]]
        if any(known is None and one is not None for known, one in zip(constants, node.inputs[1:], strict=True)):
            return None
        if node.op_type == "Gather":
            return None if constants[0] is None else np.take(whole, constants[0], axis=axis)
        starts, ends, axes, steps = [*(None if c is None else c.reshape(-1).tolist() for c in constants), None, None][
            :4
        ]
        assert starts is not None
        assert ends is not None
        window: list[slice] = [slice(None)] * whole.ndim
        for i, one in enumerate(axes if axes is not None else range(len(starts))):
            step = 1 if steps is None else int(steps[i])
            # an end below -size with a step backwards means the first element, too
            end = None if step < 0 and ends[i] < -whole.shape[one] else int(ends[i])
            window[one] = slice(int(starts[i]), end, step)
        return whole[tuple(window)]

    def _together(self, several: list[Cells]) -> Cells | None:
        """What is combined one by one lies in the same cell; what can't be followed says nothing."""
        if not several:
            return None
        largest = np.maximum.reduce(several)
        agree = np.logical_and.reduce([(one == largest) | (one == _UNKNOWN) for one in several])
        return np.where(agree, largest, _UNKNOWN).astype(np.int32)

    def _of_map(self, value: ir.Value, shape: tuple[int, ...]) -> Cells | None:
        """The numbers of a map's own cells."""
        traced = self.clean.traced(value)
        if traced is None or len(traced.strands) != 1:
            # a map of one cell has no positions: it is the whole image
            return np.full(shape, self._first(1, 1), np.int32) if shape[2:] == (1, 1) else None
        [strand] = traced.strands
        if len(strand.places) != 2 or any((a == NONE).any() and (a != NONE).any() for a in strand.places):
            return None
        (rows, y), (columns, x) = (np.unique(a, return_inverse=True) for a in strand.places)
        size = len(rows), len(columns)
        try:
            check_covers(strand, Layout("NCHW", (1, *size)), str(value.name))
        except ExtentError:
            return None
        y, x = (line.reshape(a.shape) for line, a in zip((y, x), strand.places, strict=True))
        cells = y * size[1] + x
        if len(np.unique(cells)) < size[0] * size[1]:
            return None  # the places of several levels do not make one grid
        return np.broadcast_to(self._first(*size) + cells, shape).astype(np.int32)

    def _first(self, height: int, width: int) -> int:
        count = sum(h * w for h, w in self.first)
        return self.first.setdefault((height, width), count)

    def first_level(self, line: Cells) -> Grid | None:
        """The level with which some rows begin; None if its cells are not in order."""
        for (height, width), first in self.first.items():
            if line[0] == first:
                inner = _run(line == first)
                level = np.repeat(np.arange(first, first + height * width, dtype=np.int32), inner)
                most = len(line) // len(level)
                if not most:
                    return None
                repeats = line[: most * len(level)].reshape(most, -1) == level
                outer = _run(repeats.all(axis=1))
                return Grid(height, width, outer, inner) if outer else None
        return None


def _run(same: NDArray[np.bool_]) -> int:
    """How many are true, from the first on."""
    return int(np.argmin(np.append(same, False)))
