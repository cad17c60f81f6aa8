"""Every operator's rule against OpenVINO's own run of the IR: odd sizes, a batch of 1, 3 and an open one."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .running import (
    agree,
    c,
    f32,
    floats,
    grouped,
    ints,
    o,
    o1,
    o2,
    o14,
    of_version,
    positive,
    saved_together,
)


def images(x: Any) -> Any:
    """How many images there are, [1]."""
    return o.gather(o.shape_of(x, "i64"), ints(0), c(0))


CASES: dict[str, Any] = {
    "power": lambda x: o.power(o.abs(x), f32(1.7)),
    "squared difference": lambda x: o.squared_difference(x, floats(1, 3, 1, 1)),
    "sqrt": lambda x: o.sqrt(o.abs(x)),
    "log": lambda x: o.log(o.add(o.abs(x), f32(0.1))),
    "round even": lambda x: o.round(o.multiply(o.floor(o.multiply(x, f32(4))), f32(0.5)), "half_to_even"),
    "round away": lambda x: o.round(o.multiply(o.floor(o.multiply(x, f32(4))), f32(0.5)), "half_away_from_zero"),
    "mod": lambda x: o.mod(x, f32(0.7)),
    "floor mod": lambda x: o.floor_mod(x, f32(0.7)),
    "integers": lambda x: o.convert(o.floor_mod(o.convert(o.multiply(x, f32(9)), "i32"), c(np.int32(4))), "f32"),
    "logical not": lambda x: o.convert(o.logical_not(o.greater(x, f32(0.1))), "f32"),
    "select": lambda x: o.select(o.greater(x, f32(0.1)), x, f32(-1)),
    "clamp": lambda x: o.clamp(x, -0.5, 0.7),
    "clamp to relu": lambda x: o.clamp(x, 0, float("inf")),
    "prelu": lambda x: o.prelu(x, f32(0.1, 0.2, 0.3)),
    "prelu of one": lambda x: o.prelu(x, c(np.array([0.1], np.float32))),
    "prelu of four dimensions": lambda x: o.prelu(x, floats(1, 3, 1, 1)),
    "elu": lambda x: o.elu(x, 0.7),
    "selu": lambda x: o.selu(x, f32(1.6), f32(1.05)),
    "gelu": lambda x: o.gelu(x, "erf"),
    "gelu tanh": lambda x: o.gelu(x, "tanh"),
    "swish of a factor": lambda x: o.swish(x, f32(1.3)),
    "hard sigmoid": lambda x: o.hard_sigmoid(x, f32(0.3), f32(0.4)),
    "softmax": lambda x: o.softmax(x, 1),
    "softmax from the end": lambda x: o.softmax(x, -1),
    "log softmax": lambda x: o.log_softmax(x, 1),
    "output padding": lambda x: o.convolution_backprop_data(
        x, floats(3, 4, 3, 3), [2, 2], None, [1, 1], [1, 1], [1, 1], "explicit", [1, 1]
    ),
    "max pool with dilation": lambda x: o.max_pool(x, [2, 2], [1, 2], [0, 0], [1, 1], [3, 2]).output(0),
    "first max pool": lambda x: o1.max_pool(x, [2, 2], [0, 0], [1, 1], [3, 2]),
    "adaptive average": lambda x: o.adaptive_avg_pool(x, ints(5, 1)),
    "adaptive average of windows that differ": lambda x: o.adaptive_avg_pool(x, ints(2, 3)),
    "adaptive average of more than there is": lambda x: o.adaptive_avg_pool(x, ints(6, 7)),
    "adaptive maximum": lambda x: o.adaptive_max_pool(x, ints(5, 1), "i32").output(0),
    "adaptive maximum of windows that differ": lambda x: o.adaptive_max_pool(x, ints(2, 3), "i32").output(0),
    "resize to the same": lambda x: o.interpolate(
        x, ints(5, 7), "linear", "sizes", [0] * 4, [0] * 4, "half_pixel", "floor", False, -0.75, ints(2, 3)
    ),
    "reshape": lambda x: o.reshape(x, ints(0, 0, 35), True),
    "transpose": lambda x: o.transpose(x, ints(0, 2, 3, 1)),
    "slices put in by index": lambda x: o.scatter_update(x, ints(3, 0), o.negative(o.gather(x, ints(1, 2), c(2))), c(2)),
    "slices put in along the first axis": lambda x: o.scatter_update(
        o.transpose(x, ints(1, 0, 2, 3)), ints(2), o.transpose(o.reduce_max(x, ints(1), True), ints(1, 0, 2, 3)), c(0)
    ),
    "split before an open size": lambda x: o.add(*o.split(o.transpose(o.concat([x, x], 1), ints(1, 0, 2, 3)), c(0), 2).outputs()),
    "repeated for every image": lambda x: o.add(x, o.tile(floats(1, 3, 5, 7), o.concat([images(x), ints(1, 1, 1)], 0))),
    "repeated for every image, with dimensions before": lambda x: o.add(
        x, o.squeeze(o.tile(floats(1, 3, 5, 7), o.concat([ints(1), images(x), ints(1, 1, 1)], 0)), ints(0))
    ),
    "bits of booleans": lambda x: o.convert(
        o.bitwise_not(o.bitwise_and(o.greater(x, f32(0.1)), o.bitwise_or(o.less(x, f32(0.9)), o.less(x, f32(2))))), "f32"
    ),
    "bits of integers": lambda x: o.convert(
        o.bitwise_xor(o.convert(o.multiply(x, f32(9)), "i32"), o.bitwise_not(c(np.int32(5)))), "f32"
    ),
    "transpose reversed": lambda x: o.transpose(x, c(np.zeros(0, np.int64))),
    "squeeze": lambda x: o.squeeze(o.reduce_mean(x, ints(2, 3), True), ints(2, 3)),
    "unsqueeze": lambda x: o.unsqueeze(x, ints(1, -1)),
    "concat": lambda x: o.concat([x, o.relu(x)], -3),
    "split": lambda x: o.concat(list(reversed(o.split(x, c(np.int64(-3)), 3).outputs())), 1),
    "variadic split": lambda x: o.concat(list(reversed(o.variadic_split(x, c(np.int64(3)), ints(2, -1, 1)).outputs())), 3),
    "strided slice": lambda x: o.strided_slice(
        x, ints(0, 0, 1, -1), ints(0, 3, 4, -8), ints(1, 1, 1, -2), [1, 0, 0, 0], [1, 0, 0, 0]
    ),
    "ellipsis": lambda x: o.strided_slice(x, ints(0, 1), ints(0, 5), ints(1, 2), [0, 0], [0, 0], [0, 0], [0, 0], [1, 0]),
    "shrink": lambda x: o.strided_slice(
        x, ints(0, -1, 0), ints(0, 0, 3), ints(1, 1, 1), [1, 0, 0], [1, 0, 0], [0] * 3, [0, 1, 0], [0] * 3
    ),
    "new axis": lambda x: o.strided_slice(
        x, ints(0, 0, 1), ints(0, 0, 3), ints(1, 1, 1), [1, 1, 0], [1, 1, 0], [0, 1, 0], [0] * 3, [0] * 3
    ),
    "slice": lambda x: o.slice(x, ints(1, -1), ints(3, -6), ints(1, -2), ints(2, 3)),
    "gather": lambda x: o.gather(x, ints(2, 1, 0), c(np.int64(1))),
    "gather one": lambda x: o.gather(x, c(np.int32(-1)), c(np.int64(2))),
    "gather elements": lambda x: o.gather_elements(x, o.convert(o.floor(o.clamp(o.abs(x), 0, 2)), "i32"), 1),
    "scatter": lambda x: o.scatter_nd_update(x, ints(0), o.gather(o.abs(x), c(np.int64(0)), c(np.int64(0)))),
    "roll": lambda x: o.roll(x, ints(1, -2), ints(2, 3)),
    "crop": lambda x: o.pad(x, ints(0, 0, -1, 2), ints(0, 0, 1, -1), "constant"),
    "broadcast": lambda x: o.broadcast(o.reduce_mean(x, ints(2, 3), True), o.shape_of(x)),
    "broadcast both": lambda x: o.broadcast(x, ints(1, 1, 5, 1), broadcast_spec="BIDIRECTIONAL"),
    "broadcast along an axis": lambda x: o.add(x, o.broadcast(f32(1, 2, 3), ints(1, 3, 5, 7), ints(1), "EXPLICIT")),
    "tile": lambda x: o.tile(x, ints(2, 1, 3)),
    "tile to more dimensions": lambda x: o.tile(x, ints(2, 1, 2, 1, 1)),
    "shape": lambda x: o.reshape(x, o.concat([o.gather(o.shape_of(x), ints(0), c(np.int64(0))), ints(-1)], 0), False),
    "known size": lambda x: o.reshape(x, o.concat([ints(-1), o.gather(o.shape_of(x), ints(-1), c(np.int64(0)))], 0), False),
    "shape in int32": lambda x: o.reshape(
        x,
        o.concat([o.strided_slice(o.shape_of(x, "i32"), ints(0), ints(1), ints(1), [0], [0]), o.convert(ints(3, -1), "i32")], 0),
        False,
    ),
    "batch norm": lambda x: o.batch_norm_inference(x, positive(3), floats(3), floats(3), positive(3), 1e-3),
    "first batch norm": lambda x: o1.batch_norm_inference(x, positive(3), floats(3), floats(3), positive(3), 1e-3),
    "first mvn": lambda x: o2.mvn(x, False, True, 1e-3),
    "first mvn over channels": lambda x: o2.mvn(x, True, True, 1e-3),
    "lrn": lambda x: o.lrn(x, ints(1), 0.3, 0.75, 1.0, 3),
    "group norm": lambda x: o.group_normalization(o.concat([x, o.relu(x)], 1), floats(6), floats(6), 2, 1e-3),
    "top k": lambda x: o.topk(x, c(np.int64(2)), 3, "max", "value").output(0),
    "largest's index": lambda x: o.convert(o.topk(x, c(np.int64(1)), 1, "max", "none").output(1), "f32"),
    "smallest's index": lambda x: o.convert(o.topk(x, c(np.int64(1)), -1, "min", "value").output(1), "f32"),
    "largest and its index": lambda x: o.add(
        o.convert((t := o.topk(x, c(np.int64(1)), 3, "max", "value")).output(1), "f32"), t.output(0)
    ),
    "top k indices": lambda x: o.convert(o.topk(x, c(np.int64(3)), 3, "min", "value").output(1), "f32"),
    "shuffle": lambda x: o.shuffle_channels(o.concat([x, o.relu(x)], 1), 1, 3),
    "attention": lambda x: o.scaled_dot_product_attention(x, o.exp(x), x),
    "causal attention": lambda x: o.scaled_dot_product_attention(x, o.exp(x), x, causal=True),
    "masked attention": lambda x: o.scaled_dot_product_attention(x, o.exp(x), x, floats(5, 5), f32(0.3)),
    "attention of a scale from its sizes": lambda x: o.scaled_dot_product_attention(
        x, o.exp(x), x, floats(5, 5), o.power(o.convert(o.slice(o.shape_of(x), ints(-1), ints(9), ints(1)), "f32"), f32(-0.5))
    ),
    "attention of a boolean mask": lambda x: o.scaled_dot_product_attention(x, o.exp(x), x, c(np.tri(5, dtype=bool))),
    "cumulative sum": lambda x: o.cum_sum(x, c(np.int64(2)), False, True),
    "acos": lambda x: o.acos(o.clamp(x, -0.9, 0.9)),
    "asin": lambda x: o.asin(o.clamp(x, -0.9, 0.9)),
    "convert like": lambda x: o.convert(o.convert_like(o.multiply(x, f32(3)), c(np.int32(0))), "f32"),
    "gather nd": lambda x: o.gather_nd(x, c(np.array([[0, 1, 2], [0, 0, 4]]))),
    "range": lambda x: o.multiply(
        x,
        o.reshape(
            o.convert(o.range(c(np.int64(0)), o.squeeze(o.gather(o.shape_of(x), ints(0), c(np.int64(0))), ints(0)),
                              c(np.int64(1)), "i64"), "f32"),
            ints(-1, 1, 1, 1),
            False,
        ),
    ),
    "identity": lambda x: o.add(of_version("opset16", "Identity", [x]), x),
    "lengths from a list of sizes": lambda x: o.variadic_split(
        x,
        c(np.int64(1)),
        o.concat([o.gather(o.convert(o.concat([o.gather(o.shape_of(x), ints(0), c(np.int64(0))), ints(1, 8)], 0), "i32"),
                           ints(1), c(np.int64(0))), c(np.array([-1], np.int32))], 0),
    ).output(1),
    "einsum": lambda x: o.einsum([x, floats(7, 2)], "nchw,wd->nchd"),
    "pillow bilinear": lambda x: o.interpolate(
        x, ints(3, 11), "bilinear_pillow", "sizes", [0] * 4, [0] * 4, "half_pixel", "floor", False, -0.5, ints(2, 3)
    ),
    "pillow bicubic": lambda x: o.interpolate(
        x, ints(3, 4), "bicubic_pillow", "sizes", [0] * 4, [0] * 4, "half_pixel", "floor", False, -0.5, ints(2, 3)
    ),
    "pillow bicubic, larger, with a coefficient that OpenVINO does not read": lambda x: o.interpolate(
        x, ints(13, 6), "bicubic_pillow", "sizes", [0] * 4, [0] * 4, "half_pixel", "floor", False, -0.75, ints(2, 3)
    ),
    "first interpolate": lambda x: of_version(
        "opset4", "Interpolate", [x, ints(10, 14), f32(2, 2), ints(2, 3)], mode="nearest", shape_calculation_mode="scales",
        pads_begin=[0] * 4, pads_end=[0] * 4, coordinate_transformation_mode="asymmetric", nearest_mode="floor", antialias=False,
        cube_coeff=-0.75,
    ),
}  # fmt: skip

for _name in ("add", "subtract", "multiply", "divide", "maximum", "minimum"):
    CASES[_name] = lambda x, n=_name: getattr(o, n)(x, positive(1, 3, 1, 1))
for _name in ("abs", "negative", "sign", "floor", "ceiling", "exp", "erf", "sin", "cos", "tan", "atan", "sinh", "cosh", "sigmoid",
              "tanh", "relu", "softplus", "softsign", "hswish", "hsigmoid", "mish", "swish"):  # fmt: skip
    CASES[_name] = lambda x, n=_name: getattr(o, n)(x)
for _name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"):
    CASES[_name] = lambda x, n=_name: o.convert(getattr(o, n)(o.floor(x), f32(0)), "f32")
for _name in ("logical_and", "logical_or", "logical_xor"):
    CASES[_name] = lambda x, n=_name: o.convert(getattr(o, n)(o.greater(x, f32(0.1)), o.less(x, f32(0.9))), "f32")
for _name, _keep in itertools.product(("mean", "sum", "max", "min", "prod", "l1", "l2"), (True, False)):
    CASES[f"reduce {_name} {_keep}"] = lambda x, n=_name, k=_keep: getattr(o, f"reduce_{n}")(x, ints(2, -1), k)
for _pad, (_s, _d) in itertools.product(
    ("explicit", "same_upper", "same_lower", "valid"), ((1, 1), (2, 1), (1, 2), (3, 2))
):
    _key, _more = f"{_pad} {_s} {_d}", ([_s, _s], [1, 0], [0, 2], [_d, _d], _pad)
    CASES[f"conv {_key}"] = lambda x, m=_more: o.convolution(x, floats(4, 3, 3, 2), *m)
    CASES[f"group conv {_key}"] = lambda x, m=_more: o.group_convolution(x, floats(3, 2, 1, 3, 2), *m)
    CASES[f"transposed {_key}"] = lambda x, m=_more: o.convolution_backprop_data(
        x, floats(3, 4, 3, 2), m[0], None, *m[1:]
    )
    CASES[f"transposed group {_key}"] = lambda x, m=_more: o.group_convolution_backprop_data(
        x, floats(3, 1, 2, 3, 2), m[0], None, *m[1:]
    )
for _a, _b in itertools.product((False, True), repeat=2):
    CASES[f"product with weights {_a} {_b}"] = lambda x, a=_a, b=_b: o.matmul(
        o.transpose(x, ints(0, 1, 3, 2)) if a else x, floats(*((4, 7) if b else (7, 4))), a, b
    )
    CASES[f"product {_a} {_b}"] = lambda x, a=_a, b=_b: o.matmul(
        o.transpose(x, ints(0, 1, 3, 2)) if a else x, x if b else o.transpose(x, ints(0, 1, 3, 2)), a, b
    )
    CASES[f"matrices {_a} {_b}"] = lambda x, a=_a, b=_b: o.matmul(
        o.transpose(o.reshape(x, ints(0, -1), True), ints(*((1, 0) if a else (0, 1)))),
        floats(*((4, 105) if b else (105, 4))),
        a,
        b,
    )
for _round, _pad in itertools.product(
    ("floor", "ceil", "ceil_torch"), ("explicit", "same_upper", "same_lower", "valid")
):
    for _window, _step in (((3, 2), (2, 2)), ((2, 3), (3, 2)), ((3, 3), (1, 2))):
        if (_round, _pad, _step) == ("ceil", "explicit", (3, 2)):
            continue  # refused: see below
        _key, _m = f"{_round} {_pad} {_window} {_step}", (_round, _pad, list(_window), list(_step))
        CASES[f"max pool {_key}"] = lambda x, m=_m: o14.max_pool(
            x, m[3], [1, 1], [1, 1], [1, 0], m[2], m[0], m[1]
        ).output(0)
        CASES[f"average pool {_key}"] = lambda x, m=_m: o14.avg_pool(x, m[3], [1, 1], [1, 0], m[2], True, m[0], m[1])
        if _round in ("floor", "ceil"):
            CASES[f"average pool of padding {_key}"] = lambda x, m=_m: o14.avg_pool(
                x, m[3], [1, 1], [1, 0], m[2], False, m[0], m[1]
            )
for _round in ("ceil", "ceil_torch"):
    CASES[f"average pool of no padding {_round}"] = lambda x, m=_round: o14.avg_pool(
        x, [2, 2], [0, 0], [0, 0], [3, 3], False, m
    )
for _mode in ("constant", "edge", "reflect"):
    CASES[f"pad {_mode}"] = lambda x, m=_mode: o.pad(x, ints(0, 0, 1, 2), ints(0, 0, 2, 1), m, f32(0.5))
for _mode, _axes, _norm in itertools.product(
    ("inside_sqrt", "outside_sqrt"), ((2, 3), (3,), (1, 2, 3), (1,)), (True, False)
):
    CASES[f"mvn {_mode} {_axes} {_norm}"] = lambda x, m=_mode, a=_axes, n=_norm: o.mvn(x, ints(*a), n, 1e-3, m)
for _mode, _axes in itertools.product(("add", "max"), ((1,), (1, 2, 3))):
    CASES[f"l2 {_mode} {_axes}"] = lambda x, m=_mode, a=_axes: o.normalize_l2(x, ints(*a), 0.3, m)
for _mode in ("blocks_first", "depth_first"):
    CASES[f"depth to space {_mode}"] = lambda x, m=_mode: o.depth_to_space(
        o.concat([x, o.relu(x), o.abs(x), o.exp(x)], 1), m, 2
    )
    CASES[f"space to depth {_mode}"] = lambda x, m=_mode: o.space_to_depth(
        o.pad(x, ints(0, 0, 0, 0), ints(0, 0, 1, 1), "edge"), m, 2
    )
_PLACES = ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")
for _mode, _place, _size in itertools.product(
    ("nearest", "linear", "linear_onnx", "cubic"), _PLACES, ((10, 14), (8, 9), (3, 4))
):
    CASES[f"interpolate {_mode} {_place} {_size}"] = lambda x, m=_mode, p=_place, s=_size: o.interpolate(
        x, ints(*s), m, "sizes", [0] * 4, [0] * 4, p, "round_prefer_floor", False, -0.75, ints(2, 3)
    )
for _place, _nearest, _size in itertools.product(
    ("asymmetric", "half_pixel", "tf_half_pixel_for_nn"), ("simple", "floor"), ((10, 14), (8, 9), (3, 4))
):
    if (_place, _nearest) != ("tf_half_pixel_for_nn", "simple"):
        CASES[f"interpolate {_place} {_nearest} {_size}"] = lambda x, p=_place, n=_nearest, s=_size: o.interpolate(
            x, ints(*s), "nearest", "sizes", [0] * 4, [0] * 4, p, n, False, -0.75, ints(2, 3)
        )
for _place, _size in itertools.product(_PLACES, ((6, 10), (9, 4), (2, 1))):  # images in NHWC
    CASES[f"interpolate cubic in front {_place} {_size}"] = lambda x, p=_place, s=_size: o.interpolate(
        x, ints(*s), "cubic", "sizes", [0] * 4, [0] * 4, p, "round_prefer_floor", False, -0.6, ints(1, 2)
    )
for _mode in ("nearest", "linear_onnx"):
    CASES[f"interpolate by scales {_mode}"] = lambda x, m=_mode: o.interpolate(
        x, f32(1.7, 2.3), m, "scales", [0] * 4, [0] * 4, "half_pixel", "floor", False, -0.75, ints(2, 3)
    )


for _pad, _stride, _wanted in itertools.product(
    ("explicit", "valid", "same_upper", "same_lower"), (2, 3), ((9, 13), (10, 15), (12, 16), (15, 21))
):
    CASES[f"output shape {_pad} {_stride} {_wanted}"] = lambda x, p=_pad, s=_stride, n=_wanted: (
        o.convolution_backprop_data(x, floats(3, 4, 3, 3), [s, s], ints(*n), [1, 0], [0, 0], [1, 1], p)
    )


def atrous(x: Any, last: bool, groups: bool, tight: bool = False, lowest: float | None = None) -> Any:
    """A convolution of dilation 2 and 3 as TensorFlow writes it: padded by (2, 3), to multiples of the block, which are cropped; or
    not padded (`tight`): then the dilated kernel, 5 x 7, is larger than the 3 x 3 of a block. With the `lowest` of 256 levels it is
    rounded as TFLite's files of integers are."""

    def rounded(x: Any) -> Any:
        ends = () if lowest is None else (f32(lowest), f32(lowest + 2.55))
        return o.fake_quantize(x, *ends, *ends, 256) if ends else x

    place = [0, 2, 3, 1] if last else [0, 1, 2, 3]
    block, begin, end, crop = (
        ints(*(axes[i] for i in place))
        for axes in (
            [1, 1, 2, 3],
            [0, 0, 0, 0] if tight else [0, 0, 2, 3],
            [0, 0, 1, 2] if tight else [0, 0, 3, 5],
            [0, 0, 1, 2],
        )
    )
    nothing = ints(0, 0, 0, 0)
    x = o.space_to_batch(o.transpose(x, ints(*place)), block, begin, end)
    x = rounded(o.transpose(x, ints(0, 3, 1, 2)) if last else x)
    if groups:
        x = o.group_convolution(x, floats(3, 2, 1, 3, 3), [1, 1], [0, 0], [0, 0], [1, 1])
    else:
        x = o.convolution(x, floats(6, 3, 3, 3), [1, 1], [0, 0], [0, 0], [1, 1], "valid")
    x = o.relu(o.add(o.transpose(x, ints(0, 2, 3, 1)), floats(6))) if last else o.relu(o.add(x, floats(1, 6, 1, 1)))
    return rounded(o.batch_to_space(rounded(x), block, nothing, crop))


for _last, _groups in itertools.product((False, True), repeat=2):
    CASES[f"atrous {_last} {_groups}"] = lambda x, a=_last, g=_groups: atrous(x, a, g)
    CASES[f"tight atrous {_last} {_groups}"] = lambda x, a=_last, g=_groups: atrous(x, a, g, True)
    CASES[f"rounded atrous {_last} {_groups}"] = lambda x, a=_last, g=_groups: atrous(x, a, g, False, -1.28)
CASES["tight atrous without zero"] = lambda x: atrous(x, True, False, True, 0.1)


def dropout(x: Any, keep: float, old: bool = False) -> Any:
    """TensorFlow's dropout: floor(keep + u) or u >= 1 - keep, for u of [0, 1)."""
    u = o.random_uniform(o.shape_of(x), f32(0), f32(1), "f32")
    if old:
        return o.multiply(o.divide(x, f32(keep)), o.floor(o.add(f32(keep), o.multiply(u, f32(1)))))
    return o.select(o.greater_equal(u, f32(1 - keep)), o.divide(x, f32(keep)), f32(0))


for _old in (False, True):
    CASES[f"dropout of nothing {_old}"] = lambda x, p=_old: dropout(x, 1, p)
CASES["padded blocks of which zero is no level"] = lambda x: atrous(x, True, False, False, 0.1)  # they stay blocks
for _axis in (1, 3):
    CASES[f"reverse {_axis}"] = lambda x, a=_axis: o.squeeze(
        o.reverse_sequence(o.unsqueeze(x, ints(0)), ints({1: 3, 3: 7}[a]), 0, a + 1), ints(0)
    )


GROUPS = grouped(CASES)


@pytest.mark.parametrize("batch", [1, 3, -1])
@pytest.mark.parametrize("group", GROUPS)
def test_rules(group: str, batch: int, tmp_path: Path) -> None:
    x = np.random.default_rng(1).normal(size=(3 if batch < 0 else batch, 3, 5, 7)).astype(np.float32)
    agree(saved_together(tmp_path, GROUPS[group], batch), x, names=[*GROUPS[group]])
