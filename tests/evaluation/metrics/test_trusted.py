"""The metrics of the set `trusted`: by hand, and figures of Quantus 0.6 (`peers.py`)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import entropy  # type: ignore[import-untyped]

from xai_deploy.errors import OptionError
from xai_deploy.evaluation.metrics import create
from xai_deploy.evaluation.plan import choose_metrics, without_randomised
from xai_deploy.preprocess import Prepared

from . import linear, peers
from .linear import case, explained
from .test_confidence import HAND, HEAT, by_hand
from .test_localisation import HEAT as HEAT_23
from .test_localisation import LEFT, measured, some

BACKENDS = ["onnxruntime", "openvino"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_srg_by_hand(tmp_path: Path, backend: str) -> None:
    """The odds are 3 before. Most first (ln 2, ln 3, -ln 10, ln 5): 3/2, 1/2, 5, 1; least first: 3/5, 6, 2, 1."""
    found = by_hand(tmp_path, backend)
    most = (3 / 8 + 3 / 5 + 1 / 3 + 5 / 6 + 1 / 4) / 4
    least = (3 / 8 + 3 / 8 + 6 / 7 + 2 / 3 + 1 / 4) / 4
    result = create("srg", {"steps": 4, "baseline": "zeros"}).measure(found)
    assert result["srg"] == pytest.approx([least - most], abs=1e-7)
    assert result["srg curve, least first"][0] == pytest.approx([3 / 4, 3 / 8, 6 / 7, 2 / 3, 1 / 2], abs=1e-7)


def test_srg_of_a_map_turned_round(tmp_path: Path) -> None:
    """The other sign; and 0 for the mean of both orders."""
    explainer = linear.network(tmp_path / "net", peers.weight(), peers.BIAS)
    x, heat = peers.inputs(), peers.maps(peers.inputs(), peers.TARGET)
    one = create("srg", {}).measure(case(explainer, x, peers.TARGET, heat))["srg"]
    other = create("srg", {}).measure(case(explainer, x, peers.TARGET, 1 - heat))["srg"]
    assert np.abs(one).min() > 0.005
    assert one == pytest.approx(-other, abs=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_monotonicity_by_hand(tmp_path: Path, backend: str) -> None:
    """In ascending order ln 5, -ln 10, ln 3, ln 2: the second step falls. Without ln 10 none does; backwards all do."""
    found = by_hand(tmp_path, backend)
    assert measured(found, "monotonicity") == {"monotonicity": [0], "monotonicity-share": [0.75]}
    rising = linear.network(tmp_path / f"rising-{backend}", np.abs(HAND), backend=backend)
    for target, share in ((0, 1.0), (1, 0.0)):
        got = measured(case(rising, np.ones((1, 1, 2, 2)), [target], HEAT[None]), "monotonicity")
        assert got == {"monotonicity": [share], "monotonicity-share": [share]}
    still = linear.network(tmp_path / f"still-{backend}", 0 * HAND, backend=backend)  # p never falls, nor does it rise
    got = measured(case(still, np.ones((1, 1, 2, 2)), [0], HEAT[None]), "monotonicity")
    assert got == {"monotonicity": [1], "monotonicity-share": [1]}


def test_monotonicity_begins_with_the_lowest(tmp_path: Path) -> None:
    """Steps of two and of three pixels: 1 - 1.5, 1 + 1 + 1; from the other end neither falls."""
    explainer = linear.network(tmp_path / "net", [[[[1, -1.5, 1, 1, 1]]], [[[0] * 5]]])
    found = case(explainer, np.ones((2, 1, 1, 5)), [0, 0], [[[1, 2, 3, 4, 5]], [[5, 4, 3, 2, 1]]])
    got = create("monotonicity", {"steps": 2}).measure(found)
    assert got["monotonicity-share"].tolist() == [0.5, 1]
    assert got["monotonicity"].tolist() == [0, 1]


def test_accuracy_by_hand(tmp_path: Path) -> None:
    """Of the four highest pixels 1, 0.75, 0.5, 0.25 the mask holds 1, 0.75 and 0.25; then a mask of one
    pixel, which is not the highest; no mask; a map of zeros."""
    last = np.zeros((2, 3), bool)
    last[1, 2] = True
    lower = np.array([[0, 1, 0], [1, 1, 1]], bool)  # the fifth highest is no hit
    found = some(tmp_path, [HEAT_23] * 4 + [0 * HEAT_23], masks=[LEFT, last, lower, None, LEFT])
    np.testing.assert_allclose(
        create("mass-accuracy", {}).measure(found)["mass-accuracy"],
        [2 / 2.7, 0.2 / 2.7, 2.2 / 2.7, np.nan, 0],
        atol=1e-7,
    )
    np.testing.assert_allclose(
        create("rank-accuracy", {}).measure(found)["rank-accuracy"], [3 / 4, 0, 3 / 4, np.nan, 0], atol=1e-12
    )


def test_accuracy_of_quantus(tmp_path: Path) -> None:
    explainer = linear.network(tmp_path / "net", peers.weight(), peers.BIAS)
    x = peers.inputs()
    found = case(explainer, x, peers.TARGET, peers.maps(x, peers.TARGET), masks=peers.regions())
    for name, theirs in (("mass-accuracy", "RelevanceMassAccuracy"), ("rank-accuracy", "RelevanceRankAccuracy")):
        assert create(name, {}).measure(found)[name] == pytest.approx(peers.QUANTUS[theirs], abs=1e-6)


def test_emprt(tmp_path: Path) -> None:
    """Against SciPy's entropy of NumPy's histogram, of the last of two random networks; a constant map has none to compare with."""
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((2, 1, 8, 9)), rng.standard_normal((2, 1, 8, 9)), rng.random((2, 1, 8, 9)) ** 9]
    networks = [linear.network(tmp_path / str(i), w) for i, w in enumerate(weights)]
    found = explained(networks[0], np.ones((2, 1, 8, 9)), [0, 1], randomised=networks[1:])
    last = networks[2].explain(Prepared(found.x), "reciprocam", [0, 1]).heatmap
    for bins in (100, 5):
        before, after = (
            np.array([entropy(np.histogram(one, bins)[0]) for one in maps]) for maps in (found.heatmaps, last)
        )
        got = create("emprt", {"bins": bins}).measure(found)["emprt"]
        assert got == pytest.approx((after - before) / before, abs=1e-12)
        assert got.max() < -0.1
    flat = case(networks[0], found.x, [0, 1], np.zeros((2, 8, 9)), randomised=networks[1:])
    assert np.isnan(create("emprt", {}).measure(flat)["emprt"]).all()
    assert math.isclose(
        create("emprt", {}).measure(found)["emprt"][0], create("emprt", {"bins": 100}).measure(found)["emprt"][0]
    )


def test_the_set(caplog: pytest.LogCaptureFixture) -> None:
    """Members that need what is not there are left out, and a line says so; members that are named keep their options."""
    asked = choose_metrics(["trusted", ("srg", {"steps": 5})], boxes=False, masks=False)
    names = [name for name, _ in asked]
    assert ("srg", {"steps": 5}) in asked
    assert names.count("srg") == 1
    assert "mass-accuracy" not in names
    assert "emprt" in names
    left = without_randomised(["trusted"], asked, False, [])
    assert "emprt" not in [name for name, _ in left]
    assert (
        "trusted metrics: left out are mass-accuracy (give --masks); rank-accuracy (give --masks); emprt (export with"
        in caplog.text
    )
    assert without_randomised(["trusted", "emprt"], asked, True, []) == list(asked)
    with pytest.raises(OptionError, match="trusted: is a set of metrics and takes no options; name the metric"):
        choose_metrics([("trusted", {"steps": 5})], boxes=False, masks=False)


@pytest.mark.parametrize(
    ("metric", "options", "message"),
    [
        ("srg", {"steps": 0}, 'srg: steps are at least 1, or "cells", not 0'),
        ("monotonicity", {"steps": 0}, "monotonicity: steps are at least 1, not 0"),
        ("emprt", {"bins": 1}, "emprt: bins are at least 2, not 1"),
    ],
)
def test_refusals(metric: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        create(metric, options)
