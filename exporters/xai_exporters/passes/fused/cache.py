"""Operators on a cache of earlier keys and values. A network from an image to scores has none: then they are attention."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ...graph.emit import Ops
from ..fused_node import FusedNode, rule
from ..multi_head import attend, heads_first, heads_last


@rule("com.microsoft.DecoderMaskedMultiHeadAttention")
def cache(op: Ops, node: FusedNode) -> Sequence[ir.Value | None]:
    """Refused."""
    raise node.refuse("it keeps a cache of earlier keys and values; export the network without a cache")


@rule("com.microsoft.GroupQueryAttention")
def grouped_queries(op: Ops, node: FusedNode) -> Sequence[ir.Value | None]:
    """Attention in which several queries' heads share the keys and values of one; a token sees itself and those before it.

    Ainslie et al. 2023, arXiv:2305.13245. `seqlens_k` holds the last token's position in each row; padded rows are refused.
    """
    outputs = {1: "present_key", 2: "present_value", 3: "output_qk"}
    node.without({3: "past_key", 4: "past_value", 9: "position_ids", 10: "attention_bias", 11: "head_sink"}, outputs)
    odd = [name for name in ("smooth_softmax", "kv_cache_bit_width", "qk_output") if node.attr(name, 0) > 0]
    if odd or node.attr("local_window_size", -1) > 0:
        raise node.refuse(f"it has {(odd or ['local_window_size'])[0]}; export the network without it")
    heads, shared = int(node.attr("num_heads")), int(node.attr("kv_num_heads"))
    x, tokens, lengths = node.x(), node.dim(node.x(), 1), node.constant(5)
    if lengths is None or (lengths != tokens - 1).any():
        raise node.refuse("its seqlens_k are no constants that name the last token; export the network without padding")
    if node.optional(1) is None:  # packed: [N,tokens,(heads + 2 shared) size]
        size = node.dim(x, 2) // (heads + 2 * shared)
        bounds = np.cumsum([0, heads * size, shared * size, shared * size])
        parts = [op.Slice(x, [int(a)], [int(b)], [2]) for a, b in itertools.pairwise(bounds)]
    else:
        size, parts = node.dim(x, 2) // heads, [x, node.x(1), node.x(2)]
    q, k, v = (heads_first(op, part, n) for part, n in zip(parts, (heads, shared, shared), strict=True))
    if node.attr("do_rotary", 0):
        cos, sin = (op.Slice(node.x(i), [0], [tokens], [0]) for i in (7, 8))
        turned = 2 * node.dim(node.x(7), 1)
        q, k = (
            _turned(op, value, cos, sin, turned, size, bool(node.attr("rotary_interleaved", 0))) for value in (q, k)
        )
    if heads > shared:
        k, v = (
            op.Reshape(op.Concat(*[op.Unsqueeze(value, [2])] * (heads // shared), axis=2), [0, heads, tokens, size])
            for value in (k, v)
        )
    scale = float(node.attr("scale", 0.0)) or 1 / math.sqrt(size)
    seen = np.tri(tokens, dtype=np.bool_)
    y = attend(op, [q, k, v], scale, seen=seen, softcap=float(node.attr("softcap", 0.0))).y
    return [heads_last(op, y), None, None]


def _turned(op: Ops, x: ir.Value, cos: ir.Value, sin: ir.Value, turned: int, size: int, pairs: bool) -> ir.Value:
    """[N,heads,tokens,size] with its first `turned` entries rotated (see `rotary`); cosine and sine are [tokens,turned / 2]."""
    step, half = (2, 1) if pairs else (1, turned // 2)
    a = op.Slice(x, [0], [turned if pairs else half], [3], [step])
    b = op.Slice(x, [half], [turned], [3], [step])
    parts = [op.Sub(op.Mul(a, cos), op.Mul(b, sin)), op.Add(op.Mul(a, sin), op.Mul(b, cos))]
    if pairs:
        y = op.Reshape(op.Concat(*(op.Unsqueeze(part, [4]) for part in parts), axis=4), [0, 0, 0, turned])
    else:
        y = op.Concat(*parts, axis=3)
    return y if turned == size else op.Concat(y, op.Slice(x, [turned], [size], [3]), axis=3)


@rule("TensorScatter")
def tensor_scatter(op: Ops, node: FusedNode) -> ir.Value:
    """The cache [N,...,tokens,...] with an update from position `write_indices` [N] on; `circular` goes on at the front.

    Position p holds the update's entry p - start, if it has one.
    """
    cache, update = node.x(), node.x(1)
    rank = node.rank(cache)
    axis = int(node.attr("axis", -2)) % rank
    size, length = node.dim(cache, axis), node.dim(update, axis)
    positions = np.arange(size)[None]
    place = positions if (starts := node.optional(2)) is None else op.Sub(positions, op.Unsqueeze(starts, [1]))
    if node.attr("mode", "linear") == "circular":
        place = op.Mod(place, np.int64(size))
    elsewhere = [i for i in range(1, rank) if i != axis]
    place = op.Unsqueeze(place, elsewhere)  # [N,1,..,tokens,..,1]
    written = op.And(op.GreaterOrEqual(place, np.int64(0)), op.Less(place, np.int64(length)))
    index = op.Expand(op.Clip(place, np.int64(0), np.int64(length - 1)), op.Shape(cache))
    return op.Where(written, op.GatherElements(update, index, axis=axis), cache)
