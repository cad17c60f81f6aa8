"""What every form of attention computes: softmax(scale Q K^T + mask) V for each head, on [N,heads,tokens,size]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..graph.emit import Ops


@dataclass(frozen=True)
class Attended:
    """The result [N,heads,tokens,size], and the scores after each step: product, softcap, mask, softmax."""

    y: ir.Value
    steps: Sequence[ir.Value]


def heads_first(op: Ops, x: ir.Value, heads: int) -> ir.Value:
    """[N,tokens,heads * size] to [N,heads,tokens,size]."""
    return op.Transpose(op.Reshape(x, [0, 0, heads, -1]), perm=[0, 2, 1, 3])


def heads_last(op: Ops, y: ir.Value) -> ir.Value:
    """[N,heads,tokens,size] to [N,tokens,heads * size]."""
    return op.Reshape(op.Transpose(y, perm=[0, 2, 1, 3]), [0, 0, -1])


def attend(
    op: Ops,
    qkv: Sequence[ir.Value],
    scale: float,
    bias: ir.Value | NDArray[Any] | None = None,
    seen: ir.Value | NDArray[np.bool_] | None = None,
    softcap: float = 0.0,
    softmax_type: ir.DataType | None = None,
) -> Attended:
    """Attention of each head.

    Args:
        op: Writes the nodes.
        qkv: Queries, keys and values, [N,heads,tokens,size]; as many heads each.
        scale: The factor of the scores.
        bias: Added to the scores.
        seen: Which keys a query sees. The probability of the others is 0, in a row that sees none too.
        softcap: c of c tanh(score / c), before bias and mask; 0 for none.
        softmax_type: The element type in which the softmax is computed; None for the queries' own.
    """
    q, k, v = qkv
    product = op.MatMul(op.Mul(q, scale), op.Transpose(k, perm=[0, 1, 3, 2]))
    capped = op.Mul(op.Tanh(op.Div(product, softcap)), softcap) if softcap else product
    scores = capped if bias is None else op.Add(capped, bias)
    masked = scores
    if seen is not None:
        # the lowest number instead of -inf: its exponential is 0 too, and a row that sees no key gives no NaN
        scores, masked = (op.Where(seen, scores, low) for low in (float(np.finfo(op.floats).min), -np.inf))
    if softmax_type is not None:
        scores = op.Cast(scores, to=int(softmax_type))
    shares = op.Softmax(scores, axis=-1)
    if softmax_type is not None:
        shares = op.Cast(shares, to=int(ir.DataType.from_numpy(op.floats)))
    if seen is not None and not (isinstance(seen, np.ndarray) and seen.any(axis=-1).all()):
        shares = op.Where(seen, shares, 0.0)
    return Attended(op.MatMul(shares, v), (product, capped, masked, shares))
