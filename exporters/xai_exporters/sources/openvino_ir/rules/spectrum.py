"""Fourier transforms, axis by axis, as products with matrices.

X[k] = sum over n of x[n] e^(-2 pi i k n / L); the inverse has e^(+...) / L.
Specification: openvino.ai, DFT-7, IDFT-7, RDFT-9, IRDFT-9.
"""

from __future__ import annotations

import onnx_ir as ir

from ....graph.emit import Ops
from ....passes.fused.spectrum import Transform, transformed
from ..layer import Layer, rule


@rule("DFT")
@rule("IDFT")
def complex_transform(op: Ops, layer: Layer) -> ir.Value:
    """Of complex numbers, whose parts are the last dimension."""
    x, sizes = layer.x(), layer.dims()
    for axis, length in _axes(layer, len(sizes) - 1):
        size = _size(layer, axis)
        x = transformed(op, x, Transform(len(sizes), axis, size, 2, length or size, layer.type == "IDFT"))
    return x


@rule("RDFT")
def of_reals(op: Ops, layer: Layer) -> ir.Value:
    """Of real numbers: half a spectrum along the last of the axes, then a whole one along the others."""
    rank = len(layer.dims()) + 1
    *others, (axis, length) = _axes(layer, rank - 1)
    size = _size(layer, axis)
    x = op.Unsqueeze(layer.x(), [rank - 1])
    x = transformed(op, x, Transform(rank, axis, size, 1, length or size, half=True))
    for other, wanted in others:
        size = _size(layer, other)
        x = transformed(op, x, Transform(rank, other, size, 2, wanted or size))
    return x


@rule("IRDFT")
def to_reals(op: Ops, layer: Layer) -> ir.Value:
    """Back: whole spectra along all axes but the last, which holds half of one."""
    rank, x = len(layer.dims()), layer.x()
    *others, (axis, length) = _axes(layer, rank - 1)
    for other, wanted in others:
        size = _size(layer, other)
        x = transformed(op, x, Transform(rank, other, size, 2, wanted or size, inverse=True))
    size = _size(layer, axis)
    x = transformed(op, x, Transform(rank, axis, size, 2, length or 2 * (size - 1), inverse=True, half=True))
    return op.Squeeze(x, [rank - 1])


def _axes(layer: Layer, rank: int) -> list[tuple[int, int]]:
    """The axes, and the length along each; 0 for that of the signal."""
    axes = [axis % rank for axis in layer.ints(1, "axes")]
    lengths = layer.ints(2, "lengths") if len(layer) > 2 else [0] * len(axes)
    return [(axis, max(length, 0)) for axis, length in zip(axes, lengths, strict=True)]


def _size(layer: Layer, axis: int) -> int:
    size = layer.dims()[axis]
    if size is None:
        raise layer.refuse("the size that it transforms is not known; give the image's size with --input-shape C,H,W")
    return size
