"""Operators of opsets that ONNX Runtime does not open yet: against onnx's own definitions."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator
from xai_exporters.errors import GraphError
from xai_exporters.passes.decompose import decompose

from ..vjp.harness import RUNTIMES, Array, check_graph, graph_model, weights

W = weights(6)
CAUSAL: dict[str, Array] = {"w": W(4, 1, 3), "b": W(4), "past": W(3, 4, 2)}
CASES = {
    "gate": graph_model(
        [helper.make_node("Neg", ["x"], ["g"]), helper.make_node("SwiGLU", ["x", "g"], ["y"], alpha=1.3)],
        {"x": ["N", 3, 5]},
        opset=28,
    ),
    "causal": graph_model(
        [helper.make_node("CausalConvWithState", ["x", "w"], ["y", "state"])],
        {"x": ["N", 4, 6]},
        {"w": CAUSAL["w"]},
        opset=27,
    ),
    "causal, after others": graph_model(
        [helper.make_node("CausalConvWithState", ["x", *CAUSAL], ["y", "state"], activation="silu")],
        {"x": [3, 4, 6]},
        CAUSAL,
        opset=27,
    ),
    "its state": graph_model(
        [helper.make_node("CausalConvWithState", ["x", "w"], ["z", "y"])],
        {"x": ["N", 4, 6]},
        {"w": CAUSAL["w"]},
        opset=27,
    ),
}


def written(model: onnx.ModelProto) -> onnx.ModelProto:
    rewritten = ir.from_proto(model)
    assert decompose(rewritten)
    proto = ir.to_proto(rewritten)
    proto.opset_import[0].version = 18
    return proto


@pytest.mark.parametrize("name", CASES)
def test_same_result_and_gradient(name: str) -> None:
    model, again = CASES[name], written(CASES[name])
    batch, *rest = (d.dim_value or 3 for d in model.graph.input[0].type.tensor_type.shape.dim)
    feeds = {"x": W(batch, *rest)}
    want = np.asarray(ReferenceEvaluator(model).run(["y"], feeds)[0])  # type: ignore[index]
    for runtime, function in RUNTIMES.items():
        np.testing.assert_allclose(function(again, "y")(feeds), want, rtol=0, atol=1e-5, err_msg=runtime)
    check_graph(again, batches=(batch,))


def test_a_recurrence_over_tokens_is_refused() -> None:
    node = helper.make_node(
        "LinearAttention", ["x", "x", "x"], ["y", "state"], name="node", q_num_heads=1, kv_num_heads=1
    )
    with pytest.raises(
        GraphError, match=r"^node 'node' is LinearAttention, .*: each token changes a state that the next one reads; "
    ):
        decompose(ir.from_proto(graph_model([node], {"x": ["N", 3, 4]}, opset=27)))
