"""The discrete Fourier transform as a matrix product: OpenVINO misreads one that follows another, and gradients need no rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ...graph.emit import Ops
from ..fused_node import FusedNode, rule


@rule("DFT")
def dft(op: Ops, node: FusedNode) -> ir.Value:
    """y = M x along an axis and the last one, which holds real and imaginary parts.

    Opset 17 has the axis as an attribute, 1 by default; opset 20 as an input, -2 by default.
    """
    x, rank = node.x(), node.rank(node.x())
    given = [node.constant(i) for i in (1, 2)]
    if any(node.optional(i) is not None and given[i - 1] is None for i in (1, 2)):
        raise node.refuse("its length or its axis is computed; export it with constants")
    length, at = (None if v is None else int(v.item()) for v in given)
    graph = node.node.graph
    since_20 = graph is not None and graph.opset_imports.get("", 18) >= 20
    axis = (int(node.attr("axis", -2 if since_20 else 1)) if at is None else at) % rank
    size, parts = node.dim(x, axis), node.dim(x, -1)
    inverse, onesided = bool(node.attr("inverse", 0)), bool(node.attr("onesided", 0))
    length = length or (2 * (size - 1) if inverse and onesided else size)
    return transformed(op, x, Transform(rank, axis, size, parts, length, inverse, onesided))


@dataclass(frozen=True)
class Transform:
    """A transform along one axis of a tensor whose last dimension holds real and imaginary parts.

    Attributes:
        rank: The tensor's dimensions.
        axis: The axis.
        size: Its size.
        parts: The last dimension's size: 1 for reals, 2.
        length: The signal's length.
        inverse: Whether it is the inverse.
        half: Whether only half of the spectrum is written, or, if it is the inverse, read.
    """

    rank: int
    axis: int
    size: int
    parts: int
    length: int
    inverse: bool = False
    half: bool = False


def transformed(op: Ops, x: ir.Value, t: Transform) -> ir.Value:
    """x along the axis; the last dimension has two parts, or one if half a spectrum was read."""
    if t.inverse and t.half:
        count, width, matrix = t.length, 1, _to_reals(t.size, t.length)
    else:
        count, width = t.length // 2 + 1 if t.half else t.length, 2
        matrix = _matrix(t.size, t.parts, count, t.length, t.inverse)
    perm = [*(i for i in range(t.rank - 1) if i != t.axis), t.axis, t.rank - 1]
    others = [0] * (t.rank - 2)  # as they are
    rows = op.Reshape(op.Transpose(x, perm=perm), [*others, t.size * t.parts])
    y = op.Reshape(op.MatMul(rows, matrix), [*others, count, width])
    return op.Transpose(y, perm=[int(i) for i in np.argsort(perm)])


@rule("STFT")
def stft(op: Ops, node: FusedNode) -> ir.Value:
    """Frames of a signal [N,time,1 or 2], each times the window and transformed: [N,frames,bins,2]."""
    x, parts = node.x(), node.dim(node.x(), 2)
    step, window, given = node.constant(1), node.constant(2), node.constant(3)
    if step is None or any(node.optional(i) is not None and v is None for i, v in ((2, window), (3, given))):
        raise node.refuse("its frame_step, its window or its frame_length is computed; export it with constants")
    if given is None and window is None:
        raise node.refuse("it has neither a window nor a frame_length")
    length = int(given.item()) if given is not None else len(window)  # type: ignore[arg-type]
    count = length // 2 + 1 if node.attr("onesided", 1) else length
    starts = np.arange(0, node.dim(x, 1) - length + 1, int(step.item()))
    frames = op.Gather(x, starts[:, None] + np.arange(length), axis=1)  # [N,frames,length,parts]
    if window is not None:
        frames = op.Mul(frames, window.reshape(-1, 1))
    rows = op.Reshape(frames, [0, len(starts), length * parts])
    return op.Reshape(op.MatMul(rows, _matrix(length, parts, count, length, False)), [0, len(starts), count, 2])


def _matrix(size: int, parts: int, count: int, length: int, inverse: bool) -> NDArray[Any]:
    """M, [parts size, 2 count]: y_k = sum over t of x_t e^(-2 pi i k t / length); with + and 1 / length if it is inverse.

    Only the first `length` values of x are read; missing ones are 0.
    """
    turn = 2 * np.pi * np.outer(np.arange(count), np.arange(size)) / length
    used = (np.arange(size) < length) / (length if inverse else 1)
    real, imaginary = np.cos(turn) * used, np.sin(turn) * used * (1 if inverse else -1)
    # of (a + b i)(real + imaginary i) the parts [k, (re,im), t, (a,b)]
    whole = np.stack([np.stack([real, -imaginary], -1), np.stack([imaginary, real], -1)], 1)
    return whole[..., :parts].reshape(2 * count, size * parts).T


def _to_reals(size: int, count: int) -> NDArray[Any]:
    """M, [2 size, count], of half a spectrum x_k = a_k + i b_k to the `count` real values whose spectrum it is:

    y_t = 1/count times the sum over k of c_k (a_k cos(2 pi k t / count) - b_k sin(2 pi k t / count)); c_k is 2 for the k that stand
    for -k, too, and 1 for k = 0 and k = count / 2.
    """
    k, t = np.arange(size), np.arange(count)
    weight = np.where((k == 0) | (2 * k == count), 1, 2) * (2 * k <= count) / count
    turn = 2 * np.pi * np.outer(t, k) / count
    return np.stack([np.cos(turn) * weight, -np.sin(turn) * weight], -1).reshape(count, 2 * size).T
