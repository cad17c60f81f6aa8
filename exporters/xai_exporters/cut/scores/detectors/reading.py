"""Reading a detector's outputs: parts that were put together, and the tensor before a function."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from ....graph.emit import Ops
from ....graph.reading import attribute
from ....passes.clean import CleanGraph

_SAME = {"Identity", "Cast", "QuantizeLinear", "DequantizeLinear"}


def uncopied(value: ir.Value) -> ir.Value:
    """The first tensor on the way back that is no copy or code of another one."""
    while (node := value.producer()) is not None and node.op_type in _SAME and node.inputs[0] is not None:
        value = node.inputs[0]
    return value


def parts(clean: CleanGraph, value: ir.Value, axis: int) -> Iterator[tuple[ir.Value, int, int]]:
    """The tensors that a Concat along an axis puts together, those of inner Concats one by one; a tensor that is none, alone.

    Args:
        clean: The network.
        value: The tensor.
        axis: Counted with the batch.

    Yields:
        (tensor, its axis, its size along it). A Transpose in between changes the axis.
    """
    source = uncopied(value)
    node = source.producer()
    rank = len(clean.shapes.dims(source))
    if node is not None and node.op_type == "Concat" and int(attribute(node, "axis", 0)) % rank == axis:
        for part in node.inputs:
            if part is not None:
                yield from parts(clean, part, axis)
        return
    if node is not None and node.op_type == "Transpose" and node.inputs[0] is not None:
        perm = attribute(node, "perm", None) or list(range(rank))[::-1]
        inner = list(parts(clean, node.inputs[0], perm[axis]))
        if len(inner) > 1:
            yield from inner
            return
    yield value, axis, clean.shapes.dims(value)[axis] or 0


def before(clean: CleanGraph, value: ir.Value, function: str) -> ir.Value | None:
    """The tensor of which this one is the Sigmoid or the Softmax, of the same shape; None if it is none."""
    node = uncopied(value).producer()
    source = node.inputs[0] if node is not None and node.op_type == function else None
    return source if source is not None and clean.shapes.dims(source) == clean.shapes.dims(value) else None


def entries_first(op: Ops, value: ir.Value, axis: int) -> ir.Value:
    """[N,rows,E] as [N,E,rows]; `axis` is that of the entries."""
    return value if axis == 1 else op.Transpose(value, perm=[0, 2, 1])


def entries(op: Ops, value: ir.Value, axis: int, start: int, stop: int) -> ir.Value:
    """Some entries of each row of [N,rows,E] or [N,E,rows], as [N,stop-start,rows]."""
    return entries_first(op, op.Slice(value, [start], [stop], [axis]), axis)
