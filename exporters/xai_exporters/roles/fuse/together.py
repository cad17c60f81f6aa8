"""The maps of a network's layers as one map, as `xai_deploy.layer_maps` puts them together; and how one map is scaled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ...errors import GraphError
from ..material import Material
from .fused_method import AllAtOnce, AtNoLayer, Wanted
from .interpolation import resized
from .net import Net

Size = tuple[int, ...]
"""(h,w), or (d,h,w) of volumes."""


def levels_of(material: Material, wanted: Wanted) -> tuple[int, ...]:
    """The numbers of the layers at which a method runs: the one that its option names, or all; (0,) if it needs no layer.

    Raises:
        GraphError: There is no such layer, or only one, whose map can't be combined; or layers show different images.
    """
    if wanted.method.at_pixels or isinstance(wanted.method, AtNoLayer):
        return (0,)
    names = [cut.asked for cut in material.cuts]
    every: tuple[int, ...] = tuple(range(len(names)))
    if wanted.layer is not None:
        every = tuple(i for i in every if wanted.layer in (names[i], str(i + 1)))[:1]
        if not every:
            raise GraphError(f"no layer {wanted.layer!r}: --split names {', '.join(names)} (or their numbers, from 1)")
    elif wanted.combine is not None and len(names) == 1:
        raise GraphError("combine puts the maps of several layers together, and --split names one")
    if any(material.cuts[i].input is not None for i in every):
        raise GraphError(
            "a fused graph gives one map of one image, and --split names layers of several; name one of the explained image with "
            "layer=NAME"
        )
    return every


def map_of(net: Net, wanted: Wanted, levels: Sequence[int]) -> tuple[ir.Value, Size]:
    """Write a method's nodes at its layers: the map before min-max [N,h,w], and (h,w)."""
    maps = []
    for net.level in levels:
        every = net.all_at_once and isinstance(wanted.method, AllAtOnce)
        raw = wanted.method.every(net) if every else wanted.method.raw(net)  # type: ignore[attr-defined]
        stated = None if raw.shape is None else tuple(int(str(side)) for side in raw.shape.dims[1:])
        maps.append((raw, stated or (net.size if wanted.method.input_sized else net.shape[1:])))
    if len(maps) == 1:
        return maps[0]
    scaled = [_signed(net, *one) if wanted.method.signed else stretched(net, *one, net.size) for one in maps]
    return _together(net, scaled, wanted), net.size


def stretched(net: Net, raw: ir.Value, own: Size, size: Size) -> ir.Value:
    """A map [N,h,w] in another size (linear along each axis, half-pixel centres), from 0 to 1; a constant one gives zeros.

    The resize is products with constant matrices. They give the same numbers on every runtime; Resize does not. The minimum
    is subtracted before the resize, too, because the resize would round a constant map unevenly.
    """
    op, axes = net.op, _axes(size)
    shifted = op.Sub(raw, op.ReduceMin(raw, axes, keepdims=1))
    if own != size:
        shifted = resized(net.op, shifted, own, size)
        shifted = op.Sub(shifted, op.ReduceMin(shifted, axes, keepdims=1))
    spread = op.ReduceMax(shifted, axes, keepdims=1)
    # a constant map has spread 0: its zeros are divided by the smallest normal number
    scaled: ir.Value = op.Div(shifted, op.Max(spread, float(np.finfo(np.float32).tiny)))
    return scaled


def _signed(net: Net, raw: ir.Value, own: Size) -> ir.Value:
    """A signed map in the input's size, divided by its largest magnitude; a constant one gives zeros."""
    op, axes = net.op, _axes(own)
    values = raw if own == net.size else resized(net.op, raw, own, net.size)
    largest = op.ReduceMax(op.Abs(values), axes, keepdims=1)
    varies = op.Greater(op.ReduceMax(raw, axes, keepdims=1), op.ReduceMin(raw, axes, keepdims=1))
    scaled: ir.Value = op.Where(varies, op.Div(values, op.Max(largest, float(np.finfo(np.float32).tiny))), 0.0)
    return scaled


def _axes(size: Size) -> list[int]:
    """The axes of maps [N,h,w] that are places."""
    return list(range(1, 1 + len(size)))


def _together(net: Net, scaled: Sequence[ir.Value], wanted: Wanted) -> ir.Value:
    """The maximum (of signed maps the value farthest from 0), the mean or the sum."""
    op, (total, *others) = net.op, scaled
    for one in others:
        if wanted.combine in ("mean", "sum"):
            total = op.Add(total, one)
        else:
            total = op.Where(op.Greater(op.Abs(one), op.Abs(total)), one, total)
    return op.Div(total, float(len(scaled))) if wanted.combine == "mean" else total
