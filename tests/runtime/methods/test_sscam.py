"""SS-CAM and IS-CAM: against their formulas in torch, float64, one mask at a time, and torch-cam's order of steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from xai_deploy import Bundle, Explainer
from xai_deploy.errors import NotApplicableError, OptionError
from xai_deploy.methods import create, left_out

from .. import oracles, tiny
from ..conftest import Bundles
from .test_methods import counting

N = 3
Changed = Callable[[NDArray[Any], int], list[NDArray[Any]]]


def noisy(mask: NDArray[Any], channel: int) -> list[NDArray[Any]]:
    return [mask + 0.5 * np.random.default_rng([7, channel, i]).standard_normal(mask.shape) for i in range(N)]


def even(mask: NDArray[Any], channel: int) -> list[NDArray[Any]]:
    return [mask * (i + 1) / N for i in range(N)]


def cumulative(mask: NDArray[Any], channel: int) -> list[NDArray[Any]]:
    """torch-cam: `_coeff += (sidx + 1) / self.num_samples`."""
    strengths, total = [], 0.0
    for i in range(N):
        total += (i + 1) / N
        strengths.append(total)
    return [mask * strength for strength in strengths]


VARIANTS: list[tuple[str, dict[str, Any], Changed]] = [
    ("ss-cam", {"samples": N, "sigma": 0.5, "seed": 7}, noisy),
    ("is-cam", {"samples": N}, even),
    ("is-cam", {"samples": N, "strength": "cumulative"}, cumulative),
]


def formula(
    net: tiny.Tiny, x: NDArray[Any], seed: NDArray[Any], score: str, over_channels: bool, changed: Changed
) -> Any:
    """Images in the network's layout, seed [classes] -> maps [n,h,w]."""
    activations, maps = net.head(oracles.network_input(net.kind, x))[0], []
    for image, activation in zip(x, activations, strict=True):
        weights, kept = [], []
        for k, channel in enumerate(activation):
            if channel.min() == channel.max():
                continue
            up = oracles.upsample(channel[None])[0].numpy()
            mask = (up - up.min()) / (up.max() - up.min())
            values = []
            for other in changed(mask, k):
                masked = image * (other[..., None] if net.kind in ("nhwc", "uint8") else other[None])
                masked = np.rint(masked) if net.kind == "uint8" else masked
                logits = net.logits(oracles.network_input(net.kind, masked[None]))[0]
                values.append(float((logits.softmax(0) if score == "softmax" else logits).numpy() @ seed))
            weights.append(sum(values) / N)
            kept.append(channel)
        shares = torch.tensor(weights, dtype=torch.float64)
        shares = shares.softmax(0) if over_channels else shares
        maps.append(torch.einsum("k,khw->hw", shares, torch.stack(kept)).relu().numpy())
    return np.stack(maps)


@pytest.mark.parametrize(("name", "options", "changed"), VARIANTS, ids=["ss", "is", "cumulative"])
@pytest.mark.parametrize("kind", ["residual", "nhwc"])
def test_formula(
    bundles: Bundles, backend: str, kind: tiny.Kind, name: str, options: dict[str, Any], changed: Changed
) -> None:
    net, x = bundles(kind), tiny.inputs(kind, 3)
    explainer = Explainer(net.path, backend, batch_size=4)  # divides neither the samples nor the channels
    seeds = [np.eye(tiny.CLASSES)[1], np.eye(tiny.CLASSES)[0] - np.eye(tiny.CLASSES)[2]]
    for score, over_channels in (("logit", True), ("softmax", False)):
        spec: Any = (name, {**options, "score": score, "channel_softmax": over_channels})
        for e, seed in zip(explainer.explain_many(x, [spec], [1, "0 vs 2"]), seeds, strict=True):
            wanted = formula(net, x, seed, score, over_channels, changed)
            assert e.raw.shape == wanted.shape
            np.testing.assert_allclose(e.raw, wanted, rtol=0, atol=1e-4 * max(np.abs(wanted).max(), 1e-2))
            if over_channels:
                assert wanted.any()
                [alone] = explainer.explain_many(x[1:2], [spec], [1])
                one = formula(net, x[1:2], seeds[0], score, True, changed)
                np.testing.assert_allclose(alone.raw, one, rtol=0, atol=1e-4 * np.abs(one).max())


@pytest.mark.parametrize("name", ["ss-cam", "is-cam"])
def test_a_dead_image_beside_another(bundles: Bundles, name: str) -> None:
    """Its map is zero and says why; the other's is what it is alone. Together they were refused as NaN."""
    x = tiny.inputs("pooled", 2)
    x[0] = 0  # no channel of the layer varies
    explainer = Explainer(bundles("pooled").path, "onnxruntime")
    both, alone = (explainer.explain(given, name, 1, samples=N) for given in (x, x[1:]))
    assert not both.raw[0].any()
    assert "dead" in str(both.constant[0])
    assert alone.raw.any()
    np.testing.assert_allclose(both.raw[1], alone.raw[0], rtol=1e-5)


def test_8_bit_images(bundles: Bundles) -> None:
    """Fainter masks give images of 8 bits; noise and strengths above 1 do not."""
    net, x = bundles("uint8"), tiny.inputs("uint8", 2)
    explainer = Explainer(net.path, "onnxruntime")
    wanted = formula(net, x, np.eye(tiny.CLASSES)[2], "logit", True, even)
    np.testing.assert_allclose(
        explainer.explain(x, "is-cam", 2, samples=N).raw, wanted, rtol=0, atol=2e-3 * wanted.max()
    )
    for name, options in (("ss-cam", {}), ("is-cam", {"strength": "cumulative"})):
        with pytest.raises(NotApplicableError, match=f"{name}: the network takes uint8 images"):
            explainer.explain(x, name, 2, **options)
    assert "takes uint8 images" in left_out([Bundle.open(net.path).manifest], "all")["ss-cam"]


def test_runs(bundles: Bundles) -> None:
    """samples x channels that vary, for all targets at once; each batch holds one image's rows."""
    explainer = Explainer(bundles("pooled").path, "onnxruntime", batch_size=8)
    x = tiny.inputs("pooled", 2)
    varying = int((np.ptp(explainer_activation(bundles, x), axis=(2, 3)) > 0).sum())
    head = counting(explainer, "head")
    explainer.explain_many(x, [("ss-cam", {"samples": N})], ["top3"])
    assert sum(head.batches) == 2 + N * varying
    assert max(head.batches) == 8


def explainer_activation(bundles: Bundles, x: NDArray[Any]) -> NDArray[Any]:
    return bundles("pooled").head(x)[0].numpy()


def test_refusals() -> None:
    with pytest.raises(OptionError, match="ss-cam: samples are at least 1, not 0"):
        create("ss-cam", {"samples": 0})
    with pytest.raises(OptionError, match="is-cam: samples are at least 1, not 0"):
        create("is-cam", {"samples": 0})
