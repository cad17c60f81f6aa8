"""Every operator of the table has a case; those without a gradient stop it; quantised tensors pass it straight through."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper
from xai_exporters.errors import RuleError
from xai_exporters.rules import RuleTable
from xai_exporters.vjp.table import vjp

from .harness import Case, Free, evaluate, forward_model, gradient_model, to_float64

TESTED_APART = {
    "QuantizeLinear",  # below
    "DequantizeLinear",  # below
    "RMSNormalization",  # opset 23, test_normalization
    "Swish",  # opset 24, below
}
FLAT = ("Floor", "Ceil", "Round", "Sign")


def cases() -> list[Case]:
    found: list[Case] = []
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name.startswith("test_") and module.name != "test_table":
            found += getattr(importlib.import_module(f"{__package__}.{module.name}"), "CASES", [])
    return found


def test_every_operator_has_a_case() -> None:
    tested = {case.op for case in cases()} | TESTED_APART
    assert set(vjp) - tested == set()
    assert len(cases()) > 200


@pytest.mark.parametrize("op", FLAT)
def test_flat_operators_stop(op: str) -> None:
    """y = x * f(x): only the direct way counts."""
    nodes = [helper.make_node(op, ["x"], ["f"], name="flat"), helper.make_node("Mul", ["x", "f"], ["y"], name="mul")]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    gradient = to_float64(gradient_model(model, "x"))
    value, dy = np.array([[0.3, -1.7, 2.6, 0.9]]), np.array([[1.0, 2.0, 3.0, 4.0]])
    wanted = dy * {"Floor": np.floor, "Ceil": np.ceil, "Round": np.rint, "Sign": np.sign}[op](value)
    np.testing.assert_allclose(evaluate(gradient, {"x": value, "dy": dy}, "dx"), wanted)


def test_a_second_rule_for_an_operator_is_a_mistake() -> None:
    table = RuleTable("xai_exporters.vjp.table")
    table("Foo")(lambda *_: None)
    with pytest.raises(ValueError, match="'Foo' is registered twice"):
        table("Foo")(lambda *_: None)
    with pytest.raises(ValueError, match="'Foo' is registered twice"):
        table.flat("Foo")


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_quantised_tensors(per_channel: bool, kind: Any) -> None:
    """QuantizeLinear then DequantizeLinear is the identity where nothing saturates, and flat where it does."""
    scale = np.array([0.1, 0.2, 0.05], np.float32) if per_channel else np.array(0.1, np.float32)
    zero = np.full(scale.shape, 100 if kind == np.uint8 else -10, kind)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="q", axis=1),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], name="d", axis=1),
        helper.make_node("Mul", ["d", "d"], ["y"], name="square"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 40])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    constants = [numpy_helper.from_array(scale, "s"), numpy_helper.from_array(zero, "z")]
    graph = helper.make_graph(nodes, "g", [x], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    gradient = gradient_model(model, "x")
    rng = np.random.default_rng(0)
    value = rng.uniform(-30, 30, (3, 3, 40)).astype(np.float32)
    dy = rng.standard_normal(value.shape).astype(np.float32)
    s, z, limits = scale.reshape(-1, 1).astype(np.float64), zero.reshape(-1, 1).astype(np.float64), np.iinfo(kind)
    codes = np.rint(value / scale.reshape(-1, 1)) + z
    inside = (codes >= limits.min) & (codes <= limits.max)
    assert 0.2 < inside.mean() < 0.9
    wanted = np.where(inside, 2 * dy * (np.clip(codes, limits.min, limits.max) - z) * s, 0)
    data = gradient.SerializeToString()
    got = onnxruntime.InferenceSession(data).run(["dx"], {"x": value, "dy": dy})[0]
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    agree = np.isclose(compiled({"x": value, "dy": dy})["dx"], wanted, rtol=1e-4, atol=1e-4)
    assert agree.mean() > 0.99  # OpenVINO rounds a half otherwise


@pytest.mark.parametrize("alpha", [1.0, 0.7])
def test_swish(alpha: float) -> None:
    """Opset 24, which the pinned runtime does not run: the rule in float64 against the formula's own difference."""
    x, dy = np.linspace(-3, 3, 8).reshape(2, 4), np.linspace(1, 2, 8).reshape(2, 4)
    emitted = _rule_alone("Swish", {"alpha": alpha}, x, x / (1 + np.exp(-alpha * x)), dy)
    h = 1e-6
    numeric = ((x + h) / (1 + np.exp(-alpha * (x + h))) - (x - h) / (1 + np.exp(-alpha * (x - h)))) / (2 * h)
    np.testing.assert_allclose(emitted, dy * numeric, rtol=1e-6)


def _rule_alone(op: str, attributes: dict[str, Any], x: Any, y: Any, dy: Any) -> Any:
    """What a rule writes, with the forward output given."""
    from xai_exporters.emit import Emitter, Ops
    from xai_exporters.rules import Step
    from xai_exporters.runtime import Measured

    kind = ir.TensorType(ir.DataType.DOUBLE)
    values = [ir.Value(name=n, shape=ir.Shape(x.shape), type=kind) for n in ("x", "y", "dy")]
    node = ir.node(op, [values[0]], attributes=attributes, name="node", outputs=[ir.Value(name="out")])
    graph = ir.Graph(values, [], nodes=[], opset_imports={"": 18}, name="rule")
    step = Step(node, Measured({"x": x.shape}, {"x": x.shape}), frozenset({0}))
    node.outputs[0].replace_all_uses_with(values[1])

    class Given(Step):
        @property
        def y(self) -> ir.Value:
            return values[1]

    given = Given(node, step.shapes, step.leads)
    result = vjp.find(node).function(Ops(Emitter(graph, "g"), "n", np.dtype(np.float64)), given, values[2])
    assert isinstance(result, ir.Value)
    result.type = kind
    graph.outputs.append(result)
    model = ir.to_proto(ir.Model(graph, ir_version=10))
    return evaluate(model, {"x": x, "y": y, "dy": dy}, str(result.name))


REFUSALS: dict[str, tuple[Case, int]] = {
    "its input 1 depends on the target layer; only its first may": (Case("Conv", (Free((1, 2, 4, 4)), Free((3, 2, 2, 2)))), 1),
    "it reduces over the batch": (Case("ReduceMean", (Free(("N", 3)), np.array([0], np.int64)), {"keepdims": 1}), 0),
    "the operand 'ii' takes a diagonal": (Case("Einsum", (Free((3, 3)),), {"equation": "ii->i"}), 0),
    "it concatenates along the batch": (
        Case("Concat", (Free(("N", 3)), np.ones((1, 3), np.float32)), {"axis": 0}), 0,
    ),
    "it slices along the batch": (Case("Slice", (Free(("N", 3)), np.array([1]), np.array([9]), np.array([0])),), 0),
    "it pads along the batch": (Case("Pad", (Free(("N", 3)), np.array([1, 0, 0, 0]))), 0),
    "it repeats the batch": (Case("Tile", (Free(("N", 3)), np.array([2, 1]))), 0),
    "it combines values by 'max'": (
        Case("ScatterND", (Free((4, 5)), np.array([[1], [3]]), Free((2, 5))), {"reduction": "max"}), 0,
    ),
    "it normalises over the batch": (Case("MeanVarianceNormalization", (Free(("N", 2, 3, 4)),)), 0),
    "tf_crop_and_resize reads a region": (
        Case("Resize", (Free((1, 1, 4, 4)), np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32), None, np.array([1, 1, 2, 2])),
             {"coordinate_transformation_mode": "tf_crop_and_resize", "mode": "linear"}), 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSALS)
def test_refusals(message: str) -> None:
    case, position = REFUSALS[message]
    with pytest.raises(RuleError, match=rf"{case.op} \(node 'node'\) can't be propagated through: {message}"):
        gradient_model(forward_model(case), f"x{position}")


def test_training_mode_is_refused() -> None:
    vectors = [np.ones(2, np.float32)] * 4
    case = Case("BatchNormalization", (Free((1, 2, 3, 3)), *vectors), {"training_mode": 1}, outputs=3)
    with pytest.raises(RuleError, match="it is in training mode; export the network in evaluation mode"):
        gradient_model(forward_model(case), "x0")


def test_dropout_in_training_is_refused() -> None:
    case = Case("Dropout", (Free((1, 2)), np.array(0.5, np.float32), np.array(True)))
    with pytest.raises(RuleError, match="it is in training mode"):
        gradient_model(forward_model(case), "x0")


def test_computed_indices_along_another_axis_are_refused() -> None:
    nodes = [
        helper.make_node("ArgMax", ["x"], ["i"], name="a", axis=1, keepdims=0),
        helper.make_node("Gather", ["x", "i"], ["y"], name="pick", axis=1),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [3, 4]), ("y", None)))
    graph = helper.make_graph(nodes, "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    with pytest.raises(RuleError, match="its indices are computed, and not a list along the first axis"):
        gradient_model(model, "x")


def test_computed_indices_along_the_first_axis() -> None:
    nodes = [
        helper.make_node("ArgMax", ["x"], ["i"], name="a", axis=0, keepdims=0),
        helper.make_node("Gather", ["x", "i"], ["g"], name="pick", axis=0),
        helper.make_node("Mul", ["g", "g"], ["y"], name="square"),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [3, 4]), ("y", None)))
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    )
    gradient = gradient_model(model, "x")
    value = np.random.default_rng(0).standard_normal((3, 4))
    rows = value.argmax(axis=0)
    dy = np.random.default_rng(1).standard_normal((4, 4))
    wanted = np.zeros_like(value)
    np.add.at(wanted, rows, 2 * dy * value[rows])
    np.testing.assert_allclose(evaluate(to_float64(gradient), {"x": value, "dy": dy}, "dx"), wanted, atol=1e-12)
    feeds = {"x": value.astype(np.float32), "dy": dy.astype(np.float32)}
    got = onnxruntime.InferenceSession(gradient.SerializeToString()).run(["dx"], feeds)[0]
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_relu6_at_its_bounds_is_torchs() -> None:
    import torch

    case = Case("Clip", (Free((1, 4)), np.array(0, np.float32), np.array(6, np.float32)))
    x = np.array([[0.0, 6.0, 3.0, -1.0]])
    leaf = torch.from_numpy(x).requires_grad_()
    torch.nn.functional.relu6(leaf).sum().backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    dx = evaluate(to_float64(gradient_model(forward_model(case), "x0")), {"x0": x, "dy": np.ones((1, 4))}, "dx")
    np.testing.assert_array_equal(dx, leaf.grad.numpy())


def test_ties_of_max_are_shared_as_torch_shares_them() -> None:
    import torch

    case = Case("Max", (Free((1, 3)), Free((1, 3))))
    a, b = np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 3.0, 2.0]])
    leaf = torch.from_numpy(a).requires_grad_()
    torch.maximum(leaf, torch.from_numpy(b)).sum().backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    dx = evaluate(
        to_float64(gradient_model(forward_model(case), "x0")), {"x0": a, "x1": b, "dy": np.ones((1, 3))}, "dx"
    )
    np.testing.assert_array_equal(dx, leaf.grad.numpy())


def test_checker_is_run() -> None:
    """The harness would notice an invalid graph."""
    model = gradient_model(forward_model(Case("Relu", (Free(("N", 2)),))), "x0")
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(model, full_check=True)
