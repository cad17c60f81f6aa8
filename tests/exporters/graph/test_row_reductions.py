"""A reduction of rows before a constant of each row: OpenVINO mixes up the rows of a batch; a fourth axis stops that."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper
from xai_exporters.graph.writing import make_model

from ..checks import close, onnxruntime, open_vino

ROWS, LENGTH = 6, 10
IMAGES = np.random.default_rng(0).uniform(0.5, 1.5, (3, ROWS, LENGTH)).astype(np.float32)
WANT: dict[str, Any] = {
    "ReduceMean": np.mean,
    "ReduceSum": np.sum,
    "ReduceMax": np.max,
    "GlobalAveragePool": np.mean,
    "GlobalMaxPool": np.max,
}


def model(op: str, post: str, turned: bool, keep: int, shape: tuple[int, ...]) -> onnx.ModelProto:
    draw = np.random.default_rng(1)
    constants: dict[str, Any] = {
        name: draw.uniform(0.5, 1.5, ROWS if post == "BatchNormalization" else shape) for name in "abcd"
    }
    nodes, x = [], "image"
    if turned:
        nodes.append(helper.make_node("Transpose", ["image"], ["turned"], perm=[0, 2, 1]))
        x = "turned"
    if op.startswith("Reduce"):
        nodes.append(helper.make_node(op, [x, "axes"], ["reduced"], keepdims=keep))
    else:
        nodes.append(helper.make_node(op, [x], ["reduced"]))
    if post == "later":  # behind another elementwise operator
        nodes += [helper.make_node("Sqrt", ["reduced"], ["root"]), helper.make_node("Mul", ["root", "a"], ["y"])]
    elif post == "BatchNormalization":
        nodes.append(helper.make_node(post, ["reduced", *"abcd"], ["y"]))
    else:
        nodes.append(helper.make_node(post, ["reduced", "a"], ["y"]))
    weights = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()]
    weights.append(numpy_helper.from_array(np.array([1 if turned else -1]), "axes"))
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", ROWS, LENGTH])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [image], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def formula(op: str, post: str, turned: bool, keep: int, shape: tuple[int, ...]) -> Any:
    """The same in NumPy, float64."""
    draw = np.random.default_rng(1)
    a, b, c, d = (draw.uniform(0.5, 1.5, ROWS if post == "BatchNormalization" else shape) for _ in "abcd")
    axis = 2
    x = WANT[op](IMAGES.astype(np.float64), axis=axis, keepdims=bool(keep) or not op.startswith("Reduce"))
    if turned and keep:
        x = np.moveaxis(x, 2, 1)
    if post == "later":
        return np.sqrt(x) * a
    if post == "BatchNormalization":
        wide = (slice(None), *[None] * (x.ndim - 2))
        return (x - c[wide]) / np.sqrt(d[wide] + 1e-5) * a[wide] + b[wide]
    return {"Add": np.add, "Mul": np.multiply, "Div": np.divide, "Sub": np.subtract}[post](x, a)


CASES: dict[str, tuple[str, str, bool, int, tuple[int, ...]]] = {
    "mean and BatchNorm, as transformers' LeViT": ("ReduceMean", "BatchNormalization", False, 0, ()),
    "turned": ("ReduceMean", "BatchNormalization", True, 0, ()),
    "axis kept": ("ReduceMean", "BatchNormalization", False, 1, ()),
    "bias": ("ReduceSum", "Add", False, 0, (ROWS,)),
    "bias, axis kept": ("ReduceMean", "Sub", False, 1, (ROWS, 1)),
    "turned, axis kept": ("ReduceMean", "Mul", True, 1, (1, ROWS)),
    "maximum": ("ReduceMax", "Div", False, 0, (1, ROWS)),
    "behind another operator": ("ReduceSum", "later", False, 0, (ROWS,)),
    "pooling": ("GlobalAveragePool", "Add", False, 1, (ROWS, 1)),
    "pooling, maximum": ("GlobalMaxPool", "Mul", False, 1, (ROWS, 1)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("batch", [1, 3])
def test_both_runtimes_give_the_formula(name: str, batch: int) -> None:
    made = make_model(ir.from_proto(model(*CASES[name])).graph)
    data = ir.to_proto(made).SerializeToString()
    for run in (onnxruntime, open_vino):
        close(run(data, {"image": IMAGES[:batch]})["y"], formula(*CASES[name])[:batch])


@pytest.mark.parametrize("case", [("ReduceMean", "Add", False, 0, ()), ("ReduceMean", "Add", False, 0, (1,))])
def test_a_single_number_changes_nothing(case: Any) -> None:
    made = make_model(ir.from_proto(model(*case)).graph)
    assert [node.op_type for node in made.graph] == ["ReduceMean", "Add"]
