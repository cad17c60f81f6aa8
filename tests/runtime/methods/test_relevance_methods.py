"""Relevance-CAM, LRP, CLRP and SGLRP on graphs written by hand, against the formulas of methods.md in float64."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from xai_deploy import Explainer
from xai_deploy.errors import NotApplicableError, OptionError
from xai_deploy.format import bundle as b
from xai_deploy.format.manifest import Activation

from .. import dense, tiny
from .test_dense import close, unit
from .test_methods import counting

Floats = NDArray[np.float64]
KINDS: list[dense.Kind] = ["plain", "nhwc"]
N = tiny.CLASSES
HAND = np.array([1.0, -0.5, 0.25, 0.0, 0.75])


@pytest.fixture(scope="session")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Kind -> bundle; not to be changed by a test."""
    folder = tmp_path_factory.mktemp("dense-relevance")
    kinds: tuple[dense.Kind, ...] = ("plain", "nhwc", "half")
    return {kind: dense.write(folder / f"{kind}.xai", kind) for kind in kinds}


def against(classes: Any, other: float) -> Floats:
    """1 at the target, `other` at every other class."""
    start: Floats = np.where(unit(classes) == 1, 1.0, other)
    return start


def plane(kind: dense.Kind, relevance: Floats) -> Floats:
    summed: Floats = relevance.sum(3 if kind == "nhwc" else 1)
    return summed


def softmax(logits: Floats) -> Floats:
    e = np.exp(logits - logits.max(1, keepdims=True))
    shares: Floats = e / e.sum(1, keepdims=True)
    return shares


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", [*KINDS, "half"])
def test_relevance_cam(paths: dict[str, Path], backend: str, kind: dense.Kind, count: int) -> None:
    x = dense.inputs(kind, count)
    net = dense.Reference(kind, x)
    explainer = Explainer(paths[kind], backend)
    targets = [2, None, HAND]
    found = explainer.explain_many(x, ["relevance-cam"], targets)
    starts = [
        against([2] * count, -1 / N),
        against(net.logits.argmax(1), -1 / N),
        np.tile(HAND, (count, 1)),  # a seed by hand says itself what to compare
    ]
    for explanation, start in zip(found, starts, strict=True):
        alpha = net.relevance(start).mean((2, 3), keepdims=True)
        close(explanation.raw, (alpha * net.a).sum(1), 1e-5 if kind != "half" else 5e-3)


def test_relevance_cam_without_a_contrast(paths: dict[str, Path], backend: str) -> None:
    x = dense.inputs("plain", 2)
    net = dense.Reference("plain", x)
    found = Explainer(paths["plain"], backend).explain(x, "relevance-cam", [4, 1], contrast=False)
    close(found.raw, (net.relevance(unit([4, 1])).mean((2, 3), keepdims=True) * net.a).sum(1))


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_at_the_pixels(paths: dict[str, Path], backend: str, kind: dense.Kind, count: int) -> None:
    x = dense.inputs(kind, count)
    net = dense.Reference(kind, x)
    explainer = Explainer(paths[kind], backend)
    top = net.logits.argmax(1)
    p = softmax(net.logits)
    chosen = p[np.arange(count), top][:, None]
    cases: dict[tuple[str, tuple[tuple[str, object], ...]], Floats] = {
        ("lrp", ()): unit(top.tolist()) * net.logits,
        ("sglrp", ()): np.where(unit(top.tolist()) == 1, chosen * (1 - chosen), -chosen * p),
        ("clrp", (("relu", False),)): against(top, -1 / (N - 1)),
        ("clrp", (("relu", False), ("others", "1/n"))): against(top, -1 / N),
    }
    for (method, options), start in cases.items():
        wanted = plane(kind, net.pixel_relevance(start))
        for target in (None, top.tolist()):
            close(explainer.explain(x, method, target, **dict(options)).raw, wanted, 2e-5)
    dual = np.maximum(net.pixel_relevance(against(top, -1 / (N - 1))), 0)
    close(explainer.explain(x, "clrp").raw, plane(kind, dual), 2e-5)


def test_channels(paths: dict[str, Path]) -> None:
    x = dense.inputs("plain", 2)
    relevance = dense.Reference("plain", x).pixel_relevance(unit([0, 3]) * dense.Reference("plain", x).logits)
    explainer = Explainer(paths["plain"], "onnxruntime")
    close(explainer.explain(x, "lrp", [0, 3], channels="sum-abs").raw, np.abs(relevance).sum(1))
    close(explainer.explain(x, "lrp", [0, 3], channels="max-abs").raw, np.abs(relevance).max(1))


def test_seeds_by_hand_and_contrasts_at_the_pixels(paths: dict[str, Path], backend: str) -> None:
    x = dense.inputs("plain", 2)
    net = dense.Reference("plain", x)
    explainer = Explainer(paths["plain"], backend)
    weights = np.tile(HAND, (2, 1))
    p = softmax(net.logits)
    starts = {
        "lrp": weights * net.logits,
        "clrp": weights,
        "sglrp": weights * p - (weights * p).sum(1, keepdims=True) * p,
    }
    for method, start in starts.items():
        options: dict[str, object] = {"relu": False} if method == "clrp" else {}
        close(explainer.explain(x, method, HAND, **options).raw, plane("plain", net.pixel_relevance(start)), 2e-5)
    versus = unit([1, 1]) - unit([3, 3])
    close(explainer.explain(x, "lrp", "1 vs 3").raw, plane("plain", net.pixel_relevance(versus * net.logits)), 2e-5)


def test_composites_choose_the_graph(paths: dict[str, Path], backend: str) -> None:
    x = dense.inputs("plain", 1)
    net = dense.Reference("plain", x)
    explainer = Explainer(paths["plain"], backend)
    close(
        explainer.explain(x, "lrp", 1, composite="other").raw,
        plane("plain", net.pixel_relevance(unit([1]) * net.logits, other=True)),
    )
    alpha = net.relevance(against([1], -1 / N), other=True).mean((2, 3), keepdims=True)
    close(explainer.explain(x, "relevance-cam", 1, composite="other").raw, (alpha * net.a).sum(1))


@pytest.mark.parametrize("target", [None, 3])
def test_one_run_of_head_and_graph(paths: dict[str, Path], target: int | None) -> None:
    """The prediction is found inside the graph, the contrast included: no run of the tail beside it."""
    explainer = Explainer(paths["plain"], "onnxruntime")
    explainer._network.proven.add("relevance")  # else it is compared with head and tail, once
    seen = {role: counting(explainer, role) for role in ("head", "tail", "relevance")}
    explainer.explain(dense.inputs("plain", 2), "relevance-cam", target)
    assert {role: session.batches for role, session in seen.items()} == {"head": [2], "tail": [], "relevance": [2]}


def test_several_targets_share_the_head(paths: dict[str, Path]) -> None:
    explainer = Explainer(paths["plain"], "onnxruntime")
    explainer._network.proven.add("relevance")  # else it is compared with head and tail, once
    seen = {role: counting(explainer, role) for role in ("head", "tail", "relevance")}
    explainer.explain_many(dense.inputs("plain", 3), ["relevance-cam"], [0, 1, 4])
    assert {role: session.batches for role, session in seen.items()} == {
        "head": [3],
        "tail": [],
        "relevance": [3, 3, 3],
    }


def test_missing_graphs_say_what_to_do(paths: dict[str, Path], tmp_path: Path) -> None:
    explainer = Explainer(paths["plain"], "onnxruntime")
    x = dense.inputs("plain", 1)
    for method, composite, message in (
        ("relevance-cam", "mine", r"no 'relevance-mine' graph; export the network again with --composite mine"),
        (
            "lrp",
            "mine",
            r"no 'pixel-relevance-mine' graph; .* --composite mine \(or its .toml file\) --pixel-relevance",
        ),
    ):
        with pytest.raises(NotApplicableError, match=message):
            explainer.explain(x, method, composite=composite)
    stripped = dense.write(tmp_path / "stripped.xai")
    manifest = b.parse_manifest((stripped / b.MANIFEST).read_bytes())
    kept = {role: graph for role, graph in manifest.graphs.items() if "relevance" not in role}
    (stripped / b.MANIFEST).write_bytes(replace(manifest, graphs=kept, composites={}).to_bytes())
    bare = Explainer(stripped, "onnxruntime")
    for method, message in (
        ("relevance-cam", "no 'relevance' graph; export the network again with --roles relevance, or without --roles"),
        ("clrp", "no 'pixel-relevance' graph; export the network again with --pixel-relevance"),
    ):
        with pytest.raises(NotApplicableError, match=message):
            bare.explain(x, method)
    with pytest.raises(OptionError, match=r"clrp\.others: expected one of"):
        explainer.explain(x, "clrp", others="2/n")


def test_a_start_that_is_divided_by_one_class() -> None:
    """Of one class nothing is left to compare with: the start is the class itself, not 0/0."""
    from xai_deploy.methods import create

    assert create("clrp", {}).offset(1) == 0
    assert create("relevance-cam", {}).offset(1) == -0.5
    assert create("sglrp", {}).offset(1) is None
    assert create("grad-cam", {}).offset(1) == 0


def test_a_contrast_beside_a_class_changes_nothing_for_it(paths: dict[str, Path], backend: str) -> None:
    """Each image starts as it would alone, whatever stands in its batch."""
    x = dense.inputs("plain", 3)
    explainer = Explainer(paths["plain"], backend)
    targets: list[int | str | None] = [3, "1 vs 2", None]
    for method in ("relevance-cam", "clrp", "lrp", "sglrp"):
        together = explainer.explain(x, method, targets).raw
        alone = [explainer.explain(x[i : i + 1], method, target).raw for i, target in enumerate(targets)]
        close(together, np.concatenate(alone).astype(np.float64), 1e-5)


class Confident:
    """A forward pass whose relevance is its start."""

    classes = 4
    ends_in = "softmax"

    def __init__(self, logits: NDArray[np.float32]) -> None:
        self.logits = logits

    def backward(self, role: str, seed: Any, offset: float = 0.0) -> NDArray[np.float32]:
        assert offset == 0
        start: NDArray[np.float32] = seed.dense(self.classes)[:, :, None, None]
        return start

    def weights(self, seed: Any) -> NDArray[np.float32]:
        weights: NDArray[np.float32] = seed.dense(self.classes)
        return weights

    def channels_first(self, x: NDArray[Any]) -> NDArray[Any]:
        return x.transpose(0, 2, 1, 3)  # keeps the classes apart


def test_sglrp_of_a_class_that_is_nearly_certain() -> None:
    """p_t (1 - p_t) and -p_t p_j where 1 - p_t is far below float32's rounding of p_t."""
    from xai_deploy.methods import create
    from xai_deploy.targets.seeds import Seed

    logits = np.array([[20.0, 1.0, 0.0, -2.0], [0.5, 30.0, 0.0, 1.0]], np.float32)
    p = softmax(logits.astype(np.float64))
    for target in (0, 1, 3):
        rest = p.copy()
        rest[:, target] = 0
        wanted = -p[:, [target]] * p
        wanted[:, target] = p[:, target] * rest.sum(1)
        forward: Any = Confident(logits)
        found = create("sglrp", {}).maps(forward, [Seed.of_class(np.full(2, target))])[0][..., 0]
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_sglrp_of_a_multi_label_network(tmp_path: Path, backend: str) -> None:
    """The start is the gradient of the sum of weighted sigmoids: w p (1 - p), and no class takes from another."""
    x = dense.inputs("plain", 2)
    net = dense.Reference("plain", x)
    explainer = Explainer(dense.write(tmp_path / "sigmoid.xai", activation="sigmoid"), backend)
    p = 1 / (1 + np.exp(-net.logits))
    one_against_another = unit([1, 1]) - unit([3, 3])
    cases: list[tuple[Any, Floats]] = [("1 vs 3", one_against_another), ("not 2", -unit([2, 2])), (4, unit([4, 4]))]
    for target, weights in [*cases, (HAND, np.tile(HAND, (2, 1)))]:
        found = explainer.explain(x, "sglrp", target).raw
        close(found, plane("plain", net.pixel_relevance(weights * p * (1 - p))), 2e-5)


@pytest.mark.parametrize("activation", ["independent", "normalised"])
def test_sglrp_of_outputs_that_are_probabilities(tmp_path: Path, activation: Activation) -> None:
    explainer = Explainer(dense.write(tmp_path / "shares.xai", activation=activation), "onnxruntime")
    with pytest.raises(NotApplicableError, match="sglrp: it starts from the softmax or the sigmoid of logits"):
        explainer.explain(dense.inputs("plain", 1), "sglrp")
