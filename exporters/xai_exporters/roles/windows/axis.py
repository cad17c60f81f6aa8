"""Positions of the windows along one axis of the graph: all are whole numbers that the graph computes from those it runs for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ...graph.emit import Ops
from .span import Span, Sweep


@dataclass(frozen=True)
class Reading:
    """Cells of the map for each position: from `start` [h] on, `length` int64 [1] many, of which `longest` is the most."""

    start: NDArray[np.int64]
    length: ir.Value
    longest: int


class Axis:
    """The windows of `count` positions side by side, along rows or columns.

    Everything depends on the positions that the graph is given, so the windows are as long as these need.

    Args:
        op: Writes nodes.
        positions: int64 [count].
        count: How many positions run at once.
    """

    def __init__(self, op: Ops, positions: ir.Value, count: int) -> None:
        self._op, self._positions, self.count = op, positions, count
        self._known: dict[tuple[str, bytes], ir.Value] = {}

    def length(self, span: Span) -> ir.Value:
        """The length of every window, int64 [1]: that of the longest of these positions."""
        op = self._op
        return self._once(
            "length", span.length.tobytes(), lambda: op.ReduceMax(self._rows(span.length), [0], keepdims=1)
        )

    def cells(self, span: Span) -> ir.Value:
        """The map's cell at each place of the windows, int64 [count*length]; the nearest one for places outside of it."""
        inside = np.clip(span.cells, 0, span.size - 1)
        return self._once("cells", span.key, lambda: self._flat(self._part(inside, self.length(span))))

    def cells_read(self, span: Span, reading: Reading) -> ir.Value:
        """Which cell of the map each read place is, int64 [count*length]; `span.size` for places outside of it."""
        cells = reading.start[:, None] + np.arange(reading.longest)
        inside = np.where((cells >= 0) & (cells < span.size), cells, span.size)
        return self._flat(self._part(inside, reading.length))

    def reading(self, result: Span, sweep: Sweep) -> Reading:
        """What a sweep reads of the map for the windows of its result."""
        op, length = self._op, self.length(result)
        if sweep.stride > 1:
            key = result.length.tobytes()
            length = self._once(f"times {sweep.stride}", key, lambda: op.Mul(self.length(result), [sweep.stride]))
        return Reading(result.start * sweep.stride - sweep.before, length, result.longest * sweep.stride)

    def own(self, span: Span) -> Reading:
        """The windows themselves."""
        return Reading(span.start, self.length(span), span.longest)

    def moved(self, span: Span, reading: Reading) -> ir.Value:
        """Where cells of the map lie among the windows side by side, int64 [count*length].

        A cell that does not change lies at the end, at `count * the windows' length`, where zeros are.
        """
        places, length = span.within(reading.start, reading.longest), reading.length
        key = places.tobytes() + span.key + str(length.name).encode()
        return self._once("moved", key, lambda: self._moved(span, places, length))

    def _moved(self, span: Span, places: NDArray[np.int64], length: ir.Value) -> ir.Value:
        op, own = self._op, self.length(span)
        place = self._part(places, length)  # [count,length]
        before = op.Mul(np.arange(self.count)[:, None], own)
        return self._flat(op.Where(op.Less(place, 0), self.width(span), op.Add(place, before)))

    def selection(self, cells: ir.Value, size: ir.Value | int) -> ir.Value:
        """The matrix [size,len(cells)] that takes these cells of an axis: one 1 in each column, none for a cell at `size`.

        A product with it takes columns, exactly: x * 1 + 0. Gather copies them one by one, which takes several times as long.
        """
        op = self._op

        def make() -> ir.Value:
            most = np.arange(size if isinstance(size, int) else self.count * int(size.meta["longest"]))
            there = most if isinstance(size, int) else op.Slice(most, [0], size, [0])
            return op.Cast(op.Equal(op.Unsqueeze(there, [1]), cells), to=int(ir.DataType.FLOAT))

        name = size if isinstance(size, int) else size.name
        return self._once("selection", f"{cells.name} {name}".encode(), make)

    def width(self, span: Span) -> ir.Value:
        """The length of all windows side by side, int64 [1]."""
        op = self._op
        width = self._once("width", span.length.tobytes(), lambda: op.Mul([self.count], self.length(span)))
        width.meta["longest"] = span.longest
        return width

    def changed(self, span: Span) -> ir.Value:
        """Which places of the windows side by side belong to which position and may change, float32 [count,count*length]."""
        op = self._op
        known = self._part(span.changed.astype(np.float32), self.length(span))  # [count,length]
        own = op.Mul(op.Unsqueeze(known, [1]), np.eye(self.count, dtype=np.float32)[:, :, None])
        return op.Reshape(own, [self.count, -1])

    def _rows(self, table: NDArray[Any]) -> ir.Value:
        gathered: ir.Value = self._op.Gather(table, self._positions, axis=0)
        return gathered

    def _part(self, table: NDArray[Any], length: ir.Value) -> ir.Value:
        """The rows of a table [h,longest] for these positions, cut to `length`."""
        part: ir.Value = self._op.Slice(self._rows(table), [0], length, [1])
        return part

    def _flat(self, value: ir.Value) -> ir.Value:
        flat: ir.Value = self._op.Reshape(value, [-1])
        return flat

    def _once(self, what: str, key: bytes, make: Callable[[], ir.Value]) -> ir.Value:
        if (what, key) not in self._known:
            self._known[what, key] = make()
        return self._known[what, key]
