"""Operators that move values about: `layout.py`, `axis.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper

from .harness import RUNTIMES, Array, Case, Free, check, check_graph, f32, gradient_model, graph_model, ints, reference

X = Free(("N", 4, 6, 8))
END = 1 << 62
UNEVEN = {"openvino": "wants even pieces"}


def pad(mode: str, *amounts: int, torch_mode: str = "", **options: Any) -> Case:
    """Amounts as ONNX has them, of all four axes."""
    (top, left), (bottom, right) = amounts[2:4], amounts[6:8]
    function = (lambda x: F.pad(x, (left, right, top, bottom), torch_mode)) if torch_mode else None
    return Case("Pad", (X, ints(*amounts)), {"mode": mode}, torch=function, **options)


WRAP = {"opset": 19, "skip": {"openvino": "no wrapping"}}
CASES = [
    Case("Reshape", (X, ints(-1, 24, 8)), torch=lambda x: x.reshape(-1, 24, 8)),
    Case("Reshape", (X, ints(0, 0, -1)), torch=lambda x: x.reshape(len(x), 4, 48)),
    Case("Reshape", (X, ints(-1, 8)), torch=lambda x: x.reshape(-1, 8)),
    Case("Reshape", (Free((2, 3, 1)), ints(6)), torch=lambda x: x.reshape(6)),
    Case("Reshape", (Free((1,)), np.zeros(0, np.int64)), torch=lambda x: x.reshape(())),
    Case("Reshape", (Free(()), ints(1, -1)), torch=lambda x: x.reshape(1, 1)),
    Case("Flatten", (X,), {"axis": 2}),
    Case("Flatten", (X,), {"axis": 0}),
    Case("Flatten", (X,), torch=lambda x: x.flatten(1)),
    Case("Squeeze", (Free(("N", 1, 3, 1)), ints(1, -1)), torch=lambda x: x.squeeze(-1).squeeze(1)),
    Case("Squeeze", (Free((3, 1, 4, 1)),), torch=torch.squeeze),
    Case("Unsqueeze", (Free(("N", 3)), ints(1, -1)), torch=lambda x: x[:, None, :, None]),
    Case("Transpose", (X,), {"perm": [0, 2, 3, 1]}, torch=lambda x: x.permute(0, 2, 3, 1)),
    Case("Transpose", (X,), {"perm": [0, 3, 1, 2]}, torch=lambda x: x.permute(0, 3, 1, 2)),
    Case("Transpose", (X,), {"perm": [3, 0, 2, 1]}, torch=lambda x: x.permute(3, 0, 2, 1)),
    Case("Transpose", (Free((3, 4, 5)),), torch=lambda x: x.permute(2, 1, 0)),
    Case("Identity", (X,), torch=lambda x: x * 1),
    Case("Dropout", (X,), torch=lambda x: x * 1),
    Case("Dropout", (X, np.array(0.5, np.float32), np.array(False)), torch=lambda x: x * 1),
    Case("Expand", (Free(("N", 1, 4)), ints(1, 3, 1)), torch=lambda x: x.expand(-1, 3, -1)),
    Case("Expand", (Free((4,)), ints(2, 3, 4)), torch=lambda x: x.expand(2, 3, 4)),
    Case("Expand", (Free((3, 1)), ints(2, 1, 5)), torch=lambda x: x.expand(2, 3, 5)),
    Case("Expand", (Free(()), ints(2, 3)), torch=lambda x: x.expand(2, 3)),
    Case("Concat", (Free(("N", 2, 3)), Free(("N", 4, 3))), {"axis": 1}, torch=lambda a, b: torch.cat([a, b], 1)),
    Case("Concat", (Free((1, 2, 3)), np.ones((1, 2, 1), np.float32), Free((1, 2, 2))), {"axis": -1}),
    Case("Concat", (Free((2, 3)), Free((1, 3))), {"axis": 0}, torch=lambda a, b: torch.cat([a, b])),
    Case("Concat", (Free(("N", 3)),), {"axis": 1}, torch=lambda a: a * 1),
    Case("Split", (X, ints(1, 2, 1)), {"axis": 1}, outputs=3, output=1, torch=lambda x: x[:, 1:3]),
    Case("Split", (X,), {"axis": -1, "num_outputs": 3}, outputs=3, output=2, skip=UNEVEN, torch=lambda x: x[..., 6:]),
    Case("Split", (X,), {"axis": 2, "num_outputs": 2}, outputs=2, torch=lambda x: x[:, :, :3]),
    Case("Slice", (X, ints(1), ints(3), ints(2)), torch=lambda x: x[:, :, 1:3]),
    Case("Slice", (X, ints(1, -3), ints(1000, -1), ints(1, 3)), torch=lambda x: x[:, 1:, :, -3:-1]),
    Case("Slice", (X, ints(-1000), ints(3), ints(-1)), torch=lambda x: x[..., :3]),
    Case("Slice", (X, ints(1), ints(6), ints(3), ints(2)), torch=lambda x: x[..., 1:6:2]),
    Case("Slice", (X, ints(0, 1), ints(END, END), ints(-1, -2), ints(3, 2)), torch=lambda x: x[:, :, 1::2, ::3]),
    Case("Slice", (X, ints(-1), ints(-1000), ints(3), ints(-1)), torch=lambda x: x.flip(3)),
    Case("Slice", (X, ints(END), ints(-END), ints(-2), ints(-1)), torch=lambda x: x.flip(2)),
    Case("Slice", (X, ints(6), ints(0), ints(3), ints(-2)), torch=lambda x: x[..., [6, 4, 2]]),
    Case("Slice", (X, ints(5), ints(-8), ints(3), ints(-3)), torch=lambda x: x[..., [5, 2]]),
    Case("Slice", (X, ints(5), ints(-9), ints(3), ints(-5)), torch=lambda x: x[..., [5, 0]]),
    Case("Slice", (X, ints(0, 1, 2), ints(END, 3, 5)), torch=lambda x: x[:, 1:3, 2:5]),
    Case("Slice", (X, ints(5), ints(3), ints(2))),  # nothing
    Case("Slice", (X, np.array([1], np.int32), np.array([-1], np.int32), np.array([2], np.int32)), torch=lambda x: x[:, :, 1:-1]),
    Case("Pad", (X, ints(0, 0, 1, 2, 0, 0, 3, 0), np.array(0.5, np.float32)), torch=lambda x: F.pad(x, (2, 0, 1, 3), value=0.5)),
    Case("Pad", (X, ints(0, 0, -1, 2, 0, 0, 1, -2)), torch=lambda x: F.pad(x, (2, -2, -1, 1))),
    Case("Pad", (X, ints(0, -1, -1, -2, 0, 0, 0, -2)), torch=lambda x: F.pad(x, (-2, -2, -1, 0, -1, 0))),
    Case("Pad", (X, ints(1, 2, 0, 1), None, ints(2, -1)), torch=lambda x: F.pad(x, (2, 1, 1, 0))),
    Case("Pad", (X, ints(1, -1), f32(2)[0], ints(3)), torch=lambda x: F.pad(x, (1, -1), value=2.0)),
    pad("reflect", 0, 0, 2, 3, 0, 0, 1, 2, torch_mode="reflect"),
    pad("reflect", 0, 3, 0, 7, 0, 2, 0, 0),
    Case("Pad", (X, ints(2, 1), None, ints(-2)), {"mode": "reflect"}, torch=lambda x: F.pad(x, (0, 0, 2, 1), "reflect")),
    pad("edge", 0, 0, 2, 3, 0, 0, 1, 0, torch_mode="replicate"),
    pad("edge", 0, 0, 6, 0, 0, 0, 5, 0, torch_mode="replicate"),  # so often that a product is shorter
    pad("wrap", 0, 0, 2, 3, 0, 0, 1, 2, torch_mode="circular", **WRAP),
    Case("Tile", (X, ints(1, 2, 1, 3)), torch=lambda x: x.tile(1, 2, 1, 3)),
    Case("Tile", (Free((3, 1)), ints(2, 4)), torch=lambda x: x.tile(2, 4)),
    Case("Tile", (X, ints(1, 1, 1, 1)), torch=lambda x: x * 1),
    Case("CastLike", (X, f32(1)), torch=lambda x: x * 1),
    Case("CenterCropPad", (X, ints(7, 3)), {"axes": [2, 3]}),
    Case("CenterCropPad", (X, ints(2, 9)), {"axes": [-2, 3]}),
    Case("ReverseSequence", (Free((5, 3, 2)), ints(2, 5, 1))),
    Case("ReverseSequence", (Free((3, 5, 2)), ints(3, 1, 5)), {"batch_axis": 0, "time_axis": 1}),
    Case("DepthToSpace", (X,), {"blocksize": 2}),
    Case("DepthToSpace", (Free(("N", 18, 2, 3)),), {"blocksize": 3, "mode": "DCR"}),
    Case("DepthToSpace", (X,), {"blocksize": 2, "mode": "CRD"}, torch=lambda x: F.pixel_shuffle(x, 2)),
    Case("DepthToSpace", (Free(("N", 18, 2, 3)),), {"blocksize": 3, "mode": "CRD"}, torch=lambda x: F.pixel_shuffle(x, 3)),
    Case("SpaceToDepth", (X,), {"blocksize": 2}),
    Case("SpaceToDepth", (Free(("N", 2, 3, 6)),), {"blocksize": 3}),
    Case("Cast", (X,), {"to": TensorProto.FLOAT}, torch=lambda x: x * 1),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)


def test_pieces_of_a_split_may_lead_nowhere() -> None:
    """Two of four pieces are used, one of them twice; the gradient of the others is 0."""
    nodes = [
        helper.make_node("Split", ["x", "sizes"], ["a", "b", "c", "d"], axis=1),
        helper.make_node("ReduceSum", ["a", "one"], ["whole"]),
        helper.make_node("Mul", ["whole", "c"], ["p"]),
        helper.make_node("Mul", ["p", "c"], ["y"]),
    ]
    check_graph(graph_model(nodes, {"x": ["N", 7, 3]}, {"sizes": ints(1, 2, 3, 1), "one": ints(1)}))


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_casts_there_and_back(kind: int) -> None:
    """The gradient takes the same way: float16 rounds it, and the graph's types stay right."""
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["square"]),
        helper.make_node("Cast", ["square"], ["other"], to=kind),
        helper.make_node("Add", ["other", "other"], ["twice"]),
        helper.make_node("Cast", ["twice"], ["y"], to=TensorProto.FLOAT),
    ]
    model = graph_model(nodes, {"x": ["N", 4]})
    x, dy = f32([0.5, -1.25, 2, 3]), f32([1, 2, -0.5, 0.25])
    for name, got in on_all(model, {"x": x, "dy": dy}).items():
        np.testing.assert_array_equal(got, 4 * x * dy, err_msg=name)


def on_all(model: Any, feeds: dict[str, Array]) -> dict[str, Array]:
    """dx in float32 on both runtimes and the evaluator."""
    gradient = gradient_model(model, "x")
    return {name: make(gradient, "dx")(feeds) for name, make in {**RUNTIMES, "reference": reference}.items()}


def test_computed_shapes() -> None:
    """A shape read off the batch leads nowhere, and Reshape goes back to the input's."""
    nodes = [
        helper.make_node("Shape", ["x"], ["n"], start=0, end=1),
        helper.make_node("Concat", ["n", "rest"], ["shape"], axis=0),
        helper.make_node("Reshape", ["x", "shape"], ["flat"]),
        helper.make_node("Mul", ["flat", "flat"], ["y"]),
    ]
    check_graph(graph_model(nodes, {"x": ["N", 3, 4]}, {"rest": ints(12)}))
