"""Operators that move elements. Their outputs hold no more elements than their inputs, or as many as the graph says."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .rules import Call, Known, Unknowable, exact, rule


def whole(values: Sequence[object] | None, call: Call) -> list[int]:
    """The values as sizes or positions.

    Raises:
        Unknowable: They are missing, or not whole numbers.
    """
    if values is None or not all(type(value) is int for value in values):
        raise Unknowable(f"{call.node} takes numbers that are not integers")
    return [value for value in values if isinstance(value, int)]


@rule("Reshape")
def reshape(call: Call) -> list[Known]:
    x, (least, most) = call[0], call.sizes(1)
    if least != most:
        return [Known(_reshaped(call, x, least, whole(most, call)), x.size, exact=False)]
    wanted = whole(most, call)
    # 0 copies the size of the input, unless `allowzero` is set; -1 takes what is left.
    sizes = [
        x.shape[i] if size == 0 and not call.number("allowzero", 0) and i < len(x.shape) else size
        for i, size in enumerate(wanted)
    ]
    if sizes.count(-1) > 1 or min(sizes, default=0) < -1:
        raise Unknowable(f"{call.node} reshapes to {wanted}")
    if -1 in sizes:
        rest = -math.prod(sizes)  # the -1 is a factor of the product
        sizes[sizes.index(-1)] = x.count // rest if rest else 0
    if math.prod(sizes) != x.count and x.exact:
        raise Unknowable(f"{call.node} reshapes {list(x.shape)} to {wanted}")
    return [x.like(tuple(sizes))]


def _reshaped(call: Call, x: Known, least: list[int], most: list[int]) -> tuple[int, ...]:
    """Upper bounds of the sizes after a Reshape some of whose sizes are bounded only.

    Raises:
        Unknowable: Such a size may be -1, or there is more than one -1.
    """
    known = [low == high for low, high in zip(least, most, strict=True)]
    if most.count(-1) > 1 or any(low < 0 for low, sure in zip(least, known, strict=True) if not sure):
        raise Unknowable(f"{call.node} reshapes to {least} to {most}")
    sizes, rest = [], math.prod(size for size, sure in zip(most, known, strict=True) if sure and size > 0)
    for i, (size, low) in enumerate(zip(most, least, strict=True)):
        own = x.shape[i] if i < len(x.shape) and low == 0 and not call.number("allowzero", 0) else 0  # 0 copies
        sizes.append(x.count // rest if size == -1 else max(size, own))
    return tuple(sizes)


@rule("Transpose")
def transpose(call: Call) -> list[Known]:
    x = call[0]
    order = call.ints("perm") or list(range(len(x.shape)))[::-1]
    if sorted(order) != list(range(len(x.shape))):
        raise Unknowable(f"{call.node} permutes {len(x.shape)} axes by {order[:16]}")
    return [x.like(tuple(x.shape[i] for i in order))]


@rule("Flatten")
def flatten(call: Call) -> list[Known]:
    x, axis = call[0], call.number("axis", 1)
    if not -len(x.shape) <= axis <= len(x.shape):
        raise Unknowable(f"{call.node} has the axis {axis} of {len(x.shape)}")
    axis %= len(x.shape) + (axis >= 0) or 1  # negative: counted from the end; 0 to the rank: unchanged
    return [x.like((math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))]


@rule("Squeeze")
def squeeze(call: Call) -> list[Known]:
    x = call[0]
    axes = call.axes(1, len(x.shape))
    if axes is None:
        if not x.exact:
            raise Unknowable(f"{call.node} takes away the axes of size 1, and which these are depends on the image")
        axes = [i for i, size in enumerate(x.shape) if size == 1]
    return [x.like(tuple(size for i, size in enumerate(x.shape) if i not in axes))]


@rule("Unsqueeze")
def unsqueeze(call: Call) -> list[Known]:
    x = call[0]
    given = call.ints("axes")
    rank = len(x.shape) + len(given if given is not None else call.values(1) or [])
    axes, sizes = call.axes(1, rank) or [], iter(x.shape)
    if len(set(axes)) != len(axes):
        raise Unknowable(f"{call.node} has an axis twice")
    return [x.like(tuple(1 if i in axes else next(sizes) for i in range(rank)))]


@rule("Concat")
def concat(call: Call) -> list[Known]:
    given = call.given()
    rank = max(len(known.shape) for known in given)
    if any(len(known.shape) != rank for known in given):
        raise Unknowable(f"{call.node} joins tensors of different ranks")
    axis = call.axis(call.number("axis", 1), rank)
    shape = [max(known.shape[i] for known in given) for i in range(rank)]
    shape[axis] = sum(known.shape[axis] for known in given)
    return [Known(tuple(shape), max(known.size for known in given), exact=exact(*given))]


@rule("Split")
def split(call: Call) -> list[Known]:
    x, parts = call[0], len(call.node.outputs)
    axis = call.axis(call.number("axis", 0), len(x.shape))
    try:
        given = call.ints("split") or call.values(1)
    except Unknowable:  # no part is larger than the whole
        return [Known(x.shape, x.size, exact=False) for _ in range(parts)]
    if given is None:
        step = -(-x.shape[axis] // parts)
        if not x.exact:  # fewer rows than the bound may be split evenly
            return [x.like((*x.shape[:axis], step, *x.shape[axis + 1 :])) for _ in range(parts)]
        given = [max(0, min(step, x.shape[axis] - i * step)) for i in range(parts)]
    sizes = whole(given, call)
    if len(sizes) != parts or min(sizes) < 0 or sum(sizes) > x.shape[axis]:
        raise Unknowable(f"{call.node} splits {x.shape[axis]} into {sizes[:16]}")
    return [x.like((*x.shape[:axis], size, *x.shape[axis + 1 :])) for size in sizes]


@rule("Slice")
def slice_(call: Call) -> list[Known]:
    x = call[0]
    try:
        if call.opset < 10:
            starts, ends, axes, steps = call.ints("starts"), call.ints("ends"), call.ints("axes"), None
        else:
            starts, ends, axes, steps = (call.values(i) for i in (1, 2, 3, 4))
    except Unknowable:
        return [Known(x.shape, x.size, exact=False)]
    first, last = whole(starts, call), whole(ends, call)
    where = [call.axis(axis, len(x.shape)) for axis in (axes if axes is not None else range(len(first)))]
    stride = whole(steps, call) if steps is not None else [1] * len(first)
    if not len(first) == len(last) == len(where) == len(stride) or 0 in stride:
        raise Unknowable(f"{call.node} has starts, ends and steps that do not go together")
    sizes = list(x.shape)
    for axis, start, end, step in zip(where, first, last, stride, strict=True):
        begin = max(start, -sizes[axis]) if step < 0 else start  # before the first element: the first, unlike in Python
        sizes[axis] = len(range(*slice(begin, end, step).indices(sizes[axis])))
    # Negative positions count from the end, which is not known if the size is only an upper bound.
    if not x.exact and any(
        step < 0 or start < 0 or end < 0 for start, end, step in zip(first, last, stride, strict=True)
    ):
        return [Known(x.shape, x.size, exact=False)]
    return [x.like(tuple(sizes))]


@rule("Gather")
def gather(call: Call) -> list[Known]:
    x, indices = call[0], call[1]
    axis = call.axis(call.number("axis", 0), len(x.shape))
    return [Known((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), x.size, exact=exact(x, indices))]


@rule("GatherElements")
def gather_elements(call: Call) -> list[Known]:
    return [Known(call[1].shape, call[0].size, exact=call[1].exact)]


@rule("GatherND")
def gather_nd(call: Call) -> list[Known]:
    x, indices, batch = call[0], call[1], call.number("batch_dims", 0)
    if not indices.shape or batch + indices.shape[-1] > len(x.shape) or batch < 0:
        raise Unknowable(f"{call.node} gathers from {list(x.shape)} by {list(indices.shape)}")
    return [Known((*indices.shape[:-1], *x.shape[batch + indices.shape[-1] :]), x.size, exact=exact(x, indices))]


@rule("DepthToSpace", "SpaceToDepth")
def depth_and_space(call: Call) -> list[Known]:
    x, block = call[0], call.number("blocksize", 0)
    if len(x.shape) != 4 or block < 1:
        raise Unknowable(f"{call.node} has blocks of {block} for an input {list(x.shape)}")
    n, c, h, w = x.shape
    if call.node.op == "DepthToSpace":
        return [x.like((n, c // block**2, h * block, w * block))]
    return [x.like((n, c * block**2, h // block, w // block))]
