"""Insertion and Deletion: by hand, against RISE's evaluation one pixel at a time, and beside OpenVINO XAI's."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from xai_deploy import Explainer
from xai_deploy.errors import OptionError
from xai_deploy.evaluation.metrics import create
from xai_deploy.evaluation.metrics.curves import _BATCH

from ...runtime import tiny
from . import linear, oracle, peers
from .linear import case
from .test_confidence import HAND, HEAT, KINDS, by_hand, drawn

NUMPY_1 = [name for name in ("trapezoid",) if hasattr(np, name)]


def deletion(**options: object) -> Callable[[Any], NDArray[np.float64]]:
    return lambda found: create("deletion", options).measure(found)["deletion"]


def insertion(**options: object) -> Callable[[Any], NDArray[np.float64]]:
    return lambda found: create("insertion", options).measure(found)["insertion"]


# The map ranks ln 2, ln 3, -ln 10, ln 5. Deleted in turn, the odds are 3, 3/2, 1/2, 5, 1; inserted 1, 2, 6, 3/5, 3.
@pytest.mark.parametrize(
    ("steps", "deleted", "inserted"),
    [
        (4, (3 / 8 + 3 / 5 + 1 / 3 + 5 / 6 + 1 / 4) / 4, (1 / 4 + 2 / 3 + 6 / 7 + 3 / 8 + 3 / 8) / 4),
        (2, (3 / 8 + 1 / 3 + 1 / 4) / 2, (1 / 4 + 6 / 7 + 3 / 8) / 2),
        (1, (3 / 4 + 1 / 2) / 2, (3 / 4 + 1 / 2) / 2),
        # of 4 pixels 1, 3 and 4: steps of 1/4, 1/2, 1/4, each weighted as wide as it is
        (
            3,
            (3 / 4 + 3 / 5) / 8 + (3 / 5 + 5 / 6) / 4 + (5 / 6 + 1 / 2) / 8,
            (1 / 2 + 2 / 3) / 8 + (2 / 3 + 3 / 8) / 4 + (3 / 8 + 3 / 4) / 8,
        ),
    ],
)
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_by_hand(tmp_path: Path, backend: str, steps: int, deleted: float, inserted: float) -> None:
    found = by_hand(tmp_path, backend)
    assert deletion(steps=steps)(found) == pytest.approx([deleted], abs=1e-7)
    assert insertion(steps=steps, baseline="zeros")(found) == pytest.approx([inserted], abs=1e-7)


@pytest.mark.parametrize("steps", [4, 5, 9, 1000, "cells", "1000"])
def test_no_more_steps_than_pixels(tmp_path: Path, steps: object) -> None:
    found = by_hand(tmp_path)
    assert deletion(steps=steps)(found) == pytest.approx(deletion(steps=4)(found), abs=1e-12)


def test_steps_are_cells_of_the_target_layer(tmp_path: Path) -> None:
    """4 x 5 cells of 16 x 20 pixels: 20 steps of 16."""
    explainer = Explainer(tiny.write(tmp_path / "tiny.xai").path, "onnxruntime")
    rng = np.random.default_rng(1)
    x, heat = tiny.inputs("pooled", 2), rng.random((2, tiny.HEIGHT, tiny.WIDTH))
    found = case(explainer, x, [1, 2], heat)
    for metric in (deletion, insertion):
        cells = metric(steps="cells", baseline="mean")(found)
        np.testing.assert_allclose(cells, metric(steps=20, baseline="mean")(found), rtol=1e-12)
        assert np.abs(cells - metric(steps=30, baseline="mean")(found)).min() > 1e-6


def test_equal_pixels_in_reading_order(tmp_path: Path) -> None:
    """A constant map, and one of two levels: deleted left to right, top to bottom."""
    explainer = linear.network(tmp_path / "net", HAND)
    found = case(explainer, np.ones((2, 1, 2, 2)), [0, 0], [np.zeros((2, 2)), [[0, 1], [1, 0]]])
    in_order = [3, 3 / 2, 1 / 2, 1 / 10, 1]  # odds after ln 2, ln 3, ln 5, -ln 10
    two_levels = [3, 1, 1 / 5, 1 / 10, 1]  # ln 3, ln 5, ln 2, -ln 10
    wanted = [np.mean([(a / (1 + a) + b / (1 + b)) / 2 for a, b in pairwise(o)]) for o in (in_order, two_levels)]
    assert deletion(steps=4)(found) == pytest.approx(wanted, abs=1e-7)


def test_each_image_its_own_class(tmp_path: Path) -> None:
    """Of two classes the areas add up to 1."""
    explainer = linear.network(tmp_path / "net", HAND)
    found = case(explainer, np.ones((3, 1, 2, 2)), [0, 1, 0], np.stack([HEAT] * 3))
    for metric in (deletion(steps=3), insertion(steps=3)):
        first, second, third = metric(found)
        assert first == pytest.approx(third, abs=1e-12)
        assert first + second == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize("baseline", ["zeros", "black", "mean", "blur"])
@pytest.mark.parametrize("kind", KINDS)
def test_rises_evaluation(tmp_path: Path, kind: str, baseline: str) -> None:
    """eclique/RISE's CausalMetric (commit fac5d54), whose baselines are zeros and the blurred image; steps of 5 pixels."""
    found, net = drawn(tmp_path, kind, 2)
    # rounded to 8 bits or float16, a blurred pixel may fall on the other side
    tolerance = 2e-4 if found.x.dtype != np.float32 else 1e-6
    for inserting, metric in ((True, insertion), (False, deletion)):
        wanted = [
            oracle.curve(net, x, heat, int(t), 7, baseline, inserting)
            for x, heat, t in zip(found.x, found.heatmaps, found.target, strict=True)
        ]
        measured = metric(steps=7, baseline=baseline)(found)
        np.testing.assert_allclose(measured, wanted, rtol=0, atol=tolerance)


def test_baselines_differ(tmp_path: Path) -> None:
    found, _ = drawn(tmp_path, "normalised", 3)
    for metric in (deletion, insertion):
        areas = [metric(baseline=b)(found) for b in ("zeros", "black", "mean", "blur")]
        for i, a in enumerate(areas):
            for b in areas[:i]:
                assert np.abs(a - b).min() > 1e-4
    np.testing.assert_array_equal(deletion()(found), deletion(baseline="zeros", steps=30)(found))
    np.testing.assert_array_equal(insertion()(found), insertion(baseline="blur", steps=30)(found))


@pytest.mark.parametrize("steps", [_BATCH - 1, _BATCH, _BATCH + 1, 2 * _BATCH + 1])
def test_more_steps_than_a_batch(tmp_path: Path, steps: int) -> None:
    """One class whose score falls pixel by pixel: x = 1, w = 1/size, sigmoid; the map runs backwards."""
    weight = np.arange(1, steps + 1).reshape(1, 1, 1, steps) / steps**2
    explainer = linear.network(tmp_path / "net", weight, activation="sigmoid")
    found = case(explainer, np.ones((1, 1, 1, steps)), [0], np.arange(steps).reshape(1, 1, steps) / steps)
    left = [np.arange(1, steps - i + 1).sum() / steps**2 for i in range(steps + 1)]
    p = 1 / (1 + np.exp(-np.array(left)))
    assert deletion(steps=steps)(found) == pytest.approx([(p.sum() - p[0] / 2 - p[-1] / 2) / steps], abs=1e-7)


def test_openvino_xais(tmp_path: Path) -> None:
    """openvino-xai 1.1.0's InsertionDeletionAUC, zeros for what is not there, see `peers`."""
    x, target = peers.inputs(), peers.TARGET
    found = case(linear.network(tmp_path / "net", peers.weight(), peers.BIAS), x, target, peers.maps(x, target))
    for name, metric in (("deletion", deletion), ("insertion", insertion)):
        measured = metric(steps=peers.STEPS, baseline="zeros")(found)
        np.testing.assert_allclose(measured, peers.OPENVINO_XAI[name], rtol=0, atol=1e-6)


def test_numpy_1_has_all_that_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`trapezoid` came with NumPy 2; the runtime takes 1.26."""
    for name in NUMPY_1:
        monkeypatch.delattr(np, name)
    assert np.isfinite(deletion(steps=4)(by_hand(tmp_path)))


@pytest.mark.parametrize("metric", ["insertion", "deletion"])
def test_refusals(metric: str) -> None:
    for steps in (0, -3, "0"):
        with pytest.raises(OptionError, match=f'{metric}: steps are at least 1, or "cells", not'):
            create(metric, {"steps": steps})
    with pytest.raises(OptionError, match=rf"{metric}\.steps: expected"):
        create(metric, {"steps": "pixels"})
    with pytest.raises(OptionError, match=rf"{metric}\.baseline: expected one of 'zeros', 'black', 'mean', 'blur'"):
        create(metric, {"baseline": "noise"})
    assert create(metric, {"steps": "12"}) == create(metric, {"steps": 12})


def test_curves_by_hand(tmp_path: Path) -> None:
    """p at even shares of the pixels; from the odds above."""
    found = by_hand(tmp_path)
    (deleted,) = create("deletion", {"steps": 4}).measure(found)["deletion curve"]
    (inserted,) = create("insertion", {"steps": 4, "baseline": "zeros"}).measure(found)["insertion curve"]
    np.testing.assert_allclose(deleted, [3 / 4, 3 / 5, 1 / 3, 5 / 6, 1 / 2], atol=1e-7)
    np.testing.assert_allclose(inserted, [1 / 2, 2 / 3, 6 / 7, 3 / 8, 3 / 4], atol=1e-7)


def test_long_curves_are_interpolated(tmp_path: Path) -> None:
    """300 steps of one pixel: 101 points on the line between the steps' values, one every third step."""
    steps = 300
    weight = np.arange(1, steps + 1).reshape(1, 1, 1, steps) / steps**2
    explainer = linear.network(tmp_path / "net", weight, activation="sigmoid")
    found = case(explainer, np.ones((1, 1, 1, steps)), [0], np.arange(steps).reshape(1, 1, steps) / steps)
    (curve,) = create("deletion", {"steps": steps}).measure(found)["deletion curve"]
    left = [np.arange(1, steps - i + 1).sum() / steps**2 for i in range(0, steps + 1, 3)]
    np.testing.assert_allclose(curve, 1 / (1 + np.exp(-np.array(left))), atol=1e-7)
