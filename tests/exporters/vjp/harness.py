"""One operator, differentiated: against central differences and torch autograd in float64, and on both runtimes.

The gradient graph is written three times: in float32 as the exporter does, for the runtimes; the same graph turned into
float64, run by `onnx.reference.ReferenceEvaluator`, for the central differences; and over a float64 network, where not even
a constant is rounded to float32, for torch. The evaluator's own weaknesses have substitutes (`references`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from xai_exporters.backward.walker import propagate
from xai_exporters.graph.measure import Measured, measure
from xai_exporters.vjp.table import vjp

from tests.support.core import core

from .references import REFERENCES

Array = NDArray[Any]
Feeds = dict[str, Array]

STEP = 1e-5  # of the central difference: truncation is 1e-10 of the third derivative, rounding 1e-11 of the value
CENTRAL = 1e-6
TORCH = 1e-9
RUNTIME = 1e-5  # float32, relative to the largest magnitude
DIRECTIONS = 3


@dataclass(frozen=True)
class Free:
    """An input to differentiate with respect to; "N" in its shape is the batch.

    Attributes:
        shape: Its shape.
        draw: "normal", "positive" (0.5 to 2), "distinct" (no two values closer than 0.05 and none closer than 0.01 to 0, so
            that no maximum changes), "away" (normal, but nowhere within 0.1 of 0).
        scale: Factor on what is drawn.
    """

    shape: tuple[int | str, ...]
    draw: Literal["normal", "positive", "distinct", "away"] = "normal"
    scale: float = 1.0

    def sample(self, batch: int, rng: np.random.Generator) -> Array:
        """Values that float32 holds exactly, as float64."""
        shape = [batch if d == "N" else int(d) for d in self.shape]
        values: Array
        match self.draw:
            case "normal":
                values = rng.standard_normal(shape)
            case "positive":
                values = rng.uniform(0.5, 2, shape)
            case "away":
                values = rng.standard_normal(shape)
                values += 0.1 * np.sign(values)
            case "distinct":
                count = int(np.prod(shape))
                values = (rng.permutation(count) - count // 2 + 0.3).reshape(shape) * 0.05
        return np.asarray(values * self.scale, np.float32).astype(np.float64)


@dataclass(frozen=True)
class Given:
    """An input that is fed and not differentiated: indices, a condition."""

    values: Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape


@dataclass(frozen=True)
class Case:
    """A node to differentiate.

    Attributes:
        op: The operator.
        inputs: Free ones, given ones, constants, and None for one left out.
        attributes: Of the node.
        torch: The same function in torch, of the free inputs.
        outputs: Number of outputs.
        output: The one that is differentiated.
        opset: Version of the standard operators.
        skip: Runtime -> why it is left out: it does not run the operator itself, or not by the standard.
        central: Tolerance of the central difference.
        runtime: Tolerance of the runtimes.
        exact: Tolerance against torch.
    """

    op: str
    inputs: tuple[Free | Given | Array | None, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    torch: Callable[..., torch.Tensor] | None = None
    outputs: int = 1
    output: int = 0
    opset: int = 18
    skip: Mapping[str, str] = field(default_factory=dict)
    central: float = CENTRAL
    runtime: float = RUNTIME
    exact: float = TORCH

    def __str__(self) -> str:
        shapes = ["x".join(map(str, i.shape)) if i is not None else "-" for i in self.inputs]
        options = [f"{k}={v}".replace(" ", "") for k, v in self.attributes.items()]
        return " ".join([self.op, *shapes, *options, *(["opset", str(self.opset)] if self.opset != 18 else [])])

    @property
    def free(self) -> list[int]:
        """The positions of the inputs to differentiate with respect to."""
        return [i for i, value in enumerate(self.inputs) if isinstance(value, Free)]

    def sample(self, batch: int, rng: np.random.Generator) -> Feeds:
        """Every input that is fed."""
        drawn = {f"x{i}": v.sample(batch, rng) for i, v in enumerate(self.inputs) if isinstance(v, Free)}
        return drawn | {f"x{i}": v.values for i, v in enumerate(self.inputs) if isinstance(v, Given)}


def forward_model(case: Case) -> onnx.ModelProto:
    """The node alone, float32."""
    names, inputs, constants = [], [], []
    for i, value in enumerate(case.inputs):
        names.append("" if value is None else f"x{i}")
        if isinstance(value, Free):
            inputs.append(helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, list(value.shape)))
        elif isinstance(value, Given):
            kind = helper.np_dtype_to_tensor_dtype(value.values.dtype)
            inputs.append(helper.make_tensor_value_info(f"x{i}", kind, list(value.shape)))
        elif value is not None:
            constants.append(numpy_helper.from_array(value, f"x{i}"))
    node = helper.make_node(case.op, names, [f"y{i}" for i in range(case.outputs)], name="node", **case.attributes)
    y = helper.make_tensor_value_info(f"y{case.output}", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "case", inputs, [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", case.opset)], ir_version=10)


def gradient_model(forward: onnx.ModelProto, x: str, shapes: Measured | None = None) -> onnx.ModelProto:
    """inputs, dy -> the output y, dx: the forward graph and its gradient with respect to the input `x`.

    Shapes are measured where they are not given (onnxruntime measures no float64 networks).
    """
    model = ir.from_proto(onnx.shape_inference.infer_shapes(forward))  # for the types of the tensors between
    graph = model.graph
    shapes = measure(model) if shapes is None else shapes
    y = graph.outputs[0]
    dims = ["N" if d is None else d for d in shapes.dims(y)]
    y.shape = ir.Shape(dims)
    dy = ir.Value(name="dy", shape=ir.Shape(dims), type=y.type)
    graph.inputs.append(dy)
    target = next(v for v in graph.inputs if v.name == x)
    [arrived] = propagate(graph, y, dy, [target], vjp, shapes)
    result = ir.node("Identity", [arrived], name="dx")  # dx may be dy itself
    dx = result.outputs[0]
    dx.name, dx.shape, dx.type = "dx", target.shape, target.type
    graph.append(result)
    graph.outputs.append(dx)
    proto = ir.to_proto(model)
    if y.dtype == ir.DataType.FLOAT:  # Celu and others have no float64 form; the evaluator runs it all the same
        onnx.checker.check_model(proto, full_check=True)
    return proto


def to_float64(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph in double precision."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    tensors = [a.t for node in graph.node for a in node.attribute if a.HasField("t")]
    for tensor in (*graph.initializer, *tensors):
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    for node in graph.node:
        if node.op_type == "Resize":  # whose scales are float32 by definition
            for name in node.input[1:3]:
                for tensor in graph.initializer:
                    if tensor.name == name:
                        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), name))
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    return result


def reference(model: onnx.ModelProto, output: str) -> Callable[[Feeds], Array]:
    """One output as a function of the inputs, by the reference evaluator; the last result is kept, as comparisons share it."""
    evaluator = ReferenceEvaluator(model, new_ops=REFERENCES)
    names = set(evaluator.input_names)
    last: list[tuple[Feeds, Array]] = []

    def function(feeds: Feeds) -> Array:
        fed = {name: value for name, value in feeds.items() if name in names}
        if not last or any(last[0][0][name] is not value for name, value in fed.items()):
            last[:] = [(fed, np.asarray(evaluator.run([output], fed)[0]))]  # type: ignore[index]
        return last[0][1]

    return function


def evaluate(model: onnx.ModelProto, feeds: Feeds, output: str) -> Array:
    """One output, once."""
    return reference(model, output)(feeds)


def onnxruntime_function(model: onnx.ModelProto, output: str) -> Callable[[Feeds], Array]:
    """One output as a function of the inputs, on ONNX Runtime as deployed: with its optimisations."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = {i.name for i in session.get_inputs()}
    return lambda feeds: np.asarray(session.run([output], {k: v for k, v in feeds.items() if k in names})[0])


def openvino_function(model: onnx.ModelProto, output: str) -> Callable[[Feeds], Array]:
    """One output as a function of the inputs, on OpenVINO."""
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
    compiled = core().compile_model(core().read_model(model.SerializeToString()), "CPU", options)
    names = {name for i in compiled.inputs for name in i.names}
    return lambda feeds: np.array(compiled({k: v for k, v in feeds.items() if k in names})[output])


RUNTIMES = {"onnxruntime": onnxruntime_function, "openvino": openvino_function}


class Gradient:
    """dx of one case for one of its inputs, on everything that runs it.

    Args:
        forward: The network, float32.
        x: The input.
        what: What it is, for messages.
        skip: Runtimes that are left out.
    """

    def __init__(self, forward: onnx.ModelProto, x: str, what: str, skip: Mapping[str, str] | None = None) -> None:
        self.x, self.what = x, what
        shapes = measure(ir.from_proto(forward))
        single, exact = gradient_model(forward, x, shapes), gradient_model(to_float64(forward), x, shapes)
        # sums over all positions are pooled in float32 alone: ONNX Runtime has no pooling of float64
        pooled = " ".join(n.op_type for n in single.graph.node)
        summed = " ".join(n.op_type for n in exact.graph.node)
        assert pooled.replace("GlobalAveragePool Mul", "ReduceSum") == summed.replace(
            "GlobalAveragePool Mul", "ReduceSum"
        )
        self.model, y = single, forward.graph.output[0].name
        self.f = reference(to_float64(forward), y)
        self.same = reference(to_float64(single), "dx")
        self.exact = reference(exact, "dx")
        self.runtimes = {name: make(single, "dx") for name, make in RUNTIMES.items() if name not in (skip or {})}

    def against_central_differences(
        self, feeds: Feeds, dy: Array, rng: np.random.Generator, tolerance: float = CENTRAL
    ) -> None:
        """sum(dx * direction) against the difference of sum(dy * f)."""
        x, dx = feeds[self.x], self.same({**feeds, "dy": dy})
        assert dx.shape == x.shape, f"{self.what}: dx has shape {dx.shape}, x {x.shape}"
        assert dx.dtype == np.float64
        noise = 1e-10 * float(np.abs(dy * self.f(feeds)).sum())
        for _ in range(DIRECTIONS):
            direction = rng.standard_normal(x.shape)
            ends = [float((dy * self.f({**feeds, self.x: x + h * direction})).sum()) for h in (STEP, -STEP)]
            numeric, analytic = (ends[0] - ends[1]) / (2 * STEP), float((dx * direction).sum())
            scale = max(abs(numeric), 1e-2 * float(np.abs(dx * direction).sum()))
            assert abs(numeric - analytic) <= tolerance * scale + noise, (
                f"{self.what}, {self.x} {x.shape}: analytic {analytic!r}, numeric {numeric!r}"
            )

    def on_runtimes(self, feeds: Feeds, dy: Array, tolerance: float = RUNTIME) -> None:
        """float32 on each runtime against float64."""
        dx = self.same({**feeds, "dy": dy})
        single = {k: v.astype(np.float32) if v.dtype == np.float64 else v for k, v in {**feeds, "dy": dy}.items()}
        for name, function in self.runtimes.items():
            got = function(single)
            assert got.shape == dx.shape, f"{self.what}: {name} gives shape {got.shape}"
            error = float(np.abs(got - dx).max(initial=0)) / max(float(np.abs(dx).max(initial=0)), 1e-3)
            assert error <= tolerance, f"{self.what}, {self.x}: {name} differs by {error:.2g}"


def torch_gradient(
    function: Callable[..., torch.Tensor], values: Sequence[Array], dy: Array | None, position: int = 0
) -> tuple[Array, Array]:
    """y and dx by autograd in float64; dy is 1 where it is None."""
    leaves = [torch.from_numpy(np.array(v, np.float64)).requires_grad_() for v in values]
    y = function(*leaves)
    y.backward(torch.ones_like(y) if dy is None else torch.from_numpy(dy))  # type: ignore[no-untyped-call]
    gradient = leaves[position].grad
    assert gradient is not None
    return y.detach().numpy(), gradient.numpy()


def check(case: Case, batches: tuple[int, ...] = (1, 3)) -> None:
    """All comparisons of one case, for every free input, at each batch; central differences at one batch if torch has it, too."""
    if not any("N" in value.shape for value in case.inputs if isinstance(value, Free)):
        batches = (1,)
    forward = forward_model(case)
    for position in case.free:
        gradient = Gradient(forward, f"x{position}", str(case), case.skip)
        for batch in batches:
            rng = np.random.default_rng(batch)
            feeds = case.sample(batch, rng)
            y = gradient.f(feeds)
            dy = rng.standard_normal(y.shape).astype(np.float32).astype(np.float64)
            gradient.on_runtimes(feeds, dy, case.runtime)
            if case.torch is not None:
                against_torch(case, gradient, feeds, dy)
            if case.torch is None or batch == batches[0]:
                gradient.against_central_differences(feeds, dy, rng, case.central)


def check_at(case: Case, *values: Array) -> None:
    """Where no central difference exists, at ties and kinks: torch's choice, in float64 and on both runtimes."""
    assert case.torch is not None
    forward = forward_model(case)
    feeds = {f"x{i}": np.asarray(v, np.float64) for i, v in zip(case.free, values, strict=True)}
    for position in case.free:
        gradient = Gradient(forward, f"x{position}", str(case), case.skip)
        dy = np.random.default_rng(0).standard_normal(gradient.f(feeds).shape).astype(np.float32).astype(np.float64)
        against_torch(case, gradient, feeds, dy)
        gradient.on_runtimes(feeds, dy, case.runtime)


def against_torch(case: Case, gradient: Gradient, feeds: Feeds, dy: Array) -> None:
    """y and dx against autograd, which differentiates the same function written by others."""
    assert case.torch is not None
    position = [f"x{i}" for i in case.free].index(gradient.x)
    y, dx = torch_gradient(case.torch, [feeds[f"x{i}"] for i in case.free], dy, position)
    mine, got = gradient.f(feeds), gradient.exact({**feeds, "dy": dy})
    assert np.abs(y - mine).max() <= case.exact * max(np.abs(y).max(), 1), f"{case}: another function in torch"
    error = float(np.abs(got - dx).max())
    assert error <= case.exact * max(float(np.abs(dx).max()), 1e-3), (
        f"{case}, {gradient.x}: torch's differs by {error:.2g}"
    )


def graph_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str]],
    constants: Mapping[str, Array] | None = None,
    output: str = "y",
    opset: int = 18,
) -> onnx.ModelProto:
    """A network of several nodes, float32; nodes without a name get their operator's and number."""
    for i, node in enumerate(nodes):
        node.name = node.name or f"{node.op_type.lower()}{i}"
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in inputs.items()]
    weights = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    y = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    graph = helper.make_graph(list(nodes), "case", values, [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def check_graph(model: onnx.ModelProto, x: str = "x", batches: tuple[int, ...] = (1, 3)) -> None:
    """Central differences and runtimes for a network of several nodes, with inputs of any batch."""
    gradient = Gradient(model, x, " ".join(n.op_type for n in model.graph.node))
    for batch in batches:
        rng = np.random.default_rng(batch)
        feeds = {
            v.name: Free(tuple(d.dim_value or "N" for d in v.type.tensor_type.shape.dim), "away").sample(batch, rng)
            for v in model.graph.input
        }
        dy = rng.standard_normal(gradient.f(feeds).shape).astype(np.float32).astype(np.float64)
        gradient.against_central_differences(feeds, dy, rng)
        gradient.on_runtimes(feeds, dy)


def ints(*values: Any) -> Array:
    """An int64 array, as indices, axes and shapes are."""
    return np.array(values, np.int64)


def f32(*values: Any) -> Array:
    """A float32 array."""
    return np.array(values, np.float32)


def weights(seed: int = 0) -> Callable[..., Array]:
    """A maker of seeded float32 arrays of a shape."""
    rng = np.random.default_rng(seed)
    return lambda *shape: rng.standard_normal(shape).astype(np.float32)


def double(array: Array) -> torch.Tensor:
    """A constant for torch."""
    return torch.from_numpy(array.astype(np.float64))
