"""ONNX files of a few hundred bytes that fold to more than any memory: refused by their shapes, before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from xai_exporters import Request, list_layers
from xai_exporters.errors import SourceError
from xai_exporters.passes.expansion import expansion
from xai_exporters.sources import load_source

node = helper.make_node
Arrays = dict[str, object]


def network(
    nodes: list[onnx.NodeProto], arrays: Arrays, big: str, functions: list[onnx.FunctionProto] | None = None
) -> onnx.ModelProto:
    """A classifier to whose scores the sum of the tensor `big` is added."""
    arrays = {"w": np.ones((4, 3, 3, 3), np.float32), "axes": np.array([2, 3]), "one": np.ones(1, np.float32), **arrays}
    graph = helper.make_graph(
        [
            node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
            node("ReduceMean", ["c", "axes"], ["scores"], keepdims=0),
            *nodes,
            node("ReduceSum", [big], ["sum"], keepdims=0),
            node("Add", ["scores", "sum"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in arrays.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("f", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=functions or [])


def unfolding(depth: int) -> onnx.ModelProto:
    """Functions that each call the one before twice."""
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("f", 1)]
    functions = [helper.make_function("f", "f0", ["a"], ["b"], [node("Relu", ["a"], ["b"])], opsets)]
    for i in range(1, depth):
        calls = [node(f"f{i - 1}", ["a"], ["m"], domain="f"), node(f"f{i - 1}", ["m"], ["b"], domain="f")]
        functions.append(helper.make_function("f", f"f{i}", ["a"], ["b"], calls, opsets))
    return network([node(f"f{depth - 1}", ["one"], ["k"], domain="f")], {}, "k", functions)


BOMBS: dict[str, Callable[[], onnx.ModelProto]] = {
    "ConstantOfShape": lambda: network([node("ConstantOfShape", ["s"], ["k"])], {"s": np.array([1 << 15, 1 << 16])}, "k"),
    "a multiple of the batch": lambda: network(
        [node("Shape", ["x"], ["n"]), node("Mul", ["n", "s"], ["large"]), node("ConstantOfShape", ["large"], ["k"])],
        {"s": np.array([1 << 26, 1, 1, 1])},
        "k",
    ),
    "Expand": lambda: network([node("Expand", ["one", "s"], ["k"])], {"s": np.array([1 << 15, 1 << 16])}, "k"),
    "Tile": lambda: network([node("Tile", ["one", "s"], ["k"])], {"s": np.array([1 << 32])}, "k"),
    "Range": lambda: network(
        [node("Range", ["a", "b", "d"], ["k"])], {"a": np.float32(0), "b": np.float32(1 << 31), "d": np.float32(1)}, "k"
    ),
    "Pad": lambda: network([node("Pad", ["one", "s"], ["k"])], {"s": np.array([0, 1 << 32])}, "k"),
    "Concat": lambda: network(
        [node("Concat", ["one" if i == 0 else f"k{i}"] * 2, [f"k{i + 1}"], axis=0) for i in range(33)], {}, "k33"
    ),
    "Resize": lambda: network(
        [node("Resize", ["img", "", "", "s"], ["k"])],
        {"img": np.ones((1, 1, 2, 2), np.float32), "s": np.array([1, 1, 1 << 16, 1 << 15])}, "k"),
    "many": lambda: network(
        [node("ConstantOfShape", ["s"], [f"k{i}"]) for i in range(8)] + [node("Sum", [f"k{i}" for i in range(8)], ["k"])],
        {"s": np.array([1 << 25])}, "k"),
    "functions": lambda: unfolding(30),
}  # fmt: skip


@pytest.mark.parametrize("kind", BOMBS)
def test_bombs(tmp_path: Path, kind: str) -> None:
    onnx.save(BOMBS[kind](), tmp_path / "net.onnx")
    says = {"many": r"its constants would take 1\d{9} bytes", "functions": r"unfold to \d+ nodes",
            "a multiple of the batch": "ConstantOfShape.* would take .* bytes"}  # fmt: skip
    with pytest.raises(
        SourceError, match=rf"net\.onnx: .*({says.get(kind, rf'{kind}.* would take .* bytes')}), far more"
    ):
        list_layers(Request(tmp_path / "net.onnx"))


def test_a_function_that_calls_itself() -> None:
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("f", 1)]
    function = helper.make_function("f", "f0", ["a"], ["b"], [node("f0", ["a"], ["b"], domain="f")], opsets)
    model = network([node("f0", ["one"], ["k"], domain="f")], {}, "k", [function])
    assert "unfold to" in str(expansion(model, 1000))


def test_sound_networks(tmp_path: Path) -> None:
    model = network([node("ConstantOfShape", ["s"], ["k"])], {"s": np.array([1 << 10])}, "k")
    assert expansion(model, 1000) is None
    assert expansion(unfolding(4), 1000) is None
    onnx.save(model, tmp_path / "net.onnx")
    assert load_source(Request(tmp_path / "net.onnx")).kind == "ONNX"


def test_external_data_that_is_read_many_times(tmp_path: Path) -> None:
    model = network([], {}, "one")
    (tmp_path / "data.bin").write_bytes(bytes(1 << 20))
    for i in range(600):
        tensor = model.graph.initializer.add()
        tensor.name, tensor.data_type, tensor.data_location = f"t{i}", TensorProto.FLOAT, TensorProto.EXTERNAL
        tensor.dims.append(1 << 18)
        tensor.external_data.add(key="location", value="data.bin")
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(SourceError, match=r"external data would be read as 6\d+ bytes, far more than its files"):
        load_source(Request(tmp_path / "net.onnx"))
