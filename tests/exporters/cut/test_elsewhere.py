"""Positions through unpooling, deformable convolutions and sampling at a grid, against what patches of an image change."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx import helper
from xai_exporters.cut.featuremap import find_grid, is_feature_map
from xai_exporters.cut.followed import follow
from xai_exporters.errors import ExtentError, LayerError
from xai_exporters.passes.clean import CleanGraph, clean

from ..vjp.harness import graph_model
from .test_featuremap import of_op, values

Array = NDArray[Any]
SIZE = (24, 32)
IMAGES = np.random.default_rng(0).standard_normal((2, 3, *SIZE)).astype(np.float32)
DRAW = np.random.default_rng(1)
make = helper.make_node


def weights(*shape: int) -> Array:
    return np.asarray(DRAW.standard_normal(shape) / np.sqrt(np.prod(shape[1:])), np.float32)


def network(nodes: list[onnx.NodeProto], last: str, opset: int = 20, **constants: Any) -> CleanGraph:
    """A convolution of stride 2, `nodes` from "a" [N,8,12,16] to `last` [N,8,h,w], a 1 x 1 convolution "seen", its mean."""
    given = {name: np.asarray(value) for name, value in constants.items()}
    given |= {"w": weights(8, 3, 3, 3), "one": weights(8, 8, 1, 1)}
    every = [
        make("Conv", ["x", "w"], ["a"], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
        *nodes,
        make("Conv", [last, "one"], ["seen"], name="seen"),
        make("GlobalAveragePool", ["seen"], ["mean"]),
        make("Flatten", ["mean"], ["logits"]),
    ]
    return clean(graph_model(every, {"x": ["N", 3, *SIZE]}, given, "logits", opset=opset), None)


def seen_in(graph: CleanGraph) -> ir.Value:
    return of_op(graph, "Conv")[-1]


def checked(graph: CleanGraph, shape: tuple[int, int]) -> ir.Value:
    """The last map has this grid, which lies as the image does: no cell answers most to what lies elsewhere."""
    value = seen_in(graph)
    grid = find_grid(graph, value, "seen")
    assert (grid.shape, grid.order) == ((8, *shape), None)
    measured = follow(graph, value, grid, IMAGES)
    assert measured is not None
    assert measured.said == "yes", measured
    return value


@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("deeper", [False, True])
def test_unpooling(kernel: int, deeper: bool) -> None:
    """As SegNet's decoder: values from a coarser map, each at the place of its window's maximum."""
    pool: dict[str, Any] = {"kernel_shape": [kernel] * 2, "strides": [2, 2], "pads": [0, 0, kernel - 2, kernel - 2]}
    nodes = [make("MaxPool", ["a"], ["pooled", "places"], **pool)]
    if deeper:  # once more, and back
        nodes += [
            make("MaxPool", ["pooled"], ["again", "places2"], kernel_shape=[2, 2], strides=[2, 2]),
            make("Conv", ["again", "c"], ["low"], kernel_shape=[3, 3], pads=[1] * 4),
            make("MaxUnpool", ["low", "places2"], ["up"], kernel_shape=[2, 2], strides=[2, 2]),
        ]
    nodes += [
        make("Conv", ["up" if deeper else "pooled", "d"], ["b"], kernel_shape=[3, 3], pads=[1] * 4),
        make("MaxUnpool", ["b", "places"], ["y"], **pool),
    ]
    given: dict[str, Any] = {"c": weights(8, 8, 3, 3)} if deeper else {}
    graph = network(nodes, "y", d=weights(8, 8, 3, 3), **given)
    value = checked(graph, (12, 16))
    [strand], [before] = graph.positions[value].strands, graph.positions[of_op(graph, "Conv")[0]].strands
    assert strand.frames == before.frames


def test_unpooling_at_places_that_count_otherwise() -> None:
    """Places down the columns, read along the rows, are other places: refused, in one true line."""
    pool: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        make("MaxPool", ["a"], ["pooled", "places"], storage_order=1, **pool),
        make("MaxUnpool", ["pooled", "places"], ["y"], name="up", **pool),
    ]
    graph = network(nodes, "y")
    with pytest.raises(
        LayerError, match=r"positions can't be followed through 'parts/up/ScatterElements' \(ScatterElements\)"
    ):
        find_grid(graph, seen_in(graph), "seen")


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
def test_deformable_convolution(groups: int, stride: int) -> None:
    """Offsets of half a cell, made of the features at each place (Zhu et al. 2019): the map is that of the plain convolution."""
    window: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [stride] * 2, "pads": [1] * 4}
    nodes = [
        make("Conv", ["a", "o"], ["wide"], **window),
        make("Tanh", ["wide"], ["offset"]),
        make("Conv", ["a", "m"], ["gate"], **window),
        make("Sigmoid", ["gate"], ["mask"]),
        make("DeformConv", ["a", "k", "offset", "bias", "mask"], ["y"], name="deform", offset_group=groups, **window),
    ]
    given: dict[str, Any] = {
        "o": weights(18 * groups, 8, 3, 3),
        "m": weights(9 * groups, 8, 3, 3),
        "k": weights(8, 8, 3, 3),
        "bias": weights(8, 1)[:, 0],
    }
    checked(network(nodes, "y", **given), (12 // stride, 16 // stride))


def grid_of(rows: Array, columns: Array) -> Array:
    """A GridSample's grid [1,h,w,2] from cells of the 12 x 16 map, counted from the middle of its first one."""
    down, across = np.meshgrid((2 * rows + 1) / 12 - 1, (2 * columns + 1) / 16 - 1, indexing="ij")
    return np.stack([across, down], axis=-1)[None].astype(np.float32)


ROWS, COLUMNS = np.arange(12.0), np.arange(16.0)


@pytest.mark.parametrize(
    ("rows", "columns"),
    [(ROWS, COLUMNS), (np.arange(24) / 2 - 0.25, np.arange(8) * 2 + 0.5), (ROWS + 0.4, COLUMNS - 0.3)],
    ids=["identity", "resized", "shifted by less than a cell"],
)
def test_sampling_at_a_constant_grid(rows: Array, columns: Array) -> None:
    nodes = [make("GridSample", ["a", "grid"], ["y"], mode="linear", padding_mode="border")]
    value = checked(network(nodes, "y", grid=grid_of(rows, columns)), (len(rows), len(columns)))
    assert value is not None


@pytest.mark.parametrize(
    ("rows", "columns", "error", "says"),
    [
        (ROWS[::-1], COLUMNS, LayerError, "its rows and columns are in another order"),
        (ROWS, np.roll(COLUMNS, 8), LayerError, "its rows and columns are in another order"),
        (ROWS / 2, COLUMNS, ExtentError, "covers"),
        (ROWS * 3 - 12, COLUMNS, ExtentError, "border around the image"),
    ],
    ids=["turned over", "halves exchanged", "upper half", "far beyond"],
)
def test_a_constant_grid_elsewhere(rows: Array, columns: Array, error: type[Exception], says: str) -> None:
    nodes = [make("GridSample", ["a", "grid"], ["y"], mode="linear", padding_mode="border")]
    graph = network(nodes, "y", grid=grid_of(rows, columns))
    with pytest.raises(error, match=says):
        find_grid(graph, seen_in(graph), "seen")


@pytest.mark.parametrize(
    ("mirrored", "flow", "said"), [(False, 0.02, "yes"), (True, 0.0002, "no"), (True, 0.02, "mixed")]
)
def test_a_grid_moved_by_the_features(mirrored: bool, flow: float, said: str) -> None:
    """A flow at each place is followed as if it were none: the measurement sees a grid that is turned over besides."""
    nodes = [
        make("Conv", ["a", "f"], ["f1"], kernel_shape=[3, 3], pads=[1] * 4),
        make("Transpose", ["f1"], ["f2"], perm=[0, 2, 3, 1]),
        make("Mul", ["f2", "small"], ["flow"]),
        make("Add", ["flow", "grid"], ["moved"]),
        make("GridSample", ["a", "moved"], ["y"], mode="linear", padding_mode="border"),
    ]
    grid = grid_of(ROWS, COLUMNS)[:, :: -1 if mirrored else 1, :: -1 if mirrored else 1]
    graph = network(nodes, "y", f=weights(2, 8, 3, 3), small=np.float32(flow), grid=grid)
    value = seen_in(graph)
    found = find_grid(graph, value, "seen")
    measured = follow(graph, value, found, IMAGES)
    assert measured is not None
    assert measured.said == said


def test_what_was_followed_before_is_still_no_map_of_another_order() -> None:
    """Every tensor of the unpooling that counts as a map lies as the image does."""
    nodes = [
        make("MaxPool", ["a"], ["pooled", "places"], kernel_shape=[2, 2], strides=[2, 2]),
        make("MaxUnpool", ["pooled", "places"], ["y"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    graph = network(nodes, "y")
    maps = [(v, is_feature_map(graph, v)) for v in values(graph) if v.dtype == ir.DataType.FLOAT]
    found = [follow(graph, v, grid, IMAGES) for v, grid in maps if grid is not None]
    assert len(found) > 3
    assert not [one for one in found if one is not None and one.misplaced]
