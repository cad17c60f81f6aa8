"""PicoDet: for each level an output [N,n,C] of probabilities and one [N,n,4*bins] of distances to the sides.

Yu et al. 2021, arXiv:2111.00902; PaddleDetection's `PicoDetPostProcess`. A distance is the mean of a softmax over bins 0, 1, ... in
units of the level's stride (Li et al. 2020, arXiv:2006.04388), from the centre of a cell to its left, top, right and bottom.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from xai_deploy.format.rows import Rows

from ....graph.emit import Ops
from ....graph.layouts import sides
from .boxes_scores import are_shares
from .detector import Detector, Outputs, decoders
from .reading import before

_STRIDES = (4, 8, 16, 32, 64, 128)


@dataclass(frozen=True)
class _Level:
    """The outputs of one level: probabilities, distances, and the level's stride."""

    scores: ir.Value
    distances: ir.Value
    stride: int


@decoders.register("picodet")
def picodet(given: Outputs) -> Detector | None:
    """See `Decoder`: as many outputs of probabilities as of distances, each pair with the cells of one stride."""
    image, whole = given.clean.graph.inputs[0], given.clean.image_shape
    height, width = (whole[side - 1] for side in sides(image, whole)[-2:])
    levels = _levels(given, height, width)
    if len(levels) < 2:
        return None
    classes, size = given.shape(levels[0].scores)[1], given.shape(levels[0].distances)[1]
    logits = [before(given.clean, level.scores, "Sigmoid") for level in levels]
    known = all(value is not None for value in logits)

    def pieces(op: Ops) -> Sequence[ir.Value]:
        scores = [value if known else level.scores for value, level in zip(logits, levels, strict=True)]
        boxes = [_boxes(op, level, size // 4, height, width) for level in levels]
        return [op.Transpose(op.Concat(*parts, axis=1), perm=[0, 2, 1]) for parts in (scores, boxes)]

    count = sum(given.shape(level.scores)[0] for level in levels)
    outputs = tuple(value for level in levels for value in (level.scores, level.distances))
    rows = Rows("picodet", classes, "corners", "pixels")
    return Detector(rows, count, "sigmoid" if known else "independent", outputs, pieces)


def _levels(given: Outputs, height: int, width: int) -> list[_Level]:
    """The levels, the finest one first; none if the outputs are not all of this form."""
    cells = {math.ceil(height / s) * math.ceil(width / s): s for s in _STRIDES}
    by_count: dict[int, list[ir.Value]] = {}
    for value in given.all:
        by_count.setdefault(given.shape(value)[0], []).append(value)
    levels, sizes = [], set()
    for count, values in sorted(by_count.items(), reverse=True):
        if len(values) != 2 or count not in cells:
            return []
        shares = [value for value in values if _is_share(given, value)]
        if len(shares) != 1:
            return []
        [distances] = [value for value in values if value is not shares[0]]
        if given.shape(distances)[1] % 4 or given.shape(distances)[1] < 8:
            return []
        sizes.add((given.shape(shares[0])[1], given.shape(distances)[1]))
        levels.append(_Level(shares[0], distances, cells[count]))
    return levels if len(sizes) == 1 else []


def _is_share(given: Outputs, value: ir.Value) -> bool:
    seen = given.seen(value)
    return bool(len(seen) and are_shares(seen))


def _boxes(op: Ops, level: _Level, bins: int, height: int, width: int) -> ir.Value:
    """Left, top, right, bottom in pixels, [N,n,4]."""
    rows, columns = math.ceil(height / level.stride), math.ceil(width / level.stride)
    shares = op.Softmax(op.Reshape(level.distances, [0, rows * columns, 4, bins]), axis=3)
    steps = (np.arange(bins) * level.stride).astype(np.float32)
    distances = op.Squeeze(op.MatMul(shares, steps[:, None]), [3])  # [N,n,4]
    y, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    centres = (np.stack([x, y, x, y], axis=-1).reshape(1, -1, 4) + 0.5) * level.stride
    signs = np.array([-1, -1, 1, 1], np.float32)
    boxes: ir.Value = op.Add(op.Mul(distances, signs), centres.astype(np.float32))
    return boxes
