"""Windows and alarms: silent if nothing has changed, loud at each kind of change, and the figures by their definitions."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]

from xai_deploy.errors import InputError
from xai_deploy.heatmap import heatmap
from xai_deploy.monitor import Length, Limits, Observed, Window, judge, read_records
from xai_deploy.monitor.judging import CLASSES, CONSTANT, REGIONS
from xai_deploy.records import records

from . import made

LIMITS = Limits()


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Observed:
    return made.observed(tmp_path_factory.mktemp("usual") / "r", 200, seed=1)


@pytest.fixture(scope="module")
def same(tmp_path_factory: pytest.TempPathFactory) -> Observed:
    """Twenty windows of 40 undisturbed records."""
    return made.observed(tmp_path_factory.mktemp("same") / "r", 800, seed=2)


def judged(usual: Observed, own: Observed, records: int = 40, **more: Any) -> list[Window]:
    return judge({"": (usual, own)}, Length(records), LIMITS, **more)[0]


def figures(window: Window) -> dict[str, Any]:
    return {figure.name: figure for figure in window.figures}


def test_undisturbed_windows_are_silent(usual: Observed, same: Observed) -> None:
    windows = judged(usual, same)
    assert len(windows) == 20
    assert [window.alarms for window in windows] == [[]] * 20
    assert sum(window.count for window in windows) == 800


def test_the_reference_is_compared_with_itself_fairly(usual: Observed, same: Observed) -> None:
    """A map of the reference is part of its class's mean map. Left in, it would be alike to itself, and each window differ."""
    raw = [figures(window)["rank correlation"] for window in judged(usual, same)]
    assert max(figure.value for figure in raw) < 0.35
    [whole] = judged(usual, same, records=800)
    figure = figures(whole)["rank correlation"]
    assert abs(figure.usual - figure.here) < 0.02


@pytest.mark.parametrize(
    ("change", "figure"),
    [
        ({"certain": 1.5}, "confidence"),
        ({"width": 2.5}, "entropy"),
        ({"width": 0.8}, "highest tenth"),
        ({"corner": 0.6}, "region 4,4"),
        ({"corner": 0.6}, "border"),
        ({"corner": 3.0}, REGIONS),
        ({"turned": True}, "rank correlation"),
        ({"classes": 3}, CLASSES),
        ({"constant": 0.5}, CONSTANT),
    ],
    ids=str,
)
def test_a_change_raises_an_alarm(usual: Observed, tmp_path: Path, change: dict[str, Any], figure: str) -> None:
    """The figure that is meant for it is among those that raise it."""
    for window in judged(usual, made.observed(tmp_path / "r", 80, seed=3, **change)):
        assert figure in {one.name for one in window.alarms}, named(window)


def named(window: Window) -> list[tuple[str, float]]:
    return [(one.name, one.value) for one in window.figures]


def test_figures_by_their_definitions(tmp_path: Path) -> None:
    """Of a window, from the records themselves."""
    usual, own = made.observed(tmp_path / "a", 60, seed=4), made.observed(tmp_path / "b", 40, seed=5, corner=0.5)
    [window] = judged(usual, own)
    found = figures(window)
    values: dict[str, list[Any]] = {}
    for name in "ab":
        rows = [record for _, record in records(tmp_path / name)]
        heat = np.stack([heatmap(record.map.raw[None], *made.SIZE)[0] for record in rows]).astype(np.float64)
        heat /= heat.sum(axis=(1, 2), keepdims=True)
        chance = np.array([record.prediction[0].probability for record in rows])
        corner = heat[:, 24:, 36:].sum(axis=(1, 2))
        border = 1 - heat[:, 4:-4, 6:-6].sum(axis=(1, 2))
        energy = heat.reshape(-1, 4, 8, 4, 12).sum(axis=(2, 4)).reshape(-1, 16).mean(axis=0)
        values[name] = [chance, corner, border, energy]
    tests = len([one for one in window.figures if one.probability is not None])
    for i, name in enumerate(("confidence", "region 4,4", "border")):
        wanted = stats.ks_2samp(values["a"][i], values["b"][i], method="exact")
        assert found[name].value == pytest.approx(wanted.statistic, abs=1e-9)
        assert wanted.pvalue <= found[name].probability <= min(tests * wanted.pvalue, 1) + 1e-12
        assert (found[name].usual, found[name].here) == pytest.approx(
            (values["a"][i].mean(), values["b"][i].mean()), rel=1e-3
        )
    before, now = values["a"][3], values["b"][3]
    weights = 1 / np.log2(np.arange(2, 18))
    wanted = (before[np.argsort(-now)] * weights).sum() / (np.sort(before)[::-1] * weights).sum()
    assert found[REGIONS].value == pytest.approx(wanted, rel=1e-4)
    assert found[REGIONS].probability == pytest.approx(1 / 101), "no part of the reference is as low: 100 were drawn"
    np.testing.assert_allclose(window.mean.reshape(4, 4, 4, 4).sum(axis=(1, 3)).ravel(), now, atol=1e-3)


def test_limits(usual: Observed, tmp_path: Path) -> None:
    """An alarm needs a distance that matters and a probability below alpha; of nDCG only its limit."""
    own = made.observed(tmp_path / "r", 40, seed=6, corner=3.0)

    def alarms(**limits: Any) -> set[str]:
        windows, _ = judge({"": (usual, own)}, Length(40), replace(LIMITS, **limits))
        return {figure.name for figure in windows[0].alarms}

    assert {"region 4,4", REGIONS} <= alarms()
    assert alarms(alpha=0.0) == {REGIONS}
    assert alarms(distance=1.01) == {REGIONS}
    assert alarms(ndcg=0.0) == alarms() - {REGIONS}


def test_one_correction_for_all_windows(usual: Observed, tmp_path: Path) -> None:
    """With four windows a figure's probability is larger than that of the window alone."""
    own = made.observed(tmp_path / "r", 160, seed=7, corner=0.3)
    together, alone = judged(usual, own), judged(usual, own, last=1)
    assert len(alone) == 1
    pairs = [
        (many.probability, one.probability)
        for many, one in zip(together[-1].figures, alone[0].figures, strict=True)
        if many.probability is not None and one.probability is not None
    ]
    assert all(many >= one for many, one in pairs)
    assert any(many > 2 * one > 0 for many, one in pairs)


def test_windows_of_time(usual: Observed) -> None:
    """From multiples of the length on; one with too few records is left out, and counted."""
    start = datetime(2026, 1, 1, 11, 50, tzinfo=UTC).timestamp()
    times = np.sort(np.concatenate([start + np.arange(12), start + 600 + np.arange(70), start + 4200 + np.arange(118)]))
    own = replace(usual, time=times)
    windows, left_out = judge({"": (usual, own)}, Length(None, 3600.0), LIMITS)
    assert [window.count for window in windows] == [70, 118]
    assert [window.start for window in windows] == [start + 600, start + 4200]
    assert left_out == 12


def test_rest_of_a_count(usual: Observed, same: Observed) -> None:
    windows, left_out = judge({"": (usual, same)}, Length(390), LIMITS)
    assert ([window.count for window in windows], left_out) == ([390, 390], 20)
    windows, left_out = judge({"": (usual, same)}, Length(380), LIMITS)
    assert ([window.count for window in windows], left_out) == ([380, 380, 40], 0)


def test_too_few(usual: Observed, same: Observed) -> None:
    with pytest.raises(InputError, match=r"the reference has 200 maps by grad-cam, and needs 300 \(--least\)"):
        judge({"": (usual, same)}, Length(400), replace(LIMITS, least=300))
    with pytest.raises(InputError, match=r"no window has the 30 records that it needs \(--least\); give a longer one"):
        judge({"": (usual, same)}, Length(None, 1e-6), LIMITS)


def test_the_number_that_is_explained(usual: Observed, same: Observed) -> None:
    """Of a segmenter or an embedding it moves where no probability does. Where it is not known there is no figure."""
    assert not np.isnan(usual.score).all()
    moved = replace(usual, score=np.linspace(0, 1, len(usual))), replace(same, score=np.linspace(0.3, 1.3, len(same)))
    for window in judged(*moved, records=400):
        assert {figure.name for figure in window.alarms} == {"score"}
    [unknown] = judged(usual, replace(same, score=np.full(len(same), np.nan)), records=800)
    assert "score" not in figures(unknown)


def test_maps_that_lie_in_few_regions(usual: Observed) -> None:
    """As of a detector, whose objects are anywhere: the order of the regions' mean shares changes by chance, and is no alarm.

    The same order turned round is one.
    """
    rng = np.random.default_rng(4)
    energy = rng.dirichlet(np.full(16, 0.015) * (1 + np.arange(16) / 8), 800)
    scattered = replace(usual, energy=energy[:200])
    own = replace(scattered, energy=energy[200:400])
    windows = judged(scattered, own)
    order = [figures(window)[REGIONS] for window in windows]
    assert min(figure.value for figure in order) < 0.9
    assert [figure.alarm for figure in order] == [False] * 5
    assert all(figure.probability > 0.01 for figure in order if figure.value < 0.9)
    [turned] = judged(scattered, replace(own, energy=energy[200:400, ::-1]), records=200)
    assert figures(turned)[REGIONS].alarm
    assert figures(turned)[REGIONS].probability < 0.01


def test_what_is_read(tmp_path: Path) -> None:
    """In the order of time, over all chains, by method."""
    made.write(tmp_path / "r", 5, seed=1)
    made.write(tmp_path / "r", 7, seed=2)
    rows = sorted((record for _, record in records(tmp_path / "r")), key=lambda record: record.time)
    found, left_out = read_records(tmp_path / "r", beside_recording=True)
    [own] = found.values()
    assert (len(own), left_out, own.title) == (12, 0, "grad-cam")
    assert own.predicted.tolist() == [record.prediction[0].index for record in rows]
    assert own.time.tolist() == [datetime.fromisoformat(record.time).timestamp() for record in rows]
    np.testing.assert_allclose(own.maps.sum(axis=(1, 2)), 1, atol=1e-5)


def test_the_reference_again_is_silent(tmp_path: Path) -> None:
    """Records beside themselves, and the same images once more. Each map was part of the mean map that it was compared with.

    Of classes with five maps each, the mean holds a fifth of the map itself: all rank correlations rose.
    """
    usual = made.observed(tmp_path / "r", 60, seed=6)
    assert len(np.unique(usual.explained)) == 12
    [window] = judged(usual, usual, records=60)
    assert not window.alarms
    assert {figure.value for figure in window.figures if figure.kind == "ks"} == {0.0}
    again = replace(usual, inputs=np.array([f"{i}" for i in range(60)]))  # as if they were other images
    [window] = judged(usual, again, records=60)
    assert figures(window)["rank correlation"].value > 0.3
