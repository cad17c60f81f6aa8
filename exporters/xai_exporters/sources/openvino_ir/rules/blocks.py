"""SpaceToBatch and BatchToSpace that no dilation replaces (`dilated.py`): the blocks of an image become images of their own.

OpenVINO puts the blocks before the images. Here they lie after each image, so that the batch still begins with image 0: between
the two operators images do not meet, and the order is of no matter. Specification: openvino.ai, SpaceToBatch-2, BatchToSpace-2.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from ....graph.emit import Ops
from ..layer import Layer, rule


@rule("SpaceToBatch")
def space_to_batch(op: Ops, layer: Layer) -> ir.Value:
    """Padded, then [N, d1/b1, b1, ...] with the offsets in a block beside N."""
    if not _ends(layer.node):
        raise layer.refuse("makes images of an image's blocks, and not every way from it comes back by BatchToSpace")
    block, begin, end = (layer.ints(i, "blocks") for i in (1, 2, 3))
    rank = len(block)
    x = op.Pad(layer.x(), np.array([*begin, *end])) if any(begin + end) else layer.x()
    sizes = [size + a + b for size, a, b in zip(layer.sizes(0, 1), begin[1:], end[1:], strict=True)]
    pairs = [[size // part, part] for size, part in zip(sizes, block[1:], strict=True)]
    split = op.Reshape(x, [0, *(n for pair in pairs for n in pair)])
    inside, places = [2 + 2 * i for i in range(rank - 1)], [1 + 2 * i for i in range(rank - 1)]
    return op.Reshape(op.Transpose(split, perm=[0, *inside, *places]), [-1, *(pair[0] for pair in pairs)])


@rule("BatchToSpace")
def batch_to_space(op: Ops, layer: Layer) -> ir.Value:
    """The inverse, then cropped."""
    block, begin, end = (layer.ints(i, "blocks") for i in (1, 2, 3))
    sizes, parts = layer.sizes(0, 1), block[1:]
    count = len(parts)
    split = op.Reshape(layer.x(), [-1, *parts, *sizes])
    order = [0, *(n for i in range(count) for n in (1 + count + i, 1 + i))]
    whole = [size * part for size, part in zip(sizes, parts, strict=True)]
    x = op.Reshape(op.Transpose(split, perm=order), [-1, *whole])
    cut = [i for i in range(count) if begin[1 + i] or end[1 + i]]
    if not cut:
        return x
    stops = [whole[i] - end[1 + i] for i in cut]
    return op.Slice(x, np.array([begin[1 + i] for i in cut]), np.array(stops), np.array([1 + i for i in cut]))


def _ends(node: Any) -> bool:
    """Whether all that is computed from a SpaceToBatch goes through a BatchToSpace of as many blocks."""
    wanted = math.prod(_block(node))
    pending, seen = [node], set()
    while pending:
        for port in pending.pop().outputs():
            for reader in (r.get_node() for r in port.get_target_inputs()):
                kind = reader.get_type_name()
                if kind == "Result" or (kind == "BatchToSpace" and math.prod(_block(reader)) != wanted):
                    return False
                if kind not in ("BatchToSpace", "ShapeOf") and reader.get_name() not in seen:
                    seen.add(reader.get_name())
                    pending.append(reader)
    return True


def _block(node: Any) -> list[int]:
    source = node.input_value(1).get_node()
    return [int(v) for v in source.get_data().ravel()] if source.get_type_name() == "Constant" else [0]
