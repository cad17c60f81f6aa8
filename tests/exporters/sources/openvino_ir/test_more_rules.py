"""As `test_rules`, of rarer operators: recurrent layers, sampling, blocks, Fourier transforms, old opsets, packed weights."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .running import agree, c, f32, floats, grouped, ints, o, o1, of_version, ov, saved, saved_together

import openvino.opset4 as o4  # isort: skip
import openvino.opset15 as o15  # isort: skip


def for_each(x: Any, constant: Any, *sizes: int) -> Any:
    """A constant for every image, [N, ...]."""
    return o.broadcast(constant, o.concat([o.gather(o.shape_of(x), ints(0), c(0)), ints(*sizes)], 0))


def rows(x: Any) -> Any:
    return o.reshape(x, ints(0, 15, 7), True)


def recurrent(kind: str, x: Any, direction: str, output: int = 0, steps: int = 15, **options: Any) -> Any:
    """A layer of 4 units over 15 steps of 7 numbers."""
    ways = 2 if direction == "bidirectional" else 1
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[kind]
    states = [for_each(x, f32(0.1), ways, 4)] * (2 if kind == "lstm" else 1)
    lengths = o.broadcast(c(np.int64(steps)), o.gather(o.shape_of(x), ints(0), c(0)))
    weights = floats(ways, 4 * gates, 7), floats(ways, 4 * gates, 4)
    bias = floats(ways, 4 * (gates + bool(options.get("linear_before_reset"))))
    made = getattr(o, f"{kind}_sequence")(rows(x), *states, lengths, *weights, bias, 4, direction, **options)
    return made.output(output)


def flat(x: Any) -> Any:
    return o.reshape(x, ints(0, -1), True)


def lstm_cell(x: Any, opset: Any, output: int) -> Any:
    state = for_each(x, f32(0.1), 4)
    return opset.lstm_cell(flat(x), state, state, floats(16, 105), floats(16, 4), floats(16), 4).output(output)


def moves(x: Any, *sizes: int) -> Any:
    """Offsets of -2 to 2 pixels."""
    return o.multiply(for_each(x, floats(1, *sizes), *sizes), f32(0.7))


def deformed(x: Any, sizes: Sequence[int], offsets: int, **options: Any) -> Any:
    step, pad = options.pop("step", 1), options.pop("pad", 1)
    return o.deformable_convolution(
        x, moves(x, offsets, *sizes), floats(4, 3, 3, 3), [step] * 2, [pad] * 2, [pad] * 2, [pad] * 2,
        bilinear_interpolation_pad=True, **options,
    )  # fmt: skip


def numbers(x: Any) -> Any:
    """Complex numbers."""
    return o.concat([o.unsqueeze(x, ints(-1)), o.unsqueeze(o.sin(x), ints(-1))], 4)


def first_interpolate(x: Any, sizes: Sequence[int], mode: str, corners: bool) -> Any:
    return of_version(
        "opset1", "Interpolate", [x, ints(*sizes)], axes=[2, 3], mode=mode, align_corners=corners, antialias=False,
        pads_begin=[0], pads_end=[0],
    )  # fmt: skip


def yolo(x: Any, softmax: bool) -> Any:
    return of_version(
        "opset1", "RegionYolo", [o.concat([x] * 6, 1)], coords=4, classes=4, num=2 if softmax else 6, do_softmax=softmax,
        mask=[] if softmax else [0, 1], anchors=[], axis=1, end_axis=3,
    )  # fmt: skip


def blocks(x: Any) -> Any:
    """Between the two, what no dilation replaces."""
    parts = o.space_to_batch(x, ints(1, 1, 2, 3), ints(0, 0, 1, 0), ints(0, 0, 0, 2))
    return o.batch_to_space(o.softmax(parts, 1), ints(1, 1, 2, 3), ints(0, 0, 1, 0), ints(0, 0, 0, 2))


def packed(x: Any, kind: str, values: Any) -> Any:
    """Weights in groups of 7, as NNCF compresses them: (codes - zero) scale, then one row for each channel."""
    codes = o.convert(o.constant(np.asarray(values).reshape(4, 5, 3, 7), dtype=getattr(ov.Type, kind)), "f16")
    if kind.startswith("u"):
        codes = o.subtract(codes, o.convert(o.constant(np.full((4, 5, 3, 1), 1), dtype=getattr(ov.Type, kind)), "f16"))
    scales = o.constant(np.random.default_rng(3).random((4, 5, 3, 1)).astype(np.float16))
    weights = o.convert(o.reshape(o.multiply(codes, scales), ints(4, -1), False), "f32")
    return o.matmul(flat(o.transpose(x, ints(0, 2, 1, 3))), weights, False, True)


def transposed(x: Any, step: int, dilation: int, end: int, more: int) -> Any:
    """More rows than the stride behind those that the pads crop."""
    return o.convolution_backprop_data(
        x, floats(3, 4, 3, 2), [step] * 2, None, [1, 0], [end] * 2, [dilation] * 2, "explicit", [more] * 2
    )


def one_hot(x: Any, opset: str, axis: int, **options: Any) -> Any:
    """Of indices below 0 and above the number, too."""
    indices = o.convert(o.multiply(x, f32(2)), "i32")
    return of_version(opset, "OneHot", [indices, c(np.int64(3)), f32(2), f32(-1)], axis=axis, **options)


def shrunk(x: Any, begin: int, step: int) -> Any:
    """One index of an axis whose beginning is masked, which is the first."""
    return o.strided_slice(x, ints(0, begin), ints(0, begin + 1), ints(1, step), [1, 1], [1, 0], [0, 0], [0, 1])


CASES: dict[str, Any] = {
    "first one hot of indices below 0": lambda x: one_hot(x, "opset1", -1),
    "gather of rows, counted from the end": lambda x: o.gather(x, for_each(x, c(np.int64(1)), 2), c(3), -1),
    "rolled twice along an axis": lambda x: o.roll(x, ints(1, 2, -2), ints(3, -1, 2)),
    "shrunk with a masked beginning": lambda x: shrunk(x, 2, 1),
    "shrunk with a masked beginning, backwards": lambda x: shrunk(x, 2, -1),
    "lstm's last state": lambda x: recurrent("lstm", x, "forward", 1),
    "lstm's cells": lambda x: recurrent("lstm", x, "bidirectional", 2),
    "other activations": lambda x: recurrent("lstm", x, "forward", activations=["sigmoid", "relu", "tanh"], clip=0.5),
    "gru, reset after": lambda x: recurrent("gru", x, "bidirectional", linear_before_reset=True),
    "lstm cell": lambda x: lstm_cell(x, o4, 0),
    "lstm cell's cell": lambda x: lstm_cell(x, o4, 1),
    "first lstm cell": lambda x: lstm_cell(x, o1, 0),
    "gru cell": lambda x: o.gru_cell(flat(x), for_each(x, f32(0.1), 4), floats(12, 105), floats(12, 4), floats(12), 4),
    "gru cell, reset after": lambda x: o.gru_cell(
        flat(x), for_each(x, f32(0.1), 4), floats(12, 105), floats(12, 4), floats(16), 4, linear_before_reset=True
    ),
    "rnn cell": lambda x: o.rnn_cell(
        flat(x), for_each(x, f32(0.1), 4), floats(4, 105), floats(4, 4), floats(4), 4, ["tanh"], [], []
    ),
    "deformed": lambda x: deformed(x, (5, 7), 18),
    "deformed by a mask": lambda x: deformed(x, (3, 4), 18, step=2, mask=o.sigmoid(moves(x, 9, 3, 4))),
    "deformed in groups": lambda x: deformed(o.concat([x, x], 1), (5, 7), 36, pad=2, group=2, deformable_group=2),
    "columns": lambda x: o15.col2im(
        o.slice(o.reshape(o.concat([x] * 4, 1), ints(0, 12, 35), True), ints(0), ints(24), ints(1), ints(2)),
        ints(5, 7), ints(2, 2), [1, 1], [1, 1], [0, 0], [0, 0],
    ),
    "acosh": lambda x: o.acosh(o.add(o.abs(x), f32(1.1))),
    "asinh": o.asinh,
    "atanh": lambda x: o.atanh(o.clamp(x, -0.9, 0.9)),
    "no number": lambda x: o.convert(of_version("opset10", "IsNaN", [o.log(x)]), "f32"),
    "finite": lambda x: o.convert(of_version("opset10", "IsFinite", [o.divide(x, o.floor(o.abs(x)))]), "f32"),
    "all": lambda x: o.convert(o.reduce_logical_and(o.greater(x, f32(-1)), ints(2, 3), True), "f32"),
    "any": lambda x: o.convert(o.reduce_logical_or(o.greater(x, f32(1)), ints(3), False), "f32"),
    "global response": lambda x: of_version("opset1", "GRN", [x], bias=0.3),
    "one hot": lambda x: o.one_hot(o.convert(o.clamp(o.abs(x), 0, 2), "i32"), c(np.int64(3)), f32(2), f32(-1), -1),
    "slices scattered": lambda x: o15.slice_scatter(
        x, o.relu(o.slice(x, ints(1, -1), ints(3, -6), ints(1, -2), ints(2, 3))), ints(1, -1), ints(3, -6), ints(1, -2), ints(2, 3)
    ),
    "gather of each": lambda x: o.gather(
        x, o.convert(for_each(x, c(np.array([[[1, 0, 1]] * 3])), 3, 3), "i32"), c(np.int64(2)), 2
    ),
    "reorganised": lambda x: of_version(
        "opset2", "ReorgYolo", [o.pad(o.concat([x] * 4, 1), ints(0, 0, 0, 0), ints(0, 0, 1, 1), "edge")], stride=[2]
    ),
    "dft": lambda x: o.dft(numbers(x), ints(2, 3)),
    "inverse dft": lambda x: o.idft(numbers(x), ints(-1, 1)),
    "dft of reals": lambda x: o.rdft(x, ints(2, 3)),
    "dft to reals": lambda x: o.irdft(numbers(x), ints(1, 3)),
    "blocks": blocks,
}  # fmt: skip
for _kind, _way in itertools.product(("lstm", "gru", "rnn"), ("forward", "reverse", "bidirectional")):
    CASES[f"{_kind} {_way}"] = lambda x, k=_kind, w=_way: recurrent(k, x, w)
for _mode, _border in (("bilinear", "zeros"), ("nearest", "border"), ("bicubic", "reflection")):
    for _corners in (False, True):
        CASES[f"grid {_mode} {_border} {_corners}"] = lambda x, m=_mode, b=_border, a=_corners: o.grid_sample(
            x, o.clamp(moves(x, 4, 6, 2), -1.2, 1.2), {"mode": m, "padding_mode": b, "align_corners": a}
        )
for _places in ("asymmetric", "half_pixel_for_nn"):
    CASES[f"regions {_places}"] = lambda x, p=_places: o.roi_align(
        x, c(np.array([[0, 0, 4, 4], [1, 1, 6, 3]], np.float32)), c(np.zeros(2, np.int32)), 2, 2, 2, 1.0,
        "avg", p,
    )  # fmt: skip
for _pad in ("same_upper", "valid", "same_lower"):
    CASES[f"patches {_pad}"] = lambda x, p=_pad: o.extract_image_patches(x, [2, 3], [1, 2], [1, 2], p)
for _how in ("none", "sum", "prod", "min", "max"):
    CASES[f"scattered {_how}"] = lambda x, h=_how: o.scatter_elements_update(
        x, o.broadcast(c(np.array([4, 3, 2, 1, 0]).reshape(1, 1, 5, 1)), o.shape_of(x)), o.abs(x), c(np.int64(2)), h
    )
    CASES[f"scattered slices {_how}"] = lambda x, h=_how: o15.scatter_nd_update(
        x, ints(0), o.gather(o.abs(x), c(np.int64(0)), c(np.int64(0))), h
    )
for _size, (_mode, _corners) in itertools.product(
    ((10, 14), (8, 9), (3, 4)), (("nearest", False), ("linear", False), ("linear", True), ("cubic", False))
):
    CASES[f"first interpolate {_size} {_mode} {_corners}"] = lambda x, s=_size, m=_mode, a=_corners: first_interpolate(
        x, s, m, a
    )
for _softmax in (False, True):
    CASES[f"yolo {_softmax}"] = lambda x, s=_softmax: yolo(x, s)
_PACKED: dict[str, Any] = {
    "u2": np.arange(420) % 4,
    "u3": np.arange(420) % 8,
    "u4": np.arange(420) % 16,
    "i4": np.arange(420) % 16 - 8,
}
_PACKED |= dict.fromkeys(("nf4", "f4e2m1", "f8e4m3", "f8e5m2"), np.linspace(-1, 1, 420))
for _type, _values in _PACKED.items():
    CASES[f"packed {_type}"] = lambda x, t=_type, v=_values: packed(x, t, v)

for _step, _dilation, _end, _more in (
    (1, 1, 2, 3),
    (1, 2, 1, 1),
    (2, 1, 2, 2),
    (2, 2, 3, 4),
    (3, 1, 3, 3),
    (2, 1, 0, 3),
):
    CASES[f"transposed with more {_step} {_dilation} {_end} {_more}"] = lambda x, m=(_step, _dilation, _end, _more): (
        transposed(x, *m)
    )
for _mode in ("blocks_first", "depth_first"):
    CASES[f"depth to space of one dimension {_mode}"] = lambda x, m=_mode: o.depth_to_space(
        o.reshape(x, ints(0, 15, 7), True), m, 3
    )
    CASES[f"depth to space of three dimensions {_mode}"] = lambda x, m=_mode: o.depth_to_space(
        o.reshape(o.concat([x] * 8, 1), ints(0, 24, 5, 1, 7), True), m, 2
    )
    CASES[f"space to depth of one dimension {_mode}"] = lambda x, m=_mode: o.space_to_depth(
        o.reshape(x, ints(0, 7, 15), True), m, 3
    )
    CASES[f"space to depth of three dimensions {_mode}"] = lambda x, m=_mode: o.space_to_depth(
        o.reshape(o.concat([x] * 8, 1), ints(0, 15, 2, 2, 14), True), m, 2
    )
for _mode in ("ignore_negative", "normalize"):
    CASES[f"one hot {_mode}"] = lambda x, m=_mode: one_hot(x, "opset16", 1, negative_indices_mode=m)
for _before, _after in (
    ((0, 0, 1, 2), (0, 0, 2, 1)),
    ((0, 3, 5, 0), (0, 0, 0, 7)),
    ((0, 1, 0, 0), (0, 2, 0, 0)),
    ((0,) * 4,) * 2,
):
    CASES[f"pad symmetric {_before} {_after}"] = lambda x, b=_before, e=_after: o.pad(
        x, ints(*b), ints(*e), "symmetric"
    )
for _axis in (1, 2, 3, -1):
    CASES[f"gather of rows {_axis}"] = lambda x, a=_axis: o.gather(x, for_each(x, c(np.int64(1)), 2), c(a), 1)


GROUPS = grouped(CASES)


@pytest.mark.parametrize("group", GROUPS)
def test_rules(group: str, tmp_path: Path) -> None:
    x = np.random.default_rng(1).normal(size=(3, 3, 5, 7)).astype(np.float32)
    agree(saved_together(tmp_path, GROUPS[group], -1), x, names=[*GROUPS[group]])


FIXED: dict[str, Any] = {
    "shorter than the steps": lambda x: recurrent("lstm", x, "forward", steps=9),
    "infinite": lambda x: o.convert(
        of_version("opset10", "IsInf", [o.divide(x, o.floor(o.abs(x)))], detect_negative=True, detect_positive=False), "f32"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FIXED)
def test_rule_of_a_fixed_batch(name: str, tmp_path: Path) -> None:
    """OpenVINO computes these otherwise while the batch is open."""
    x = np.random.default_rng(1).normal(size=(3, 3, 5, 7)).astype(np.float32)
    agree(saved(tmp_path, FIXED[name], 3), x)
