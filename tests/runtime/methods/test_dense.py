"""The gradient family on graphs written by hand, against NumPy in float64: formulas, the protocol's feeds, runs, refusals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from xai_deploy import Bundle, Contrast, Explainer
from xai_deploy.backends import Session
from xai_deploy.backends.backend import DeviceTensor, Tensor
from xai_deploy.backends.onnxruntime import BoundSession
from xai_deploy.errors import NonFiniteOutputError, OptionError, TargetError
from xai_deploy.forward import ForwardPass
from xai_deploy.methods import create
from xai_deploy.opened_network import OpenedNetwork
from xai_deploy.targets.seeds import Seed

from .. import dense, oracles, tiny
from .test_methods import counting

Floats = dense.Floats
SEED = np.array([1.0, -0.5, 0.25, 0.0, 0.75])
CAMS = ("grad-cam", "grad-cam++", "xgrad-cam", "hires-cam", "layer-cam")


@pytest.fixture(scope="session")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Kind -> bundle; not to be changed by a test."""
    folder = tmp_path_factory.mktemp("dense")
    kinds: tuple[dense.Kind, ...] = ("plain", "nhwc", "half", "minus-infinity")
    return {kind: dense.write(folder / f"{kind}.xai", kind) for kind in kinds}


def close(found: NDArray[Any], wanted: Floats, tolerance: float = 1e-5) -> None:
    """Equal to a share of the largest value; every image's map must vary."""
    assert found.shape == wanted.shape
    assert found.dtype == np.float32
    assert (np.ptp(wanted.reshape(len(wanted), -1), axis=1) > 0).all(), "the oracle is flat and would accept anything"
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


def unit(classes: Sequence[int]) -> Floats:
    return np.eye(tiny.CLASSES)[list(classes)]


def formula(method: str, a: Floats, g: Floats, eps: float = 0.0) -> Floats:
    """methods.md: a, g [n,K,h,w] -> [n,h,w]."""
    total = a.sum((2, 3), keepdims=True)

    def ratio(above: Floats, below: Floats) -> Floats:
        share: Floats = np.where(below == 0, 0, above / np.where(below == 0, 1, below))
        return share

    match method:
        case "grad-cam":
            summand = g.mean((2, 3), keepdims=True) * a
        case "grad-cam++":
            alpha = ratio(g**2, 2 * g**2 + total * g**3 + eps)
            summand = (alpha * np.maximum(g, 0)).sum((2, 3), keepdims=True) * a
        case "xgrad-cam":
            summand = ratio((g * a).sum((2, 3), keepdims=True), total + eps) * a
        case "hires-cam":
            summand = g * a
        case _:
            summand = np.maximum(g, 0) * a
    raw: Floats = np.maximum(summand.sum(1), 0)
    return raw


def test_the_graphs_written_by_hand_are_gradients() -> None:
    """Central differences: the reference itself is held to account."""
    x = dense.inputs("plain", 2).astype(np.float64)
    net, step = dense.Reference("plain", x), 1e-6
    direction = np.random.default_rng(1).standard_normal(x.shape)
    above, below = (dense.Reference("plain", x + sign * step * direction).logits @ SEED for sign in (1, -1))
    slope = (net.input_gradient(np.tile(SEED, (2, 1))) * direction).sum((1, 2, 3))
    np.testing.assert_allclose(slope, (above - below) / (2 * step), rtol=1e-6)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", ["plain", "nhwc", "half"])
def test_cams(paths: dict[str, Path], backend: str, kind: dense.Kind, count: int) -> None:
    x = dense.inputs(kind, count)
    net = dense.Reference(kind, x)
    best, last = net.logits.argmax(1).tolist(), net.logits.argmin(1).tolist()
    per_image: list[Any] = [Contrast(0, "beagle"), 1, None][:count]
    mixed = np.stack([unit([0])[0] - unit([2])[0], unit([1])[0], unit(best)[-1]][:count])
    wanted: list[tuple[Any, Floats]] = [
        (None, unit(best)),
        (0, unit([0] * count)),
        ("0 vs BEAGLE", unit([0] * count) - unit([2] * count)),
        ([Contrast(None, i) for i in last], unit(best) - unit(last)),
        (per_image, mixed),
        (SEED, np.tile(SEED, (count, 1))),
        (np.arange(1, 1 + 5 * count).reshape(count, 5) / 8, np.arange(1, 1 + 5 * count).reshape(count, 5) / 8),
    ]
    specs: list[Any] = [*CAMS, ("grad-cam++", {"eps": 1e-3}), ("xgrad-cam", {"eps": 0.5})]
    found = Explainer(paths[kind], backend).explain_many(x, specs, [target for target, _ in wanted])
    for m, spec in enumerate(specs):
        method, eps = (spec, 0.0) if isinstance(spec, str) else (spec[0], spec[1]["eps"])
        for t, (_, seed) in enumerate(wanted):
            raw = formula(method, net.a, net.gradient(seed), eps)
            e = found[m * len(wanted) + t]
            close(e.raw, raw, 2e-3 if kind == "half" else 1e-5)
            np.testing.assert_array_equal(e.target, seed.argmax(1))
            np.testing.assert_allclose(e.logits, net.logits, atol=1e-2 if kind == "half" else 1e-5)
    assert [None if e.versus is None else e.versus.tolist() for e in found[: len(wanted)]] == [
        None, None, [2] * count, last, [2, -1, -1][:count], None, None,
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["plain", "nhwc"])
@pytest.mark.parametrize("count", [1, 3])
def test_at_the_pixels(paths: dict[str, Path], backend: str, kind: dense.Kind, count: int) -> None:
    x = dense.inputs(kind, count)
    net, axis = dense.Reference(kind, x), 3 if kind == "nhwc" else 1
    explainer = Explainer(paths[kind], backend)
    for target, seed in (("3 vs 1", unit([3] * count) - unit([1] * count)), (SEED, np.tile(SEED, (count, 1)))):
        g, guided = net.input_gradient(seed), net.input_gradient(seed, guided=True)
        methods = ["gradient", "input-x-gradient", "guided-backprop", "guided-grad-cam"]
        plain, product, fine, both = (e.raw for e in explainer.explain_many(x, methods, [target]))
        close(plain, np.abs(g).max(axis))
        close(product, (g * x).sum(axis))
        close(fine, np.abs(guided).max(axis))
        coarse = formula("grad-cam", net.a, net.gradient(seed))
        up = np.expand_dims(oracles.upsample(torch.from_numpy(coarse)).numpy(), axis)
        close(both, np.abs(guided * up).max(axis))
        for channels, reduced in (("sum", guided.sum(axis)), ("sum-abs", np.abs(guided).sum(axis))):
            close(explainer.explain(x, "guided-backprop", target, channels=channels).raw, reduced)


@pytest.mark.parametrize("steps", [1, 7])
def test_integrated_gradients_are_the_quadrature(paths: dict[str, Path], backend: str, steps: int) -> None:
    """Node by node, so that it is exact and not merely converged; in batches that fall across images."""
    x = dense.inputs("plain", 3)
    nodes, shares = np.polynomial.legendre.leggauss(steps)
    seed = unit([2] * 3) - unit([0] * 3)
    total = sum(
        share / 2 * dense.Reference("plain", x * (node + 1) / 2).input_gradient(seed)
        for node, share in zip(nodes, shares, strict=True)
    )
    e = Explainer(paths["plain"], backend, batch_size=4).explain(x, "integrated-gradients", "2 vs 0", steps=steps)
    close(e.raw, np.asarray(total * x, np.float64).sum(1))


def test_integrated_gradients_are_complete(paths: dict[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    x = dense.inputs("plain", 2)
    change = (dense.Reference("plain", x).logits - dense.Reference("plain", 0 * x).logits) @ SEED
    raw = Explainer(paths["plain"], "onnxruntime").explain(x, "integrated-gradients", SEED).raw
    np.testing.assert_allclose(raw.sum((1, 2)), change, rtol=0.01)
    assert not caplog.records


def test_a_change_of_rounding_size_is_no_incomplete_integral(
    paths: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    x = dense.inputs("plain", 2) * np.float32(1e-4)  # almost the baseline itself
    Explainer(paths["plain"], "onnxruntime").explain(x, "integrated-gradients", 1, steps=5)
    assert not caplog.records


def test_grad_cam_plus_plus_at_its_pole() -> None:
    """Where the denominator is 0, alpha is 0: 2 g^2 + S g^3 with S = -2 and g = 1."""

    class Two:
        activation = np.array([[[[1.0, -3.0]]]], np.float32)

        def backward(self, role: str, seed: Seed) -> NDArray[np.float32]:
            return np.array([[[[1.0, 0.5]]]], np.float32)

    forward: Any = Two()
    raw = create("grad-cam++", {}).maps(forward, [Seed.of_class(np.array([0]))])
    np.testing.assert_array_equal(raw, np.array([[[[0.5, 0.0]]]]))  # w = 0 + 0.25 / (0.5 - 0.25) * 0.5


def test_smooth_methods(paths: dict[str, Path], backend: str) -> None:
    x = dense.inputs("plain", 2)
    explainer = Explainer(paths["plain"], backend)
    small = Explainer(paths["plain"], backend, batch_size=3)
    for smooth, plain in (("smoothgrad", "gradient"), ("smooth-grad-cam++", "grad-cam++")):
        wanted = explainer.explain(x, plain, 1).raw
        distance = []
        for sigma in (0.3, 0.01, 0.0001):
            e, again = (one.explain(x, smooth, 1, samples=5, sigma=sigma, seed=3) for one in (explainer, small))
            np.testing.assert_allclose(again.raw, e.raw, rtol=0, atol=1e-5 * np.abs(e.raw).max())
            distance.append(np.abs(e.raw - wanted).max() / np.abs(wanted).max())
        assert distance[0] > distance[1] > distance[2]
        assert distance[0] > 0.05
        assert distance[2] < 0.01
        first, second = (explainer.explain(x, smooth, 1, samples=5, seed=3).raw for _ in range(2))
        np.testing.assert_array_equal(first, second)


def test_xgrad_cam_refuses_an_epsilon_that_is_none(paths: dict[str, Path]) -> None:
    for eps in (0.0, -1e-7):
        with pytest.raises(OptionError, match=f"xgrad-cam: eps is a small positive number, or none; not {eps}"):
            Explainer(paths["plain"], "onnxruntime").explain(dense.inputs("plain", 1), "xgrad-cam", eps=eps)


@pytest.mark.parametrize("kind", ["plain", "half"])
def test_the_heads_tensors_stay_on_the_device(paths: dict[str, Path], kind: dense.Kind) -> None:
    """Sessions bound to a device, here the CPU; the head's own tensor object goes into the gradient graph."""
    opened, x = Bundle.open(paths[kind]), dense.inputs(kind, 2)

    def session(role: str) -> Recorder:
        model = onnxruntime.InferenceSession(opened.graph(role), providers=["CPUExecutionProvider"])
        return Recorder(BoundSession(model, "cpu", 0))

    sessions = {role: session(role) for role in ("head", "gradient")}
    network = OpenedNetwork(opened.manifest, sessions.__getitem__, 16, False)
    network.proven.add("gradient")
    forward = ForwardPass(network, x)
    net, seeds = dense.Reference(kind, x), [Seed.of_class(np.array([0, 1])), Seed.contrast(*np.array([[0, 0], [2, 2]]))]
    for seed, raw in zip(seeds, create("grad-cam", {}).maps(forward, seeds), strict=True):
        wanted = formula("grad-cam", net.a, net.gradient(seed.dense(tiny.CLASSES).astype(np.float64)))
        close(raw, wanted, 2e-3 if kind == "half" else 1e-5)
    fed = [f["activation"] for f in sessions["gradient"].feeds]
    assert len(fed) == 2
    assert fed[0] is fed[1]
    assert isinstance(fed[0], DeviceTensor)
    assert not isinstance(fed[0], np.ndarray)


class Recorder:
    """Keeps what a session is fed."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.feeds: list[Mapping[str, Any]] = []
        self.fetched: list[Sequence[str]] = []

    def run(self, feeds: Mapping[str, Tensor], fetch: Sequence[str]) -> dict[str, Tensor]:
        self.feeds.append(dict(feeds))
        self.fetched.append(list(fetch))
        return self.session.run(feeds, fetch)


def test_what_the_graph_is_fed(paths: dict[str, Path], backend: str) -> None:
    explainer = Explainer(paths["plain"], backend)
    recorder = Recorder(explainer._sessions("gradient"))
    explainer._sessions.opened["gradient"] = recorder
    x = dense.inputs("plain", 2)
    for method in ("grad-cam", "layer-cam"):
        explainer.explain_many(x, [method], [None, 3, "0 vs 2", SEED])
    for first in (0, 4):
        fed = recorder.feeds[first : first + 4]
        assert [f["target"].tolist() for f in fed] == [[-1, -1], [3, 3], [-2, -2], [-2, -2]]
        assert recorder.fetched[first : first + 2] == [["gradient", "logits", "scores"], ["gradient"]]
        np.testing.assert_array_equal(fed[2]["seed"], unit([0, 0]) - unit([2, 2]))
        np.testing.assert_array_equal(fed[3]["seed"], np.tile(SEED, (2, 1)).astype(np.float32))
        assert not fed[0]["seed"].any()
        assert all(f["target"].dtype == np.int64 and f["seed"].dtype == np.float32 for f in fed)
    assert len(recorder.feeds) == 8
    zeros = [recorder.feeds[i]["seed"] for i in (0, 1, 4, 5)]
    assert all(np.shares_memory(zeros[0], other) for other in zeros), "the zeros are made anew for every run"


def proven(path: Path) -> Explainer:
    """An explainer that has compared its graphs with head and tail already."""
    explainer = Explainer(path, "onnxruntime", batch_size=16)
    explainer._network.proven |= set(explainer.bundle.manifest.graphs)
    return explainer


@pytest.mark.parametrize(
    "target", [None, 2, "0 vs 2", SEED, [Contrast(0, 1), 2], ["0 vs 1", 2]], ids=lambda target: str(target)[:12]
)
def test_no_other_graph_is_opened(paths: dict[str, Path], target: Any) -> None:
    """Neither the tail where the gradient gives the logits, nor the head where the graph starts at the image."""
    x = dense.inputs("plain", 2)
    specs: dict[str, list[Any]] = {
        "activation": [*CAMS, ("smooth-grad-cam++", {"samples": 2})],
        "image": [
            "gradient",
            "input-x-gradient",
            ("smoothgrad", {"samples": 2}),
            ("integrated-gradients", {"steps": 30}),
        ],
    }
    explainer = proven(paths["plain"])
    explainer.explain_many(x, specs["activation"], [target])
    assert set(explainer._sessions.opened) == {"head", "gradient"}
    explainer = proven(paths["plain"])
    explainer.explain_many(x, specs["image"], [target])
    assert set(explainer._sessions.opened) == {"input-gradient"}
    explainer = proven(paths["plain"])
    explainer.explain(x, "guided-backprop", target)
    assert set(explainer._sessions.opened) == {"guided-gradient"}


def test_runs(paths: dict[str, Path]) -> None:
    explainer = proven(paths["plain"])
    head, tail, gradient, at_image = (counting(explainer, r) for r in ("head", "tail", "gradient", "input-gradient"))
    x = dense.inputs("plain", 1)

    def runs(methods: list[Any], targets: list[Any]) -> list[int]:
        for counter in (head, tail, gradient, at_image):
            counter.batches.clear()
        explainer.explain_many(x, methods, targets)
        return [len(counter.batches) for counter in (head, tail, gradient, at_image)]

    worst = int(explainer.predict(x)[0].argmin())
    assert runs(list(CAMS), [None]) == [1, 0, 1, 0]
    assert runs(list(CAMS), [2, "0 vs 1", SEED]) == [1, 0, 3, 0]
    assert runs(["grad-cam"], ["top3", SEED]) == [1, 0, 4, 0]
    assert runs(["grad-cam"], [Contrast(None, worst)]) == [1, 1, 1, 0]  # which class is predicted must be known first
    assert runs(["grad-cam"], [Contrast(None, worst), 2]) == [1, 0, 2, 0]
    # another method asks for logits first, and finds them
    assert runs([("reciprocam", {"score": "softmax"}), "grad-cam"], ["0 vs 1"]) == [1, 2, 1, 0]
    assert tail.batches == [16, 4], "the tail is run for more than ReciproCAM's 20 positions"
    # the image itself; 20 points in two batches for each of two targets; the baseline
    assert runs([("integrated-gradients", {"steps": 20})], [0, "1 vs 2"]) == [0, 0, 0, 1 + 2 * 2 + 1]


def test_minus_infinity_does_not_hide_behind_a_relu(paths: dict[str, Path], backend: str) -> None:
    explainer = Explainer(paths["minus-infinity"], backend)
    for method, role in (("layer-cam", "gradient"), ("gradient", "input-gradient"), ("guided-backprop", "guided-grad")):
        for target in (None, 1, "0 vs 1"):
            with pytest.raises(NonFiniteOutputError, match=f"{method}: the graph '{role}.*' gave NaN or infinity"):
                explainer.explain(dense.inputs("plain", 1), method, target)


def test_the_predicted_class_is_not_contrasted_with_itself(paths: dict[str, Path]) -> None:
    explainer, x = Explainer(paths["plain"], "onnxruntime"), dense.inputs("plain", 1)
    best = int(explainer.predict(x).argmax())
    for target in (f"-1 vs {best}", Contrast(best, None), [Contrast(None, best)]):
        with pytest.raises(TargetError, match=f"class {best} is an image's predicted class and would be contrasted wi"):
            explainer.explain(x, "grad-cam", target)
    with pytest.raises(TargetError, match="the predicted class is contrasted with itself"):
        explainer.explain(x, "grad-cam", Contrast(-1, None))
