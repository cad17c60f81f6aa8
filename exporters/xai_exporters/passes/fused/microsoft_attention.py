"""Attention and MultiHeadAttention of ONNX Runtime (its ContribOperators.md). A cache of earlier keys is refused.

Masks hold 1 for a key that is seen; `mask_filter_value` is added to the scores of the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ...graph.emit import Ops
from ..fused_node import FusedNode, rule
from ..multi_head import attend, heads_first, heads_last


@rule("com.microsoft.Attention")
def attention(op: Ops, node: FusedNode) -> Sequence[ir.Value | None]:
    """[Q K V] = X W + bias, then attention of each head."""
    node.without({4: "past", 6: "past_sequence_length"}, {1: "present"})
    if node.attr("do_rotary", 0):
        raise node.refuse("it rotates queries and keys (do_rotary); export the network without that fusion")
    x, heads = node.x(), int(node.attr("num_heads"))
    widths = list(node.attr("qkv_hidden_sizes", [])) or [node.dim(node.x(1), 1) // 3] * 3
    parts = []
    for start, width in zip((0, widths[0], widths[0] + widths[1]), widths, strict=True):
        part = op.MatMul(x, _columns(op, node, 1, start, width))
        if node.optional(2) is not None:
            part = op.Add(part, _columns(op, node, 2, start, width))
        parts.append(heads_first(op, part, heads))
    biases = [_mask(op, node, 3), node.optional(5)]
    return [_result(op, node, parts, widths[0] // heads, (x, 1), (x, 1), biases)]


@rule("com.microsoft.MultiHeadAttention")
def multi_head_attention(op: Ops, node: FusedNode) -> Sequence[ir.Value | None]:
    """Attention of each head. Queries, or keys and values, may be packed into one tensor of five axes."""
    past = {6: "past_key", 7: "past_value", 8: "past_sequence_length", 9: "cache_indirection"}
    node.without(past, {1: "present_key", 2: "present_value", 3: "qk"})
    heads, q, k = int(node.attr("num_heads")), node.x(), node.optional(1)
    if k is None:  # [N,tokens,heads,3,size]
        if node.rank(q) != 5:
            raise node.refuse(f"its queries have {node.rank(q)} dimensions and there are no keys")
        size, keys = node.dim(q, -1), (q, 1)
        parts = [_added(op, node, _unpacked(op, q, i), i, heads, size) for i in range(3)]
        parts = [op.Transpose(part, perm=[0, 2, 1, 3]) for part in parts]
    else:
        size, keys = node.dim(q, -1) // heads, (k, 2 if node.rank(k) == 4 else 1)
        parts = [heads_first(op, _added(op, node, q, 0), heads)]
        if node.rank(k) == 5:  # [N,tokens,heads,2,size]
            pair = [_added(op, node, _unpacked(op, k, i), i + 1, heads, size) for i in range(2)]
            parts += [op.Transpose(part, perm=[0, 2, 1, 3]) for part in pair]
        elif node.rank(k) == 4:  # heads come first already, and no bias is added
            parts += [k, node.x(2)]
        else:
            parts += [heads_first(op, _added(op, node, node.x(i), i), heads) for i in (1, 2)]
    return [_result(op, node, parts, size, (q, 1), keys, [_mask(op, node, 4), node.optional(5)])]


def _result(
    op: Ops,
    node: FusedNode,
    parts: Sequence[ir.Value],
    size: int,
    queries: tuple[ir.Value, int],
    keys: tuple[ir.Value, int],
    biases: Sequence[ir.Value | None],
) -> ir.Value:
    """The heads' results side by side.

    Args:
        op: Writes the nodes.
        node: The fused node.
        parts: Queries, keys and values, [N,heads,tokens,size].
        size: The size of a head.
        queries, keys: A tensor and its axis that counts the tokens.
        biases: What is added to the scores.
    """
    scale = float(node.attr("scale", 0.0)) or 1 / math.sqrt(size)
    count, every = node.dim(*queries), node.dim(*keys)
    if (
        node.attr("unidirectional", 0) and count < every
    ):  # ONNX Runtime's own result fits no place of the queries among the keys
        raise node.refuse(f"it is unidirectional with {count} queries and {every} keys; export it with a mask")
    seen = np.tri(count, every, dtype=np.bool_) if node.attr("unidirectional", 0) else None
    given = [bias for bias in biases if bias is not None]
    bias = op.Add(*given) if len(given) == 2 else given[0] if given else None
    return heads_last(op, attend(op, parts, scale, bias, seen).y)


def _mask(op: Ops, node: FusedNode, position: int) -> ir.Value | None:
    """The mask as a sum with the scores [N,heads,queries,keys]."""
    mask = node.optional(position)
    if mask is None:
        return None
    rank = node.rank(mask)
    if rank not in (2, 3):
        raise node.refuse(
            f"its mask has {rank} dimensions; masks for each key, or for each query and key, are known (2 or 3 dimensions)"
        )
    kind = int(ir.DataType.from_numpy(op.floats))
    seen = op.Cast(op.Greater(op.Cast(mask, to=int(ir.DataType.INT64)), 0), to=kind)
    low = float(node.attr("mask_filter_value", -10000.0))
    bias = op.Mul(op.Sub(1.0, seen), low)
    return op.Unsqueeze(bias, [1, 2] if rank == 2 else [1])


def _columns(op: Ops, node: FusedNode, position: int, start: int, width: int) -> ir.Value:
    """Some columns of a weight, or entries of a bias."""
    array, axis = node.constant(position), node.rank(node.x(position)) - 1
    if array is None:
        return op.Slice(node.x(position), [start], [start + width], [axis])
    return op.emit.shared(np.ascontiguousarray(array[..., start : start + width]))


def _unpacked(op: Ops, x: ir.Value, index: int) -> ir.Value:
    """One part [N,tokens,heads,size] of a packed tensor [N,tokens,heads,parts,size]."""
    return op.Squeeze(op.Slice(x, [index], [index + 1], [3]), [3])


def _added(op: Ops, node: FusedNode, x: ir.Value, index: int, heads: int = 0, size: int = 0) -> ir.Value:
    """Queries (0), keys (1) or values (2) with their part of the bias [3 * heads * size]; `heads` > 0: x has an axis for them."""
    if node.optional(3) is None:
        return x
    total, width = node.dim(node.x(3), 0), node.dim(node.x(0), -1) if not heads else heads * size
    start = index * width
    part = _columns(op, node, 3, start, total - start if index == 2 else width)
    return op.Add(x, op.Reshape(part, [heads, size]) if heads else part)
