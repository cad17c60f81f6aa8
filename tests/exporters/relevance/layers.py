"""A layer under every rule, against the dense oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ..vjp.harness import Feeds, reference, to_float64
from .dense import Linear, propagate, well_conditioned
from .running import Relevance, composite_of, distance

Array = NDArray[Any]
Rule = Mapping[str, Any]

EXACT = 1e-9
FLOAT32 = 1e-5

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum")
BIASES = ("ignore", "include")

ANY_LAYER: list[Rule] = [
    {"rule": "zero"},
    {"rule": "zero", "epsilon": 0.1, "bias": "include"},
    *({"rule": "epsilon", "bias": bias} for bias in BIASES),
    {"rule": "epsilon", "epsilon": 0.1, "bias": "include"},
    {"rule": "epsilon", "epsilon": 0.0},
    *({"rule": "z-plus", "bias": bias} for bias in (*BIASES, "authors")),
    {"rule": "z-plus", "epsilon": 0.1, "bias": "include"},
    {"rule": "z-plus", "epsilon": 1e-6},
    *({"rule": "alpha-beta", "bias": bias} for bias in (*BIASES, "authors")),
    {"rule": "alpha-beta", "alpha": 3, "beta": 2.0, "epsilon": 0.1, "bias": "include"},
    {"rule": "alpha-beta", "alpha": 1.0, "beta": 0.0, "epsilon": 1e-6},
    {"rule": "gamma"},
    {"rule": "generalized-gamma"},
]
"""Rules that every linear operator takes."""

NO_RESIZE: list[Rule] = [{"rule": "w-square"}, {"rule": "flat"}]

WITH_WEIGHTS: list[Rule] = [
    {"rule": "gamma", "gamma": 0.5, "epsilon": 0.1, "bias": "include"},
    {"rule": "generalized-gamma", "gamma": 100.0, "bias": "include"},
    {"rule": "generalized-gamma", "gamma": 0.5, "epsilon": 0.1, "bias": "include"},
    {"rule": "w-square", "bias": "include", "epsilon": 0.1},
    {"rule": "flat", "epsilon": 0.1},
    {"rule": "z-box", "low": -3, "high": 2.5},
    {"rule": "z-box", "low": "sample", "high": "sample", "epsilon": 0.1},
    {"rule": "z-box", "low": "sample", "high": 4.0},
]


@dataclass(frozen=True)
class LayerCase:
    """A linear operator, alone.

    Attributes:
        op: The operator.
        shape: Of its input, "N" for the batch.
        constants: The other inputs, in order; None for one left out.
        attributes: Of the node.
        position: Which of the inputs is x.
        added: A constant that an Add behind it adds.
        between: Operators between the two, each with a constant or None.
        more: Further inputs that are signals, too.
        opset: Version of the standard operators.
        exact: Tolerance in float64.
    """

    op: str
    shape: tuple[int | str, ...]
    constants: tuple[Array | None, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    position: int = 0
    added: Array | None = None
    between: tuple[tuple[str, Array | None, dict[str, Any]], ...] = ()
    more: tuple[tuple[int | str, ...], ...] = ()
    opset: int = 18
    exact: float = EXACT

    def __str__(self) -> str:
        shapes = ["x".join(map(str, s)) for s in (self.shape, *self.more)]
        shapes += ["x".join(map(str, c.shape)) if c is not None else "-" for c in self.constants]
        options = [f"{k}={v}".replace(" ", "") for k, v in self.attributes.items()]
        return " ".join(
            [
                self.op,
                *shapes,
                *options,
                *(op for op, _, _ in self.between),
                *(["+ Add"] if self.added is not None else []),
            ]
        )

    @property
    def signals(self) -> dict[str, tuple[int | str, ...]]:
        """The inputs that are signals, by name."""
        return {"x": self.shape} | {f"x{i}": shape for i, shape in enumerate(self.more, 1)}

    def network(self, rectified: bool) -> onnx.ModelProto:
        """The layer, each of its inputs behind a Relu or not; float32."""
        prefix = "positive/" if rectified else ""
        nodes = [helper.make_node("Relu", [x], [f"positive/{x}"], name=f"relu/{x}") for x in self.signals if rectified]
        names = ["" if c is None else f"c{i}" for i, c in enumerate(self.constants)]
        names[self.position : self.position] = [prefix + x for x in self.signals]
        last = "z" if self.added is not None else "y"
        nodes.append(helper.make_node(self.op, names, [last], name="layer", **self.attributes))
        constants = {f"c{i}": c for i, c in enumerate(self.constants) if c is not None}
        if self.added is not None:
            for i, (op, constant, attributes) in enumerate(self.between):
                names = [last] if constant is None else [last, f"b{i}"]
                constants |= {} if constant is None else {f"b{i}": constant}
                last = f"m{i}"
                nodes.append(helper.make_node(op, names, [last], name=f"between{i}", **attributes))
            nodes.append(helper.make_node("Add", ["added", last], ["y"], name="bias"))
            constants["added"] = self.added
        inputs = [helper.make_tensor_value_info(x, TensorProto.FLOAT, list(s)) for x, s in self.signals.items()]
        graph = helper.make_graph(
            nodes,
            "layer",
            inputs,
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(c, name) for name, c in constants.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10)

    def linear(self, batch: int) -> tuple[Linear, tuple[int, ...]]:
        """The layer of one image as W and b, measured at unit vectors; and the shape of its output.

        The whole batch is one unit vector after the other, so that any layout of the batch will do.
        """
        f = reference(to_float64(self.network(False)), "y")
        shapes = {x: tuple(batch if d == "N" else int(d) for d in s) for x, s in self.signals.items()}
        zeros = {x: np.zeros(s) for x, s in shapes.items()}
        b = f(zeros)
        columns = []
        for x, shape in shapes.items():
            for i in range(int(np.prod(shape))):
                unit = np.zeros(shape)
                unit.flat[i] = 1
                columns.append((f({**zeros, x: unit}) - b).ravel())
        w = np.stack(columns, axis=1)
        w[np.abs(w) < 1e-12] = 0
        channels = np.indices(shapes["x"])[1].ravel() if len(self.shape) > 1 else np.zeros(0, np.int64)
        own = self.op not in WEIGHTED
        return Linear(w, b.ravel(), own, channels, self.op == "Conv"), b.shape


def rules_of(case: LayerCase) -> list[Rule]:
    """Every rule that the operator takes."""
    rules = list(ANY_LAYER)
    if case.op != "Resize":
        rules += NO_RESIZE
    if case.op in WEIGHTED:
        rules += WITH_WEIGHTS
        if len(case.shape) > 2:
            channels = [float(c) for c in range(int(case.shape[1]))]
            rules.append({"rule": "z-box", "low": [-2 - c for c in channels], "high": [2 + c / 2 for c in channels]})
    elif not case.more:
        rules.append({"rule": "proportional"})
    return rules


def images(array: Array, axis: int) -> list[Array]:
    """The parts of a batch, flat."""
    return [part.ravel() for part in np.moveaxis(array, axis, 0)]


def check(case: LayerCase, batches: Sequence[int] = (1, 3), rules: Sequence[Rule] | None = None) -> None:
    """Every rule, for inputs of any sign and for inputs known to be positive: float64, and both runtimes in float32."""
    rules = rules_of(case) if rules is None else rules
    layer, _ = case.linear(1)
    for rectified in (False, True):
        composites = [composite_of({case.op: rule}) for rule in rules]
        relevance = Relevance(case.network(rectified), composites, list(case.signals))
        for batch in batches if "N" in case.shape else (1,):
            _check(case, layer, rules, relevance, batch, rectified)


def _check(
    case: LayerCase, layer: Linear, rules: Sequence[Rule], relevance: Relevance, batch: int, rectified: bool
) -> None:
    rng = np.random.default_rng(batch)
    feeds: Feeds = {}
    for x, dims in case.signals.items():
        shape = [batch if d == "N" else int(d) for d in dims]
        feeds[x] = rng.standard_normal(shape).astype(np.float32).astype(np.float64)
    y = relevance.forward(feeds)
    r = rng.standard_normal(y.shape).astype(np.float32).astype(np.float64)
    axis = 0 if "N" not in case.shape else case.shape.index("N")
    parts = [images(feeds[x], axis if len(case.signals) == 1 else 0) for x in case.signals]
    xs = [np.concatenate(image) for image in zip(*parts, strict=True)]
    if "N" not in case.shape:
        xs = [np.concatenate([feeds[x].ravel() for x in case.signals])]
    xs = [np.maximum(x, 0) for x in xs] if rectified else xs
    rs = images(r, 0) if "N" in case.shape else [r.ravel()]

    def expected(rule: Rule, rs: Sequence[Array]) -> dict[str, Array]:
        rows = [propagate(layer, rule, x, part) for x, part in zip(xs, rs, strict=True)]
        result, start = {}, 0
        for x in case.signals:
            shape = list(feeds[x].shape)
            if "N" in case.shape:
                shape.pop(axis)
            size = int(np.prod(shape))
            images = [row[start : start + size].reshape(shape) for row in rows]
            result[x] = np.stack(images, axis) if "N" in case.shape else images[0]
            start += size
        return result

    got = relevance.exact({**feeds, "r": r})
    for k, rule in enumerate(rules):
        for x, want in expected(rule, rs).items():
            error = distance(got[f"{k}/{x}"], want)
            assert error <= case.exact, f"{case}, {dict(rule)}, rectified {rectified}, {x}: differs by {error:.2g}"
    good = [np.all([well_conditioned(layer, rule, x) for rule in rules], axis=0) for x in xs]
    assert np.mean(good) > 0.3, f"{case}: only {np.mean(good):.0%} of the outputs are fit for float32"
    kept = [np.where(g, part, 0) for g, part in zip(good, rs, strict=True)]
    single = np.stack(kept).reshape(r.shape)
    for runtime in relevance.runtimes:
        got = relevance.on(runtime, {**feeds, "r": single})
        for k, rule in enumerate(rules):
            for x, want in expected(rule, kept).items():
                error = distance(got[f"{k}/{x}"], want)
                assert error <= FLOAT32, f"{case}, {dict(rule)}, rectified {rectified}, {x}, {runtime}: {error:.2g}"
