"""Interpolate as Resize, of full rank: with `axes` ONNX Runtime 1.32 computes some graphs wrongly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from xai_deploy.resample import weights

from ....graph.emit import Ops
from ..layer import Layer, rule
from .linear import product_along

_MODES = {
    "nearest": "nearest", "linear": "linear", "linear_onnx": "linear", "cubic": "cubic",
}  # fmt: skip
_PILLOW = {"bilinear_pillow": "bilinear", "bicubic_pillow": "bicubic"}
_PLACES = ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")
_NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@rule("Interpolate")
def interpolate(op: Ops, layer: Layer) -> ir.Value:
    """OpenVINO resizes whole numbers (PrePostProcessor's pixels) in floats, then rounds and clips. ONNX Runtime would cut off."""
    kind = layer.kind(0)
    if kind.kind not in "iu" or str(layer.attr("mode")).lower() == "nearest":
        return _interpolate(op, layer, layer.x())
    bounds = np.iinfo(kind)

    def rounded(y: ir.Value) -> ir.Value:
        return op.Clip(op.Round(y), float(bounds.min), float(bounds.max))

    y = _interpolate(op, layer, op.Cast(layer.x(), to=ir.DataType.FLOAT), rounded)
    return op.Cast(rounded(y), to=ir.DataType.from_numpy(kind))


def _interpolate(op: Ops, layer: Layer, x: ir.Value, rounded: Callable[[ir.Value], ir.Value] | None = None) -> ir.Value:
    """Resize by scales if OpenVINO computes the sizes from them, or if they give the same sizes; else to sizes."""
    rank, axes = len(layer.dims()), _axes(layer)
    places, mode = _places(layer), str(layer.attr("mode")).lower()
    nearest = _nearest(layer, axes) if mode == "nearest" else ""
    if (places, mode, nearest) == (
        "tf_half_pixel_for_nn",
        "nearest",
        "floor",
    ):  # floor(z) is round_prefer_ceil(z - 1/2)
        places, nearest = "half_pixel", "round_prefer_ceil"
    if mode in _PILLOW:
        return _pillow(op, layer, x, _PILLOW[mode], rounded)
    if places not in _PLACES or mode not in _MODES or (mode == "nearest" and nearest not in _NEAREST):
        raise layer.refuse(f"resizes with {mode}, {places}, {nearest}, which ONNX's Resize does not have")
    if any((*(layer.attr("pads_begin") or []), *(layer.attr("pads_end") or []))):
        raise layer.refuse("pads before it resizes; export the padding as an operator of its own")
    attributes: dict[str, int | float | str] = {
        "mode": _MODES[mode],
        "coordinate_transformation_mode": places,
    }
    if layer.attr("antialias"):
        raise layer.refuse("resizes with antialias, which ONNX defines differently; use the mode bilinear_pillow")
    if mode == "nearest":
        attributes["nearest_mode"] = nearest
    if attributes["mode"] == "cubic":
        if sorted(axes) != list(range(rank - len(axes), rank)):
            return _cubic(op, layer, x, axes, places)
        attributes["cubic_coeff_a"] = float(layer.attr("cube_coeff", -0.75))
    scales = np.ones(rank, np.float32)
    if str(layer.attr("shape_calculation_mode")).lower() == "scales":
        scales[axes] = layer.require(_place_of_scales(layer), "scales").astype(np.float32).ravel()
        return op.Resize(x, None, op.emit.shared(scales), **attributes)
    dims, outs = layer.dims(), layer.result()
    pairs = [(dims[a], outs[a]) for a in axes]
    if any(before is None or after is None for before, after in pairs):
        raise layer.refuse("its sizes are not known; give the image's size with --input-shape C,H,W")
    if all(before == after for before, after in pairs):
        return op.Identity(x)
    scales[axes] = [np.float32(after) / np.float32(before) for before, after in pairs]
    exact = all(
        int(np.floor(np.float32(before) * s)) == after for (before, after), s in zip(pairs, scales[axes], strict=True)
    )
    if exact:
        return op.Resize(x, None, op.emit.shared(scales), **attributes)
    known = [size if axis in axes else dims[axis] for axis, size in enumerate(outs)]
    if None not in known:
        return op.Resize(x, None, None, np.array(known), **attributes)
    shape = op.Shape(x)
    parts = [
        op.emit.shared(np.array([size])) if size is not None else op.Slice(shape, [axis], [axis + 1])
        for axis, size in enumerate(known)
    ]
    return op.Resize(x, None, None, op.Concat(*parts, axis=0), **attributes)


def _nearest(layer: Layer, axes: list[int]) -> str:
    """The rounding. `simple`, which Paddle's networks have, is floor along an axis that grows and ceil along one that shrinks."""
    mode = str(layer.attr("nearest_mode", "simple" if _is_first(layer) else "round_prefer_floor")).lower()
    if mode != "simple":
        return mode
    pairs = [(layer.dims()[axis], layer.result()[axis]) for axis in axes]
    grows = {after > before for before, after in pairs if before is not None and after is not None and before != after}
    if any(None in pair for pair in pairs) and str(layer.attr("shape_calculation_mode")).lower() == "scales":
        grows = {bool(scale > 1) for scale in layer.require(_place_of_scales(layer), "scales").ravel() if scale != 1}
    elif any(None in pair for pair in pairs):
        raise layer.refuse("its sizes are not known; give the image's size with --input-shape C,H,W")
    if len(grows) > 1:
        raise layer.refuse(
            "grows along one axis and shrinks along another with nearest_mode simple; resize them one by one"
        )
    return "ceil" if grows == {False} else "floor"


def _place_of_scales(layer: Layer) -> int:
    """Which input holds the scales: opset 11's second one, which are sizes otherwise; opset 4's third."""
    return 1 if layer.opset == "opset11" else 2


def _place_of_axes(layer: Layer) -> int:
    """Which input holds the axes: opset 11 has sizes or scales, opset 4 both."""
    return 2 if layer.opset == "opset11" else 3


def _is_first(layer: Layer) -> bool:
    """Whether it is the first opset's, of IRs written until 2020, which has other attributes."""
    return not layer.has("shape_calculation_mode")


def _places(layer: Layer) -> str:
    """Where the pixels of the result lie; the first opset has two ways."""
    if _is_first(layer):
        return "align_corners" if layer.attr("align_corners") else "asymmetric"
    return str(layer.attr("coordinate_transformation_mode")).lower()


def _axes(layer: Layer) -> list[int]:
    if _is_first(layer):
        return [layer.axis(int(a)) for a in layer.attr("axes")]
    last = _place_of_axes(layer)
    return [layer.axis(a) for a in layer.ints(last, "axes")] if len(layer) > last else list(range(len(layer.dims())))


def _cubic(op: Ops, layer: Layer, x: ir.Value, axes: list[int], places: str) -> ir.Value:
    """Cubics along other axes than the last ones, as a product with a matrix per axis.

    ONNX Runtime's Resize shrinks along no other axes, and its optimiser moves a Resize in front of a Transpose that would help.
    """
    given, rank = x, len(layer.dims())
    factors: dict[int, float] = {}
    if str(layer.attr("shape_calculation_mode")).lower() == "scales":
        numbers = layer.require(_place_of_scales(layer), "scales").astype(np.float64).ravel()
        factors = dict(zip(axes, numbers.tolist(), strict=True))
    for axis in axes:
        before, after = layer.sizes(0, axis)[:1][0], layer.out_sizes(axis)[:1][0]
        if before != after or factors.get(axis, 1.0) != 1.0:
            matrix = _cubics(before, after, factors.get(axis, after / before), places, layer)
            x = product_along(op, x, axis, rank, matrix)
    return x if x is not given else op.Identity(x)


def _cubics(before: int, after: int, factor: float, places: str, layer: Layer) -> NDArray[np.float32]:
    """Weights [before, after] of the cubic convolution (Keys 1981) with the coefficient a; beyond the border its pixel counts."""
    a, i = float(layer.attr("cube_coeff", -0.75)), np.arange(after)
    place = {
        "half_pixel": (i + 0.5) / factor - 0.5,
        "pytorch_half_pixel": (i + 0.5) / factor - 0.5 if after > 1 else np.zeros(1),
        "asymmetric": i / factor,
        "align_corners": i * (before - 1) / max(after - 1, 1),
    }[places]
    first = np.floor(place).astype(int)
    matrix = np.zeros((before, after))
    for tap in range(-1, 3):
        t = np.abs(place - first - tap)
        near, far = (a + 2) * t**3 - (a + 3) * t**2 + 1, a * (t**3 - 5 * t**2 + 8 * t - 4)
        np.add.at(matrix, (np.clip(first + tap, 0, before - 1), i), np.where(t <= 1, near, far))
    return matrix.astype(np.float32)


def _pillow(
    op: Ops, layer: Layer, x: ir.Value, interpolation: str, rounded: Callable[[ir.Value], ir.Value] | None
) -> ir.Value:
    """Pillow's resampling as a product with a matrix per axis: OpenVINO reads ONNX's Resize without its antialias.

    The bicubic filter has Pillow's coefficient -0.5 whatever `cube_coeff` says: OpenVINO's kernel does not read it, and
    PrePostProcessor writes -0.75. Whole numbers are rounded after the rows, which come first, too (`rounded`).
    """
    given, rank = x, len(layer.dims())
    for axis in sorted(_axes(layer), reverse=True):
        before, after = layer.sizes(0, axis)[:1][0], layer.out_sizes(axis)[:1][0]
        if before == after:
            continue
        start, matrix = weights(before, after, interpolation, antialias=True)
        full = np.zeros((before, after), np.float32)
        full[start : start + matrix.shape[1]] = matrix.T
        if rounded is not None and x is not given:
            x = rounded(x)
        x = product_along(op, x, axis, rank, full)
    return x if x is not given else op.Identity(x)
