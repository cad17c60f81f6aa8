"""The gradient graph of torchvision's classification networks against torch autograd in float64.

    python -m tests.networks.gradients [NAME ...]     prints the table; scripts/check_gradients writes it to docs/

Each network is seeded, its statistics, scales and biases randomised; both cuts come from live hooks, so that nothing here
shares names or graphs with the product. Two images: one target given, one left to the graph (-1).

Where a ReLU's input is within float32's rounding of zero, float32 and float64 take different sides of the kink, and the
gradient differs by that unit's share (1e-3 and more); deep networks have a million such inputs. So each image is drawn up
to four times, and its best draw counts: a wrong rule is wrong for every image. Where every draw holds such a unit, the very
same graph is run in float64 by onnx's reference evaluator, where it must agree to 1e-6: what is left is the runtimes'
rounding. (BatchNorms are powers of two, so that folding them changes no weight.)
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
import openvino
import torch
import torchvision
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from xai_exporters.cut.plan import Cut, plan_cut
from xai_exporters.cut.scores.logits import find_scores
from xai_exporters.cut.split import Parts, split
from xai_exporters.errors import ExportError
from xai_exporters.graph.measure import open_session
from xai_exporters.graph.writing import make_model, to_bytes
from xai_exporters.passes.clean import clean
from xai_exporters.vjp.graph import gradient_graph

from xai_deploy.format.bundle import ACTIVATION, GRADIENT, SEED, TARGET
from xai_deploy.foundation.progress import progress

from ..exporters.vjp.harness import to_float64
from ..exporters.vjp.references import REFERENCES
from .drawn import build, calibrate, images, layers_of, size_of

TOLERANCE = 1e-4
DRAWS = 4
EXACT = 1e-6  # of the graph in float64
LIMIT = 2 << 30  # bytes of weights in one ONNX file


@dataclass(frozen=True)
class Result:
    """One cut of one network.

    Attributes:
        network, layer: What was cut.
        shape: (K,h,w) of the activation; layout of the tensor.
        operators: Distinct operators of the tail.
        nodes: Nodes of the gradient graph.
        errors: Runtime -> largest difference to torch, relative to the gradient's largest magnitude.
        exact: The graph's difference in float64, where the runtimes' rounding decided at a kink.
        reason: Why there is no gradient.
    """

    network: str
    layer: str
    shape: str = ""
    operators: tuple[str, ...] = ()
    nodes: int = 0
    errors: tuple[tuple[str, float], ...] = ()
    exact: float | None = None
    reason: str = ""

    @property
    def passed(self) -> bool:
        if self.exact is not None:
            return self.exact <= EXACT
        return bool(self.errors) and all(error <= TOLERANCE for _, error in self.errors)


@lru_cache(maxsize=1)  # for two tests of one network: nearly all their time goes into it
def exported(
    name: str, layers: tuple[str, ...] | None, size: int
) -> tuple[torch.nn.Module, tuple[str, ...], onnx.ModelProto, list[str]]:
    """A network, the layers (None: the last and an early stage), its ONNX file, and the layers' tensors in it."""
    network = build(name)
    layers = layers or layers_of(name, network)
    calibrate(network, images(8, size, 3), damping=0.5 if name.startswith("efficientnet") else 1.0)
    return network, layers, *_export(network, layers, images(2, size, 2))


def check(name: str, layers: tuple[str, ...] | None = None, size: int | None = None) -> list[Result]:
    """The gradient at each layer of a network (None: the last and an early stage) on both runtimes."""
    size = size or size_of(name)
    network, layers, proto, taps = exported(name, layers, size)
    network.double()
    cases: list[Case | Result] = []
    for layer, tap in zip(layers, taps, strict=True):
        try:
            cases.append(Case.open(name, layer, proto, taps, tap))
        except ExportError as error:
            cases.append(Result(name, layer, reason=str(error)))
    open_cases = [case for case in cases if isinstance(case, Case)]
    for draw in range(DRAWS):
        if all(case.best <= TOLERANCE for case in open_cases):
            break
        x = images(2, size, 10 + draw)
        activations, wanted, targets = _autograd(network, layers, x)
        for case, want in zip(cases, wanted, strict=True):
            if isinstance(case, Case) and case.best > TOLERANCE:
                case.compare(x.numpy(), targets, want)
    for case, want, activation in zip(cases, wanted, activations, strict=True):
        if isinstance(case, Case) and case.best > TOLERANCE:
            case.compare_exactly(activation, targets, want)
    return [case.result() if isinstance(case, Case) else case for case in cases]


class _Tapped(torch.nn.Module):
    def __init__(self, network: torch.nn.Module, layers: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.layers = network, layers

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        seen: dict[str, torch.Tensor] = {}
        with _hooked(self.network, self.layers, lambda layer, out: seen.__setitem__(layer, out.clone())):
            y = self.network(image)
        return (y, *(seen[layer] for layer in self.layers))


@contextlib.contextmanager
def _hooked(network: torch.nn.Module, layers: tuple[str, ...], function: Any) -> Iterator[None]:
    handles = [
        network.get_submodule(layer).register_forward_hook(lambda _m, _i, out, layer=layer: function(layer, out))
        for layer in layers
    ]
    yield
    for handle in handles:
        handle.remove()


def _export(network: torch.nn.Module, layers: tuple[str, ...], x: torch.Tensor) -> tuple[Any, list[str]]:
    taps = [f"tap_{i}" for i in range(len(layers))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Tapped(network, layers).eval(),
            (x,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("N")},),
            opset_version=18,
            input_names=["image"],
            output_names=["output", *taps],
            verbose=False,
        )
    assert program is not None
    return program.model_proto, taps


def _autograd(
    network: torch.nn.Module, layers: tuple[str, ...], x: torch.Tensor
) -> tuple[list[NDArray[Any]], list[NDArray[Any]], NDArray[np.int64]]:
    seen: dict[str, torch.Tensor] = {}

    def keep(layer: str, out: torch.Tensor) -> torch.Tensor:
        seen[layer] = out.clone()
        seen[layer].retain_grad()
        return seen[layer].clone()  # what comes next may write into it in place

    with _hooked(network, layers, keep):
        y = network(x.double().requires_grad_())
    targets = torch.stack(
        [y[0].topk(2).indices[1], y[1].argmax()]
    )  # SqueezeNet's other logits may be dead behind a ReLU
    y[[0, 1], targets].sum().backward()
    gradients = [seen[layer].grad.numpy() for layer in layers]  # type: ignore[union-attr]
    return [seen[layer].detach().numpy() for layer in layers], gradients, targets.numpy()


class Case:
    """One cut, opened on both runtimes; `errors` holds each image's smallest error so far, by runtime."""

    def __init__(self, name: str, layer: str, parts: Parts, cut: Cut, classes: int) -> None:
        self.name, self.layer, self.cut, self.classes = name, layer, cut, classes
        self.operators = tuple(sorted({node.op_type for node in parts.tail}))
        self.model = model = to_bytes(make_model(gradient_graph(parts.tail, classes)))
        self.exact: float | None = None
        self.nodes = len(onnx.load_from_string(model).graph.node)
        self.head = open_session(to_bytes(make_model(parts.head)), "the head", optimise=True)
        self.session = open_session(model, "the gradient graph", optimise=True)
        core = openvino.Core()
        self.compiled = core.compile_model(core.read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        self.errors = {runtime: np.full(2, np.inf) for runtime in ("onnxruntime", "openvino")}

    @classmethod
    def open(cls, name: str, layer: str, proto: Any, taps: list[str], tap: str) -> Case:
        graph = clean(proto, None)
        for value in [v for v in graph.graph.outputs if v.name in taps]:
            graph.graph.outputs.remove(value)
            if value.name == tap:
                target = value
        while (producer := target.producer()) is not None and producer.op_type == "Identity":
            assert producer.inputs[0] is not None
            target = producer.inputs[0]
        logits = find_scores(graph, None)
        cut = plan_cut(graph, target, logits, graph.graph.outputs, layer)
        return cls(name, layer, split(graph, cut, logits), cut, logits.classes)

    @property
    def best(self) -> float:
        return max(float(error.max()) for error in self.errors.values())

    def compare(self, x: NDArray[Any], targets: NDArray[np.int64], want: NDArray[Any]) -> None:
        outputs = [o.name for o in self.head.get_outputs()]
        feeds = dict(zip(outputs, self.head.run(outputs, {"image": x}), strict=True))
        assert feeds[ACTIVATION].shape == (2, *self.cut.shape)
        feeds[TARGET], feeds[SEED] = np.array([targets[0], -1]), np.zeros((2, self.classes), np.float32)
        want = self._channels_first(want)
        for runtime, run in (("onnxruntime", self._onnxruntime), ("openvino", self._openvino)):
            got = run(feeds)
            difference, scale = (np.abs(v).reshape(2, -1).max(axis=1) for v in (got - want, want))
            assert scale.min() > 0, "no gradient arrives"
            self.errors[runtime] = np.minimum(self.errors[runtime], difference / scale)

    def compare_exactly(self, activation: NDArray[Any], targets: NDArray[np.int64], want: NDArray[Any]) -> None:
        """The graph in float64, from torch's own activation, one image at a time."""
        assert not self.cut.sides
        exact = ReferenceEvaluator(to_float64(onnx.load_from_string(self.model)), new_ops=REFERENCES)
        want, activation = self._channels_first(want), self._channels_first(activation)
        feeds = {ACTIVATION: activation, TARGET: np.array([targets[0], -1]), SEED: np.zeros((2, self.classes))}
        results: Any = exact.run([GRADIENT], feeds)
        got: NDArray[Any] = np.asarray(results[0])
        self.exact = float(np.abs(got - want).max() / np.abs(want).max())

    def _channels_first(self, value: NDArray[Any]) -> NDArray[Any]:
        grid = self.cut.grid
        if grid.layout == "NHWC":
            return value.transpose(0, 3, 1, 2)
        if grid.layout == "NTC":
            return value[:, grid.prefix :].transpose(0, 2, 1).reshape(2, *grid.shape)
        return value

    def result(self) -> Result:
        errors = tuple((runtime, float(error.max())) for runtime, error in self.errors.items())
        shape = f"{self.cut.grid.layout} {' x '.join(map(str, self.cut.shape))}"
        return Result(self.name, self.layer, shape, self.operators, self.nodes, errors, self.exact)

    def _onnxruntime(self, feeds: dict[str, NDArray[Any]]) -> NDArray[Any]:
        names = {i.name for i in self.session.get_inputs()}
        result: NDArray[Any] = self.session.run([GRADIENT], {k: v for k, v in feeds.items() if k in names})[0]
        return result

    def _openvino(self, feeds: dict[str, NDArray[Any]]) -> NDArray[Any]:
        names = {name for i in self.compiled.inputs for name in i.names}
        result: NDArray[Any] = self.compiled({k: v for k, v in feeds.items() if k in names})[GRADIENT].copy()
        return result


def names() -> list[str]:
    """Every classification network of torchvision whose weights fit in 2 GB."""
    found = torchvision.models.list_models(module=torchvision.models)
    sizes = {name: torchvision.models.get_model_weights(name).DEFAULT.meta["num_params"] * 4 for name in found}
    return [name for name in found if sizes[name] < LIMIT]


def table(results: list[Result]) -> str:
    """The results as a Markdown table."""
    rows = [
        "| Network | Cut | Activation | Operators of the tail | Nodes | onnxruntime | OpenVINO | |",
        "|-|-|-|-|-|-|-|-|",
    ]
    for r in results:
        errors = dict(r.errors)
        cells = [f"{errors[k]:.1e}" if k in errors else "-" for k in ("onnxruntime", "openvino")]
        verdict = "pass" if r.passed else r.reason or "above 1e-4"
        if r.exact is not None:
            verdict += f"; the graph in float64: {r.exact:.0e}"
        rows.append(
            f"| {r.network} | {r.layer} | {r.shape} | {' '.join(r.operators)} | {r.nodes} | {' | '.join(cells)} | {verdict} |"
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*")
    parser.add_argument("--single", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.single:
        sys.stdout.write(f"RESULTS {check(options.networks[0])!r}\n")
        return
    results: list[Result] = []
    chosen = options.networks or names()
    for name in progress(chosen, len(chosen), "networks", shown=True):  # a process each, which gives its memory back
        command = [sys.executable, "-W", "ignore", "-m", "tests.networks.gradients", "--single", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [line for line in done.stdout.splitlines() if line.startswith("RESULTS ")]
        found = (
            eval(lines[0].removeprefix("RESULTS ")) if lines else [Result(name, "?", reason=done.stderr.strip()[-200:])]
        )
        results += found
        for result in found:
            logging.getLogger(__name__).warning("%s %s: %s", name, result.layer, "pass" if result.passed else result)
    sys.stdout.write(table(results) + "\n")


if __name__ == "__main__":
    main()
