"""Convolutions and their transposes. Padding is always written out: ONNX Runtime refuses `auto_pad` with dilation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from ....graph.emit import Ops
from ..layer import Layer, rule


@rule("Convolution")
def convolution(op: Ops, layer: Layer) -> ir.Value:
    """Conv; weights [O,I,k...]."""
    return _conv(op, layer, layer.weights(op, 1), layer.sizes(1)[2:], 1)


@rule("GroupConvolution")
def group_convolution(op: Ops, layer: Layer) -> ir.Value:
    """Conv in groups; weights [G,O/G,I/G,k...] become [O,I/G,k...]."""
    groups, each, *rest = layer.sizes(1)
    return _conv(op, layer, layer.weights(op, 1, [groups * each, *rest]), rest[1:], groups)


@rule("ConvolutionBackpropData")
def transposed_convolution(op: Ops, layer: Layer) -> ir.Value:
    """ConvTranspose; weights [I,O,k...]."""
    return _transposed(op, layer, layer.weights(op, 1), layer.sizes(1)[2:], 1)


@rule("GroupConvolutionBackpropData")
def transposed_group_convolution(op: Ops, layer: Layer) -> ir.Value:
    """ConvTranspose in groups; weights [G,I/G,O/G,k...] become [I,O/G,k...]."""
    groups, each, *rest = layer.sizes(1)
    return _transposed(op, layer, layer.weights(op, 1, [groups * each, *rest]), rest[1:], groups)


def pads_of(layer: Layer, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """ONNX's pads: all begins, then all ends. `same` pads to ceil(size / stride); upper has the odd one at the end."""
    auto = str(layer.attr("auto_pad", "explicit")).lower()
    if auto == "valid":
        return [0] * 2 * len(kernel)
    if not auto.startswith("same"):
        return [int(p) for p in (*layer.attr("pads_begin"), *layer.attr("pads_end"))]
    begin, end = [], []
    for size, k, stride, dilation in zip(layer.sizes(0, 2), kernel, strides, dilations, strict=True):
        total = max((-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size, 0)
        small = total // 2
        begin.append(small if auto == "same_upper" else total - small)
        end.append(total - begin[-1])
    return begin + end


def _conv(op: Ops, layer: Layer, weights: ir.Value, kernel: list[int], groups: int) -> ir.Value:
    strides, dilations = _ints(layer.attr("strides")), _ints(layer.attr("dilations"))
    return op.Conv(
        layer.x(),
        weights,
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        pads=pads_of(layer, kernel, strides, dilations),
        group=groups,
    )


def _transposed(op: Ops, layer: Layer, weights: ir.Value, kernel: list[int], groups: int) -> ir.Value:
    """output = stride (input - 1) + dilation (k - 1) + 1 + output_padding - pads. If the output's size is given, it decides on the
    pads: `same_upper` has the odd one at the beginning, `same_lower` at the end, and all others end where the output does."""
    strides, dilations = _ints(layer.attr("strides")), _ints(layer.attr("dilations"))
    extra = _ints(layer.attr("output_padding") or [0] * len(kernel))
    auto = str(layer.attr("auto_pad", "explicit")).lower()
    begin, end = (
        [0] * len(kernel) if auto == "valid" else _ints(layer.attr(pads)) for pads in ("pads_begin", "pads_end")
    )
    if auto.startswith("same") or len(layer) > 2:
        sizes = zip(layer.sizes(0, 2), layer.out_sizes(2), kernel, strides, dilations, extra, strict=True)
        for i, (size, out, k, stride, dilation, more) in enumerate(sizes):
            total = stride * (size - 1) + dilation * (k - 1) + 1 + more - out
            if auto.startswith("same"):
                begin[i] = max(total, 0) // 2 if auto == "same_lower" else (max(total, 0) + 1) // 2
            end[i], extra[i] = max(total - begin[i], 0), more + max(begin[i] - total, 0)
    most = [stride - 1 for stride in strides]  # ONNX Runtime takes no larger output_padding
    rest = [max(e - m, 0) for e, m in zip(extra, most, strict=True)]
    cropped = [min(r, e) for r, e in zip(rest, end, strict=True)]  # what the pads crop comes back first
    end, rest = ([n - c for n, c in zip(numbers, cropped, strict=True)] for numbers in (end, rest))
    result = op.ConvTranspose(
        layer.x(),
        weights,
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        pads=begin + end,
        output_padding=[min(e, m) for e, m in zip(extra, most, strict=True)],
        group=groups,
    )
    return op.Pad(result, np.array([0] * (len(kernel) + 4) + rest)) if any(rest) else result


def _ints(values: Any) -> list[int]:
    return [int(v) for v in values]
