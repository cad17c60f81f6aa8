"""Attention of opset 23 and later, as the operator's specification writes it, with a cache of earlier keys or without."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ...graph.emit import Ops
from ..fused_node import FusedNode, rule
from ..multi_head import attend, heads_first, heads_last

Mask = ir.Value | NDArray[Any] | None


@rule("Attention")
def attention(op: Ops, node: FusedNode) -> Sequence[ir.Value | None]:
    """Y = softmax(softcap(scale Q K^T) + mask) V; keys and values are repeated if several heads of queries share one."""
    q, k, v = node.x(0), node.x(1), node.x(2)
    flat = node.rank(q) == 3
    size = node.dim(q, -1)
    if flat:
        heads, shared = int(node.attr("q_num_heads")), int(node.attr("kv_num_heads"))
        size //= heads
        q, k, v = heads_first(op, q, heads), heads_first(op, k, shared), heads_first(op, v, shared)
    else:
        heads, shared = node.dim(q, 1), node.dim(k, 1)
    past = 0
    if node.optional(4) is not None:
        past = node.dim(node.x(4), 2)
        k, v = (_after(op, node, i, x) for i, x in ((4, k), (5, v)))
    given = (k, v)
    if heads != shared:
        sizes = [node.dim(node.x(i), -1) // (shared if flat else 1) for i in (1, 2)]
        k, v = (_repeated(op, x, shared, heads // shared, s) for x, s in zip(given, sizes, strict=True))
    scale, precision = node.attr("scale"), node.attr("softmax_precision")
    bias, seen = _masks(op, node, flat, past)
    done = attend(
        op,
        (q, k, v),
        1 / math.sqrt(size) if scale is None else float(scale),
        bias,
        seen,
        float(node.attr("softcap", 0.0)),
        None if precision is None else ir.DataType(precision),
    )
    y = heads_last(op, done.y) if flat else done.y
    return [y, *given, done.steps[int(node.attr("qk_matmul_output_mode", 0))]]


def _repeated(op: Ops, x: ir.Value, heads: int, times: int, size: int) -> ir.Value:
    """[N,heads,tokens,size] with each head `times` times in a row."""
    return op.Reshape(op.Expand(op.Unsqueeze(x, [2]), [1, 1, times, 1, 1]), [0, heads * times, -1, size])


def _after(op: Ops, node: FusedNode, position: int, x: ir.Value) -> ir.Value:
    """The cache [N,heads,past,size] and then x [N,heads,tokens,size]; a constant cache of one row is that of every image."""
    cache, array = node.x(position), node.constant(position)
    if array is not None and array.shape[0] == 1:
        cache = op.Expand(cache, op.Concat(op.Shape(x, start=0, end=1), np.array(array.shape[1:]), axis=0))
    return op.Concat(cache, x, axis=2)


def _masks(op: Ops, node: FusedNode, flat: bool, past: int) -> tuple[Mask, Mask]:
    """What is added to the scores, and which keys a query sees."""
    seen = _band(op, node, flat, past)
    mask = node.optional(3)
    if mask is None:
        return None, seen
    array, boolean = node.constant(3), mask.dtype == ir.DataType.BOOL
    short = past + node.dim(node.x(1), 1 if flat else 2) - node.dim(mask, -1)
    if array is not None:
        if short:
            fill: Any = False if boolean else -np.inf
            array = np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, short)], constant_values=fill)
        if boolean:
            return None, _both(op, array, seen)
        seen = _both(op, array != -np.inf, seen)
        bias = np.where(array != -np.inf, array, 0).astype(array.dtype)
        return bias, None if isinstance(seen, np.ndarray) and seen.all() else seen
    if short:
        raise node.refuse("its mask is computed and shorter than its keys; export it with a mask for every key")
    return (None, _both(op, mask, seen)) if boolean else (mask, seen)


def _band(op: Ops, node: FusedNode, flat: bool, past: int) -> Mask:
    """Which keys a query sees by their places; None: all. Query i is at the place i + offset: after the cache, or, if
    `nonpad_kv_seqlen` says how many keys an image has, among the last of these."""
    left, right = (int(node.attr(f"{side}_window_size", -1)) for side in ("left", "right"))
    right = 0 if node.attr("is_causal", 0) else right
    queries, keys = (np.arange(node.dim(node.x(i), 1 if flat else 2)) for i in (0, 1))
    keys = np.arange(past + keys.size)
    if node.optional(6) is None:
        if left < 0 and right < 0:
            return None
        ahead = keys - past - queries[:, None]
        return (ahead <= (right if right >= 0 else len(keys))) & (-ahead <= (left if left >= 0 else len(keys)))
    count = op.Unsqueeze(op.Cast(node.x(6), to=int(ir.DataType.INT64)), [1, 2, 3])  # [N,1,1,1]
    place = op.Add(op.Sub(count, np.int64(queries.size)), queries[:, None])  # [N,1,queries,1]
    seen = op.Less(keys, count)
    if right >= 0:
        seen = op.And(seen, op.LessOrEqual(keys, op.Add(place, np.int64(right))))
    return op.And(seen, op.GreaterOrEqual(keys, op.Sub(place, np.int64(left)))) if left >= 0 else seen


def _both(op: Ops, a: Mask, b: Mask) -> Mask:
    """What both masks let through; None lets all through."""
    if b is None:
        return a
    return a & b if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) else op.And(a, b)


@rule("LinearAttention")
def linear_attention(op: Ops, node: FusedNode) -> ir.Value:
    """Refused: no graph of constant size computes it for any number of tokens."""
    raise node.refuse(
        "each token changes a state that the next one reads; export the network with this recurrence in standard operators"
    )
