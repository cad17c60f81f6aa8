"""Operators that reduce axes."""

from __future__ import annotations

from .rules import Call, Known, Unknowable, rule


@rule(
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
    "ReduceSumSquare",
)  # fmt: skip
def reduce(call: Call) -> list[Known]:
    x, keep = call[0], call.number("keepdims", 1)
    try:
        axes = call.axes(1, len(x.shape))
    except Unknowable:  # no axis grows, but an empty one may become 1
        return [Known(tuple(max(size, 1) for size in x.shape), x.size, exact=False)]
    if not axes:
        axes = [] if call.number("noop_with_empty_axes", 0) else list(range(len(x.shape)))
    return [x.like(_without(x.shape, axes, keep))]


@rule("ArgMax", "ArgMin")
def arg(call: Call) -> list[Known]:
    x = call[0]
    axis = call.axis(call.number("axis", 0), len(x.shape))
    return [x.like(_without(x.shape, [axis], call.number("keepdims", 1)), 8)]


@rule("TopK")
def top_k(call: Call) -> list[Known]:
    x = call[0]
    axis = call.axis(call.number("axis", -1), len(x.shape))
    try:
        k = [call.number("k", 0)] if call.opset < 10 else call.values(1) or [0]
    except Unknowable:
        return [Known(x.shape, x.size, exact=False), Known(x.shape, 8, exact=False)]
    shape = (*x.shape[:axis], min(max(int(k[0]), 0), x.shape[axis]), *x.shape[axis + 1 :])
    return [x.like(shape), x.like(shape, 8)]


@rule("Det")
def det(call: Call) -> list[Known]:
    return [call[0].like(call[0].shape[:-2])]


def _without(shape: tuple[int, ...], axes: list[int], keep: int) -> tuple[int, ...]:
    sizes = [1 if i in axes else size for i, size in enumerate(shape)]
    return tuple(size for i, size in enumerate(sizes) if keep or i not in axes)
