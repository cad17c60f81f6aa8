"""FakeQuantize as QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ....graph.emit import Ops
from ..layer import Layer, rule

_LEVELS = 256


@rule("FakeQuantize")
def fake_quantize(op: Ops, layer: Layer) -> ir.Value:
    """y = round((clip(x, il, ih) - il) / s) s' + ol, with s = (ih - il) / (levels - 1) and s' of the output's range.

    1. ol = il, oh = ih, and 0 is on the grid: codes of uint8 with zero point -il / s.
    2. Otherwise x is moved by il before and by ol after, and the zero point is 0.

    x is clipped first if the codes reach further than the levels. Rounding is to even in both.
    """
    levels = int(layer.attr("levels"))
    if not 2 <= levels <= _LEVELS:
        raise layer.refuse(f"has {levels} levels; QuantizeLinear has up to {_LEVELS}. Quantise the network to 8 bits")
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


def _axis(layer: Layer, shape: tuple[int, ...]) -> int | None:
    """The dimension of x along which the ranges differ; None if there is one range.

    Raises:
        GraphError: They differ along several.
    """
    long = [i for i, size in enumerate(shape) if size != 1]
    if len(long) > 1:
        raise layer.refuse(f"has ranges of shape {list(shape)}; QuantizeLinear's differ along one dimension only")
    return long[0] + len(layer.dims()) - len(shape) if long else None
