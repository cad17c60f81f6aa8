"""What is a feature map and what is none, in networks whose tensors look alike; which one `auto` takes."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import helper
from torch import nn
from xai_exporters.cut.auto import auto_layer
from xai_exporters.cut.costs import candidates
from xai_exporters.cut.featuremap import find_grid, is_feature_map
from xai_exporters.cut.scores.logits import find_scores
from xai_exporters.errors import LayerError
from xai_exporters.passes.clean import CleanGraph, clean

from .. import cut_nets as c
from .. import onnx_nets as o
from ..vjp.harness import graph_model

KINDS: dict[str, Any] = {
    "vit": lambda: c.RearrangedVit(1),
    "registers": lambda: c.RearrangedVit(5),
    "mixer": c.Mixer,
    "windows": c.Windows,
    "unrolled": c.Unrolled,
    "probe": c.Probe,
    "gem": lambda: c.Pooled(c.GeM()),
    "gem without relu": lambda: c.Pooled(c.GeM(), relu=False),
    "logsumexp": lambda: c.Pooled(c.LogSumExp()),
    "gated": c.Gated,
    "pyramid": lambda: c.Pooled(c.Pyramid()),
    "inner patches": c.InnerPatches,
    "shared query": c.SharedQuery,
}


@cache
def exported(kind: str) -> CleanGraph:
    torch.manual_seed(0)
    network: nn.Module = KINDS[kind]().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (torch.rand(2, *c.SHAPE),),
            dynamo=True,
            opset_version=18,
            dynamic_shapes=({0: torch.export.Dim("N")},),
            verbose=False,
        )
    assert program is not None
    return clean(ir.to_proto(program.model), None)


def values(graph: CleanGraph) -> list[ir.Value]:
    return [v for node in graph.graph for v in node.outputs]


def of_op(graph: CleanGraph, op: str) -> list[ir.Value]:
    return [node.outputs[0] for node in graph.graph if node.op_type == op]


def listed(graph: CleanGraph) -> set[str]:
    return {row.tensor for row in candidates(graph, find_scores(graph, None))}


@pytest.mark.parametrize(
    ("kind", "layout", "shape", "prefix", "op"),
    [
        ("vit", "NTC", (8, 4, 6), 1, "LayerNormalization"),
        ("registers", "NTC", (8, 4, 6), 5, "LayerNormalization"),
        ("mixer", "NTC", (8, 4, 6), 0, "LayerNormalization"),  # the last, in front of the mean
        ("windows", "NHWC", (8, 2, 3), 0, "LayerNormalization"),
        ("unrolled", "NTC", (8, 2, 3), 0, "LayerNormalization"),
        ("probe", "NTC", (8, 4, 6), 0, "LayerNormalization"),
        ("gem", "NCHW", (8, 8, 12), 0, "Clip"),  # which holds the network's last ReLU, too
        ("gem without relu", "NCHW", (8, 8, 12), 0, "Conv"),
        ("logsumexp", "NCHW", (8, 8, 12), 0, "Relu"),
        ("gated", "NCHW", (8, 6, 10), 0, "Relu"),
    ],
)
def test_auto(kind: str, layout: str, shape: tuple[int, ...], prefix: int, op: str) -> None:
    graph = exported(kind)
    value, note = auto_layer(graph, find_scores(graph, None))
    grid = find_grid(graph, value, "auto")
    producer = value.producer()
    assert producer is not None
    assert (grid.layout, grid.shape, grid.prefix, producer.op_type, note) == (layout, shape, prefix, op, None)


def test_auto_of_a_mixer_lies_behind_the_last_mixing() -> None:
    graph = exported("mixer")
    value, _ = auto_layer(graph, find_scores(graph, None))
    assert value is of_op(graph, "LayerNormalization")[-1]


def test_auto_says_that_positions_are_mixed_once_more(caplog: pytest.LogCaptureFixture) -> None:
    graph = exported("pyramid")
    value, note = auto_layer(graph, find_scores(graph, None))
    assert str(value.name) == "relu_1"
    pool = of_op(graph, "MaxPool")[0].name
    assert note is not None
    assert note.startswith(
        f"auto: 'relu_1' lies before the last spatial mixing, '{pool}' (MaxPool): after that no tensor is a feature map"
    )
    assert note in caplog.text


@pytest.mark.parametrize("kind", ["vit", "windows", "unrolled", "probe"])
def test_attention_matrices_are_refused_and_not_listed(kind: str) -> None:
    graph = exported(kind)
    matrices = of_op(graph, "Softmax")
    assert matrices
    for value in matrices:
        with pytest.raises(LayerError, match=r"'layer'.* is no feature map: .*a layer to explain gives \[N,K,h,w\]"):
            find_grid(graph, value, "layer")
        assert str(value.name) not in listed(graph)


def test_reasons() -> None:
    vit, windows, probe, mixer = (exported(k) for k in ("vit", "windows", "probe", "mixer"))
    heads = next(v for v in values(vit) if vit.shapes.per_image(v.name) == (2, 25, 4))
    tokens_last = next(v for v in values(mixer) if mixer.shapes.per_image(v.name) == (8, 24))
    mixed = next(v for v in values(mixer) if mixer.shapes.per_image(v.name) == (8, 12))
    read = [v for v in values(probe) if probe.shapes.per_image(v.name) == (2, 1, 4)][-1]
    for graph, value, says in [
        (vit, of_op(vit, "Softmax")[0], "a number for each pair of positions"),
        (vit, heads, "its tokens lie along axis 2 of 4"),
        (
            windows,
            of_op(windows, "LayerNormalization")[0],
            "its first axis is not the batch alone but counts windows, heads or positions",
        ),
        (probe, read, "brings the image's positions together"),
        (mixer, tokens_last, "its tokens lie along axis 2 of 3"),
        (mixer, mixed, "brings the image's positions together"),
    ]:
        with pytest.raises(LayerError, match=says):
            find_grid(graph, value, "layer")
        assert str(value.name) not in listed(graph)


def test_sampling_moves_positions() -> None:
    """A spatial transformer: the grid is made of the features; beyond it no cell lies where its number says."""
    theta = np.random.default_rng(0).standard_normal((8, 30)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["features"], name="conv", kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "theta"], ["row"]),
        helper.make_node("Reshape", ["row", "shape"], ["grid"]),
        helper.make_node("GridSample", ["features", "grid"], ["sampled"], name="stn/sample"),
        helper.make_node("GlobalAveragePool", ["sampled"], ["again"]),
        helper.make_node("Flatten", ["again"], ["logits"]),
    ]
    shape = np.array([-1, 3, 5, 2])
    constants = {"w": np.ones((8, 3, 3, 3), np.float32), "theta": theta, "shape": shape}
    graph = clean(graph_model(nodes, {"x": ["N", 3, 9, 11]}, constants, "logits"), None)
    [features], [sampled] = of_op(graph, "Conv"), of_op(graph, "GridSample")
    assert find_grid(graph, features, "conv").shape == (8, 9, 11)
    with pytest.raises(LayerError, match=r"'stn/sample' \(GridSample\), which takes its values from other places"):
        find_grid(graph, sampled, "stn")


def test_a_centre_that_is_cut_out_or_framed_keeps_its_places() -> None:
    """It lies off the image's middle by as much as the border is wide; put back to the size, it lies where it was."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["features"], name="conv", kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("CumProd", ["features", "axis"], ["running"], name="running"),
        helper.make_node("CenterCropPad", ["running", "wide"], ["framed"], name="frame", axes=[2, 3]),
        helper.make_node("CenterCropPad", ["framed", "size"], ["back"], name="back", axes=[-2, -1]),
        helper.make_node("GlobalAveragePool", ["back"], ["again"]),
        helper.make_node("Flatten", ["again"], ["logits"]),
    ]
    constants = {
        "w": np.ones((8, 3, 3, 3), np.float32),
        "axis": np.array(2),
        "wide": np.array([12, 15]),
        "size": np.array([9, 11]),
    }
    graph = clean(graph_model(nodes, {"x": ["N", 3, 9, 11]}, constants, "logits", opset=26), None)
    tensors = {str(v.name): v for v in values(graph)}
    assert find_grid(graph, tensors["running"], "running").shape == (8, 9, 11)
    assert find_grid(graph, tensors["back"], "back").shape == (8, 9, 11)
    with pytest.raises(LayerError, match="covers a border around the image, the rows -1 to 11 of 9"):
        find_grid(graph, tensors["framed"], "frame")


def test_positions_through_a_gather_of_several_axes() -> None:
    """torch's `x[:, :, rows, columns]`, as the dynamo exporter writes it: the axes come first, GatherND takes from them."""
    rows, columns = np.meshgrid(np.arange(9), np.arange(11), indexing="ij")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["features"], name="conv", kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Transpose", ["features"], ["axes first"], perm=[2, 3, 0, 1]),
        helper.make_node("GatherND", ["axes first", "same"], ["taken"], name="same"),
        helper.make_node("Transpose", ["taken"], ["kept"], perm=[2, 3, 0, 1]),
        helper.make_node("GatherND", ["axes first", "mirrored"], ["taken too"], name="mirrored"),
        helper.make_node("Transpose", ["taken too"], ["moved"], perm=[2, 3, 0, 1]),
        helper.make_node("Transpose", ["features"], ["channels first"], perm=[1, 0, 2, 3]),
        helper.make_node("GatherND", ["channels first", "few"], ["chosen"], name="few"),
        helper.make_node("Transpose", ["chosen"], ["fewer"], perm=[1, 0, 2, 3]),
        helper.make_node("Concat", ["kept", "moved", "fewer"], ["joined"], axis=1),
        helper.make_node("GlobalAveragePool", ["joined"], ["again"]),
        helper.make_node("Flatten", ["again"], ["logits"]),
    ]
    constants: dict[str, Any] = {
        "w": np.ones((8, 3, 3, 3), np.float32),
        "same": np.stack([rows, columns], -1),
        "mirrored": np.stack([rows, 10 - columns], -1),
        "few": np.array([[1], [5]]),
    }
    graph = clean(graph_model(nodes, {"x": ["N", 3, 9, 11]}, constants, "logits"), None)
    tensors = {str(v.name): v for v in values(graph)}
    assert find_grid(graph, tensors["kept"], "kept").shape == (8, 9, 11)
    assert find_grid(graph, tensors["fewer"], "fewer").shape == (2, 9, 11)
    with pytest.raises(LayerError, match="its rows and columns are in another order"):
        find_grid(graph, tensors["moved"], "moved")


def test_blocks_put_together_again() -> None:
    """MobileViTv2's folding: blocks that lie apart, and the same blocks in another order; blocks that overlap."""
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "w"], ["features"], kernel_shape=[1, 1]),  # [N,4,6,9], in blocks of 2 x 3
        make("Reshape", ["features", "divided"], ["blocks"]),
        make("Transpose", ["blocks"], ["turned"], perm=[0, 1, 3, 5, 2, 4]),
        make("Reshape", ["turned", "columns"], ["unfolded"]),
        make("Col2Im", ["unfolded", "size", "block"], ["apart"], strides=[2, 3]),
        make("Gather", ["unfolded", "backwards"], ["reversed"], axis=2),
        make("Col2Im", ["reversed", "size", "block"], ["moved"], strides=[2, 3]),
        make("Pad", ["features", "border"], ["padded"]),
    ]
    constants: dict[str, Any] = {
        "w": np.ones((4, 3, 1, 1), np.float32), "divided": [-1, 4, 3, 2, 3, 3], "columns": [-1, 24, 9], "size": [6, 9],
        "block": [2, 3], "backwards": np.arange(9)[::-1], "border": [0, 0, 1, 1, 0, 0, 1, 1],
        "rows": np.add.outer(range(3), range(6)), "in line": np.add.outer(range(3), range(9)),
        "shifted": [-1, 36, 54], "three": [3, 3],
    }  # fmt: skip
    nodes += [
        make("Gather", ["padded", "rows"], ["in rows"], axis=2),
        make("Gather", ["in rows", "in line"], ["in both"], axis=4),
        make("Transpose", ["in both"], ["shifts"], perm=[0, 1, 2, 4, 3, 5]),
        make("Reshape", ["shifts", "shifted"], ["overlapping"]),
        make("Col2Im", ["overlapping", "size", "three"], ["together"], pads=[1] * 4),
        make("GlobalAveragePool", ["apart"], ["a"]),
        make("GlobalAveragePool", ["moved"], ["b"]),
        make("GlobalAveragePool", ["together"], ["c"]),
        make("Sum", ["a", "b", "c"], ["sum"]),
        make("Flatten", ["sum"], ["logits"]),
    ]
    arrays = {name: np.asarray(value) for name, value in constants.items()}
    graph = clean(graph_model(nodes, {"x": ["N", 3, 6, 9]}, arrays, "logits"), None)
    apart, moved, together = of_op(graph, "Col2Im")
    assert find_grid(graph, apart, "apart").shape == (4, 6, 9)
    assert find_grid(graph, together, "together").shape == (4, 6, 9)
    with pytest.raises(LayerError, match="its rows and columns are in another order"):
        find_grid(graph, moved, "moved")


def test_rolled_maps_are_refused_until_they_are_rolled_back() -> None:
    graph = exported("windows")
    grids = [v for v in values(graph) if graph.shapes.per_image(v.name) == (4, 6, 8)]
    rolled = [v for v in grids if str(v.name) not in listed(graph)]
    assert 0 < len(rolled) < len(grids)
    with pytest.raises(
        LayerError, match="its rows and columns are in another order, or on other axes, than the image's"
    ):
        find_grid(graph, rolled[0], "layer")
    back = next(v for v in reversed(grids))
    assert find_grid(graph, back, "layer").shape == (8, 4, 6)


@pytest.mark.parametrize("kind", ["vit", "mixer", "windows"])
def test_where_a_patch_of_the_image_shows(kind: str) -> None:
    """Independent of the tracing: in front of the first mixing, a changed patch changes its own position of every listed map."""
    graph = exported(kind)
    import onnx
    import onnxruntime as ort

    names = [row for row in candidates(graph, find_scores(graph, None)) if row.shape[1:] == c.GRID][:3]
    assert names
    proto = ir.to_proto(graph.model)
    proto.graph.output.extend(onnx.ValueInfoProto(name=row.tensor) for row in names)
    session = ort.InferenceSession(proto.SerializeToString())
    by_name = {str(v.name): v for v in values(graph)}
    rng = np.random.default_rng(0)
    image = rng.standard_normal((1, *c.SHAPE)).astype(np.float32)
    for row in names:
        grid = find_grid(graph, by_name[row.tensor], row.tensor)
        for y, x in [(0, 0), (1, 4), (3, 2)]:
            other = image.copy()
            other[:, :, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4] += 3
            feed = [session.run([row.tensor], {session.get_inputs()[0].name: i})[0] for i in (image, other)]
            change = np.abs(feed[1] - feed[0])[0]
            if grid.layout == "NCHW":
                change = change.transpose(1, 2, 0)
            elif grid.layout == "NTC":
                change = change[grid.prefix :].reshape(*c.GRID, -1)
            assert np.unravel_index(change.sum(-1).argmax(), c.GRID) == (y, x), row.tensor


def test_a_map_larger_than_a_bundle_holds() -> None:
    b = o.Build()
    x = b("Resize", b.features(), "", b.weight(np.array([1, 1, 10000, 1], np.float32)), name="long", mode="nearest")
    graph = clean(b.model(b.linear(b.pooled(x), out="scores")), None)
    with pytest.raises(
        LayerError, match=r"'long' is a map of \[6, 80000, 10\]; a bundle's have at most 65535 on a side"
    ):
        find_grid(graph, of_op(graph, "Resize")[0], "long")
    assert is_feature_map(graph, of_op(graph, "Resize")[0]) is None
