"""Layers of Darknet's YOLO networks, versions 2 and 3 (Redmon and Farhadi 2016, arXiv:1612.08242)."""

from __future__ import annotations

import itertools

import onnx_ir as ir

from ....graph.emit import Ops
from ..layer import Layer, rule


@rule("ReorgYolo")
def reorganised(op: Ops, layer: Layer) -> ir.Value:
    """Blocks of positions become channels, of the image that the same numbers are with c / s^2 channels of s h x s w."""
    channels, height, width = layer.sizes(0, 1)
    size = int(layer.attr("stride")[0])
    if channels % size**2:
        raise layer.refuse(f"has {channels} channels, which {size}^2 does not divide")
    wide = op.Reshape(layer.x(), [0, channels // size**2, height * size, width * size])
    return op.Reshape(op.SpaceToDepth(wide, blocksize=size), [0, channels * size**2, height // size, width // size])


@rule("RegionYolo")
def regions(op: Ops, layer: Layer) -> ir.Value:
    """Of each anchor the sigmoid of x, y and objectness, and softmax (version 2) or sigmoid (version 3) of its classes.

    [N, anchors (coords + 1 + classes), h, w]; version 2 flattens the result from `axis` to `end_axis`.
    """
    coords, classes = int(layer.attr("coords")), int(layer.attr("classes"))
    softmax = bool(layer.attr("do_softmax", True))
    channels, height, width = layer.sizes(0, 1)
    count = int(layer.attr("num")) if softmax else len(layer.attr("mask") or [])
    if count * (coords + 1 + classes) != channels:
        raise layer.refuse(
            f"has {channels} channels, not those of {count} anchors with {coords} + 1 + {classes} numbers"
        )
    rows = op.Reshape(layer.x(), [0, count, coords + 1 + classes, height, width])
    ends = [0, 2, coords, coords + 1, coords + 1 + classes]
    place, size, object_, kinds = (op.Slice(rows, [a], [b], [2]) for a, b in itertools.pairwise(ends))
    kinds = op.Softmax(kinds, axis=2) if softmax else op.Sigmoid(kinds)
    y = op.Concat(op.Sigmoid(place), size, op.Sigmoid(object_), kinds, axis=2)
    return op.Reshape(y, [0, *layer.out_sizes(1)])
