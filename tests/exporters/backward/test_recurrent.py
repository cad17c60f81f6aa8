"""RNN, GRU and LSTM step by step: against the operator on ONNX Runtime, central differences, torch, and relevance written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import helper
from xai_exporters.backward.recurrent import unroll
from xai_exporters.errors import RuleError
from xai_exporters.graph.measure import measure
from xai_exporters.relevance.graph import relevance_graph
from xai_exporters.vjp.graph import backward_graph, by_target_and_seed
from xai_exporters.vjp.table import vjp

from xai_deploy.format.bundle import BY_SEED

from ..relevance.running import composite_of
from ..vjp.harness import RUNTIMES, Array, check_graph, graph_model, onnxruntime_function, weights

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STEPS, INPUTS, HIDDEN = 3, 4, 2


def network(
    kind: str, full: bool = False, steps: int = STEPS, lengths: Any = None, **attributes: Any
) -> onnx.ModelProto:
    """A recurrent node alone: x [T,N,I] -> its outputs; `full` gives it every optional input, the lengths apart.

    `lengths` are those of the sequences; a number is expanded to the batch.
    """
    W, g = weights(1), GATES[kind]
    d = 2 if attributes.get("direction") == "bidirectional" else 1
    constants = {"w": W(d, g * HIDDEN, INPUTS), "u": W(d, g * HIDDEN, HIDDEN)}
    names: list[str] = ["x", "w", "u"]
    inputs: dict[str, list[int | str]] = {"x": [steps, "N", INPUTS]}
    if full:
        names, constants["b"] = [*names, "b", "", "h"], W(d, 2 * g * HIDDEN)
        inputs["h"] = [d, "N", HIDDEN]
        if kind == "LSTM":
            names, constants["p"], inputs["c"] = [*names, "c", "p"], W(d, 3 * HIDDEN), [d, "N", HIDDEN]
    nodes: list[onnx.NodeProto] = []
    if lengths is not None:
        names = [*names, *["", ""][len(names) - 3 :]] if not full else names
        names[4:5] = ["lengths"]
        constants["given" if np.ndim(lengths) == 0 else "lengths"] = np.array(lengths, np.int32)
        if np.ndim(lengths) == 0:
            nodes.append(helper.make_node("Shape", ["x"], ["batch"], start=1, end=2))
            nodes.append(helper.make_node("Expand", ["given", "batch"], ["lengths"]))
        else:
            inputs["x"][1] = len(lengths)
    outputs = ["y", "last", "cell"][: 3 if kind == "LSTM" else 2]
    nodes.append(helper.make_node(kind, names, outputs, hidden_size=HIDDEN, **attributes))
    return graph_model(nodes, inputs, constants)


def unrolled(model: onnx.ModelProto) -> onnx.ModelProto:
    rewritten = ir.from_proto(model)
    assert unroll(rewritten.graph, lambda: measure(rewritten))
    return ir.to_proto(rewritten)


CASES: list[tuple[str, bool, dict[str, Any]]] = [
    ("LSTM", False, {}),
    ("LSTM", True, {"direction": "bidirectional"}),
    ("LSTM", True, {"direction": "reverse", "clip": 0.3}),
    ("LSTM", True, {"input_forget": 1, "activations": ["HardSigmoid", "Softsign", "Relu"]}),
    ("GRU", True, {"direction": "bidirectional"}),
    ("GRU", True, {"linear_before_reset": 1}),
    ("GRU", False, {"linear_before_reset": 1, "clip": 0.3}),
    ("RNN", True, {"direction": "reverse"}),
    ("RNN", False, {"activations": ["Softplus"]}),
    ("LSTM", True, {"direction": "bidirectional", "lengths": 4}),
    ("GRU", False, {"direction": "reverse", "lengths": 2}),
    ("RNN", False, {"lengths": [3, 5, 1], "direction": "bidirectional"}),
    (
        "LSTM",
        False,
        {
            "activations": ["Affine", "LeakyRelu", "ScaledTanh"],
            "activation_alpha": [0.3, 0.2, 0.7],
            "activation_beta": [0.4, 1.2],
        },
    ),
    (
        "GRU",
        False,
        {"activations": ["HardSigmoid", "ThresholdedRelu"], "activation_alpha": [0.3, 0.1], "activation_beta": [0.4]},
    ),
    ("LSTM", False, {"activations": ["sigmoid", "tanh", "hardsigmoid"]}),
]


@pytest.mark.parametrize(("kind", "full", "attributes"), CASES, ids=str)
def test_every_output_is_the_operators(kind: str, full: bool, attributes: dict[str, Any]) -> None:
    model = network(kind, full, 5, **attributes)
    rng = np.random.default_rng(0)
    shapes = {v.name: [d.dim_value or 3 for d in v.type.tensor_type.shape.dim] for v in model.graph.input}
    feeds = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    for output in model.graph.node[-1].output:
        model.graph.output[0].name = output
        got, want = (onnxruntime_function(m, output)(feeds) for m in (unrolled(model), model))
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-6, err_msg=output)


@pytest.mark.parametrize(("kind", "full", "attributes"), [CASES[1], CASES[4], CASES[7], CASES[10]], ids=str)
def test_gradient(kind: str, full: bool, attributes: dict[str, Any]) -> None:
    check_graph(unrolled(network(kind, full, **attributes)))


def test_a_gradient_graph_is_torchs() -> None:
    """From rows of a feature map [N,K,h,w], its columns the steps, through a GRU of two directions to logits."""
    torch.manual_seed(0)
    gru, classes = torch.nn.GRU(INPUTS, HIDDEN, bidirectional=True).double(), 2 * HIDDEN
    order = [1, 0, 2]  # torch has r, z, n; ONNX z, r, h

    def parameter(name: str) -> Array:
        parts = [getattr(gru, f"{name}_l0{suffix}").detach().numpy() for suffix in ("", "_reverse")]
        return np.stack([p.reshape(3, HIDDEN, -1)[order].reshape(len(p), -1) for p in parts]).astype(np.float32)

    bias = np.concatenate([parameter("bias_ih"), parameter("bias_hh")], axis=1)[..., 0]
    constants = {
        "w": parameter("weight_ih"),
        "r": parameter("weight_hh"),
        "b": bias,
        "at": np.array(-1),
        "shape": np.array([-1, classes]),
    }
    nodes = [
        helper.make_node("Transpose", ["activation"], ["steps"], perm=[2, 0, 1]),
        helper.make_node(
            "GRU",
            ["steps", "w", "r", "b"],
            ["every"],
            hidden_size=HIDDEN,
            direction="bidirectional",
            linear_before_reset=1,
        ),
        helper.make_node("Gather", ["every", "at"], ["final"], axis=0),
        helper.make_node("Transpose", ["final"], ["turned"], perm=[1, 0, 2]),
        helper.make_node("Reshape", ["turned", "shape"], ["logits"]),
    ]
    forward = graph_model(nodes, {"activation": ["N", INPUTS, 5]}, constants, "logits")
    forward.graph.output[0].CopyFrom(helper.make_tensor_value_info("logits", 1, ["N", classes]))
    graph = backward_graph(ir.from_proto(forward).graph, classes, lambda _: vjp, "gradient", by_target_and_seed)
    assert not [node for node in graph if node.op_type == "GRU"]
    x, target = np.random.default_rng(0).standard_normal((3, INPUTS, 5)).astype(np.float32), np.array([0, 3, 1])
    proto = ir.to_proto(ir.Model(graph, ir_version=10))
    feeds = {"activation": x, "target": target, "seed": np.zeros((3, classes), np.float32)}
    leaf = torch.from_numpy(x).double().requires_grad_()
    logits = gru(leaf.permute(2, 0, 1))[0][-1]
    logits[range(3), target].sum().backward()
    assert leaf.grad is not None
    np.testing.assert_allclose(onnxruntime_function(proto, "gradient")(feeds), leaf.grad.numpy(), rtol=0, atol=1e-6)


def test_gates_take_no_relevance() -> None:
    """An LSTM by the rule of Arras et al. 2017, written out: R goes through C = f C + i g by its two terms, and through x and h."""
    [lstm] = network("LSTM").graph.node
    w, u = (onnx.numpy_helper.to_array(t) for t in network("LSTM").graph.initializer)
    lstm.input[0] = "steps"
    nodes = [
        helper.make_node("Transpose", ["activation"], ["steps"], perm=[1, 0, 2]),
        lstm,
        helper.make_node("Squeeze", ["last", "first"], ["logits"]),
    ]
    forward = graph_model(
        nodes, {"activation": ["N", STEPS, INPUTS]}, {"w": w, "u": u, "first": np.array([0])}, "logits"
    )
    forward.graph.output[0].CopyFrom(helper.make_tensor_value_info("logits", 1, ["N", HIDDEN]))
    graph = relevance_graph(ir.from_proto(forward).graph, HIDDEN, composite_of({}))
    rng = np.random.default_rng(0)
    x, r = (rng.standard_normal(shape).astype(np.float32) for shape in ((STEPS, 3, INPUTS), (3, HIDDEN)))
    by_gate = [v[0].astype(np.float64).reshape(4, HIDDEN, -1) for v in (w, u)]
    want = lstm_relevance(x.astype(np.float64), by_gate[0], by_gate[1], r)
    np.testing.assert_allclose(want.sum((0, 2)), r.sum(1), rtol=1e-6)  # nothing is lost
    feeds = {"activation": x.transpose(1, 0, 2), "target": np.full(3, BY_SEED), "seed": r}
    for function in RUNTIMES.values():
        got = function(ir.to_proto(ir.Model(graph, ir_version=10)), "relevance")(feeds)
        np.testing.assert_allclose(got.transpose(1, 0, 2), want, rtol=0, atol=1e-4 * np.abs(want).max())


def lstm_relevance(x: Array, w: Array, u: Array, r: Array) -> Array:
    """Relevance of x [T,B,I] for r [B,H] at the last hidden state; w [4,H,I], u [4,H,H], no bias."""
    h, c, kept = np.zeros(r.shape), np.zeros(r.shape), []
    for row in x:
        i, o, f, z = (row @ w[k].T + h @ u[k].T for k in range(4))  # ONNX's order of the gates
        i, o, f = (1 / (1 + np.exp(-v)) for v in (i, o, f))
        kept.append((h, f * c, i * np.tanh(z), z))
        c = f * c + i * np.tanh(z)
        h = o * np.tanh(c)
    result, of_h, of_c = np.zeros_like(x), r, np.zeros(r.shape)
    for t in reversed(range(len(x))):
        before, old, new, z = kept[t]
        total = of_h + of_c
        of_c, share = total * old / (old + new), total * new / (old + new) / z
        result[t], of_h = x[t] * (share @ w[3]), before * (share @ u[3])
    return result


REFUSALS: dict[str, dict[str, Any]] = {
    "up to it the recurrent operators make 513 steps, more than 512": {"steps": 513},
    "its activation Cube is not among Sigmoid,": {"strange": ["Sigmoid", "Cube", "Tanh"]},
    "its sequence grows with the batch": {"time": "N"},
    "its layout is 1, the batch first": {"layout": 1},
}


@pytest.mark.parametrize("message", REFUSALS)
def test_refusals(message: str) -> None:
    options = dict(REFUSALS[message])
    time, layout, strange = (options.pop(k, None) for k in ("time", "layout", "strange"))
    model = network("LSTM", **options)
    if time:
        model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", 1, ["N", 2, INPUTS]))
    rewritten = ir.from_proto(model)
    shapes = measure(rewritten)
    # ONNX Runtime does not open these, so they can't be measured
    if layout:
        rewritten.graph[0].attributes["layout"] = ir.AttrInt64("layout", 1)
    if strange:
        rewritten.graph[0].attributes["activations"] = ir.AttrStrings("activations", strange)
    with pytest.raises(RuleError, match=rf"LSTM \(node 'lstm0'\) can't be propagated through: {message}"):
        unroll(rewritten.graph, lambda: shapes)
