"""Poolings and reductions."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....graph.emit import Ops
from ..layer import Layer, rule
from .convolution import pads_of
from .linear import product_along

_REDUCTIONS = {
    "ReduceMean": "ReduceMean", "ReduceSum": "ReduceSum", "ReduceMax": "ReduceMax", "ReduceMin": "ReduceMin",
    "ReduceProd": "ReduceProd", "ReduceL1": "ReduceL1", "ReduceL2": "ReduceL2",
}  # fmt: skip


@rule("MaxPool")
def max_pool(op: Ops, layer: Layer) -> ir.Value:
    """MaxPool; its second output, the indices, has no equal."""
    strides, kernel, dilations, pads = _window(layer)
    return op.MaxPool(layer.x(), kernel_shape=kernel, strides=strides, dilations=dilations, pads=pads)


@rule("AvgPool")
def average_pool(op: Ops, layer: Layer) -> ir.Value:
    """AveragePool; the padding counts or not. Where it does, so does what rounding the size up adds, as OpenVINO computes it."""
    strides, kernel, dilations, pads = _window(layer)
    if any(d != 1 for d in dilations):
        raise layer.refuse("an average pooling with dilation, which opset 18 does not have")
    given = pads_of(layer, kernel, strides, dilations)
    counted = not layer.attr("exclude-pad", layer.attr("exclude_pad", False)) and any(given)
    if counted and pads != given and "torch" in str(layer.attr("rounding_type", "")).lower():
        raise layer.refuse(
            "an average pooling that counts its padding and rounds its size up as torch does: OpenVINO divides its last windows by "
            "their whole size, torch by what they read; export it without ceil_mode"
        )
    return op.AveragePool(layer.x(), kernel_shape=kernel, strides=strides, pads=pads, count_include_pad=int(counted))


def _window(layer: Layer) -> tuple[list[int], list[int], list[int], list[int]]:
    """Strides, kernel, dilations and pads. A size that is rounded up becomes padding at the end that reaches as far."""
    strides, kernel = [int(v) for v in layer.attr("strides")], [int(v) for v in layer.attr("kernel")]
    dilations = [int(v) for v in layer.attr("dilations") or [1] * len(kernel)]
    pads = pads_of(layer, kernel, strides, dilations)
    if "ceil" in str(layer.attr("rounding_type", "floor")).lower():
        rank = len(kernel)
        for i, (size, out) in enumerate(zip(layer.sizes(0, 2), layer.out_sizes(2), strict=True)):
            reach = (out - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1
            pads[rank + i] = max(pads[rank + i], reach - size - pads[i])
            if pads[rank + i] > (kernel[i] - 1) * dilations[i]:
                raise layer.refuse("has windows that lie in the padding as a whole; export it without ceil_mode")
    return strides, kernel, dilations, pads


@rule("AdaptiveAvgPool")
def adaptive_average_pool(op: Ops, layer: Layer) -> ir.Value:
    """The mean from floor(i n / m) to ceil((i + 1) n / m), n sizes to m: a pooling if m divides n, else products with matrices."""
    kernel = _dividing(layer)
    if kernel is not None:
        return op.AveragePool(layer.x(), kernel_shape=kernel, strides=kernel)
    x = layer.x()
    for axis, (size, out) in enumerate(zip(layer.sizes(0, 2), layer.out_sizes(2), strict=True), 2):
        matrix = np.zeros((size, out), np.float32)
        for i, (begin, end) in enumerate(_windows(size, out)):
            matrix[begin:end, i] = 1 / (end - begin)
        x = x if size == out else product_along(op, x, axis, len(layer.dims()), matrix)
    return x


@rule("AdaptiveMaxPool")
def adaptive_max_pool(op: Ops, layer: Layer) -> ir.Value:
    """The same windows with their largest; its second output, the indices, has no equal."""
    kernel = _dividing(layer)
    if kernel is not None:
        return op.MaxPool(layer.x(), kernel_shape=kernel, strides=kernel)
    x = layer.x()
    for axis, (size, out) in enumerate(zip(layer.sizes(0, 2), layer.out_sizes(2), strict=True), 2):
        if size != out:
            parts = [op.Slice(x, np.array([a]), np.array([b]), np.array([axis])) for a, b in _windows(size, out)]
            x = op.Concat(*(op.ReduceMax(part, np.array([axis])) for part in parts), axis=axis)
    return x


def _dividing(layer: Layer) -> list[int] | None:
    """The kernel and stride of an adaptive pooling whose output's sizes divide the input's; None for any other."""
    sizes, outs = layer.sizes(0, 2), layer.out_sizes(2)
    if any(size % out for size, out in zip(sizes, outs, strict=True)):
        return None
    return [size // out for size, out in zip(sizes, outs, strict=True)]


def _windows(size: int, out: int) -> list[tuple[int, int]]:
    return [(i * size // out, -(-(i + 1) * size // out)) for i in range(out)]


def reduction(op: Ops, layer: Layer) -> ir.Value:
    """The operator of the same meaning in ONNX. Without axes nothing is reduced."""
    axes = sorted({layer.axis(a) for a in layer.ints(1, "axes")})
    if not axes:
        return op.Identity(layer.x())
    return getattr(op, _REDUCTIONS[layer.type])(  # type: ignore[no-any-return]
        layer.x(), np.array(axes), keepdims=int(bool(layer.attr("keep_dims", False)))
    )


@rule("ReduceLogicalAnd")
@rule("ReduceLogicalOr")
def logical(op: Ops, layer: Layer) -> ir.Value:
    """Whether all, or any, are true: the least, or the largest, of 0 and 1."""
    name = {"ReduceLogicalAnd": "ReduceMin", "ReduceLogicalOr": "ReduceMax"}[layer.type]
    axes = np.array(sorted({layer.axis(a) for a in layer.ints(1, "axes")}))
    numbers = op.Cast(layer.x(), to=ir.DataType.INT32)
    y = getattr(op, name)(numbers, axes, keepdims=int(bool(layer.attr("keep_dims", False))))
    return op.Cast(y, to=ir.DataType.BOOL)


for _type in _REDUCTIONS:
    rule(_type)(reduction)
