"""What no rule covers is refused in words: every `step.refuse`, and the checks that all rules share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import xai_exporters.vjp
from onnx import TensorProto, helper
from xai_exporters.backward.rules import Step
from xai_exporters.errors import RuleError
from xai_exporters.graph.emit import Emitter, Ops
from xai_exporters.graph.measure import Measured
from xai_exporters.vjp.table import vjp

from .harness import Case, Free, Given, f32, forward_model, gradient_model, graph_model, ints

ONES = [np.ones(2, np.float32)] * 4
X = Free(("N", 2, 4, 4))

# what it says -> a case, and the input to differentiate with respect to
NODES: dict[str, tuple[Case, int]] = {
    "its input 1 depends on the target layer; only its first may": (Case("Conv", (X, Free((3, 2, 2, 2)))), 1),
    "its input 2 depends on the target layer": (Case("LayerNormalization", (X, f32(1, 1, 1, 1), Free((4,)))), 2),
    "its input 1 is computed; it has to be a constant": (Case("Slice", (X, Given(ints(1)), ints(3), ints(2))), 0),
    "it reduces over the batch": (Case("ReduceMean", (X, ints(0, 2))), 0),
    "it takes a diagonal along the batch": (Case("Einsum", (Free(("N", "N")),), {"equation": "ii->i"}), 0),
    "it concatenates along the batch": (Case("Concat", (X, np.ones((1, 2, 4, 4), np.float32)), {"axis": 0}), 0),
    "it slices along the batch": (Case("Slice", (X, ints(1), ints(9), ints(0))), 0),
    "it pads along the batch": (Case("Pad", (X, ints(1, 0, 0, 0, 0, 0, 0, 0))), 0),
    "it crops or pads along the batch": (Case("CenterCropPad", (X, ints(1, 2, 6, 6))), 0),
    "it sorts the batch": (Case("TopK", (X, ints(1)), {"axis": 0}, outputs=2), 0),
    "it selects along the batch": (Case("Compress", (X, np.array([True])), {"axis": 0}), 0),
    "it sums over the batch": (Case("CumSum", (X, np.array(0))), 0),
    "it takes maxima, for which": (
        Case("RoiAlign", (X, f32([0, 0, 1, 1]), ints(0)), {"mode": "max", "sampling_ratio": 1}), 0),
    "it multiplies over the batch": (Case("CumProd", (X, np.array(0)), opset=26), 0),
    "it repeats the batch": (Case("Tile", (X, ints(2, 1, 1, 1))), 0),
    "its matrices have more than 16 rows": (Case("Det", (Free(("N", 17, 17)),)), 0),
    "how many values it gives depends on the image": (Case("Unique", (Free((4,), "distinct"),)), 0),
    "its indices are computed, and not a list along the first axis": (Case("Gather", (X, Given(ints(1, 0))), {"axis": 2}), 0),
    "it normalises over the batch": (Case("MeanVarianceNormalization", (X,)), 0),
    "it is in training mode; export": (Case("BatchNormalization", (X, *ONES), {"training_mode": 1}, outputs=3), 0),
    "it is in training mode; export the network": (Case("Dropout", (X, np.array(0.5, np.float32), np.array(True))), 0),
    "it has auto_pad and dilations, which runtimes pad differently": (
        Case("MaxPool", (X,), {"kernel_shape": [2, 2], "dilations": [2, 2], "auto_pad": "SAME_UPPER"}), 0),
    "it keeps the aspect ratio": (
        Case("Resize", (X, None, None, ints(6, 8)), {"axes": [2, 3], "keep_aspect_ratio_policy": "not_larger"}), 0),
}  # fmt: skip


@pytest.mark.parametrize("message", NODES)
def test_a_node_is_refused(message: str) -> None:
    case, position = NODES[message]
    start = re.escape(f"{case.op} (node 'node') can't be propagated through: {message}")
    with pytest.raises(RuleError, match=start):
        gradient_model(forward_model(case), f"x{position}")


def quantised(kind: int, **attributes: Any) -> Any:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s"], ["q"], output_dtype=kind, **attributes),
        helper.make_node("DequantizeLinear", ["q", "s"], ["y"], **attributes),
    ]
    scale = np.ones((2, 2), np.float32) if attributes else np.array(1, np.float32)
    return graph_model(nodes, {"x": [2, 4]}, {"s": scale}, opset=21)


BATCH_BEHIND = helper.make_node("Transpose", ["x"], ["t"], perm=[1, 2, 3, 0])
NETWORKS: dict[str, tuple[str, Any]] = {
    "a spatial size grows with the batch": ("AveragePool", [
        BATCH_BEHIND, helper.make_node("AveragePool", ["t"], ["y"], kernel_shape=[1, 1])]),
    "a size other than the batch is open": ("DepthToSpace", [
        BATCH_BEHIND, helper.make_node("DepthToSpace", ["t"], ["y"], blocksize=2)]),
    "it is quantised in blocks": ("DequantizeLinear", quantised(TensorProto.INT8, axis=1, block_size=2)),
    "its codes are float8_e4m3fn; only integers of 8 and 16 bits": ("QuantizeLinear", quantised(TensorProto.FLOAT8E4M3FN)),
}  # fmt: skip


@pytest.mark.parametrize("message", NETWORKS)
def test_a_network_is_refused(message: str) -> None:
    op, model = NETWORKS[message]
    model = graph_model(model, {"x": ["N", 3, 4, 8]}) if isinstance(model, list) else model
    with pytest.raises(RuleError, match=rf"{op} \(node '{op.lower()}\d'\) can't be propagated through: {message}"):
        gradient_model(model, "x")


# of graphs that onnxruntime does not open, and which therefore were never measured
ALONE: dict[str, tuple[str, dict[str, Any]]] = {
    "the element type of its input is not known": ("Cast", {"to": 1}),
    "its ellipses stand for different numbers of dimensions": ("Einsum", {"equation": "...j,...j->..."}),
}


@pytest.mark.parametrize("message", ALONE)
def test_a_rule_refuses(message: str) -> None:
    op, attributes = ALONE[message]
    values = [ir.Value(name=name, shape=ir.Shape(shape)) for name, shape in (("a", [2, 3]), ("b", [3]))]
    node = ir.node(op, values[: 1 if op == "Cast" else 2], attributes=attributes, name="node")
    graph = ir.Graph(values, [], nodes=[node], opset_imports={"": 18})
    shapes = {"a": (2, 3), "b": (3,)}
    step = Step(node, Measured(shapes, shapes), frozenset({0}))
    with pytest.raises(RuleError, match=message):
        vjp.find(node).function(Ops(Emitter(graph, "g"), "n", np.dtype(np.float32)), step, values[0])


def test_every_refusal_is_tested() -> None:
    """The messages in the rules' source, against the ones above."""
    tested = [*NODES, *NETWORKS, *ALONE]
    said = []
    for file in Path(xai_exporters.vjp.__path__[0]).glob("*.py"):
        said += re.findall(r'step\.refuse\(f?"([^"{]*)', file.read_text(encoding="utf-8"))
    assert len(said) > 15
    assert not [m for m in said if not any(t.startswith(m[:12]) for t in tested)]
