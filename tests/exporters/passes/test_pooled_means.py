"""Means over all positions as pooling: the same numbers, and what is left as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from xai_exporters.passes.pooled_means import pool_means


@pytest.mark.parametrize(
    ("dims", "axes", "kept", "kind", "wanted"),
    [
        ((2, 3, 4, 5), [2, 3], 1, np.float32, "GlobalAveragePool"),
        ((2, 3, 4, 5), [-1, -2], 1, np.float32, "GlobalAveragePool"),
        ((2, 3, 4, 5, 6), [2, 3, 4], 1, np.float32, "GlobalAveragePool"),
        ((2, 3, 4, 5), [2, 3], 0, np.float32, "ReduceMean"),
        ((2, 3, 4, 5), [2, 3], 1, np.float64, "ReduceMean"),
        ((2, 3, 4, 5), [1, 2], 1, np.float32, "ReduceMean"),
        ((2, 3, 4, 5, 6), [2, 3], 1, np.float32, "ReduceMean"),
        ((2, 3, 4), [2], 1, np.float32, "ReduceMean"),
    ],
)
@pytest.mark.parametrize("is_output", [False, True])
def test_which(dims: tuple[int, ...], axes: list[int], kept: int, kind: Any, wanted: str, is_output: bool) -> None:
    x: NDArray[Any] = np.random.default_rng(0).standard_normal(dims).astype(kind)
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    nodes = [helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=kept)]
    if not is_output:
        nodes.append(helper.make_node("Neg", ["mean"], ["y"]))
    name = "mean" if is_output else "y"
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info("x", element, dims)],
        [helper.make_tensor_value_info(name, element, None)],
        [numpy_helper.from_array(np.array(axes, np.int64), "axes")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model = ir.from_proto(proto)
    assert pool_means(model.graph) is model.graph
    assert next(node.op_type for node in model.graph) == wanted
    before, after = (numbers(one, x) for one in (proto, ir.to_proto(model)))
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-6)


def numbers(proto: Any, x: NDArray[Any]) -> NDArray[Any]:
    outputs: Any = ReferenceEvaluator(proto).run(None, {"x": x})
    return np.asarray(outputs[0])
