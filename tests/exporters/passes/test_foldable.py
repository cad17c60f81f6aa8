"""Nodes of constants whose result would take any memory are not computed ahead: `foldable.py`."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from xai_exporters.errors import GraphError
from xai_exporters.passes import foldable
from xai_exporters.passes.clean import clean

from .. import onnx_nets as o

HUGE = 1_000_000_000  # numbers: 4 GB and more


def one(b: o.Build) -> str:
    return b.weight(np.ones((2, 2), np.float32))


NODES: dict[str, Callable[[o.Build, int], str]] = {
    "Expand": lambda b, n: b("Expand", b.weight(np.ones((2, 1), np.float32)), b.weight([2, n // 2])),
    "Tile": lambda b, n: b("Tile", one(b), b.weight([2, n // 8])),
    "OneHot": lambda b, n: b("OneHot", b.weight([1, 2]), b.weight(n // 2), b.weight(np.array([0, 1], np.float32))),
    "Range": lambda b, n: b("Range", b.weight(0), b.weight(2 * n), b.weight(2)),
    "Pad": lambda b, n: b("Pad", one(b), b.weight([0, 1, 0, n // 2 - 3])),
    "Resize": lambda b, n: b("Resize", one(b), "", "", b.weight([2, n // 2])),
}


@pytest.mark.parametrize("op", NODES)
def test_it_is_refused_in_little_memory(op: str) -> None:
    b = o.Build()
    large = b("Cast", NODES[op](b, HUGE), to=o.FLOAT)
    most = b("ReduceMax", large, keepdims=0)
    model = b.model(b("Add", b.linear(b.pooled(b.features())), most, out="scores"))
    tracemalloc.start()
    try:
        with pytest.raises(GraphError, match="the network is not run, since it could take any memory or time"):
            clean(model, None)
        assert tracemalloc.get_traced_memory()[1] < 100_000_000  # bytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("op", NODES)
def test_the_count_is_that_of_onnxs_own_evaluator(op: str) -> None:
    b = o.Build()
    out = NODES[op](b, 40)
    node = b.nodes[-1]
    given = {tensor.name: numpy_helper.to_array(tensor) for tensor in b.weights}
    graph = helper.make_graph([node], "one", [], [helper.make_empty_tensor_value_info(out)], b.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    evaluator: Any = ReferenceEvaluator(model)
    [result] = evaluator.run(None, {})
    inputs = [given.get(name) for name in node.input]
    assert foldable._numbers(op, inputs) == result.size == 40


@pytest.mark.parametrize("pads", [[1, 1, 1], [1] * 6, []], ids=str)
def test_a_malformed_node_is_left_to_the_runtime(pads: list[int]) -> None:
    b = o.Build()
    most = b("ReduceMax", b("Pad", one(b), b.weight(np.array(pads, np.int64))), keepdims=0)
    model = b.model(b("Add", b.linear(b.pooled(b.features())), most, out="scores"))
    with pytest.raises(GraphError):
        clean(model, None)
