"""Ablation-CAM: against the paper's formula in torch, float64, one channel at a time, and pytorch-grad-cam."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from xai_deploy import Explainer
from xai_deploy.errors import NotApplicableError

from ...evaluation.metrics import linear
from .. import oracles, tiny
from ..conftest import Bundles
from .test_gradient_methods import one_hot
from .test_methods import assert_close, counting

TARGETS: list[Any] = [[3, 1, 0], "not 1", "0 vs 2", np.array([0.5, -1.0, 0.25, 0.0, 2.0])]
SEEDS: list[NDArray[Any]] = [one_hot([3, 1, 0]), -one_hot([1] * 3), one_hot([0] * 3) - one_hot([2] * 3)]
SEEDS.append(np.tile(TARGETS[-1], (3, 1)))


def by_formula(net: tiny.Tiny, x: NDArray[Any], seed: NDArray[Any], score: str, divisor: str) -> NDArray[np.float64]:
    """seed [n,classes] -> [n,h,w]; "not a" of probabilities is 1 - p_a."""
    activation, side = net.head(x)
    maps = np.zeros((len(x), tiny.H, tiny.W))
    for i in range(len(x)):
        beside = None if side is None else side[i : i + 1]
        constant = 1 if score == "softmax" and seed[i].min() == -1 and seed[i].max() == 0 else 0

        def y(a: torch.Tensor, beside: Any = beside, i: int = i, constant: int = constant) -> float:
            logits = net.tail(a, beside)[0]
            return float((logits.softmax(0) if score == "softmax" else logits).numpy() @ seed[i]) + constant

        whole = y(activation[i : i + 1])
        for k in range(tiny.CHANNELS):
            ablated = activation[i : i + 1].clone()
            ablated[0, k] = 0
            below = abs(whole) if divisor == "magnitude" else whole
            maps[i] += (whole - y(ablated)) / below * activation[i, k].numpy()
    return maps


def check(raw: NDArray[Any], signed: NDArray[Any]) -> None:
    """The ReLU of a signed map; channels may cancel out, so rounding is a share of the largest magnitude before it."""
    scale = np.abs(signed).max()
    assert np.ptp(signed) > 1e-3 * scale > 0
    np.testing.assert_allclose(raw, np.maximum(signed, 0), rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize(("kind", "pixelwise"), [("pooled", True), ("pooled", False), ("residual", False)])
@pytest.mark.parametrize("count", [1, 3])
def test_formula(bundles: Bundles, backend: str, kind: tiny.Kind, pixelwise: bool, count: int) -> None:
    net, x = bundles(kind, pixelwise), tiny.inputs(kind, count)
    explainer = Explainer(net.path, backend, batch_size=4)
    targets = [TARGETS[0][:count], *TARGETS[1:]]
    for score, divisor in (("logit", "magnitude"), ("logit", "score"), ("softmax", "magnitude")):
        spec = ("ablation-cam", {"score": score, "divisor": divisor})
        found = explainer.explain_many(x, [spec], targets)
        for e, seed in zip(found, SEEDS, strict=True):
            check(e.raw, by_formula(net, x, seed, score, divisor))
        assert sum(e.raw.any() for e in found) > 1


@pytest.mark.parametrize("kind", ["nhwc", "uint8"])
def test_other_inputs(bundles: Bundles, backend: str, kind: tiny.Kind) -> None:
    net, x = bundles(kind, False), tiny.inputs(kind, 2)
    wanted = by_formula(net, oracles.network_input(kind, x), one_hot([1, 1]), "logit", "magnitude")
    check(Explainer(net.path, backend).explain(x, "ablation-cam", 1).raw, wanted)


def test_runs(bundles: Bundles) -> None:
    """One run of the tail for each channel that is not all zeros, for all targets; none if the tail is linear."""
    x = tiny.inputs("residual", 2)
    explainer = Explainer(bundles("residual", False).path, "onnxruntime", batch_size=8)
    tail = counting(explainer, "tail")
    explainer.explain_many(x, ["ablation-cam"], ["top3", 0])
    live = int(bundles("residual", False).head(x)[0].numpy().any(axis=(2, 3)).sum())
    assert sum(tail.batches) == live + 2
    assert max(tail.batches) == 8
    explainer = Explainer(bundles("pooled", True).path, "onnxruntime")
    tail = counting(explainer, "tail")
    explainer.explain(tiny.inputs("pooled", 1), "ablation-cam")
    assert sum(tail.batches) <= 2


def test_pytorch_grad_cam(bundles: Bundles) -> None:
    """Its weights, for a score above 0 and activations that are not negative."""
    peer = pytest.importorskip("pytorch_grad_cam")
    torch.manual_seed(2)
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 4, 4), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(120, 5)
    )
    w = tiny.weights()
    layers[0].load_state_dict({"weight": torch.tensor(w["conv1"]), "bias": torch.tensor(w["bias1"])})
    x = tiny.inputs("pooled", 2)
    pooled = np.repeat(w["linear"], tiny.H * tiny.W, axis=0).T / (tiny.H * tiny.W)
    layers[3].load_state_dict({"weight": torch.tensor(pooled), "bias": torch.tensor(w["bias"])})
    logits = layers(torch.tensor(x))
    assert (logits.max(1).values > 0).all()
    best = logits.argmax(1).tolist()
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    targets = [ClassifierOutputTarget(one) for one in best]
    with peer.AblationCAM(model=layers, target_layers=[layers[1]]) as cam:
        theirs = cam.get_cam_weights(
            torch.tensor(x), layers[1], targets, layers[:2](torch.tensor(x)).detach().numpy(), None
        )
    activation = layers[:2](torch.tensor(x)).detach().numpy()
    wanted = np.maximum((theirs[..., None, None] * activation).sum(1), 0)
    assert_close(
        Explainer(bundles("pooled", False).path, "onnxruntime").explain(x, "ablation-cam", best).raw, wanted, 1e-4
    )


def test_one_class(tmp_path: Any) -> None:
    explainer = linear.network(tmp_path / "net", np.ones((1, 1, 6, 5)), activation="sigmoid")
    with pytest.raises(
        NotApplicableError, match="ablation-cam: score 'softmax' is always 1 for a network of one class"
    ):
        explainer.explain(np.ones((1, 6, 5), np.float32), "ablation-cam", score="softmax")
