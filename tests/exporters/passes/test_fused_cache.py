"""TensorScatter: an update written into a cache, against onnx's reference evaluator, on both runtimes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator
from xai_exporters.passes.decompose import decompose

from ..vjp.harness import RUNTIMES, check_graph, graph_model, ints, weights

CASES: list[tuple[dict[str, Any], tuple[int, ...], Any]] = [
    ({}, (3, 2, 2, 4), ints(0, 3, 1)),
    ({"mode": "circular"}, (3, 2, 3, 4), ints(4, 2, 0)),
    ({"axis": 1, "mode": "linear"}, (3, 1, 5, 4), ints(1, 0, 1)),
    ({}, (3, 2, 2, 4), None),
]


@pytest.mark.parametrize(("attributes", "shape", "starts"), CASES, ids=str)
def test_an_update(attributes: dict[str, Any], shape: tuple[int, ...], starts: Any) -> None:
    W = weights(2)
    constants = {"cache": W(3, 2, 5, 4)} | ({} if starts is None else {"starts": starts})
    node = helper.make_node(
        "TensorScatter", ["cache", "x", *(["starts"] if starts is not None else [])], ["y"], **attributes
    )
    model = graph_model([node], {"x": list(shape)}, constants, opset=24)
    x = W(*shape)
    [want] = ReferenceEvaluator(model).run(None, {"x": x})
    rewritten = ir.from_proto(model)
    assert decompose(rewritten)
    rewritten.graph.opset_imports[""] = 18
    proto = ir.to_proto(rewritten)
    for name, function in RUNTIMES.items():
        np.testing.assert_array_equal(function(proto, "y")({"x": x}), want, err_msg=name)
    if starts is not None and not attributes:
        check_graph(proto)
