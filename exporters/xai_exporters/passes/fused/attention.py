"""Attention of opset 23 and later, as the operator's specification writes it. A cache of earlier keys is refused."""

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
    node.without({4: "past_key", 5: "past_value", 6: "nonpad_kv_seqlen"})
    q, k, v = node.x(0), node.x(1), node.x(2)
    flat = node.rank(q) == 3
    size = node.dim(q, -1)
    if flat:
        heads, shared = int(node.attr("q_num_heads")), int(node.attr("kv_num_heads"))
        size //= heads
        q, k, v = heads_first(op, q, heads), heads_first(op, k, shared), heads_first(op, v, shared)
    else:
        heads, shared = node.dim(q, 1), node.dim(k, 1)
    given = (k, v)
    if heads != shared:
        sizes = [node.dim(node.x(i), -1) // (shared if flat else 1) for i in (1, 2)]
        k, v = (_repeated(op, x, shared, heads // shared, s) for x, s in zip(given, sizes, strict=True))
    scale, precision = node.attr("scale"), node.attr("softmax_precision")
    bias, seen = _masks(op, node, flat)
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


def _masks(op: Ops, node: FusedNode, flat: bool) -> tuple[Mask, Mask]:
    """What is added to the scores, and which keys a query sees."""
    left, right = (int(node.attr(f"{side}_window_size", -1)) for side in ("left", "right"))
    right = 0 if node.attr("is_causal", 0) else right
    band: NDArray[Any] | None = None
    if left >= 0 or right >= 0:
        queries, keys = (np.arange(node.dim(node.x(i), 1 if flat else 2)) for i in (0, 1))
        ahead = keys - queries[:, None]
        band = (ahead <= (right if right >= 0 else len(keys))) & (-ahead <= (left if left >= 0 else len(queries)))
    mask = node.optional(3)
    if mask is None:
        return None, band
    array, boolean = node.constant(3), mask.dtype == ir.DataType.BOOL
    keys_known = node.dim(node.x(1), 1 if flat else 2)
    short = keys_known - node.dim(mask, -1)
    if array is not None:
        if short:
            fill: Any = False if boolean else -np.inf
            array = np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, short)], constant_values=fill)
        if boolean:
            return None, array if band is None else array & band
        finite = array != -np.inf
        seen = finite if band is None else finite & band
        return np.where(finite, array, 0).astype(array.dtype), None if seen.all() else seen
    if short:
        raise node.refuse("its mask is computed and shorter than its keys; export it with a mask for every key")
    if boolean:
        return None, mask if band is None else op.And(mask, band)
    return mask, band
