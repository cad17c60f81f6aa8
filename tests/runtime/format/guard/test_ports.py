"""What a graph declares against what a manifest says of it."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from xai_deploy.errors import UnsafeGraphError
from xai_deploy.format import graphs as m
from xai_deploy.format.graphs import Port
from xai_deploy.format.guard import check_graph

from .graphs import IMAGE, n

SCORES = Port("y", (5,), "float32")


def graph(
    takes: list[int | str | None], gives: list[int | str | None] | None, dtype: int = TensorProto.FLOAT
) -> onnx.ModelProto:
    image = helper.make_tensor_value_info("x", dtype, takes)
    scores = helper.make_tensor_value_info("y", dtype, gives)
    made = helper.make_graph([n("Relu", "x")], "g", [image], [scores])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def compare(model: onnx.ModelProto, gives: Port, batch: str = "any") -> None:
    guarded = check_graph(model.SerializeToString(), "x.onnx", IMAGE)
    guarded.check_ports(m.Graph("x.onnx", 18, takes=(Port("x", (5,), None),), gives=(gives,)), batch)


@pytest.mark.parametrize("sizes", [["N", 5], [None, None], ["N", "K"], None])
def test_any_batch(sizes: list[int | str | None] | None) -> None:
    compare(graph(["N", 5], sizes), SCORES)


def test_one_image() -> None:
    compare(graph([1, 5], [1, 5]), SCORES, "one")
    compare(graph(["N", 5], ["N", 5]), SCORES, "one")


@pytest.mark.parametrize(
    ("model", "port", "batch", "told"),
    [
        (graph(["N", 5], ["N", 5], TensorProto.DOUBLE), SCORES, "any", "gives 'y' as float64, but the manifest says float32"),
        (graph(["N", 5], ["N", 6]), SCORES, "any", r"gives 'y' of shape \[\?, 6\], but the manifest says \[N, 5\]"),
        (graph(["N", 5], ["N", 5, 1]), SCORES, "any", r"gives 'y' of shape \[\?, 5, 1\], but the manifest says \[N, 5\]"),
        (graph(["N", 5], [1, 5]), SCORES, "any", r"gives 'y' of shape \[1, 5\], but the manifest says \[N, 5\]"),
        (graph([1, 5], ["N", 5]), SCORES, "any", r"takes 'x' of shape \[1, 5\], but the manifest says \[N, 5\]"),
        (graph([2, 5], [2, 5]), SCORES, "one", r"takes 'x' of shape \[2, 5\], but the manifest says \[N, 5\]"),
        (graph(["N", 5], ["N", 5]), Port("z", (5,), None), "any", "gives 'y', which the manifest does not list"),
    ],
)  # fmt: skip
def test_another_graph(model: onnx.ModelProto, port: Port, batch: str, told: str) -> None:
    with pytest.raises(UnsafeGraphError, match=rf"^x\.onnx: it {told}$"):
        compare(model, port, batch)
