"""The positions that blocks have once they are put together again."""

from __future__ import annotations

from math import prod

import numpy as np

from ..reading import attribute
from . import strand as s
from .rules import Step, rule
from .strand import NONE, Coordinates, Positions


@rule("Col2Im")
def _blocks(step: Step) -> Positions:
    """Columns [N, C prod(kernel), blocks] -> a map [N,C,...]. By ONNX, column l holds the block at place l.

    An element is the sum of those of all blocks that cover it. It lies where they lie, if they lie at one place.
    """
    size, kernel = step.ints(1, "image_shape"), step.ints(2, "block_shape")
    if size is None or kernel is None:
        return ()
    rank = len(size)
    strides, dilations = (list(attribute(step.node, name, [1] * rank)) for name in ("strides", "dilations"))
    pads = list(attribute(step.node, "pads", [0] * 2 * rank))
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    # the element of the padded map that each element of a column goes to, [prod(kernel), blocks]
    padded = [n + pads[i] + pads[rank + i] for i, n in enumerate(size)]
    at = np.zeros((1, 1), np.int64)
    for k, d, stride, span, n in zip(kernel, dilations, strides, spans, padded, strict=True):
        line = np.arange(k)[:, None] * d + np.arange((n - span) // stride + 1) * stride
        at = (at[:, None, :, None] * n + line[None, :, None, :]).reshape(at.shape[0] * k, -1)
    inside = tuple(slice(pads[i], pads[i] + n) for i, n in enumerate(size))

    def joined(a: Coordinates) -> Coordinates:
        if a.shape[0] > 1:
            return s.nowhere(step.rank)
        columns = np.broadcast_to(a[0], step.shape[1:]).reshape(-1, prod(kernel), step.shape[2])
        if (columns != columns[0]).any():  # channels that lie at different places
            return s.nowhere(step.rank)
        least = np.full(prod(padded), -NONE, np.int32)
        most = np.full(prod(padded), NONE, np.int32)
        np.minimum.at(least, at.reshape(-1), columns[0].reshape(-1))
        np.maximum.at(most, at.reshape(-1), columns[0].reshape(-1))
        least, most = (v.reshape(padded)[inside] for v in (least, most))
        # an element that no block covers is 0, and lies nowhere
        if ((least != most) & (most != NONE)).any():
            return s.nowhere(step.rank)
        return s.squash(most[None, None])

    return s.kept(strand.map(joined) for strand in step.states[0])
