"""One operator, differentiated, against central differences and torch autograd in float64, and on both runtimes.

The graph that the exporter writes in float32 is turned into float64 as it is and run by `onnx.reference.ReferenceEvaluator`,
whose own float64 weaknesses have substitutes here (`references`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import openvino
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from xai_exporters.backward import propagate
from xai_exporters.runtime import measure
from xai_exporters.vjp.table import vjp

from .references import REFERENCES

Array = NDArray[Any]
STEP = 1e-5  # of the central difference: its error is 1e-10 of the third derivative, rounding adds 1e-11
CENTRAL = 1e-6
TORCH = 2e-7  # the graph's constants are float32, as 1/6 and 2/sqrt(pi) round there
RUNTIME = 2e-5  # float32, relative to the largest magnitude


@dataclass(frozen=True)
class Free:
    """An input to differentiate with respect to; "N" in its shape is the batch.

    Attributes:
        shape: Its shape.
        draw: "normal", "positive" (0.5 to 2), "distinct" (no two values closer than 0.05, so that no maximum changes),
            "away" (normal, but nowhere within 0.1 of 0).
        scale: Factor on what is drawn.
    """

    shape: tuple[int | str, ...]
    draw: Literal["normal", "positive", "distinct", "away"] = "normal"
    scale: float = 1.0

    def sample(self, batch: int, rng: np.random.Generator) -> Array:
        shape = [batch if d == "N" else int(d) for d in self.shape]
        values: Array
        match self.draw:
            case "normal":
                values = rng.standard_normal(shape)
            case "positive":
                values = rng.uniform(0.5, 2.0, shape)
            case "away":
                values = rng.standard_normal(shape)
                values += 0.1 * np.sign(values)
            case "distinct":
                count = int(np.prod(shape))
                values = (rng.permutation(count) - count / 2 + 0.3).reshape(shape) * 0.05
        return values.astype(np.float32).astype(np.float64) * self.scale


@dataclass(frozen=True)
class Case:
    """A node to differentiate.

    Attributes:
        op: The operator.
        inputs: Free ones, constants, and None for one left out.
        attributes: Of the node.
        torch: The same function in torch, of the free inputs.
        outputs: Number of outputs; the first is differentiated unless `output` says otherwise.
        opset: Version of the standard operators.
        reason: Why OpenVINO is left out: it does not run the operator itself.
        central: Tolerance of the central difference.
    """

    op: str
    inputs: tuple[Free | Array | None, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    torch: Callable[..., torch.Tensor] | None = None
    outputs: int = 1
    output: int = 0
    opset: int = 18
    reason: str = ""
    central: float = CENTRAL

    def __str__(self) -> str:
        shapes = ["x".join(map(str, i.shape)) if i is not None else "-" for i in self.inputs]
        options = [f"{k}={v}".replace(" ", "") for k, v in self.attributes.items()]
        return " ".join([self.op, *shapes, *options])

    @property
    def free(self) -> list[int]:
        return [i for i, value in enumerate(self.inputs) if isinstance(value, Free)]


def forward_model(case: Case) -> onnx.ModelProto:
    """The node alone, float32."""
    names, inputs, constants = [], [], []
    for i, value in enumerate(case.inputs):
        names.append("" if value is None else f"x{i}")
        if isinstance(value, Free):
            inputs.append(helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, list(value.shape)))
        elif value is not None:
            constants.append(numpy_helper.from_array(value, f"x{i}"))
    outputs = [f"y{i}" for i in range(case.outputs)]
    node = helper.make_node(case.op, names, outputs, name="node", **case.attributes)
    y = helper.make_tensor_value_info(f"y{case.output}", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "case", inputs, [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", case.opset)], ir_version=10)


def gradient_model(forward: onnx.ModelProto, x: str) -> onnx.ModelProto:
    """inputs, dy -> y, dx."""
    model = ir.from_proto(forward)
    graph = model.graph
    shapes = measure(model)
    y = graph.outputs[0]
    dims = ["N" if d is None else d for d in shapes.dims(y)]
    y.shape, y.type = ir.Shape(dims), ir.TensorType(ir.DataType.FLOAT)
    dy = ir.Value(name="dy", shape=ir.Shape(dims), type=ir.TensorType(ir.DataType.FLOAT))
    graph.inputs.append(dy)
    target = next(v for v in graph.inputs if v.name == x)
    dx = propagate(graph, y, dy, target, vjp, shapes)
    if dx is dy:  # the identity
        [dx] = ir.node("Identity", [dy], name="same").outputs
        producer = dx.producer()
        assert producer is not None
        graph.append(producer)
    dx.name, dx.shape, dx.type = "dx", target.shape, ir.TensorType(ir.DataType.FLOAT)
    graph.outputs.append(dx)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def to_float64(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph in double precision."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
    return result


def evaluate(model: onnx.ModelProto, feeds: dict[str, Array], output: str) -> Array:
    """One output by the reference evaluator."""
    results: Any = ReferenceEvaluator(model, new_ops=REFERENCES).run([output], feeds)
    return np.asarray(results[0])


def check(case: Case, batches: tuple[int, ...] = (1, 3)) -> None:
    """All comparisons of one case, for every free input."""
    model = forward_model(case)
    exact = to_float64(model)
    symbolic = any("N" in value.shape for value in case.inputs if isinstance(value, Free))
    for position in case.free:
        gradient = gradient_model(model, f"x{position}")
        exact_gradient = to_float64(gradient)
        for batch in batches if symbolic else (1,):
            rng = np.random.default_rng(batch)
            feeds = {f"x{i}": v.sample(batch, rng) for i, v in enumerate(case.inputs) if isinstance(v, Free)}
            y = evaluate(exact, feeds, f"y{case.output}")
            dy = rng.standard_normal(y.shape)
            dx = evaluate(exact_gradient, {**feeds, "dy": dy}, "dx")
            x = feeds[f"x{position}"]
            assert dx.shape == x.shape, f"{case}: dx has shape {dx.shape}"
            assert dx.dtype == np.float64
            for _ in range(3):
                direction = rng.standard_normal(x.shape)
                ends = [
                    float((dy * evaluate(exact, {**feeds, f"x{position}": x + h * direction}, f"y{case.output}")).sum())
                    for h in (STEP, -STEP)
                ]
                numeric, analytic = (ends[0] - ends[1]) / (2 * STEP), float((dx * direction).sum())
                scale = max(abs(numeric), 1e-2 * float(np.abs(dx).max()) * x.size**0.5, 1e-3)
                assert abs(numeric - analytic) <= case.central * scale, (
                    f"{case}, input {position}, batch {batch}: analytic {analytic!r}, numeric {numeric!r}"
                )
            if case.torch is not None:
                _against_torch(case, position, feeds, dy, y, dx)
            _on_runtimes(case, gradient, feeds, dy, dx)


def _against_torch(case: Case, position: int, feeds: dict[str, Array], dy: Array, y: Array, dx: Array) -> None:
    assert case.torch is not None
    leaves = {i: torch.from_numpy(feeds[f"x{i}"]).requires_grad_() for i in case.free}
    out = case.torch(*leaves.values())
    assert np.abs(out.detach().numpy() - y).max() <= TORCH * max(np.abs(y).max(), 1), (
        f"{case}: another function in torch"
    )
    out.backward(torch.from_numpy(dy))  # type: ignore[no-untyped-call]
    wanted = leaves[position].grad
    assert wanted is not None
    assert np.abs(dx - wanted.numpy()).max() <= TORCH * max(float(wanted.abs().max()), 1e-3), f"{case}: not torch's"


def _on_runtimes(case: Case, model: onnx.ModelProto, feeds: dict[str, Array], dy: Array, dx: Array) -> None:
    single = {name: value.astype(np.float32) for name, value in {**feeds, "dy": dy}.items()}
    data = model.SerializeToString()
    limit = RUNTIME * max(float(np.abs(dx).max()), 1e-3)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = {i.name for i in session.get_inputs()}
    got = session.run(["dx"], {k: v for k, v in single.items() if k in names})[0]
    assert np.abs(got - dx).max() <= limit, f"{case}: onnxruntime differs by {np.abs(got - dx).max()}"
    if case.reason:
        return
    compiled = openvino.Core().compile_model(
        openvino.Core().read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    )
    names = {name for i in compiled.inputs for name in i.names}
    got = compiled({k: v for k, v in single.items() if k in names})["dx"]
    assert np.abs(got - dx).max() <= limit, f"{case}: OpenVINO differs by {np.abs(got - dx).max()}"
