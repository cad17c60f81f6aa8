"""The walker, the gradient graph's seeds, guided rectifiers; the roles as a user asks for them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import openvino
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from xai_exporters.errors import GraphError, RequestError, RuleError
from xai_exporters.graph.writing import make_model, to_bytes
from xai_exporters.vjp.graph import gradient_graph

from xai_deploy import Explainer
from xai_deploy.constant_maps import INDEPENDENT
from xai_deploy.format.bundle import Bundle

from .. import nets
from .. import onnx_nets as o
from ..running import export_onnx
from ..vjp.harness import evaluate, to_float64
from ..vjp.references import REFERENCES

CLASSES = 5


def tail(
    nodes: list[Any], constants: dict[str, Any] | None = None, shape: tuple[int, ...] = (4,), kind: int = 1
) -> ir.Graph:
    """activation [N,*shape] -> logits [N,5]."""
    x = helper.make_tensor_value_info("activation", kind, ["N", *shape])
    y = helper.make_tensor_value_info("logits", kind, ["N", CLASSES])
    weights = [numpy_helper.from_array(v, k) for k, v in (constants or {}).items()]
    graph = helper.make_graph(nodes, "tail", [x], [y], weights)
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)).graph


def node(op: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    return helper.make_node(op, inputs, [output], name=f"{op}_{output}", **attributes)


W = np.random.default_rng(0).standard_normal((4, CLASSES)).astype(np.float32)


def mlp(dtype: Any = np.float32) -> ir.Graph:
    nodes = [node("Relu", ["activation"], "r"), node("MatMul", ["r", "w"], "logits")]
    return tail(nodes, {"w": W.astype(dtype)}, kind=TensorProto.FLOAT16 if dtype == np.float16 else TensorProto.FLOAT)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_targets_and_seeds_row_by_row(dtype: Any) -> None:
    data = to_bytes(make_model(gradient_graph(mlp(dtype), CLASSES)))
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((4, 4)).astype(dtype)
    seed = rng.standard_normal((4, CLASSES)).astype(np.float32)
    target = np.array([2, -1, -2, 0])
    feeds = {"activation": x, "target": target, "seed": seed}
    predicted = (np.maximum(x, 0).astype(np.float64) @ W).argmax(axis=1)
    rows = np.eye(CLASSES)[[2, predicted[1], 0, 0]] + seed  # what is seeded comes on top of the class,
    rows[2] = seed[2]  # and stands alone without one
    wanted = (rows @ W.T) * (x > 0)
    tolerance = 1e-5 if dtype == np.float32 else 5e-3
    session = onnxruntime.InferenceSession(data)
    np.testing.assert_allclose(session.run(["gradient"], feeds)[0], wanted, atol=tolerance)
    for i in range(4):  # one at a time
        single = {k: v[i : i + 1] for k, v in feeds.items()}
        np.testing.assert_allclose(session.run(["gradient"], single)[0], wanted[i : i + 1], atol=tolerance)
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled(feeds)["gradient"], wanted, atol=tolerance)
    if dtype == np.float32:
        exact = to_float64(onnx.load_from_string(data))
        got = evaluate(
            exact, {**feeds, "activation": x.astype(np.float64), "seed": seed.astype(np.float64)}, "gradient"
        )
        np.testing.assert_allclose(got, wanted, atol=1e-6)
        assert REFERENCES


def test_forks_add_up_and_nothing_is_computed_twice() -> None:
    """f = (relu(a) w) * (relu(a) w) + relu(a) w, with a dead branch beside it."""
    nodes = [
        node("Relu", ["activation"], "r"),
        node("MatMul", ["r", "w"], "m"),
        node("Mul", ["m", "m"], "sq"),
        node("Add", ["sq", "m"], "logits"),
        node("Exp", ["activation"], "dead"),
    ]
    forward = tail(nodes, {"w": W})
    graph = gradient_graph(forward, CLASSES)
    ops = Counter(n.op_type for n in graph)
    assert ops["Relu"] == 1
    assert ops["Exp"] == 0
    assert ops["MatMul"] == 2  # the forward's, and one on the way back for all three uses of m
    data = to_bytes(make_model(graph))
    x = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
    leaf = torch.from_numpy(x).double().requires_grad_()
    m = torch.relu(leaf) @ torch.from_numpy(W).double()
    (m * m + m)[:, 3].sum().backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    feeds = {"activation": x, "target": np.full(3, 3), "seed": np.zeros((3, CLASSES), np.float32)}
    got = onnxruntime.InferenceSession(data).run(["gradient"], feeds)[0]
    np.testing.assert_allclose(got, leaf.grad.numpy(), atol=1e-4)


def test_a_missing_rule_names_operator_node_and_file() -> None:
    loss = node("NegativeLogLikelihoodLoss", ["activation", "best"], "a", reduction="none")
    best = node("ArgMax", ["activation"], "best", axis=1, keepdims=0)
    forward = tail([best, loss, node("MatMul", ["a", "w"], "logits")], {"w": W}, (3, 4))
    name = "NegativeLogLikelihoodLoss"
    message = (
        rf"no rule for the operator {name} \(node '{name}_a'\): name a layer after it with --split, or use methods that only run "
        rf"the network \(reciprocam, score-cam, rise\)\. A rule would be @vjp\(\"{name}\"\) in a file of exporters/"
    )
    with pytest.raises(RuleError, match=message):
        gradient_graph(forward, CLASSES)


def test_nothing_arrives() -> None:
    forward = tail([node("Floor", ["activation"], "f"), node("MatMul", ["f", "w"], "logits")], {"w": W})
    with pytest.raises(RuleError, match=r"nothing comes back from the logits to the layer: .* lets nothing through"):
        gradient_graph(forward, CLASSES)


def test_an_input_of_the_seeds_name_is_refused() -> None:
    forward = mlp()
    forward.inputs[0].name = "target"
    with pytest.raises(
        GraphError, match="the input is called 'target', as an input that the gradient needs; rename it"
    ):
        gradient_graph(forward, CLASSES)


def test_inner_names_step_aside() -> None:
    nodes = [
        node("Relu", ["activation"], "gradient"),
        node("Identity", ["gradient"], "seed"),
        node("MatMul", ["seed", "w"], "logits"),
    ]
    data = to_bytes(make_model(gradient_graph(tail(nodes, {"w": W}), CLASSES)))
    session = onnxruntime.InferenceSession(data)
    assert [i.name for i in session.get_inputs()] == ["activation", "target", "seed"]
    assert [i.name for i in session.get_outputs()] == ["logits", "gradient"]


@pytest.mark.parametrize("size", [16, 17])
def test_square_weights_on_both_runtimes(size: int) -> None:
    """OpenVINO takes a square weight it has packed for its transpose too, unless it is another constant."""
    rng = np.random.default_rng(0)
    square = {n: rng.standard_normal((size, size)).astype(np.float32) / size**0.5 for n in ("a", "b")}
    conv = rng.standard_normal((size, size, 2, 2)).astype(np.float32) / size
    back = rng.standard_normal((size, size, 2, 2)).astype(np.float32) / size
    out = rng.standard_normal((size, CLASSES)).astype(np.float32)
    nodes = [
        node("Conv", ["activation", "conv"], "c", strides=[2, 2]),
        node("ConvTranspose", ["c", "back"], "t", strides=[2, 2]),
        node("Sigmoid", ["t"], "ts"),
        node("GlobalAveragePool", ["ts"], "p"),
        node("Flatten", ["p"], "flat"),
        node("Gemm", ["flat", "a"], "g", transB=1),
        node("Tanh", ["g"], "h"),
        node("MatMul", ["h", "b"], "k"),
        node("Tanh", ["k"], "l"),
        node("MatMul", ["l", "out"], "logits"),
    ]
    forward = tail(nodes, {**square, "conv": conv, "back": back, "out": out}, (size, 6, 6))
    data = to_bytes(make_model(gradient_graph(forward, CLASSES)))
    x = rng.standard_normal((2, size, 6, 6)).astype(np.float32)
    w = {k: torch.from_numpy(v).double() for k, v in {**square, "conv": conv, "back": back, "out": out}.items()}
    leaf = torch.from_numpy(x).double().requires_grad_()
    c = torch.nn.functional.conv2d(leaf, w["conv"], stride=2)
    t = torch.sigmoid(torch.nn.functional.conv_transpose2d(c, w["back"], stride=2)).mean((2, 3))
    (torch.tanh(torch.tanh(t @ w["a"].T) @ w["b"]) @ w["out"])[:, 1].sum().backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    wanted = leaf.grad.numpy()
    feeds = {"activation": x, "target": np.full(2, 1), "seed": np.zeros((2, CLASSES), np.float32)}
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for got in (onnxruntime.InferenceSession(data).run(["gradient"], feeds)[0], compiled(feeds)["gradient"]):
        assert np.abs(got - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_roles_of_an_export(tmp_path: Path) -> None:
    done = export_onnx(tmp_path, o.classifier())
    assert set(done.manifest.graphs) == {"head", "tail", "pixelwise-tail", "gradient", "relevance"}
    assert not done.manifest.left_out
    assert done.dead == {}
    done = export_onnx(tmp_path, o.classifier(), overwrite=True, input_gradient=True, guided=True)
    starts = {role: graph.start for role, graph in done.manifest.graphs.items()}
    assert starts["input-gradient"] == starts["guided-gradient"] == starts["head"] == "image"
    assert starts["gradient"] == starts["tail"] == "activation"
    done = export_onnx(tmp_path, o.classifier(), overwrite=True, roles=("input-gradient",))
    assert set(done.manifest.graphs) == {"head", "tail", "input-gradient"}
    for role in done.manifest.graphs:
        onnx.checker.check_model(onnx.load_from_string(Bundle.open(done.path).graph(role)), full_check=True)


def unruled() -> onnx.ModelProto:
    """The determinant of a matrix of 17 rows, which is no more than its first entry."""
    b = o.Build()
    x, one = b("GlobalAveragePool", b("Sigmoid", b.features())), np.eye(17, dtype=np.float32)
    x = b("Add", b("Mul", x, b.weight(one * one[0])), b.weight(one - one * one[0]))
    return b.model(b.linear(b("Det", x, name="odd"), out="scores"))


def test_a_network_without_rules_is_exported_without_its_gradient(tmp_path: Path) -> None:
    split = next(n.input[0] for n in unruled().graph.node if n.op_type == "Sigmoid")
    done = export_onnx(tmp_path, unruled(), split=split)
    assert "gradient" not in done.manifest.graphs
    assert done.manifest.left_out["gradient"].startswith(
        "Det (node 'odd') can't be propagated through: its matrices have more"
    )
    assert Bundle.open(done.path).manifest.left_out == done.manifest.left_out
    for asked in ({"roles": ("gradient",)}, {"input_gradient": True}, {"guided": True}):
        with pytest.raises(RuleError, match=r"Det \(node 'odd'\) can't be propagated"):
            export_onnx(tmp_path, unruled(), split=split, overwrite=True, **asked)


def test_guided_needs_a_rectifier(tmp_path: Path) -> None:
    b = o.Build()
    model = b.model(
        b.linear(b.pooled(b("Sigmoid", b("Conv", "image", b.weight(nets_weight()), pads=[1, 1, 1, 1]))), out="scores")
    )
    with pytest.raises(RuleError, match=r"guided backpropagation is defined by rectifiers .* this network has none"):
        export_onnx(tmp_path, model, guided=True)


def nets_weight() -> Any:
    return np.random.default_rng(0).standard_normal((o.CHANNELS, 3, 3, 3)).astype(np.float32)


def test_the_graph_depends_on_the_image(tmp_path: Path) -> None:
    """A frozen trace of autograd gives the same gradient whatever the image: the known trap."""
    done = export_onnx(tmp_path, o.classifier(), split="auto", input_gradient=True)
    explainer = Explainer(done.path, "onnxruntime")
    spec = explainer.bundle.manifest.input
    x = np.random.default_rng(0).standard_normal((3, *spec.image_shape)).astype(np.float32)
    for method in ("grad-cam", "hires-cam", "gradient", "input-x-gradient"):
        found = explainer.explain_many(x, [method], list(range(explainer.bundle.manifest.classes)))
        raw = np.stack([e.raw for e in found], axis=1)
        for i, j in ((0, 1), (1, 2), (0, 2)):
            assert np.abs(raw[i] - raw[j]).max() > 1e-3 * np.abs(raw).max(), method


def test_unknown_role(tmp_path: Path) -> None:
    with pytest.raises(
        RequestError, match="no role 'gradiant'; there are head, tail, network, pixelwise-tail, windowed-tail, gradient"
    ):
        export_onnx(tmp_path, o.classifier(), roles=("gradiant",))


def test_a_dead_cut_is_said(tmp_path: Path) -> None:
    """Where the logits do not change with the activation, gradient and relevance are zero, and the export says so."""
    b = o.Build()
    features = b.features()
    hidden = b("Mul", b.pooled(features), b.weight(np.zeros(1, np.float32)))
    done = export_onnx(tmp_path, b.model(b.linear(hidden, out="scores")), split=features)
    assert done.dead == dict.fromkeys(("gradient", "relevance"), INDEPENDENT)


def test_torch_source_has_the_gradient_too(tmp_path: Path) -> None:
    from xai_exporters import Request, export

    torch.manual_seed(0)
    network: Any = nets.randomise(nets.Plain())
    torch.save(network, tmp_path / "net.pt")
    done = export(
        Request(
            tmp_path / "net.pt",
            "relu",
            tmp_path / "net.xai",
            input_shape=nets.SHAPE,
            trust_code=True,
            preprocess="assume",
        )
    )
    x = torch.randn(2, *nets.SHAPE)
    with torch.no_grad():
        a = network.relu(network.bn1(network.conv1(x)))
    leaf = a.double().requires_grad_()
    network.double()
    y = network.fc(network.pool(network.conv2(leaf)).flatten(1))
    y[:, 2].sum().backward()
    assert leaf.grad is not None
    w = leaf.grad.mean((2, 3), keepdim=True)
    wanted = torch.relu((w * leaf).sum(1)).detach().numpy()
    got = Explainer(done.path, "onnxruntime").explain(x.numpy(), "grad-cam", 2).raw
    assert np.abs(got - wanted).max() <= 1e-4 * np.abs(wanted).max()
