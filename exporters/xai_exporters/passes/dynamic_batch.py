"""Make a fixed batch symbolic.

A source exported with batch 1 (or any other number) has that number in its input's shape, and in constants all over the
graph. This pass walks the graph from its input, and knows the place of the batch in each tensor (`batch_axes`). Legal cases:

1. Reshape to a constant shape: the entry that holds the batch becomes -1, and every other entry becomes a number. Flatten from
   axis 0 is such a Reshape.
2. Concat with a constant (a class token), GridSample with a constant grid: the constant is expanded to the batch.
3. Expand to a constant shape: the batch's entry becomes 1, which keeps that dimension as it is.
4. Resize to constant sizes: the batch's axis is left out.
5. Slice, Split and Gather that take the whole batch: the batch's axis is left out. A Gather that counts through a flat tensor
   (torch's adaptive pooling) is a Reshape, as in case 1.
6. A mean, sum, maximum, minimum or product over a batch of 1 that keeps the dimension: the batch's axis is left out.

This pass does not decide whether the result is right: the export compares three images at once with three single ones. If they
differ, the bundle takes one image at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np
import onnx_ir as ir

from ..graph.emit import Emitter
from ..graph.reading import attribute
from .batch_axes import MARK, BatchAxes

_KEPT_BY_ONE = {"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd"}


def make_batch_dynamic(model: ir.Model, assume: bool = True) -> bool:
    """Give the inputs the batch dimension "N".

    Args:
        model: The model; changed.
        assume: Whether a Reshape of a tensor of unknown shape, as recurrent layers give, has the batch in its first entry. The
            assumption breaks graphs that would run on one image: Sequencer's rows of an image are an LSTM's batch, and
            Reshape [18,18,96] to [1,18,18,-1] then became [0,18,18,-1].

    Returns:
        Whether the batch was fixed before.
    """
    graph = model.graph
    image = graph.inputs[0]
    assert image.shape is not None  # `clean` has bound it
    batch = image.shape[0]
    for given in graph.inputs:
        assert given.shape is not None
        given.shape = ir.Shape(["N", *given.shape[1:]])
    if not isinstance(batch, int):
        return False
    graph.sort()
    axes = BatchAxes(batch, graph.opset_imports[""])
    for given in graph.inputs:
        assert given.shape is not None
        sizes = [int(str(d)) for d in given.shape.dims[1:]]
        axes.declare(given, [MARK, *sizes], int(given.dtype or ir.DataType.FLOAT))
    work = _Rewriter(graph, axes, assume)
    for node in list(graph):
        for value in node.inputs:
            if value is not None:
                axes.know(value)
        if node.domain == "":
            _RULES.get(node.op_type, _Rewriter.nothing)(work, node)
            if not any(value in axes.types for value in node.outputs):
                axes.infer(node)
    graph.sort()
    return True


class _Rewriter:
    """Rewrites one node at a time. A method notes the shape of a node's output only if shape inference would not find it."""

    def __init__(self, graph: ir.Graph, axes: BatchAxes, assume: bool) -> None:
        self.graph = graph
        self.axes = axes
        self.assume = assume
        self.emit = Emitter(graph, "batch")
        self._size: ir.Value | None = None

    def nothing(self, node: ir.Node) -> None:
        """Most operators do not name the batch."""

    def reshape(self, node: ir.Node) -> None:
        """Case 1."""
        x, target = node.inputs[0], self._fixed(node, 1)
        if x is None or target is None:
            return
        if self.axes.dims(x) is None:  # unknown shape: assume that the first entry is the batch, as exporters write it
            if self.assume and len(target) > 1 and target[0] == self.axes.batch:
                # a shape may hold -1 only once; 0 copies the input's dimension, unless `allowzero` is set
                self._set(node, 1, [0 if -1 in target else -1, *target[1:]])
                node.attributes.pop("allowzero", None)
            return
        have = self.axes.source_dims(x)
        if self.axes.axis(x) is None or 0 in have:
            return
        if not attribute(node, "allowzero", 0):
            target = [have[i] if d == 0 and i < len(have) else d for i, d in enumerate(target)]
        rest = prod(d for d in target if d != -1)
        if rest == 0 or prod(have) % rest:  # an empty tensor, or a shape that does not fit
            return
        self._view(node, [prod(have) // rest if d == -1 else d for d in target])

    def flatten(self, node: ir.Node) -> None:
        """Case 1: Flatten from axis 0 gives one row that holds all images."""
        x = node.inputs[0]
        if x is None or (axis := self.axes.axis(x)) is None:
            return
        have = self.axes.source_dims(x)
        start = attribute(node, "axis", 1)
        start += len(have) if start < 0 else 0
        if start == 0:
            node.attributes.pop("axis", None)
            node.op_type = "Reshape"
            node.resize_inputs(2)
            self._view(node, [1, prod(have)])
            return
        if 0 in have:
            return
        dims = [prod(have[:start]), prod(have[start:])]
        held = axis >= start  # False or True: also the index of the row or the column dimension in `dims`
        outer = prod(have[start if held else 0 : axis]) * self.axes.outer.get(x, 1)
        dims[held] = dims[held] // self.axes.batch * MARK
        self.axes.declare(node.outputs[0], dims, self.axes.type_of(x), outer)

    def _view(self, node: ir.Node, target: Sequence[int]) -> None:
        """Reshape to `target`, and make -1 of the entry that holds the batch.

        In memory's order, `before` elements lie outside the batch. So it is an entry i for which prod(target[:i]) divides `before`
        and target[i] is a multiple of the quotient times the batch.
        """
        x = node.inputs[0]
        assert x is not None
        before, batch = self.axes.before(x), self.axes.batch
        entries = {}  # position -> the part of its entry that lies outside the batch
        for i, size in enumerate(target):
            outside, rest = divmod(before, prod(target[:i]))
            if not rest and size % (outside * batch) == 0:
                entries[i] = outside
        if not entries:
            return
        # several entries may qualify: prefer one that is the batch alone, then the last one that is no feature axis
        alone = [i for i, outside in entries.items() if outside == 1 and target[i] == batch]
        inside = [i for i in entries if i < len(target) - 1]  # the last axis holds features
        position = alone[0] if alone else inside[-1] if inside else min(entries)
        self._set(node, 1, [-1 if i == position else d for i, d in enumerate(target)])
        node.attributes.pop("allowzero", None)
        dims = [d // batch * MARK if i == position else d for i, d in enumerate(target)]
        self.axes.declare(node.outputs[0], dims, self.axes.type_of(x), entries[position])

    def concat(self, node: ir.Node) -> None:
        """Case 2. Tensors that are joined along the batch itself follow each other in that dimension."""
        rank = len(self.axes.dims(node.inputs[0]) or ())
        marked = {a for x in node.inputs if (a := self.axes.axis(x)) is not None}
        along = attribute(node, "axis", 0) % max(rank, 1)
        if len(marked) != 1:
            return
        [axis] = marked
        if axis != along:
            for position, x in enumerate(node.inputs):
                if x is not None and self.axes.axis(x) is None:
                    self._expand(node, position, axis)
        elif all(self.axes.axis(x) == axis for x in node.inputs):  # then the number of the input lies outside the batch
            self.axes.infer(node)
            first = node.inputs[0]
            assert first is not None
            self.axes.outer[node.outputs[0]] = len(node.inputs) * self.axes.outer.get(first, 1)

    def grid_sample(self, node: ir.Node) -> None:
        """Case 2."""
        if self.axes.axis(node.inputs[0]) == 0 and self.axes.axis(node.inputs[1]) is None:
            self._expand(node, 1, 0)

    def _expand(self, node: ir.Node, position: int, axis: int) -> None:
        """Expand an input that holds one image's part to the whole batch; only for a source exported for a batch of 1."""
        x = node.inputs[position]
        dims = None if x is None else self.axes.dims(x)
        if x is None or dims is None or dims[axis] != 1 or self.axes.batch != 1:
            return
        if self._size is None:
            self._size = self.emit.node("Shape", [self.graph.inputs[0]], "size", {"start": 0, "end": 1})
        parts = [self.emit.ints([d], "one") if i != axis else self._size for i, d in enumerate(dims)]
        shape = self.emit.node("Concat", parts, "shape", {"axis": 0})
        wide = self.emit.node("Expand", [x, shape], "expanded")
        self.axes.declare(wide, [MARK if i == axis else d for i, d in enumerate(dims)], self.axes.type_of(x))
        node.replace_input_with(position, wide)

    def expand(self, node: ir.Node) -> None:
        """Case 3."""
        axis, target = self.axes.axis(node.inputs[0]), self._fixed(node, 1)
        if axis is None or target is None or node.inputs[0] is None:
            return
        have = self.axes.source_dims(node.inputs[0])
        position = axis + len(target) - len(have)  # broadcasting aligns the last axes
        if position >= 0 and target[position] == have[axis] != 1:  # an entry of 1 fits every batch already
            self._set(node, 1, [1 if i == position else d for i, d in enumerate(target)])

    def resize(self, node: ir.Node) -> None:
        """Case 4."""
        axis, sizes = self.axes.axis(node.inputs[0]), self._fixed(node, 3)
        if axis is None or sizes is None or node.inputs[0] is None:
            return
        have = self.axes.source_dims(node.inputs[0])
        listed = [a % len(have) for a in attribute(node, "axes", None) or range(len(have))]
        # an axis that `axes` leaves out keeps its size
        kept = [i for i, (a, size) in enumerate(zip(listed, sizes, strict=True)) if a != axis or size != have[axis]]
        if len(kept) == len(listed):
            return
        if attribute(node, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
            region = self.axes.constant(node.inputs[1])
            if region is None or region.size != 2 * len(listed):
                return
            ends = np.ascontiguousarray(region.reshape(2, -1)[:, kept].reshape(-1))  # all begins, then all ends
            node.replace_input_with(1, self.emit.constant(ends, f"{node.name}/roi"))
        node.attributes["axes"] = ir.AttrInt64s("axes", [listed[i] for i in kept])
        self._set(node, 3, [sizes[i] for i in kept])

    def slice(self, node: ir.Node) -> None:
        """Case 5."""
        x, axis = node.inputs[0], self.axes.axis(node.inputs[0])
        starts, ends = self._fixed(node, 1), self._fixed(node, 2)
        if x is None or axis is None or starts is None or ends is None:
            return
        size = self.axes.source_dims(x)[axis]
        rank = len(self.axes.dims(x) or ())
        listed = self._fixed(node, 3) or list(range(len(starts)))
        steps = self._fixed(node, 4) or [1] * len(starts)
        parts = list(zip(starts, ends, [a % rank for a in listed], steps, strict=True))
        # each part is (start, end, axis, step)
        kept = [p for p in parts if not (p[2] == axis and p[3] == 1 and (p[0] == 0 or p[0] <= -size) and p[1] >= size)]
        if len(kept) == len(parts):
            return
        if not kept:
            self._identity(node)
            return
        node.resize_inputs(5)
        for position, entries in enumerate(zip(*kept, strict=True), 1):
            self._set(node, position, list(entries))

    def split(self, node: ir.Node) -> None:
        """Case 5."""
        axis = self.axes.axis(node.inputs[0])
        rank = len(self.axes.dims(node.inputs[0]) or ())
        if axis is None or attribute(node, "axis", 0) % rank != axis:
            return
        if len(node.outputs) == 1:
            self._identity(node)
        sizes = self._fixed(node, 1) if len(node.inputs) > 1 else None
        if sizes is not None and len(set(sizes)) == 1:  # equal parts: state their number, which holds at every batch
            node.resize_inputs(1)
            node.attributes["num_outputs"] = ir.AttrInt64("num_outputs", len(node.outputs))

    def gather(self, node: ir.Node) -> None:
        """Case 5."""
        x, axis = node.inputs[0], self.axes.axis(node.inputs[0])
        indices = self.axes.constant(node.inputs[1])
        if x is None or axis is None or indices is None:
            return
        have = self.axes.source_dims(x)
        if attribute(node, "axis", 0) % len(have) == axis and np.array_equal(indices, np.arange(have[axis])):
            self._identity(node)
        elif len(have) == 1 and np.array_equal(indices.reshape(-1), np.arange(have[0])):
            node.attributes.clear()
            node.op_type = "Reshape"
            self._view(node, indices.shape)

    def reduce(self, node: ir.Node) -> None:
        """Case 6."""
        x, axis = node.inputs[0], self.axes.axis(node.inputs[0])
        if x is None or axis is None or not attribute(node, "keepdims", 1) or self.axes.source_dims(x)[axis] != 1:
            return
        given = node.inputs[1] if len(node.inputs) > 1 else None
        axes = self._fixed(node, 1) if given is not None else None
        rank = len(self.axes.dims(x) or ())
        if (given is not None and axes is None) or (not axes and attribute(node, "noop_with_empty_axes", 0)):
            return
        kept = [a for a in (i % rank for i in axes or range(rank)) if a != axis]
        if not kept:
            self._identity(node)
        elif not axes or len(kept) < len(axes):
            node.resize_inputs(2)
            self._set(node, 1, kept)

    def _identity(self, node: ir.Node) -> None:
        """Make the node an Identity."""
        node.op_type = "Identity"
        node.attributes.clear()
        node.resize_inputs(1)

    def _fixed(self, node: ir.Node, position: int) -> list[int] | None:
        """The integers of an input if they are the same at every batch, else None."""
        value = node.inputs[position] if position < len(node.inputs) else None
        array = self.axes.constant(value)
        return None if array is None or array.size == 0 else [int(i) for i in np.atleast_1d(array)]

    def _set(self, node: ir.Node, position: int, entries: Sequence[int]) -> None:
        constant = self.emit.ints(entries, str(node.name))
        self.axes.know(constant)
        node.replace_input_with(position, constant)


_RULES: dict[str, Callable[[_Rewriter, ir.Node], None]] = {
    "Reshape": _Rewriter.reshape,
    "Flatten": _Rewriter.flatten,
    "Concat": _Rewriter.concat,
    "GridSample": _Rewriter.grid_sample,
    "Expand": _Rewriter.expand,
    "Resize": _Rewriter.resize,
    "Slice": _Rewriter.slice,
    "Split": _Rewriter.split,
    "Gather": _Rewriter.gather,
    **dict.fromkeys(_KEPT_BY_ONE, _Rewriter.reduce),
}
