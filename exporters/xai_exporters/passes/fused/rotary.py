"""Rotary position embedding (Su et al. 2021, arXiv:2104.09864): pairs of entries turn by an angle that grows with the position.

    (a, b) -> (a cos - b sin, a sin + b cos)

The pairs are the entries 2i and 2i + 1 with `interleaved`, else i and i + size / 2.
"""

from __future__ import annotations

import onnx_ir as ir

from ...graph.emit import Ops
from ..fused_node import FusedNode, rule


@rule("RotaryEmbedding")
def rotary(op: Ops, node: FusedNode) -> ir.Value:
    """Opset 23: X, cosine and sine, and positions at which they are looked up."""
    positions = node.optional(3)
    cos, sin = (x if positions is None else op.Gather(x, positions, axis=0) for x in (node.x(1), node.x(2)))
    return _rotated(op, node, cos, sin)


@rule("com.microsoft.RotaryEmbedding")
def microsoft_rotary(op: Ops, node: FusedNode) -> ir.Value:
    """ONNX Runtime's: X, positions, cosine and sine. One position alone is where the tokens begin to count."""
    if node.attr("is_packed_batching", 0):
        raise node.refuse("it has packed batches; export the network without them")
    if float(node.attr("scale", 1.0)) != 1.0:
        raise node.refuse("it has a scale, which ONNX Runtime's own kernel does not apply")
    positions = node.x(1)
    if node.rank(positions) == 1:
        tokens = node.dim(node.x(), 1 if node.rank(node.x()) == 3 else 2)
        positions = op.Unsqueeze(op.Add(op.Cast(positions, to=int(ir.DataType.INT64)), list(range(tokens))), [0])
    return _rotated(op, node, *(op.Gather(node.x(i), positions, axis=0) for i in (2, 3)))


def _rotated(op: Ops, node: FusedNode, cos: ir.Value, sin: ir.Value) -> ir.Value:
    """X with its first `rotary_embedding_dim` entries of each head turned; cosine and sine are [N or 1,tokens,pairs]."""
    x, heads, turned = node.x(), int(node.attr("num_heads", 0)), int(node.attr("rotary_embedding_dim", 0))
    flat = node.rank(x) == 3
    size = node.dim(x, -1)
    if flat:
        pairs = turned // 2 or node.dim(node.x(1 if node.node.domain == "" else 2), -1)
        heads = heads or size // (2 * pairs)
        size //= heads
        x = op.Reshape(x, [0, 0, heads, size])
    turned = turned or size
    cos, sin = (op.Unsqueeze(v, [2 if flat else 1]) for v in (cos, sin))  # the heads' axis
    rest = op.Slice(x, [turned], [size], [3]) if turned < size else None
    x = x if rest is None else op.Slice(x, [0], [turned], [3])
    if node.attr("interleaved", 0):
        a, b = (op.Slice(x, [i], [turned], [3], [2]) for i in (0, 1))
    else:
        a, b = op.Slice(x, [0], [turned // 2], [3]), op.Slice(x, [turned // 2], [turned], [3])
    real = op.Sub(op.Mul(a, cos), op.Mul(b, sin))
    imaginary = op.Add(op.Mul(a, sin), op.Mul(b, cos))
    if node.attr("interleaved", 0):
        pairs_last = op.Concat(op.Unsqueeze(real, [4]), op.Unsqueeze(imaginary, [4]), axis=4)
        y = op.Reshape(pairs_last, [0, 0, 0, -1])
    else:
        y = op.Concat(real, imaginary, axis=3)
    y = y if rest is None else op.Concat(y, rest, axis=3)
    return op.Reshape(y, [0, 0, -1]) if flat else y
