"""LIME: against the package lime 0.2.0.1 with the same segments and samples, the networks in torch, float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from lime.lime_image import LimeImageExplainer  # type: ignore[import-untyped]
from numpy.typing import NDArray

from xai_deploy import Explainer
from xai_deploy.errors import OptionError
from xai_deploy.methods import create

from .. import oracles, tiny
from ..conftest import Bundles

KINDS: tuple[tiny.Kind, ...] = ("pooled", "residual", "nhwc", "uint8")
SIZE = (tiny.HEIGHT, tiny.WIDTH)


class Draws(np.random.RandomState):
    """Gives the package our samples in place of its own: NumPy's Generator draws other numbers than its RandomState."""

    def __init__(self, seed: int, samples: int) -> None:
        super().__init__(seed)
        self.own, self.samples = np.random.default_rng(seed), samples

    def randint(self, low: Any, high: Any = None, size: Any = None, dtype: Any = int) -> Any:
        """The package asks for `samples` rows, one number per segment, in one call."""
        assert (low, high) == (0, 2)
        return (self.own.random(size) < 0.5).astype(int)


def cells(count: int) -> NDArray[np.int64]:
    """`grid:count`, [H,W]."""
    rows, columns = (np.arange(side) * count // side for side in SIZE)
    return rows[:, None] * count + columns


def package(net: tiny.Tiny, x: NDArray[Any], samples: int, seed: int, score: str, **options: Any) -> NDArray[Any]:
    """The package's weights of one prepared image, at its pixels, [classes,H,W]."""
    planes = x if net.kind == "nhwc" else np.moveaxis(x, 0, -1)

    def scores(images: NDArray[Any]) -> NDArray[Any]:
        own = images if net.kind == "nhwc" else np.moveaxis(images, -1, 1)
        logits = net.logits(np.rint(own) if net.kind == "uint8" else own)
        return np.asarray(torch.softmax(logits, 1) if score == "probability" else logits)

    labels = cells(3)
    explained = LimeImageExplainer(
        kernel_width=options.pop("width", 0.25), feature_selection="none", random_state=Draws(seed, samples)
    ).explain_instance(
        planes.astype(np.float64),
        scores,
        labels=range(tiny.CLASSES),
        top_labels=None,
        num_samples=samples,
        batch_size=64,
        segmentation_fn=lambda _: labels,
        random_seed=0,
        **options,
    )
    weights = [[value for _, value in sorted(explained.local_exp[c])] for c in range(tiny.CLASSES)]
    return np.array(weights)[:, labels]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_package(bundles: Bundles, backend: str, kind: tiny.Kind, count: int) -> None:
    net, x = bundles(kind), tiny.inputs(kind, count)
    explainer, given = Explainer(net.path, backend, batch_size=8), oracles.network_input(kind, x)
    for seed, score, options, theirs in (
        (0, "probability", {}, {}),
        (3, "logit", {"width": 0.4, "baseline": "zeros"}, {"width": 0.4, "hide_color": 0}),
    ):
        spec = {"segments": "grid:3", "samples": 50, "seed": seed, "score": score, **options}
        found = explainer.explain_many(x, [("lime", spec)], range(tiny.CLASSES))
        want = np.stack([package(net, one, 50, seed, score, **theirs) for one in given], axis=1)
        assert np.ptp(want, axis=(2, 3)).min() > 5e-5
        for got, maps in zip(found, want, strict=True):
            assert got.raw.shape == (count, *SIZE)
            np.testing.assert_allclose(got.raw, maps, rtol=0, atol=1e-6 * max(1, np.abs(maps).max()))
            assert got.signed == (True,) * count


def test_its_standard_error(bundles: Bundles, backend: str, caplog: pytest.LogCaptureFixture) -> None:
    """That of the weights over other draws: within a quarter of the spread of 24."""
    explainer, x = Explainer(bundles("pooled").path, backend, batch_size=64), tiny.inputs("pooled", 1)
    spec = {"segments": "grid:3", "samples": 120}
    found = [explainer.explain(x, "lime", 1, seed=seed, **spec) for seed in range(24)]
    values = np.stack([one.raw[0] for one in found])
    corners = [np.argwhere(cells(3) == label)[0] for label in range(9)]
    spread = np.sqrt(np.mean([values[:, row, column].var(ddof=1) for row, column in corners]))
    assert {key for one in found for key in one.diagnostics} == {
        "standard_error",
        "relative_error",
        "passes",
        "score_range",
    }
    said = "standard_error"
    mean = np.sqrt(np.mean([one.diagnostics[said][0] ** 2 for one in found]))
    assert 0.75 < mean / spread < 1.25
    few = explainer.explain(x, "lime", 1, segments="grid:3", samples=30).diagnostics[said][0]
    assert few > 1.5 * mean
    assert not caplog.records
    explainer.explain(x, "lime", 1, segments="grid:8", samples=70)
    assert "lime: chance makes more than half of the values; give more samples, or fewer segments" in caplog.text


def test_batches_of_any_size_give_the_same(bundles: Bundles) -> None:
    x = tiny.inputs("uint8", 3)
    maps = [
        Explainer(bundles("uint8").path, "onnxruntime", batch_size=size)
        .explain(x, "lime", 1, segments="grid:2", samples=21, score="logit")
        .raw
        for size in (1, 7, 64)
    ]
    for other in maps[1:]:
        np.testing.assert_allclose(other, maps[0], rtol=0, atol=2e-6 * np.abs(maps[0]).max())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 1}, "lime: samples are at least 2, not 1"),
        ({"seed": -1}, "lime: seed is 0 or more, not -1"),
        ({"width": 0.0}, "lime: width and alpha are above 0"),
        ({"alpha": math.nan}, "lime: width and alpha are above 0|expected a finite number"),
        ({"segments": "grid"}, r"lime: segments are grid:N, slic:N or a file of labels \(\.npy, \.png\), not 'grid'"),
        ({"segments": "grid:51"}, "lime: segments=grid:51 asks for 2601 segments; 1 to 2500 are possible"),
        ({"segments": "slic:0"}, "lime: segments=slic:0 asks for 0 segments; 1 to 2500 are possible"),
        ({"baseline": "grey"}, r"lime\.baseline: "),
    ],
)
def test_refusals(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        create("lime", options)
