"""Operators that pick or place values elsewhere, and that OpenVINO lacks: deformable convolution and unpooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...graph.emit import Ops
from ...graph.reading import attribute
from ..fused_node import COLUMNS_FIRST, FusedNode, rule


@dataclass(frozen=True)
class Deformed:
    """A deformable convolution.

    Attributes:
        sizes: Of the image, (C,h,w).
        out: Channels of the result.
        kernel: Its rows and columns.
        places: Rows and columns of the result.
        strides: Steps between them.
        pads: Zeros around the image: top, left, bottom, right.
        dilations: Steps between the kernel's positions.
        groups: Groups of channels that the kernel keeps apart.
        parts: Groups of channels that have offsets of their own.
    """

    sizes: tuple[int, ...]
    kernel: tuple[int, ...]
    places: tuple[int, ...]
    out: int
    strides: Sequence[int] = (1, 1)
    pads: Sequence[int] = (0, 0, 0, 0)
    dilations: Sequence[int] = (1, 1)
    groups: int = 1
    parts: int = 1


@rule("DeformConv")
def deform_conv(op: Ops, node: FusedNode) -> ir.Value:
    """See `deformed`."""
    x, weight, offset = node.x(), node.x(1), node.x(2)
    if node.rank(x) != 4:
        raise node.refuse("it is not of images [N,C,h,w]")
    form = Deformed(
        sizes=tuple(node.dim(x, axis) for axis in (1, 2, 3)),
        kernel=tuple(node.dim(weight, axis) for axis in (2, 3)),
        places=tuple(node.dim(offset, axis) for axis in (2, 3)),
        out=node.dim(weight, 0),
        strides=node.attr("strides", [1, 1]),
        pads=node.attr("pads", [0] * 4),
        dilations=node.attr("dilations", [1, 1]),
        groups=int(node.attr("group", 1)),
        parts=int(node.attr("offset_group", 1)),
    )
    return deformed(op, form, x, weight, offset, node.optional(4), node.optional(3))


def deformed(
    op: Ops,
    form: Deformed,
    x: ir.Value,
    weight: ir.Value,
    offset: ir.Value,
    mask: ir.Value | None,
    bias: ir.Value | None = None,
) -> ir.Value:
    """Deformable convolution (Zhu et al. 2019, arXiv:1811.11168): GridSample fetches what the kernel reads, a Conv adds it up.

    Output position o reads, at each kernel position k, the place o * stride + k * dilation - pad + offset, between pixels
    bilinearly, and zeros beyond the image; `mask` weighs it.
    """
    channels, height, width = form.sizes
    rows, columns = form.places
    taps, parts = math.prod(form.kernel), form.parts
    # [N parts, taps, (y,x), rows, columns]
    shifts = op.Reshape(offset, [-1, taps, 2, rows, columns])
    sides = []
    for axis, (size, count) in enumerate(((height, rows), (width, columns))):
        starts = np.arange(count) * form.strides[axis] - form.pads[axis]
        reads = np.indices(form.kernel)[axis].reshape(taps, 1, 1) * form.dilations[axis]
        place = reads + starts.reshape((1, -1, 1) if axis == 0 else (1, 1, -1))
        pixel = op.Add(op.Gather(shifts, np.int64(axis), axis=2), np.broadcast_to(place, (taps, rows, columns)) * 1.0)
        # GridSample counts from the image's left edge, -1, to its right one, 1; pixel p has its middle at p + 1/2
        sides.append(op.Unsqueeze(op.Sub(op.Mul(op.Add(pixel, 0.5), 2 / size), 1.0), [4]))
    grid = op.Reshape(op.Concat(*sides[::-1], axis=4), [-1, taps * rows, columns, 2])
    image = op.Reshape(x, [-1, channels // parts, height, width])
    read = op.GridSample(image, grid)  # [N parts, C/parts, taps rows, columns]; bilinear, zeros outside
    if mask is not None:
        read = op.Mul(read, op.Reshape(mask, [-1, 1, taps * rows, columns]))
    read = op.Reshape(read, [-1, channels * taps, rows, columns])
    flat = op.Reshape(weight, [form.out, -1, 1, 1])
    return op.Conv(read, flat, bias, group=form.groups)


@rule("MaxUnpool")
def max_unpool(op: Ops, node: FusedNode) -> ir.Value:
    """Each value goes to the place that its MaxPool took it from; zeros elsewhere.

    The places count through the whole result [N,C,...], as in torch and ONNX Runtime. The remainder of a division by the size of
    one channel counts within it, so that the batch stays open. Windows that overlap can name one place several times: the last
    value stays there, as in ONNX Runtime. ScatterElements leaves open which one stays, and its gradient would reach all of
    them, so the last one's position is looked up first.
    """
    x, kernel = node.x(), node.attr("kernel_shape")
    rank = len(kernel)
    strides, pads = node.attr("strides", [1] * rank), node.attr("pads", [0] * 2 * rank)
    channels, given = node.dim(x, 1), node.constant(2)
    sizes = [(node.dim(x, 2 + i) - 1) * strides[i] + kernel[i] - pads[i] - pads[rank + i] for i in range(rank)]
    if node.optional(2) is not None:
        if given is None:
            raise node.refuse("its output_shape is computed; export the network for a fixed size of images")
        sizes = list(map(int, given[2:]))
    cells = math.prod(sizes)
    places = op.Mod(op.Reshape(node.x(1), [0, channels, -1]), np.int64(cells))
    whole = op.Concat(op.Shape(x, start=0, end=1), [channels, cells], axis=0)
    values = op.Reshape(x, [0, channels, -1])
    if _apart(node.x(1)):
        flat = op.ScatterElements(op.Expand(0.0, whole), places, values, axis=2)
    else:
        count = math.prod(node.dim(x, 2 + i) for i in range(rank))
        order = op.Expand(np.arange(count, dtype=np.int64).reshape(1, 1, -1), op.Shape(places))
        last = op.ScatterElements(op.Expand(np.int64(-1), whole), places, order, axis=2, reduction="max")
        given_there = op.GatherElements(values, op.Max(last, np.int64(0)), axis=2)
        flat = op.Where(op.Less(last, np.int64(0)), 0.0, given_there)
    return op.Reshape(flat, [0, channels, *sizes])


def _apart(places: ir.Value) -> bool:
    """Whether a MaxPool whose windows do not overlap gave the places: each is named once."""
    pool = places.producer()
    if pool is None or pool.op_type != "MaxPool":
        return False
    kernel = attribute(pool, "kernel_shape", [])
    strides, dilations = (attribute(pool, name, [1] * len(kernel)) for name in ("strides", "dilations"))
    return all(d * (k - 1) < s for k, s, d in zip(kernel, strides, dilations, strict=True))


@rule(COLUMNS_FIRST)
def max_pool_columns_first(op: Ops, node: FusedNode) -> list[ir.Value]:
    """MaxPool whose places count down the columns, from those that count along the rows: OpenVINO knows these alone.

    Row-major, position (a,b,c) of sizes (A,B,C) has the number (a B + b) C + c; column-major, a + A (b + B c) (ONNX Runtime).
    """
    x, rank = node.x(), node.rank(node.x()) - 2
    sizes = [node.dim(x, 2 + i) for i in range(rank)]
    kept = {name: value for name, value in node.node.attributes.items() if name != "storage_order"}
    pool = ir.node("MaxPool", [x], attributes=kept, num_outputs=2, name=op.emit.unique(f"{node.node.name}/MaxPool"))
    y, places = pool.outputs
    y.name, places.name = (op.emit.unique(f"{pool.name}/{part}") for part in ("values", "places"))
    y.type, places.type = x.type, ir.TensorType(ir.DataType.INT64)
    op.emit.graph.append(pool)
    cells = math.prod(sizes)
    rest = op.Mod(places, np.int64(cells))
    number = op.Sub(places, rest)  # of the image's and channel's first cell
    for axis in reversed(range(rank)):
        along = op.Mod(rest, np.int64(sizes[axis]))
        rest = op.Div(op.Sub(rest, along), np.int64(sizes[axis]))
        number = op.Add(number, op.Mul(along, np.int64(math.prod(sizes[:axis]))))
    return [y, number]
