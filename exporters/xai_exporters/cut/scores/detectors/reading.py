"""Reading a detector's outputs: parts that were put together, and the tensor before a function."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

import onnx_ir as ir

from ....graph.emit import Ops
from ....graph.reading import attribute, constant_of
from ....passes.clean import CleanGraph

_SAME = {"Identity", "Cast", "QuantizeLinear", "DequantizeLinear"}


def uncopied(value: ir.Value) -> ir.Value:
    """The first tensor on the way back that is no copy or code of another one."""
    while (node := value.producer()) is not None and node.op_type in _SAME and node.inputs[0] is not None:
        value = node.inputs[0]
    return value


def parts(clean: CleanGraph, value: ir.Value, axis: int) -> Iterator[tuple[ir.Value, int, int]]:
    """The tensors that a Concat along an axis puts together, those of inner Concats one by one; a tensor that is none, alone.

    Whole parts that were cut out again, to be put together with others, are those parts.

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
        yield from parts(clean, node.inputs[0], perm[axis])
        return
    if node is not None and node.op_type in ("Slice", "Split") and (cut := _cut(clean, node, source, axis)):
        yield from cut
        return
    yield value, axis, clean.shapes.dims(value)[axis] or 0


def _cut(clean: CleanGraph, node: ir.Node, value: ir.Value, axis: int) -> list[tuple[ir.Value, int, int]]:
    """The whole parts that a Slice or Split takes out of several; none if it takes anything else."""
    source, start = node.inputs[0], _start(clean, node, value, axis)
    if source is None or start is None:
        return []
    before_cut, own = clean.shapes.both(source)[0], clean.shapes.both(value)[0]
    if [*before_cut[:axis], *before_cut[axis + 1 :]] != [*own[:axis], *own[axis + 1 :]]:
        return []  # rows are cut off, too
    several = list(parts(clean, source, axis))
    ends = accumulate(size for _, _, size in several)
    stop = start + own[axis]
    taken = [part for part, end in zip(several, ends, strict=True) if start <= end - part[2] and end <= stop]
    return taken if sum(size for _, _, size in taken) == own[axis] and len(several) > 1 else []


def after_box(clean: CleanGraph, value: ir.Value, axis: int) -> list[tuple[ir.Value, int, int]]:
    """The parts of [N,rows,E] or [N,E,rows] from its fifth entry on, as `parts` gives them; none if no part begins there."""
    start, found = 0, list[tuple[ir.Value, int, int]]()
    for part in parts(clean, value, axis):
        if start == 4 or found:
            found.append(part)
        start += part[2]
    return found


def layer_size(clean: CleanGraph, value: ir.Value, axis: int) -> int | None:
    """How many numbers the layer gives that gives the first one along an axis; None if it gives others before that one.

    The layer is found through the operators that put levels and entries together, cut them apart, and lay them out as rows.
    """
    at = 0
    while (node := uncopied(value).producer()) is not None and (source := node.inputs[0]) is not None:
        value = uncopied(value)
        shape = clean.shapes.both(value)[0]
        if node.op_type == "Concat":
            joined = [one for one in node.inputs if one is not None]
            source = joined[0]
            if int(attribute(node, "axis", 0)) % len(shape) == axis:
                for source in joined:
                    size = clean.shapes.both(source)[0][axis]
                    if at < size:
                        break
                    at -= size
        elif node.op_type == "Transpose":
            axis = (attribute(node, "perm", None) or list(range(len(shape)))[::-1])[axis]
        elif node.op_type in ("Reshape", "Flatten", "Squeeze", "Unsqueeze"):
            if clean.shapes.both(source)[0][: axis + 1] != shape[: axis + 1]:
                break
        elif node.op_type in ("Slice", "Split"):
            start = _start(clean, node, value, axis)
            if start is None:
                break
            at += start
        else:
            break
        value = source
    return None if at else clean.shapes.both(value)[0][axis]


def cut_out_of(clean: CleanGraph, value: ir.Value, axis: int) -> tuple[ir.Value, int | None]:
    """The tensor that a Slice or Split cuts a tensor out of, and its first entry there along an axis; without one, itself and 0."""
    node = uncopied(value).producer()
    if node is None or node.op_type not in ("Slice", "Split") or node.inputs[0] is None:
        return value, 0
    return uncopied(node.inputs[0]), _start(clean, node, uncopied(value), axis)


def _start(clean: CleanGraph, node: ir.Node, value: ir.Value, axis: int) -> int | None:
    """Where a Slice or Split begins along an axis; None if constants do not say."""
    if node.op_type == "Split":
        own = list(node.outputs)
        split = int(attribute(node, "axis", 0)) % len(clean.shapes.both(value)[0]) == axis
        return sum(clean.shapes.both(one)[0][axis] for one in own[: own.index(value)]) if split else 0
    constants = [None if one is None else constant_of(one) for one in node.inputs[1:]]
    if len(constants) < 3 or any(one is None for one in constants):
        return None
    starts, _, axes, *steps = (one.reshape(-1).tolist() for one in constants if one is not None)
    size = clean.shapes.both(node.inputs[0])[0]  # type: ignore[arg-type]
    for i, own in enumerate(axes):
        if own % len(size) == axis:
            return (
                None
                if steps and steps[0][i] != 1
                else min(starts[i] % size[axis] if starts[i] < 0 else starts[i], size[axis])
            )
    return 0


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
