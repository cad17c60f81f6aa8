"""Operators that make many elements from few. Their sizes have to be known before the graph runs."""

from __future__ import annotations

import math

import numpy as np

from ..messages import Tensor
from ..tensors import size_of
from .layout import whole
from .rules import Call, Known, Unknowable, broadcast, rule


def sized(call: Call, sizes: list[int], size: int, is_exact: bool = True) -> list[Known]:
    """A tensor whose sizes the graph states.

    Raises:
        Unknowable: A size is negative.
    """
    if min(sizes, default=0) < 0:
        raise Unknowable(f"{call.node} makes a tensor of the sizes {sizes[:16]}")
    return [Known(tuple(sizes), size, exact=is_exact)]


@rule("Constant")
def constant(call: Call) -> list[Known]:
    attributes = call.node.attributes
    if len(attributes) != 1:
        raise Unknowable(f"{call.node} holds {len(attributes)} values")
    [(name, value)] = attributes.items()
    if name == "value" and isinstance(value, Tensor):
        return sized(call, list(value.dims), size_of(value.dtype))
    if name in ("value_int", "value_float"):
        return [Known((), 8)]
    if name in ("value_ints", "value_floats"):
        return [Known((len(value),), 8)]
    raise Unknowable(f"{call.node} holds no numbers")


@rule("ConstantOfShape")
def constant_of_shape(call: Call) -> list[Known]:
    value = call.node.attributes.get("value")
    low, high = call.sizes(0)
    return sized(call, whole(high, call), size_of(value.dtype) if isinstance(value, Tensor) else 4, low == high)


@rule("Shape")
def shape(call: Call) -> list[Known]:
    rank = len(call[0].shape)
    # `slice.indices` counts negative positions from the end, and clips to the rank, as ONNX does.
    first, last, _ = slice(call.number("start", 0), call.node.attributes.get("end")).indices(rank)
    return [Known((max(0, last - first),), 8)]


@rule("Size")
def size(call: Call) -> list[Known]:
    return [Known((), 8)]


@rule("Range")
def range_(call: Call) -> list[Known]:
    [delta] = call.values(2) or [0]
    if call[0].range is not None or call[1].range is not None:  # from the least start to the largest limit
        start, limit = call.sizes(0)[0][0], call.sizes(1)[1][0]
        if type(delta) is not int or delta < 1:
            raise Unknowable(f"{call.node} counts by {delta}")
        return sized(call, [len(range(start, limit, delta))], call[0].size, False)
    start, limit = ((call.values(i) or [0])[0] for i in range(2))
    if not delta or not all(math.isfinite(value) for value in (start, limit, delta)):
        raise Unknowable(f"{call.node} counts by {delta}")
    count = max(0, math.ceil((limit - start) / delta)) if isinstance(delta, float) else len(range(start, limit, delta))
    return sized(call, [count], call[0].size)


@rule("Expand")
def expand(call: Call) -> list[Known]:
    x, (low, high) = call[0], call.sizes(1)
    wanted = sized(call, whole(high, call), x.size)[0]
    return [Known(broadcast(x, wanted), x.size, exact=x.exact and low == high)]


@rule("Tile")
def tile(call: Call) -> list[Known]:
    x, repeats = call[0], whole(call.values(1), call)
    if len(repeats) != len(x.shape):
        raise Unknowable(f"{call.node} repeats {len(x.shape)} axes {repeats[:16]} times")
    return sized(call, [n * times for n, times in zip(x.shape, repeats, strict=True)], x.size, x.exact)


@rule("Pad")
def pad(call: Call) -> list[Known]:
    x = call[0]
    rank = len(x.shape)
    low: object = None
    if call.opset < 11:
        pads = call.ints("pads") or call.ints("paddings")
    else:
        low, pads = call.sizes(1)
        whole(pads, call)
    axes = range(rank) if call.get(3) is None else [call.axis(axis, rank) for axis in call.values(3) or []]
    if pads is None or len(pads) != 2 * len(axes):
        raise Unknowable(f"{call.node} has {len(pads or [])} pads for {len(axes)} axes")
    sizes = list(x.shape)
    for i, axis in enumerate(axes):  # pads: the starts of all axes, then the ends
        sizes[axis] += pads[i] + pads[i + len(axes)]
    return sized(call, sizes, x.size, x.exact and low in (None, pads))


@rule("OneHot")
def one_hot(call: Call) -> list[Known]:
    indices, depth = call[0], whole([int(v) for v in call.values(1) or []], call)
    rank = len(indices.shape) + 1
    axis = call.axis(call.number("axis", -1), rank)
    return sized(call, [*indices.shape[:axis], *depth[:1], *indices.shape[axis:]], call[2].size, indices.exact)


@rule("Resize", "Upsample")
def resize(call: Call) -> list[Known]:
    x = call[0]
    factors = call.node.attributes.get("scales")
    sizes = call.values(3) if call.get(3) is not None else None
    # Inputs: (x, scales); for Resize from opset 11 on (x, roi, scales, sizes).
    if factors is None and sizes is None:
        factors = call.values(1 if call.node.op == "Upsample" or call.opset < 11 else 2)
    axes = [call.axis(axis, len(x.shape)) for axis in call.ints("axes") or range(len(x.shape))]
    numbers = sizes if sizes is not None else factors or []
    if len(numbers) != len(axes) or not all(math.isfinite(value) for value in numbers):
        raise Unknowable(f"{call.node} resizes {len(axes)} axes by {len(numbers)} numbers")
    made = list(x.shape)
    for axis, value in zip(axes, numbers, strict=True):
        made[axis] = int(value) if sizes is not None else math.floor(x.shape[axis] * value)
    is_sure = True
    if sizes is None:  # runtimes take the product in float32 or float64: 17 times 1.4705882 is 25 or 24.9999994
        single = [
            math.floor(np.float32(x.shape[axis]) * np.float32(value)) for axis, value in zip(axes, numbers, strict=True)
        ]
        is_sure = single == [made[axis] for axis in axes]
        for axis, value in zip(axes, single, strict=True):
            made[axis] = max(made[axis], value)
    policy = call.text("keep_aspect_ratio_policy", b"stretch")
    if sizes is not None and policy != b"stretch":
        if not x.exact:  # the smaller an axis is, the more the others grow
            raise Unknowable(f"{call.node} keeps the ratio of sizes that depend on the image")
        ratios = [made[axis] / max(1, x.shape[axis]) for axis in axes]
        factor = max(ratios, default=1.0)
        for axis in axes:  # an upper bound for either policy
            made[axis] = math.ceil(x.shape[axis] * factor)
    return sized(call, made, x.size, x.exact and is_sure and policy == b"stretch")


@rule("CenterCropPad")
def center_crop_pad(call: Call) -> list[Known]:
    x, sizes = call[0], whole(call.values(1), call)
    axes = [call.axis(axis, len(x.shape)) for axis in call.ints("axes") or range(len(x.shape))]
    if len(axes) != len(sizes):
        raise Unknowable(f"{call.node} has {len(sizes)} sizes for {len(axes)} axes")
    made = list(x.shape)
    for axis, size_ in zip(axes, sizes, strict=True):
        made[axis] = size_
    return sized(call, made, x.size, x.exact)


@rule("BlackmanWindow", "HammingWindow", "HannWindow")
def window(call: Call) -> list[Known]:
    return sized(call, whole(call.values(0), call), 8)


@rule("DFT")
def dft(call: Call) -> list[Known]:
    x, length = call[0], call.values(1) or [0]
    sizes = [*x.shape[:-1], 2]  # the last axis holds the real and the imaginary part
    # The longest axis or the given length stands for the transformed axis; the result counts as inexact.
    longest = max(*sizes[:-1], int(length[0]), 1)
    axis = call.number("axis", 1) if call.opset < 20 else int((call.values(2) or [-2])[0])
    sizes[call.axis(axis, len(sizes))] = longest
    return sized(call, sizes, x.size, False)


@rule("NonZero")
def non_zero(call: Call) -> list[Known]:
    return [Known((max(len(call[0].shape), 1), call[0].count), 8, exact=False)]  # a scalar counts as a list of one


@rule("Unique")
def unique(call: Call) -> list[Known]:
    x = call[0]
    first = x.shape if "axis" in call.node.attributes else (x.count,)
    return [Known(first, x.size, exact=False), *(Known((x.count,), 8, exact=False) for _ in call.node.outputs[1:])]


@rule("Compress")
def compress(call: Call) -> list[Known]:
    x = call[0]
    return [Known(x.shape if "axis" in call.node.attributes else (x.count,), x.size, exact=False)]


@rule("NonMaxSuppression")
def non_max_suppression(call: Call) -> list[Known]:
    boxes, scores = call[0], call[1]
    if len(boxes.shape) != 3 or len(scores.shape) != 3:
        raise Unknowable(f"{call.node} takes boxes {list(boxes.shape)} and scores {list(scores.shape)}")
    return [Known((scores.count, 3), 8, exact=False)]
