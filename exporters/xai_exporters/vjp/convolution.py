"""Convolutions. The gradient with respect to the input is the transposed convolution of dy with the same weight."""

from __future__ import annotations

import math

import onnx_ir as ir

from ..backward.rules import Step
from ..graph.emit import Ops
from ..graph.shapes import Dims
from .table import vjp
from .weights import duplicate
from .window import Sizes, Window, find_transposed_window, find_window, fit, transpose


@vjp("Conv", finite=True)
def conv(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """dx = transposed convolution of dy; for stride 1 a convolution with the rotated weight."""
    step.only_first()
    weight = step.input(1)
    dims = step.dims(weight)
    return transposed_conv(op, dy, weight, dims, find_window(step, _kernel(dims)), int(step.attr("group", 1)))


@vjp("ConvTranspose", finite=True)
def conv_transpose(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """dx = convolution of dy with the same weight; the node is the transpose of that convolution."""
    step.only_first()
    weight = step.input(1)
    window = find_transposed_window(step, _kernel(step.dims(weight)))
    rank = len(window.kernel)
    dy = fit(op, dy, (0,) * rank, tuple(min(e, 0) for e in window.end))  # crop what no window reads
    group = int(step.attr("group", 1))
    return op.Conv(
        dy,
        _apart(op, weight, step.dims(weight), group),
        kernel_shape=window.kernel,
        strides=window.strides,
        dilations=window.dilations,
        pads=[*window.begin, *(max(e, 0) for e in window.end)],
        group=group,
    )


def transposed_conv(op: Ops, dy: ir.Value, weight: ir.Value, dims: Dims, window: Window, group: int) -> ir.Value:
    """The transpose of a convolution: [N,O,*result] -> [N,I,*source].

    With stride 1 this is a convolution with the weight rotated by 180 degrees and its channels exchanged. It runs at the speed
    of the forward pass (a ConvTranspose takes 1.3-3 times as long on both runtimes). The rotated weight is computed from the
    same initializer; runtimes fold it when they load the graph.

    Args:
        op: Where nodes are written.
        dy: [N,O,*result].
        weight: [O,I/group,*kernel].
        dims: The shape of the weight.
        window: The convolution's window.
        group: Number of groups of the convolution.
    """
    if set(window.strides) != {1}:
        if group == 1 and _suits_phases(window, dims):
            return _by_phases(op, dy, weight, dims, window)
        return transpose(op, dy, _apart(op, weight, dims, group), window, group)
    # padding of the transpose: extent of the kernel - 1 - padding of the forward; where that is negative, dx is cropped
    before = tuple(k - 1 - b for k, b in zip(window.span, window.begin, strict=True))
    after = tuple(k - 1 - e for k, e in zip(window.span, window.end, strict=True))
    dx = op.Conv(
        dy,
        _rotated(op, weight, dims, group),
        kernel_shape=window.kernel,
        dilations=window.dilations,
        pads=[max(p, 0) for p in (*before, *after)],
        group=group,
    )
    return fit(op, dx, tuple(min(p, 0) for p in before), tuple(min(p, 0) for p in after))


def _suits_phases(window: Window, dims: Dims) -> bool:
    """Whether `_by_phases` pays: few channels come back (an image's), and the phases' taps add little to those of the kernel."""
    if len(window.kernel) != 2 or len(set(window.strides)) > 1 or set(window.dilations) != {1} or (dims[1] or 0) > _FEW:
        return False
    taps = math.prod(t * s for t, s in zip(_taps(window)[1], window.strides, strict=True))
    return taps <= 1.5 * math.prod(window.kernel)


_FEW = 4  # channels


def _taps(window: Window) -> tuple[Sizes, Sizes]:
    """The first output that reaches a phase's cell, relative to the cell, and how many do, along each axis."""
    axes = list(zip(window.kernel, window.strides, window.begin, strict=True))
    first = tuple(-((k - 1 - b) // s) for k, s, b in axes)
    return first, tuple((s - 1 + b) // s - f + 1 for (_, s, b), f in zip(axes, first, strict=True))


def _by_phases(op: Ops, dy: ir.Value, weight: ir.Value, dims: Dims, window: Window) -> ir.Value:
    """The transpose of a convolution of stride s as one convolution of stride 1, which gives s x s phases, and DepthToSpace.

    dx[s q + r] = sum over t of w[r + begin - s t] dy[q + t]: phase r is a convolution with every s-th tap of the kernel. OpenVINO's
    transposed convolution to three channels takes two and a half times as long (7x7 of a ResNet's first layer).
    """
    s, (outputs, inputs) = window.strides[0], (d or 1 for d in dims[:2])
    first, taps = _taps(window)
    # zeros that make the kernel s taps long for each tap of a phase, so that [s T] is [T,s]
    before = [s * (t + f - 1) - b for t, f, b in zip(taps, first, window.begin, strict=True)]
    after = [s * t - k - p for t, k, p in zip(taps, window.kernel, before, strict=True)]
    if any((*before, *after)):
        weight = op.Pad(weight, [0, 0, *before, 0, 0, *after], 0.0)
    weight = op.Reshape(weight, [outputs, inputs, taps[0], s, taps[1], s])
    weight = op.Slice(weight, [-1, -1], [-(1 << 62)] * 2, [2, 4], [-1, -1])  # step -1 reverses an axis
    weight = op.Reshape(op.Transpose(weight, perm=[3, 5, 1, 0, 2, 4]), [s * s * inputs, outputs, *taps])
    cells = [-(-n // s) for n in window.source]
    ends = [c + t - 1 - o + f for c, t, o, f in zip(cells, taps, window.result, first, strict=True)]
    dy = fit(op, dy, tuple(min(-f, 0) for f in first), tuple(min(e, 0) for e in ends))
    phases = op.Conv(dy, weight, kernel_shape=taps, pads=[*(max(-f, 0) for f in first), *(max(e, 0) for e in ends)])
    dx = op.DepthToSpace(phases, blocksize=s, mode="DCR")
    return fit(op, dx, (0, 0), tuple(n - s * c for n, c in zip(window.source, cells, strict=True)))


def _apart(op: Ops, weight: ir.Value, dims: Dims, group: int) -> ir.Value:
    """The weight for the transpose of the forward node; another constant if a group's weight is square, see `weights.duplicate`."""
    square = (dims[0] or 0) // group == dims[1]
    return duplicate(op, weight, dims) if square else weight


def _rotated(op: Ops, weight: ir.Value, dims: Dims, group: int) -> ir.Value:
    """[O,I/group,*kernel] -> [I,O/group,*kernel], each kernel rotated by 180 degrees."""
    outputs, inputs, *kernel = (d or 1 for d in dims)  # the inputs of one group
    axes = [2 + i for i, k in enumerate(kernel) if k > 1]
    if axes:
        # step -1 reverses an axis; the end lies before its first element
        weight = op.Slice(weight, [-1] * len(axes), [-(1 << 62)] * len(axes), axes, [-1] * len(axes))
    spatial = range(2, 2 + len(kernel))
    if group == 1:
        return op.Transpose(weight, perm=[1, 0, *spatial])
    if outputs == group and inputs == 1:  # depthwise: [O,1,*kernel] is [I,O/group,*kernel] already
        return weight
    # [g,O/g,I/g,*kernel] -> [g,I/g,O/g,*kernel]: the channels are exchanged within each group
    weight = op.Reshape(weight, [group, outputs // group, inputs, *kernel])
    weight = op.Transpose(weight, perm=[0, 2, 1, *(1 + i for i in spatial)])
    return op.Reshape(weight, [group * inputs, outputs // group, *kernel])


def _kernel(dims: Dims) -> tuple[int, ...]:
    return tuple(d or 1 for d in dims[2:])
