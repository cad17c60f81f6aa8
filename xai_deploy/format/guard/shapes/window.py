"""Convolutions and poolings: windows that slide over all axes but batch and channels."""

from __future__ import annotations

import math

from .rules import Call, Known, Unknowable, exact, rule, single


def slid(call: Call, x: Known, kernel: list[int]) -> tuple[int, ...]:
    """How many places a window takes along each axis.

    (size + pads - dilation (kernel - 1) - 1) / stride + 1, rounded down, or up with `ceil_mode`. With automatic padding "SAME" it
    is size / stride, rounded up.

    Raises:
        Unknowable: The window does not fit the input.
    """
    sizes = x.shape[2:]
    n = len(sizes)
    strides, dilations = _per_axis(call, "strides", n, 1), _per_axis(call, "dilations", n, 1)
    pads = call.ints("pads") or [0] * 2 * n
    auto = call.text("auto_pad", b"NOTSET")
    if len(kernel) != n or len(pads) != 2 * n or min(*strides, *dilations, 1) < 1:
        raise Unknowable(f"{call.node} has windows that do not fit its input {list(x.shape)}")
    places = []
    for i, size in enumerate(sizes):
        if auto in (b"SAME_UPPER", b"SAME_LOWER"):
            places.append(-(-size // strides[i]))
            continue
        reach = dilations[i] * (kernel[i] - 1) + 1
        free = size + (0 if auto == b"VALID" else pads[i] + pads[i + n]) - reach
        steps = -(-free // strides[i]) if call.number("ceil_mode", 0) else free // strides[i]
        places.append(max(steps + 1, 0))
    return tuple(places)


def _per_axis(call: Call, name: str, n: int, default: int) -> list[int]:
    values = call.ints(name) or [default] * n
    if len(values) != n:
        raise Unknowable(f"{call.node} has {len(values)} {name} for {n} axes")
    return values


def _window(call: Call, x: Known, weight: Known) -> list[int]:
    if len(x.shape) < 3 or len(weight.shape) != len(x.shape):
        raise Unknowable(f"{call.node} takes an input {list(x.shape)} and a weight {list(weight.shape)}")
    return list(weight.shape[2:])


@rule("Conv", "ConvInteger", "DeformConv")
def conv(call: Call) -> list[Known]:
    x, weight = call[0], call[1]
    places = slid(call, x, _window(call, x, weight))
    size, work = x.size if call.node.op == "Conv" else single(x), math.prod(weight.shape[1:])
    scratch = _beside(call, x, weight) * math.prod(weight.shape[2:]) * math.prod(places)
    return [Known((x.shape[0], weight.shape[0], *places), size, exact=x.exact, work=work, scratch=scratch)]


def _beside(call: Call, x: Known, weight: Known) -> int:
    """Bytes that ONNX Runtime takes for each entry of a window at each place, of one image. A Conv is taken piece by piece.

    The windows lie side by side; those of a DeformConv with 4 positions and 4 weights for each entry of each of its grids.
    """
    if call.node.op == "DeformConv":
        return x.shape[1] * single(x) + 32 * call.number("offset_group", 1)
    return weight.shape[1] * x.size if call.node.op == "ConvInteger" else 0


@rule("QLinearConv")
def qlinear_conv(call: Call) -> list[Known]:
    x, weight = call[0], call[3]
    places, work = slid(call, x, _window(call, x, weight)), math.prod(weight.shape[1:])
    shape, scratch = (x.shape[0], weight.shape[0], *places), work * math.prod(places)  # of 8 bits
    return [Known(shape, 1, exact=x.exact, work=work, scratch=scratch)]


@rule("ConvTranspose")
def conv_transpose(call: Call) -> list[Known]:
    x, weight = call[0], call[1]
    kernel = _window(call, x, weight)
    n = len(kernel)
    asked = call.ints("output_shape")
    strides, dilations = _per_axis(call, "strides", n, 1), _per_axis(call, "dilations", n, 1)
    extra = _per_axis(call, "output_padding", n, 0)
    auto = call.text("auto_pad", b"NOTSET")
    pads = call.ints("pads") if auto == b"NOTSET" else None
    if pads is None:
        pads = [0] * 2 * n
    if len(pads) != 2 * n:
        raise Unknowable(f"{call.node} has {len(pads)} pads for {n} axes")
    # stride (size - 1) + output_padding + dilation (kernel - 1) + 1 - pads
    if asked:
        sizes = asked[-n:]
    elif auto.startswith(b"SAME"):
        sizes = [strides[i] * x.shape[i + 2] for i in range(n)]
    else:
        reach = [dilations[i] * (kernel[i] - 1) + 1 - pads[i] - pads[i + n] for i in range(n)]
        sizes = [strides[i] * (x.shape[i + 2] - 1) + extra[i] + reach[i] for i in range(n)]
    channels = weight.shape[1] * call.number("group", 1)
    shape = (x.shape[0], channels, *(max(size, 0) for size in sizes))
    # Each input element is multiplied by weight.shape[1:]; `work` counts per output element.
    products = math.prod(weight.shape[1:])
    work = x.count * products // max(1, math.prod(shape))
    # ONNX Runtime makes the products of one image and one group before it adds them up.
    return [Known(shape, x.size, exact=x.exact, work=work, scratch=products * math.prod(x.shape[2:]) * single(x))]


def _may_end_early(call: Call, x: Known, places: tuple[int, ...]) -> bool:
    """Whether the last window starts beyond the input: some runtimes leave it out, others do not."""
    n = len(places)
    strides, pads = call.ints("strides") or [1] * n, call.ints("pads") or [0] * 2 * n
    ends = ((places[i] - 1) * strides[i] >= x.shape[i + 2] + pads[i] for i in range(n))
    return bool(call.number("ceil_mode", 0)) and any(ends)


@rule("AveragePool", "MaxPool", "LpPool")
def pool(call: Call) -> list[Known]:
    x = call[0]
    kernel = call.ints("kernel_shape") or []
    places = slid(call, x, kernel)
    shape, is_exact = (*x.shape[:2], *places), x.exact and not _may_end_early(call, x, places)
    pooled = Known(shape, x.size, exact=is_exact, work=math.prod(kernel))
    return [pooled, *(Known(shape, 8, exact=is_exact) for _ in call.node.outputs[1:])]


@rule("GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool")
def global_pool(call: Call) -> list[Known]:
    x = call[0]
    return [x.like((*x.shape[:2], *(1 for _ in x.shape[2:])))]


@rule("MaxUnpool")
def max_unpool(call: Call) -> list[Known]:
    x = call[0]
    given = call.values(2)
    if given is not None:
        return [x.like(tuple(int(size) for size in given))]
    kernel = call.ints("kernel_shape") or []
    n = len(x.shape) - 2
    strides, pads = _per_axis(call, "strides", n, 1), call.ints("pads") or [0] * 2 * n
    if len(kernel) != n or len(pads) != 2 * n:
        raise Unknowable(f"{call.node} has windows that do not fit its input {list(x.shape)}")
    sizes = (strides[i] * (x.shape[i + 2] - 1) + kernel[i] - pads[i] - pads[i + n] for i in range(n))
    return [x.like((*x.shape[:2], *(max(size, 0) for size in sizes)))]


@rule("Col2Im")
def col2im(call: Call) -> list[Known]:
    x, image, block = call[0], call.values(1) or [], call.values(2) or []
    channels = x.shape[1] // max(1, math.prod(block))
    return [Known((x.shape[0], channels, *(int(size) for size in image)), x.size, exact=exact(*call.inputs))]
