"""FakeQuantize as QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ....graph.emit import Ops
from ....graph.reading import STRAIGHT
from ..constants import kind_of
from ..layer import Layer, rule

_LEVELS = 256
_MOST = 2**16
"""Levels of a tensor of 16 bits (TFLite's int16x8): floats that hold integers, because OpenVINO computes their codes wrongly."""


@rule("FakeQuantize")
def fake_quantize(op: Ops, layer: Layer) -> ir.Value:
    """y = round((clip(x, il, ih) - il) / s) s' + ol, with s = (ih - il) / (levels - 1) and s' of the output's range.

    1. ol = il, oh = ih, and 0 is on the grid: codes of uint8 with zero point -il / s.
    2. Otherwise x is moved by il before and by ol after, and the zero point is 0.

    x is clipped first if the codes reach further than the levels. Rounding is to even in both. More than 256 levels, and ranges
    that differ along several dimensions (NNCF's of some weights), are written as they are defined, in floats.
    """
    levels = int(layer.attr("levels"))
    if not 2 <= levels <= _MOST:
        raise layer.refuse(
            f"has {levels} levels; codes of up to 16 bits have {_MOST}. Quantise the network to 8 or 16 bits"
        )
    low, high, out_low, out_high = (layer.require(i, "ranges").astype(np.float64) for i in range(1, 5))
    if not (high > low).all():
        raise layer.refuse("has a range whose end is not above its beginning")
    shape = np.broadcast_shapes(low.shape, high.shape, out_low.shape, out_high.shape)
    axis = _axis(layer, shape)
    scale, out_scale = (high - low) / (levels - 1), (out_high - out_low) / (levels - 1)
    zero = np.rint(-low / scale)
    on_grid = (np.abs(-low / scale - zero) < 1e-3).all() and (zero >= 0).all() and (zero < levels).all()
    same = np.allclose(low, out_low, rtol=1e-6, atol=0) and np.allclose(high, out_high, rtol=1e-6, atol=0)
    x = layer.x()
    if levels > _LEVELS or sum(size != 1 for size in shape) > 1:
        return _in_floats(op, x, (low, high), scale, out_scale, None if on_grid and same else out_low)
    if levels < _LEVELS:
        x = op.Min(op.Max(x, low.astype(np.float32)), high.astype(np.float32))
    if on_grid and same:
        codes, steps = zero, scale
    else:
        codes, steps = np.zeros_like(scale), out_scale
        x = op.Sub(x, low.astype(np.float32))
    if not (steps > 0).all():
        raise layer.refuse("has an output range whose end is not above its beginning")

    def vector(values: NDArray[np.float64], kind: type) -> NDArray[np.float32] | NDArray[np.uint8]:
        return (
            np.broadcast_to(values, shape).ravel().astype(kind) if axis is not None else values.ravel()[0].astype(kind)
        )

    numbers = {"axis": axis or 0}
    zeros = op.emit.shared(np.array(vector(codes, np.uint8)))
    quantised = op.QuantizeLinear(x, op.emit.shared(np.array(vector(scale, np.float32))), zeros, **numbers)
    y = op.DequantizeLinear(quantised, op.emit.shared(np.array(vector(steps, np.float32))), zeros, **numbers)
    return y if (on_grid and same) or not out_low.any() else op.Add(y, out_low.astype(np.float32))


@rule("FakeConvert")
def fake_convert(op: Ops, layer: Layer) -> ir.Value:
    """Rounding to float8, which has no equal: ONNX's Cast to it is of opset 19, and OpenVINO does not read that."""
    raise layer.refuse(
        f"rounds to {str(layer.attr('destination_type')).lower()}, which no bundle holds; quantise the network to int8 "
        "(nncf.quantize without a mode), or its weights alone (nncf.compress_weights)"
    )


def _in_floats(
    op: Ops,
    x: ir.Value,
    ends: tuple[NDArray[np.float64], NDArray[np.float64]],
    scale: NDArray[np.float64],
    out_scale: NDArray[np.float64],
    out_low: NDArray[np.float64] | None,
) -> ir.Value:
    """clip(x), rounded to a grid: round(x / s) s if `out_low` is None (0 is on it), else round((x - il) / s) s' + ol."""
    low, high = (end.astype(np.float32) for end in ends)
    x = op.Min(op.Max(x, low), high)
    x = x if out_low is None else op.Sub(x, low)
    codes = op.Round(op.Div(x, scale.astype(np.float32)))
    rounding = codes.producer()
    assert rounding is not None
    rounding.metadata_props[STRAIGHT] = "yes"  # gradients pass it
    y: ir.Value = op.Mul(codes, (scale if out_low is None else out_scale).astype(np.float32))
    return y if out_low is None else op.Add(y, out_low.astype(np.float32))


def _axis(layer: Layer, shape: tuple[int, ...]) -> int | None:
    """The dimension of x along which the ranges differ; None if there is one range."""
    long = next((i for i, size in enumerate(shape) if size != 1), None)
    return None if long is None else long + len(layer.dims()) - len(shape)


def codes(op: Ops, layer: Layer) -> ir.Value | None:
    """Convert(FakeQuantize) to int8 or uint8 as QuantizeLinear, as OpenVINO reads that from ONNX; None for any other Convert."""
    node, kind = layer.node.input_value(0).get_node(), layer.out_kind()
    if (
        node.get_type_name() != "FakeQuantize"
        or kind not in (np.int8, np.uint8)
        or node.get_attributes()["levels"] != _LEVELS
    ):
        return None
    limits = [layer.content(node.input_value(i)) for i in range(1, 5)]
    if any(array is None or array.size != 1 for array in limits):
        return None
    low, high, out_low, out_high = (float(array.ravel()[0]) for array in limits if array is not None)
    bounds, scale = np.iinfo(kind), (high - low) / (_LEVELS - 1)
    if (out_low, out_high) != (bounds.min, bounds.max) or scale <= 0:
        return None
    zero = -low / scale + bounds.min
    if abs(zero - round(zero)) > 1e-3 or not bounds.min <= round(zero) <= bounds.max:
        return None
    zeros = op.emit.shared(np.array(round(zero), kind))
    return op.QuantizeLinear(layer.value(node.input_value(0)), op.emit.shared(np.array(scale, np.float32)), zeros)


def floats(op: Ops, layer: Layer) -> ir.Value | None:
    """Multiply([Subtract](Convert(codes))) as DequantizeLinear of the codes; None for any other Multiply."""
    source, scale = layer.node.input_value(0), layer.constant(1)
    zero: NDArray[np.generic] | None = np.zeros(())
    if source.get_node().get_type_name() == "Subtract":
        zero = layer.content(source.get_node().input_value(1))
        source = source.get_node().input_value(0)
    if (
        source.get_node().get_type_name() != "Convert"
        or scale is None
        or zero is None
        or scale.size != 1
        or zero.size != 1
    ):
        return None
    before = source.get_node().input_value(0)
    kind = kind_of(before.get_element_type())
    wanted = float(zero.astype(np.float64).ravel()[0])
    if kind not in (np.int8, np.uint8) or scale.dtype != np.float32 or layer.content(before) is not None:
        return None
    if (
        wanted != round(wanted)
        or not np.iinfo(kind).min <= wanted <= np.iinfo(kind).max
        or len(scale.shape) > len(layer.dims())
    ):
        return None
    zeros = op.emit.shared(np.array(round(wanted), kind))
    return op.DequantizeLinear(layer.value(before), op.emit.shared(scale.reshape(())), zeros)
