"""Embeddings of words: rows of tables, summed and normalised, as networks of images and text have them."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ...graph.emit import Ops
from ..fused_node import FusedNode, rule


@rule("com.microsoft.EmbedLayerNormalization")
def embed(op: Ops, node: FusedNode) -> Sequence[ir.Value | None]:
    """LayerNormalization of word[id] + position[place] + segment[kind]; the sum itself is the third output."""
    return _embedded(op, node, [node.optional(i) for i in range(2, 7)], node.optional(8))


@rule("com.microsoft.QEmbedLayerNormalization")
def quantised_embed(op: Ops, node: FusedNode) -> Sequence[ir.Value | None]:
    """The same of tables in codes of 8 bits: each has a scale (inputs 8 to 12) and a zero point (13 to 17)."""
    tables: list[ir.Value | None] = []
    for i in range(2, 7):
        codes, scale, zero = node.constant(i), node.constant(i + 6), node.constant(i + 11)
        if codes is None:
            if node.optional(i) is not None:
                raise node.refuse("its tables are computed; give the file before it was quantised")
            tables.append(None)
        elif scale is None or zero is None:
            raise node.refuse(f"the codes of its input {i} have no constant scale and zero point")
        else:
            tables.append(
                op.emit.shared(((codes.astype(op.floats) - zero.astype(op.floats)) * scale).astype(op.floats))
            )
    return _embedded(op, node, tables, None)


def _embedded(
    op: Ops, node: FusedNode, tables: Sequence[ir.Value | None], positions: ir.Value | None
) -> Sequence[ir.Value | None]:
    """The outputs.

    Args:
        op: Writes the nodes.
        node: The fused node.
        tables: Of words, positions and segments, then gamma and beta.
        positions: Each word's place; None: they count from 0.
    """
    node.without({}, {1: "mask_index"})
    words, places, segments, gamma, beta = tables
    if words is None or places is None or gamma is None:
        raise node.refuse("one of its tables is missing")
    ids, kinds = node.x(), node.optional(1)
    place = (
        op.Slice(places, [0], [node.dim(ids, 1)], [0]) if positions is None else op.Gather(places, positions, axis=0)
    )
    total = op.Add(op.Gather(words, ids, axis=0), place)
    if kinds is not None and segments is not None:
        total = op.Add(total, op.Gather(segments, kinds, axis=0))
    y = op.LayerNormalization(total, gamma, beta, axis=-1, epsilon=float(node.attr("epsilon", 1e-12)))
    if words.dtype is not None:
        y.dtype = total.dtype = words.dtype  # not that of the first input, which holds integers
    return [y, None, total]
