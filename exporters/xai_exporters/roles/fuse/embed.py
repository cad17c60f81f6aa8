"""The preprocessing of the manifest as nodes: uint8 [N,height,width,3] of any size in, the network's input out.

Each axis is resampled by a matrix. The graph computes it from the image's size, as `xai_deploy.resample` does. Positions
are compared as integers before any division, so that a large photograph does not lose digits.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from xai_deploy.format.image_input import Resize

from ...errors import GraphError
from ...graph.emit import Ops
from ...graph.measure import batch_of
from .net import Net

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32).reshape(1, 3, 1, 1)  # ITU-R BT.601, as in the engine
_INT64, _FLOAT = int(ir.DataType.INT64), int(ir.DataType.FLOAT)


def embed_preprocess(net: Net) -> None:
    """Make the graph take 8-bit images of any size, RGB or of the network's own channels; all images of a batch have the same size.

    Raises:
        GraphError: An interpolation that is not written as a graph.
    """
    op, spec = net.op, net.material.image
    how = spec.preprocess
    colours = spec.channels if how.color == "CHANNELS" else 3
    if how.interpolation == "bicubic" and not how.antialias:
        raise GraphError("--embed-preprocess: no graph exists for bicubic without antialiasing; choose another filter")
    net.image.shape = ir.Shape([batch_of(net.image), "height", "width", colours])
    net.image.type = ir.TensorType(ir.DataType.UINT8)
    planes = op.Transpose(op.Cast(net.image, to=_FLOAT), perm=[0, 3, 1, 2])
    height, width = (op.Shape(net.image, start=axis, end=axis + 1) for axis in (1, 2))
    down, across = _sizes(op, how.resize, height, width, (spec.height, spec.width))
    # [N,3,height,width] -> [N,3,height,w] -> [N,3,h,w]
    across_matrix = _matrix(net, width, across, spec.width)
    planes = op.MatMul(planes, op.Transpose(across_matrix, perm=[1, 0]))
    planes = op.MatMul(_matrix(net, height, down, spec.height), planes)
    planes = op.Clip(op.Round(planes), 0.0, 255.0)  # reference pipelines resize 8-bit images to 8-bit images
    if how.color == "BGR":
        planes = op.Gather(planes, [2, 1, 0], axis=1)  # images come in RGB
    elif how.color == "GRAY":
        planes = op.Round(op.ReduceSum(op.Mul(planes, _LUMA), [1], keepdims=1))
    # `Preprocess.normalise` as nodes
    mean, std = (np.array(v, np.float32).reshape(1, -1, 1, 1) for v in (how.mean, how.std))
    planes = op.Div(op.Sub(op.Mul(planes, float(how.scale)), mean), std)
    if spec.dtype == "uint8":
        planes = op.Clip(planes, 0.0, 255.0)
    if spec.layout == "NHWC":
        planes = op.Transpose(planes, perm=[0, 2, 3, 1])
    net.x = net.as_input(planes)


def _sizes(
    op: Ops, resize: Resize, height: ir.Value, width: ir.Value, size: tuple[int, int]
) -> tuple[tuple[ir.Value, ir.Value], tuple[ir.Value, ir.Value]]:
    """For rows and for columns: the length that the whole axis is resized to, and the start of the crop in it; int64 [1]."""
    if resize == "stretch":
        return tuple((op.Identity([side]), op.Identity([0])) for side in size)  # type: ignore[return-value]
    if isinstance(resize, tuple):
        wholes = [op.Identity([side]) for side in resize]
    else:  # the shorter side; the longer one is rounded down to whole pixels, as in torchvision
        shorter = op.Min(height, width)
        wholes = [op.Div(op.Mul(length, [int(resize)]), shorter) for length in (height, width)]
    axes = []
    for whole, side in zip(wholes, size, strict=True):
        corner = op.Round(op.Mul(op.Cast(op.Sub(whole, [side]), to=_FLOAT), 0.5))  # half to even, as Python's round
        axes.append((whole, op.Cast(corner, to=_INT64)))
    return axes[0], axes[1]


def _matrix(net: Net, source: ir.Value, axis: tuple[ir.Value, ir.Value], count: int) -> ir.Value:
    """The matrix [count,source] that resamples an axis; see `xai_deploy.resample.weights`.

    The output pixel i has its centre at (2 i + 1) source / (2 size), the source pixel j at (2 j + 1) / 2.
    """
    op, how, (size, first) = net.op, net.material.image.preprocess, axis
    rows = op.Unsqueeze(op.Add(np.arange(count), first), [1])
    columns = op.Unsqueeze(op.Range(0, op.Squeeze(source, [0]), 1), [0])
    centre = op.Mul(op.Add(op.Mul(rows, 2), 1), source)  # centre and pixel are both multiplied by 2 size
    pixel = op.Mul(op.Add(op.Mul(columns, 2), 1), size)
    matrix: ir.Value
    if how.interpolation == "nearest":
        # a division of integers rounds down: the source pixel that holds the centre
        nearest = op.Div(centre, op.Mul(size, 2))
        matrix = op.Cast(op.Equal(columns, nearest), to=_FLOAT)
        return matrix
    # with antialiasing the filter is as wide as the source pixels that one output pixel covers
    reach = op.Max(size, source) if how.antialias else size
    distance = op.Abs(op.Cast(op.Sub(pixel, centre), to=_FLOAT))  # OpenCV has no Abs of integers
    t = op.Div(distance, op.Cast(op.Mul(reach, 2), to=_FLOAT))
    matrix = op.Relu(op.Sub(1.0, t)) if how.interpolation == "bilinear" else _cubic(op, t)
    # each row sums to 1: beyond the border the edge pixel repeats (plain), or the filter is cut off (antialiased)
    normalised: ir.Value = op.Div(matrix, op.ReduceSum(matrix, [1], keepdims=1))
    return normalised


def _cubic(op: Ops, t: ir.Value) -> ir.Value:
    """Keys' kernel with a = -0.5: 1.5 t^3 - 2.5 t^2 + 1 below 1, -0.5 t^3 + 2.5 t^2 - 4 t + 2 below 2, 0 beyond."""
    near = op.Add(op.Mul(op.Mul(op.Sub(op.Mul(t, 1.5), 2.5), t), t), 1.0)
    far = op.Add(op.Mul(op.Sub(op.Mul(op.Sub(2.5, op.Mul(t, 0.5)), t), 4.0), t), 2.0)
    kernel: ir.Value = op.Where(op.Less(t, 1.0), near, op.Where(op.Less(t, 2.0), far, 0.0))
    return kernel
