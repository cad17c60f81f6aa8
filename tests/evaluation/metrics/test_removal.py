"""ROAD, infidelity, Sensitivity-n and max-sensitivity: by their definitions, pixel by pixel, and by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import pearsonr  # type: ignore[import-untyped]

from xai_deploy import Explainer
from xai_deploy.errors import OptionError
from xai_deploy.evaluation.metrics import Case, create
from xai_deploy.evaluation.metrics.road import imputed
from xai_deploy.preprocess import Prepared

from ...runtime import tiny
from . import linear, peers
from .linear import case, explained

Floats = NDArray[np.float64]
BACKENDS = ["onnxruntime", "openvino"]


def drawn(folder: Path, backend: str, layout: Any) -> Case:
    """The case of `peers`: three images of 6 x 8 pixels, each with a class of its own."""
    explainer = linear.network(folder / "net", peers.weight(), peers.BIAS, backend=backend, layout=layout)
    x = peers.inputs() if layout == "NCHW" else np.moveaxis(peers.inputs(), 1, -1)
    return case(explainer, x, peers.TARGET, peers.maps(peers.inputs(), peers.TARGET))


def p_of(image: int, planes: Floats) -> float:
    """The probability of an image's class, of other planes [C,H,W]."""
    logits = (peers.weight() * planes).sum((1, 2, 3)) + peers.BIAS
    return float((np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum())[peers.TARGET[image]])


def by_the_system(planes: Floats, known: NDArray[np.bool_]) -> Floats:
    """Rong et al., section 4.2, an equation for each removed pixel: sum_n w_n (u - u_n) = 0 over the neighbours that exist."""
    height, width = known.shape
    places = [tuple(at) for at in np.argwhere(~known)]
    a, b = np.zeros((len(places), len(places))), np.zeros((len(places), len(planes)))
    for row, (y, x) in enumerate(places):
        for down, right in ((i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j):
            at, weight = (y + down, x + right), 1 / 6 if 0 in (down, right) else 1 / 12
            if not (0 <= at[0] < height and 0 <= at[1] < width):
                continue
            a[row, row] += weight
            if known[at]:
                b[row] += weight * planes[:, at[0], at[1]]
            else:
                a[row, places.index(at)] -= weight
    filled = planes.copy()
    filled[:, ~known] = np.linalg.solve(a, b).T
    return filled


@pytest.mark.parametrize(("height", "width"), [(6, 8), (17, 23), (1, 9)])
def test_imputation_is_the_systems_solution(height: int, width: int) -> None:
    rng = np.random.default_rng(height)
    planes = rng.standard_normal((3, height, width)) * [[[1]], [[5]], [[0]]] + [[[0]], [[40]], [[7]]]
    for share in (0.1, 0.5, 0.9):
        known = rng.random((height, width)) >= share
        known[0, 0] = True
        want = by_the_system(planes, known)
        np.testing.assert_allclose(imputed(planes, known), want, rtol=0, atol=3e-3)
    block = np.ones((height, width), bool)
    block[:, : width - 1] = False
    np.testing.assert_allclose(imputed(planes, block), by_the_system(planes, block), rtol=0, atol=3e-2)
    constant = np.full((1, height, width), 3.0)
    np.testing.assert_allclose(imputed(constant, block), constant, rtol=1e-5)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_road(tmp_path: Path, backend: str, layout: str) -> None:
    """The definition with the solved system, in float64; the noise is drawn for each order from the beginning."""
    found = drawn(tmp_path, backend, layout)
    black, white = found.explainer.bundle.manifest.input.preprocess.ends()
    for noise in (0.0, 0.1):
        got = create("road", {"noise": noise, "seed": 5}).measure(found)
        for image, (planes, heat) in enumerate(zip(peers.inputs(), found.heatmaps, strict=True)):
            order = np.argsort(-heat.ravel(), kind="stable")
            means = []
            for indices in (order, order[::-1]):
                p, rng = [], np.random.default_rng(5)
                for percent in range(10, 100, 10):
                    known = np.ones(heat.size, bool)
                    known[indices[: round(percent * heat.size / 100)]] = False
                    known = known.reshape(heat.shape)
                    added = noise * np.abs(white - black)[:, None, None] * rng.standard_normal(planes.shape)
                    p.append(p_of(image, by_the_system(planes, known) + added * ~known))
                means.append(np.mean(p))
            assert got["road-most"][image] == pytest.approx(means[0], abs=2e-3)
            assert got["road-least"][image] == pytest.approx(means[1], abs=2e-3)
            assert got["road"][image] == pytest.approx(means[1] - means[0], abs=4e-3)
        assert np.abs(got["road"]).max() > 0.1


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_infidelity(tmp_path: Path, backend: str, layout: str, rescale: bool) -> None:
    """Squares of 2 x 2 pixels; b by NumPy's least squares."""
    found = drawn(tmp_path, backend, layout)
    got = create("infidelity", {"samples": 40, "patch": 0.4, "rescale": rescale, "seed": 3}).measure(found)[
        "infidelity"
    ]
    corners = np.random.default_rng(3).integers((5, 7), size=(40, 2))
    for image, (planes, heat) in enumerate(zip(peers.inputs(), found.heatmaps, strict=True)):
        sums, drops = [], []
        for y, x in corners:
            without = planes.copy()
            without[:, y : y + 2, x : x + 2] = 0
            sums.append(heat[y : y + 2, x : x + 2].sum())
            drops.append(p_of(image, planes) - p_of(image, without))
        scale = np.linalg.lstsq(np.array(sums)[:, None], np.array(drops))[0][0] if rescale else 1
        want = np.mean((scale * np.array(sums) - drops) ** 2)
        assert got[image] == pytest.approx(want, rel=1e-4, abs=1e-9)


def test_a_faithful_map_has_no_infidelity(tmp_path: Path) -> None:
    """One logit in the middle of a sigmoid, so small that p is linear in it: p falls as the map's sum does. A map turned round does
    not tell it, nor does a constant one."""
    weight = np.arange(1, 49).reshape(1, 1, 6, 8) * 1e-4
    explainer = linear.network(tmp_path / "net", weight, activation="sigmoid")
    x = np.ones((3, 1, 6, 8))
    maps = np.stack([weight[0, 0] / weight.max(), 1 - weight[0, 0] / weight.max(), np.zeros((6, 8))])
    found = case(explainer, x, [0, 0, 0], maps)
    right, wrong, none = create("infidelity", {"patch": 0.4}).measure(found)["infidelity"]
    assert right < 1e-3 * wrong < none
    correlation = create("sensitivity-n", {}).measure(found)["sensitivity-n"]
    assert correlation[0] > 0.99
    assert correlation[1] < 0.5
    assert np.isnan(correlation[2])


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_sensitivity_n(tmp_path: Path, backend: str, layout: str) -> None:
    """SciPy's correlation over the same sets: of 1, of 4 and of 38 pixels."""
    found = drawn(tmp_path, backend, layout)
    got = create("sensitivity-n", {"samples": 20, "sizes": 3, "seed": 1}).measure(found)["sensitivity-n"]
    rng = np.random.default_rng(1)
    sets = [[rng.choice(48, n, replace=False) for _ in range(20)] for n in (1, 4, 38)]  # 48 * (0.01, 0.09, 0.8)
    for image, (planes, heat) in enumerate(zip(peers.inputs(), found.heatmaps, strict=True)):
        correlations = []
        for some in sets:
            sums = [heat.ravel()[one].sum() for one in some]
            drops = []
            for one in some:
                without = planes.reshape(3, -1).copy()
                without[:, one] = 0
                drops.append(p_of(image, planes) - p_of(image, without.reshape(planes.shape)))
            correlations.append(pearsonr(sums, drops)[0])
        assert got[image] == pytest.approx(np.mean(correlations), abs=1e-4)


@pytest.mark.parametrize("kind", ["pooled", "uint8"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_max_sensitivity(tmp_path: Path, backend: str, kind: tiny.Kind) -> None:
    """The definition, an explanation at a time; more noise moves the map further."""
    explainer = Explainer(tiny.write(tmp_path / "net.xai", kind).path, backend)
    found = explained(explainer, explainer.prepare(tiny.inputs(kind, 3)).x, [1, 2, 3])
    got = create("max-sensitivity", {"samples": 4, "radius": 0.05, "seed": 2}).measure(found)["max-sensitivity"]
    rng = np.random.default_rng(2)
    noises = [rng.uniform(-1, 1, found.x.shape[1:]) for _ in range(4)]
    for i, (x, heat) in enumerate(zip(found.x.astype(np.float64), found.heatmaps, strict=True)):
        most = 0.0
        for noise in noises:
            moved = x + 0.05 * np.ptp(x) * noise
            moved = np.clip(np.rint(moved), 0, 255) if kind == "uint8" else moved
            again = explainer.explain(Prepared(moved.astype(found.x.dtype)[None]), "reciprocam", i + 1).heatmap[0]
            most = max(most, float(np.linalg.norm(again - heat) / np.linalg.norm(heat)))
        assert got[i] == pytest.approx(most, abs=1e-4)
    small = create("max-sensitivity", {"samples": 4, "radius": 0.005, "seed": 2}).measure(found)["max-sensitivity"]
    assert (small < got).all()
    found.heatmaps = np.zeros_like(found.heatmaps)
    assert np.isnan(create("max-sensitivity", {"samples": 1}).measure(found)["max-sensitivity"]).all()


@pytest.mark.parametrize(
    ("metric", "options", "message"),
    [
        ("road", {"noise": -0.1}, "road: noise and seed are 0 or more"),
        (
            "infidelity",
            {"samples": 0},
            "infidelity: samples are at least 1, seed at least 0, patch above 0 and at most 1",
        ),
        ("infidelity", {"patch": 1.5}, "infidelity: samples are at least 1"),
        ("sensitivity-n", {"samples": 2}, "sensitivity-n: samples are at least 3, sizes at least 1, seed at least 0"),
        (
            "max-sensitivity",
            {"radius": 0.0},
            "max-sensitivity: samples are at least 1, seed at least 0, radius above 0",
        ),
    ],
)
def test_refusals(metric: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        create(metric, options)
