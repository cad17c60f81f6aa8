"""Relevance as the exporter writes it, for small networks: every rule of a list in one graph, on everything that runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from xai_exporters.backward.walker import propagate
from xai_exporters.graph.measure import Measured, measure
from xai_exporters.relevance.composite import Composite, parse_composite
from xai_exporters.relevance.facts import find_facts
from xai_exporters.relevance.graph import Assigned

from tests.support.core import core

from ..vjp.harness import Feeds, reference, to_float64
from ..vjp.references import REFERENCES

Array = NDArray[Any]
Rule = Mapping[str, Any]


def toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else repr(value)


def composite_of(rules: Mapping[str, Rule | str], table: str = "ops", base: str = "none") -> Composite:
    """A composite of the rules of operators (or, in the table "nodes", of names)."""
    lines = [f'base = "{base}"', f"[{table}]", *(f'"{key}" = {toml(rule)}' for key, rule in rules.items())]
    return parse_composite("\n".join(lines), "test")


NOTHING = composite_of({})
"""What operators do by themselves."""


def relevance_model(
    forward: onnx.ModelProto,
    composite: Composite = NOTHING,
    target: str = "x",
    shapes: Measured | None = None,
    nonnegative: frozenset[str] = frozenset(),
    name: str = "0/x",
) -> onnx.ModelProto:
    """inputs, r -> the output y, and under `name` what arrives at the target of the r that is laid at y."""
    model = ir.from_proto(onnx.shape_inference.infer_shapes(forward))
    graph = model.graph
    shapes = measure(model) if shapes is None else Measured(dict(shapes.two), dict(shapes.three))
    find_facts(graph, nonnegative)
    y = graph.outputs[0]
    dims = ["N" if d is None else d for d in shapes.dims(y)]
    y.shape = ir.Shape(dims)
    r = ir.Value(name="r", shape=ir.Shape(dims), type=y.type)
    graph.inputs.append(r)
    x = next(v for v in (*graph.inputs, *(v for node in graph for v in node.outputs)) if v.name == target)
    [arrived] = propagate(graph, y, r, [x], Assigned(composite, frozenset()), shapes, scope=f"back/{name}")
    result = ir.node("Identity", [arrived], name=f"result/{name}")
    out = result.outputs[0]
    out.name, out.shape, out.type = name, x.shape, x.type or y.type
    graph.append(result)
    graph.outputs.append(out)
    return ir.to_proto(model)


def several(models: Sequence[onnx.ModelProto]) -> onnx.ModelProto:
    """Models over one network in one, so that a runtime reads it once."""
    merged = onnx.ModelProto()
    merged.CopyFrom(models[0])
    graph = merged.graph
    for model in models[1:]:
        nodes = {node.name for node in graph.node}
        constants = {tensor.name for tensor in graph.initializer}
        graph.node.extend(node for node in model.graph.node if node.name not in nodes)
        graph.initializer.extend(t for t in model.graph.initializer if t.name not in constants)
        graph.output.append(model.graph.output[-1])
    del graph.value_info[:]
    onnx.checker.check_model(merged, full_check=graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT)
    return merged


class Relevance:
    """What arrives, on the reference evaluator over a float64 network, and on both runtimes in float32.

    Args:
        forward: The network, float32.
        composites: The composites, numbered from 0.
        targets: Tensors at which relevance is wanted.
        nonnegative: Inputs known to be nowhere negative.
        skip: Runtimes that are left out.
    """

    def __init__(
        self,
        forward: onnx.ModelProto,
        composites: Sequence[Composite] = (NOTHING,),
        targets: Sequence[str] = ("x",),
        nonnegative: frozenset[str] = frozenset(),
        skip: Sequence[str] = (),
    ) -> None:
        shapes = measure(ir.from_proto(forward))
        self.forward = reference(to_float64(forward), forward.graph.output[0].name)
        self.single, self.double = (
            several(
                [
                    relevance_model(network, composite, target, shapes, nonnegative, f"{k}/{target}")
                    for k, composite in enumerate(composites)
                    for target in targets
                ]
            )
            for network in (forward, to_float64(forward))
        )
        evaluator = ReferenceEvaluator(self.double, new_ops=REFERENCES)

        def exact(feeds: Feeds) -> list[Array]:
            with np.errstate(divide="ignore", invalid="ignore"):  # a quotient by 0 is computed and not taken
                return [np.asarray(v) for v in evaluator.run(None, feeds)]

        self._functions: dict[str, Callable[[Feeds], list[Array]]] = {"reference": exact}
        for runtime in ("onnxruntime", "openvino"):
            if runtime not in skip:
                self._functions[runtime] = SESSIONS[runtime](self.single)
        self._names = [v.name for v in self.single.graph.output]

    @property
    def runtimes(self) -> list[str]:
        """Where it runs in float32."""
        return [name for name in self._functions if name != "reference"]

    def exact(self, feeds: Feeds) -> dict[str, Array]:
        """Every output in float64: "k/target", and the network's."""
        return dict(zip(self._names, self._functions["reference"](feeds), strict=True))

    def on(self, runtime: str, feeds: Feeds) -> dict[str, Array]:
        """Every output in float32."""
        single = {key: v.astype(np.float32) if v.dtype == np.float64 else v for key, v in feeds.items()}
        return dict(zip(self._names, self._functions[runtime](single), strict=True))


def _onnxruntime(model: onnx.ModelProto) -> Callable[[Feeds], list[Array]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = {i.name for i in session.get_inputs()}
    return lambda feeds: [np.asarray(v) for v in session.run(None, {k: v for k, v in feeds.items() if k in names})]


def _openvino(model: onnx.ModelProto) -> Callable[[Feeds], list[Array]]:
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = core().compile_model(core().read_model(model.SerializeToString()), "CPU", options)
    names = {name for i in compiled.inputs for name in i.names}

    def run(feeds: Feeds) -> list[Array]:
        results = compiled({k: v for k, v in feeds.items() if k in names})
        return [np.array(results[v.name]) for v in model.graph.output]

    return run


SESSIONS = {"onnxruntime": _onnxruntime, "openvino": _openvino}


def distance(got: Array, want: Array) -> float:
    """The largest difference, of the largest magnitude there should be."""
    assert got.shape == want.shape, f"shape {got.shape} for {want.shape}"
    return float(np.abs(got - want).max(initial=0)) / max(float(np.abs(want).max(initial=0)), 1e-12)
