"""MaxUnpool, which puts values where a maximum was, and MaxRoiPool, maxima of regions: the winner takes all, place by place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from ..passes.test_fused_regions import written
from ..vjp.harness import Array, Free, graph_model
from .running import NOTHING, Relevance, composite_of
from .test_poolings import agree, draw

COMPOSITES = [NOTHING, composite_of({}, base="relevance-cam"), composite_of({}, base="epsilon-plus")]


def distinct(*shape: int) -> Array:
    """No two values are equal."""
    return Free(shape, "distinct").sample(1, np.random.default_rng(0))


def winners(x: Array, kernel: int, stride: int, pad: int) -> tuple[Array, Array]:
    """Of images [N,C,h,w], the maxima [N,C,rows,columns] of their windows, and the maxima's places in h w."""
    height, width = x.shape[2:]
    rows, columns = ((n + 2 * pad - kernel) // stride + 1 for n in (height, width))
    places = np.zeros((*x.shape[:2], rows, columns), np.int64)
    for n, c, i, j in np.ndindex(places.shape):
        window = [
            (x[n, c, a, b], a * width + b)
            for a in range(max(i * stride - pad, 0), min(i * stride - pad + kernel, height))
            for b in range(max(j * stride - pad, 0), min(j * stride - pad + kernel, width))
        ]
        places[n, c, i, j] = max(window)[1]
    flat = x.reshape(*x.shape[:2], -1)
    return np.take_along_axis(flat, places.reshape(*x.shape[:2], -1), 2).reshape(places.shape), places


def unpool(places: Array, cells: int) -> Array:
    """The matrix [cells,n] of one channel: row p has a 1 at the last value whose place is p."""
    matrix = np.zeros((cells, places.size))
    for i, place in enumerate(places.reshape(-1)):
        matrix[place] = 0
        matrix[place, i] = 1
    return matrix


def network(size: tuple[int, int], mixed: bool, **pool: Any) -> onnx.ModelProto:
    """A pooling, a mix of its channels or a Sigmoid of them, and the unpooling to the pooling's places."""
    nodes = [
        helper.make_node("MaxPool", ["x"], ["pooled", "places"], **pool),
        helper.make_node("Conv", ["pooled", "mix"], ["s"]) if mixed else helper.make_node("Sigmoid", ["pooled"], ["s"]),
        helper.make_node("MaxUnpool", ["s", "places", "size"], ["y"], **pool),
    ]
    constants: dict[str, Array] = {"size": np.array([0, 2, *size])}
    if mixed:
        constants["mix"] = MIX.astype(np.float32)[:, :, None, None]
    return graph_model(nodes, {"x": ["N", 2, *size]}, constants)


MIX = np.array([[1.0, 0.5], [0.25, 2.0]])
ZERO = composite_of({"Conv": {"rule": "zero"}})


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pad"), [((6, 8), 2, 2, 0), ((5, 7), 2, 2, 0), ((7, 9), 3, 2, 0), ((8, 8), 3, 2, 1)]
)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("mixed", [False, True])
def test_unpooling(size: tuple[int, int], kernel: int, stride: int, pad: int, batch: int, mixed: bool) -> None:
    """R_s = U^T R, R_p = R_s or p W^T (R_s / W p), R_x = U'^T R_p, all as matrices; U' lets each window have its own maximum.

    What lies at places that no window names is a constant's, and is lost; the rest is conserved.
    """
    pool = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
    x, cells = np.abs(distinct(batch, 2, *size)), math.prod(size)
    pooled, places = winners(x, kernel, stride, pad)
    r = draw(batch, 2, *size, seed=1)
    want, named = np.zeros_like(x), 0.0
    for n in range(batch):
        mine = np.stack([unpool(places[n, c], cells).T @ r[n, c].reshape(-1) for c in range(2)])
        named += sum(r[n, c].reshape(-1)[np.unique(places[n, c])].sum() for c in range(2))
        if mixed:
            p = pooled[n].reshape(2, -1)
            mine = p * (MIX.T @ (mine / (MIX @ p)))
        for c in range(2):
            np.add.at(want[n, c].reshape(-1), places[n, c].reshape(-1), mine[c])
    np.testing.assert_allclose(want.sum(), named)
    model = written(network(size, mixed, **pool))
    agree(Relevance(model, [ZERO] if mixed else COMPOSITES), {"x": x, "r": r}, x=want)


def bin_of(begin: float, end: float, number: int, count: int, size: int) -> range:
    """The pixels that a bin of a region reads along an axis (Girshick 2015)."""
    first, last = (math.floor(abs(v) + 0.5) * (1 if v >= 0 else -1) for v in (begin, end))
    step = max(last - first + 1, 1) / count
    return range(
        min(max(math.floor(number * step) + first, 0), size), min(max(math.ceil((number + 1) * step) + first, 0), size)
    )


ROIS = [[0, 1, 2, 9, 7], [0, -4.5, 0.5, 30, 4.5], [2, 9, 7, 2, 1], [1, 40, 40, 60, 60], [1, 2.5, 1.5, 8.5, 9.5]]
"""Inside, partly and wholly beyond the image, turned over, and on halves of pixels: image, x1, y1, x2, y2."""


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("shape", "scale"), [((3, 2), 0.5), ((5, 7), 0.3), ((1, 1), 1.0)])
def test_maxima_of_regions(batch: int, shape: tuple[int, int], scale: float) -> None:
    """Each bin's relevance goes to its largest pixel; an empty bin's is lost, the rest is conserved."""
    rois = np.array(ROIS, np.float32)
    rois[:, 0] = np.minimum(rois[:, 0], batch - 1)
    node = helper.make_node("MaxRoiPool", ["x", "rois"], ["y"], pooled_shape=list(shape), spatial_scale=scale)
    model = written(graph_model([node], {"x": [batch, 2, 8, 7]}, {"rois": rois}))
    x, r = distinct(batch, 2, 8, 7), draw(len(rois), 2, *shape, seed=1)
    want, kept = np.zeros_like(x), 0.0
    for k, c, i, j in np.ndindex(r.shape):
        image, *edges = (float(v) * s for v, s in zip(rois[k], (1, *[scale] * 4), strict=True))
        rows = bin_of(edges[1], edges[3], i, shape[0], 8)
        columns = bin_of(edges[0], edges[2], j, shape[1], 7)
        places = [(x[int(image), c, a, b], a, b) for a in rows for b in columns]
        if places:
            _, a, b = max(places)
            want[int(image), c, a, b] += r[k, c, i, j]
            kept += float(r[k, c, i, j])
    np.testing.assert_allclose(want.sum(), kept)
    agree(Relevance(model, COMPOSITES), {"x": x, "r": r}, x=want)
