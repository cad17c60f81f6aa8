"""The tail at one position of the layer at a time, as a graph over windows.

With zeros everywhere but at one position, every tensor of the tail is what it is for zeros everywhere, B, except in a window around
that position. The graph computes D, the difference from B, in these windows alone. D is 0 outside of them, so

- a convolution or a mean, without bias:  D' = W * D;
- a sum:                                  D' = D1 + D2;
- any function of each element:           D' = f(B + D) - f(B);
- a maximum over a kernel:                D' = max(B + D) - B'.

The windows of R x S positions lie side by side in one map [N,C,R*k,S*k], in which a convolution is as fast as in any large image.
Global averages, and tensors from which on windows are no longer smaller than the map, are completed to one tensor per position; the
ordinary tail goes on from there. (Krypton computes occlusion maps so: Nakandala et al., SIGMOD 2019.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from xai_deploy.format.bundle import POSITION_COLUMNS, POSITION_LOGITS, POSITION_ROWS

from ...graph.emit import Emitter, Ops
from ...graph.measure import Measured
from ...graph.reading import constant_of
from .axis import Axis, Reading
from .plan import SWEPT, Plan, Spans, frontier, sweeps_of
from .span import Sweep

_LOWEST = float(np.finfo(np.float32).min)


class Windows:
    """The graph under construction; see the module.

    Args:
        tail: A finished tail of one input, [N,K,h,w] float32.
        plan: Which of its nodes run on windows.
        shapes: Its measured shapes.
        still: Tensor -> its values for an activation of zeros, [1, ...].
        end: The output that is explained.
        classes: How many scores it has.
    """

    def __init__(
        self,
        tail: ir.Graph,
        plan: Plan,
        shapes: Measured,
        still: Mapping[str, NDArray[Any]],
        end: ir.Value,
        classes: int,
    ) -> None:
        source = tail.inputs[0]
        self._tail, self._plan, self._shapes, self._still = tail, plan, shapes, still
        self._end, self._classes = end, classes
        own = ir.Value(name=source.name, shape=source.shape, type=source.type)
        whole = ir.TensorType(ir.DataType.INT64)
        inputs = [own, *(
            ir.Value(name=name, shape=ir.Shape(["N", count]), type=whole)
            for name, count in zip((POSITION_ROWS, POSITION_COLUMNS), plan.counts, strict=True)
        )]  # fmt: skip
        opsets = dict(tail.opset_imports)
        self.graph = ir.Graph(inputs, [], nodes=[], opset_imports=opsets, name="windows")
        self._emit = Emitter(self.graph, "windows")
        self._op = Ops(self._emit, "window", np.dtype(np.float32))
        op = self._op
        # the positions are the same for all images
        self._axes = tuple(
            Axis(op, op.Reshape(op.Slice(value, [0], [1], [0]), [-1]), count)
            for value, count in zip(inputs[1:], plan.counts, strict=True)
        )
        self._constants: dict[ir.Value, ir.Value] = {}
        self._changes: dict[ir.Value, ir.Value] = {}
        self._changes[source] = self._gathered(own, plan.windows[source])

    def finish(self) -> ir.Graph:
        """The graph: `activation` [N,K,h,w], rows [N,R] and columns [N,S] -> the scores of the R*S positions [N,R*S,classes]."""
        for node in self._tail:
            if node.outputs[0] in self._plan.windows:
                self._changes[node.outputs[0]] = self._change(node)
        starts = frontier(self._tail, self._plan, self._end)
        begun = {v: self._completed(v) for v in starts}
        scores = begun[self._end] if self._end in begun else self._rest(starts, begun)
        result = self._op.Reshape(scores, [-1, math.prod(self._plan.counts), self._classes])
        result.name, result.type = POSITION_LOGITS, ir.TensorType(ir.DataType.FLOAT)
        result.shape = ir.Shape(["N", math.prod(self._plan.counts), self._classes])
        self.graph.outputs.append(result)
        return self.graph

    def _gathered(self, value: ir.Value, spans: Spans) -> ir.Value:
        """A tensor's values in the windows, [.,C,R*k,S*k]; columns first, of the few rows of the map."""
        op = self._op
        rows, columns = (axis.cells(span) for axis, span in zip(self._axes, spans, strict=True))
        selected = op.MatMul(value, self._axes[1].selection(columns, spans[1].size))
        windows: ir.Value = op.Gather(selected, rows, axis=2)
        return windows

    def _base(self, value: ir.Value, spans: Spans) -> ir.Value:
        """B in the windows; one number for each channel if it is the same everywhere."""
        still = self._still[str(value.name)]
        if np.array_equal(still, np.broadcast_to(still[:, :, :1, :1], still.shape)):
            return self._emit.shared(np.ascontiguousarray(still[:, :, :1, :1]))
        return self._gathered(self._emit.shared(still), spans)

    def _moved(self, value: ir.Value, readings: Sequence[Reading]) -> ir.Value:
        """D of a tensor at other cells of its map; 0 at those that do not change."""
        op, spans = self._op, self._plan.windows[value]
        rows, columns = (axis.moved(span, r) for axis, span, r in zip(self._axes, spans, readings, strict=True))
        padded = op.Pad(self._changes[value], [0, 0, 0, 0, 0, 0, 1, 0])  # a row of zeros at the end
        selected = op.MatMul(padded, self._axes[1].selection(columns, self._axes[1].width(spans[1])))
        moved: ir.Value = op.Gather(selected, rows, axis=2)
        return moved

    def _in(self, value: ir.Value, spans: Spans) -> ir.Value:
        """D of a tensor in the windows of another one of the same map."""
        if _equal(self._plan.windows[value], spans):
            return self._changes[value]
        return self._moved(value, [axis.own(span) for axis, span in zip(self._axes, spans, strict=True)])

    def _change(self, node: ir.Node) -> ir.Value:
        """D of a node's result."""
        op, spans = self._op, self._plan.windows[node.outputs[0]]
        if node.op_type in SWEPT:
            return self._after_sweep(node, spans)
        changes = {v: self._in(v, spans) for v in node.inputs if v is not None and v in self._changes}
        if self._is_sum(node, len(changes)):
            terms = [changes[v] for v in node.inputs if v in changes]
            return terms[0] if len(terms) == 1 else self._like(node, terms)
        if node.op_type == "Concat" or self._is_factor(node, changes):
            return self._like(node, self._given(node, changes))
        still = {v: self._base(v, spans) for v in changes}
        moved = {v: op.Add(still[v], change) for v, change in changes.items()}
        difference: ir.Value = op.Sub(
            self._like(node, self._given(node, moved)), self._like(node, self._given(node, still))
        )
        return difference

    @staticmethod
    def _is_sum(node: ir.Node, terms: int) -> bool:
        """Whether constants fall out of a node's difference."""
        return node.op_type in ("Add", "Sum", "Identity") or (node.op_type == "Sub" and terms == 2)

    @staticmethod
    def _is_factor(node: ir.Node, changes: Mapping[ir.Value, ir.Value]) -> bool:
        """Whether a node multiplies by a constant."""
        return (node.op_type == "Mul" and len(changes) == 1) or (
            node.op_type == "Div" and node.inputs[1] not in changes
        )

    def _after_sweep(self, node: ir.Node, spans: Spans) -> ir.Value:
        """D after a convolution or a pooling: what it reads is laid out side by side, then it passes over all of that once."""
        op, source, sweeps = self._op, node.inputs[0], sweeps_of(node)
        assert source is not None
        assert sweeps is not None
        own = self._plan.windows[source]
        readings = [axis.reading(span, sweep) for axis, span, sweep in zip(self._axes, spans, sweeps, strict=True)]
        pads = {"pads": [0, 0, *(max(0, sweep.reach - sweep.stride) for sweep in sweeps)]}
        same = node.op_type == "Conv" and all(sweep == Sweep(1) for sweep in sweeps) and _equal(own, spans)
        x = self._changes[source] if same else self._moved(source, readings)
        if node.op_type == "Conv":
            assert node.inputs[1] is not None
            return self._like(node, [x, self._constant(node.inputs[1])], pads)
        if node.op_type == "AveragePool":
            return self._like(node, [x], pads)
        # what lies outside of the map is never the largest
        wide = np.pad(self._still[str(source.name)], ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=_LOWEST)
        rows, columns = (axis.cells_read(span, r) for axis, span, r in zip(self._axes, own, readings, strict=True))
        across = self._axes[1].selection(columns, own[1].size + 1)
        still = op.Gather(op.MatMul(self._emit.shared(wide), across), rows, axis=2)
        largest = self._like(node, [op.Add(still, x)], pads)
        difference: ir.Value = op.Sub(largest, self._base(node.outputs[0], spans))
        return difference

    def _like(
        self, node: ir.Node, inputs: Sequence[ir.Value | None], other: Mapping[str, Any] | None = None
    ) -> ir.Value:
        """A node with the operator and the attributes of another one."""
        given = {name: attr.value for name, attr in node.attributes.items()} | dict(other or {})
        return self._emit.node(node.op_type, inputs, f"window/{node.op_type}", given)

    def _given(self, node: ir.Node, changing: Mapping[ir.Value, ir.Value]) -> list[ir.Value | None]:
        """A node's inputs: those that change as given here, and the tail's constants."""
        return [None if v is None else changing[v] if v in changing else self._constant(v) for v in node.inputs]

    def _constant(self, value: ir.Value) -> ir.Value:
        """A constant of the tail as an initializer of this graph, the same one each time."""
        if value not in self._constants:
            content = constant_of(value)
            assert content is not None
            self._constants[value] = self._emit.constant(content, str(value.name))
        return self._constants[value]

    def _completed(self, value: ir.Value) -> ir.Value:
        """A tensor for each position, [N*R*S, ...]."""
        op, (r, s) = self._op, self._plan.counts
        shape = [int(d or 1) for d in self._shapes.dims(value)[1:]]
        still = self._emit.shared(self._still[str(value.name)])
        if value in self._plan.pooled:
            node = value.producer()
            assert node is not None
            source = node.inputs[0]
            assert source is not None
            spans = self._plan.windows[source]
            rows, columns = (axis.changed(span) for axis, span in zip(self._axes, spans, strict=True))
            mean = op.Mul(op.Transpose(columns, perm=[1, 0]), 1 / (spans[0].size * spans[1].size))
            sums = op.MatMul(rows, op.MatMul(self._changes[source], mean))  # [N,C,R,S]
            result: ir.Value = op.Add(op.Reshape(op.Transpose(sums, perm=[0, 2, 3, 1]), [-1, *shape]), still)
            return result
        spans = self._plan.windows[value]
        channels, h, w = shape
        whole = [
            Reading(np.zeros(len(span.start), np.int64), self._emit.shared(np.array([span.size], np.int64)), span.size)
            for span in spans
        ]
        maps = op.Reshape(self._moved(value, whole), [-1, channels, r, h, s, w])
        each = op.Reshape(op.Transpose(maps, perm=[0, 2, 4, 1, 3, 5]), [-1, *shape])
        completed: ir.Value = op.Add(each, still)
        return completed

    def _rest(self, starts: list[ir.Value], begun: Mapping[ir.Value, ir.Value]) -> ir.Value:
        """The tail from these tensors on, on one row for each position."""

        def weight(own: ir.Value) -> ir.Value:
            assert own.const_value is not None
            return self._emit.constant(own.const_value.numpy(), str(own.name))

        [result] = self._emit.insert(self._tail, starts, [self._end], [begun[start] for start in starts], weight)
        return result


def _equal(one: Spans, other: Spans) -> bool:
    return all(a.key == b.key for a, b in zip(one, other, strict=True))
