"""Pearson's and Spearman's correlation and the overlap of the highest pixels, against SciPy and the definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from xai_deploy.similarity import pearson, spearman, top_overlap

from . import peers

Maps = NDArray[np.float64]
SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 5)).filter(lambda shape: shape[0] * shape[1] > 1)


@st.composite
def pairs(draw: st.DrawFn, many_ties: bool = True) -> tuple[Maps, Maps]:
    """Two maps of one shape: of a few levels, so that most pixels have their like, or of any numbers at all."""
    shape = draw(SHAPES)
    levels = st.integers(-3, 3).map(float)
    anything = st.floats(-1e6, 1e6, width=32)
    elements = draw(st.sampled_from([levels, anything])) if many_ties else anything
    a, b = (draw(hnp.arrays(np.float64, shape, elements=elements)) for _ in range(2))
    return a, b


def varies(*maps: Maps) -> bool:
    """Far enough from constant that SciPy does not warn."""
    return all(np.ptp(m) > 1e-9 * np.abs(m).max() for m in maps)


@given(pairs())
@settings(max_examples=150, deadline=None)
def test_pearson_is_scipys(maps: tuple[Maps, Maps]) -> None:
    assume(varies(*maps))
    a, b = maps
    assert pearson(a, b) == pytest.approx(stats.pearsonr(a.ravel(), b.ravel())[0], abs=1e-9)


@given(pairs())
@settings(max_examples=150, deadline=None)
def test_spearman_is_scipys(maps: tuple[Maps, Maps]) -> None:
    a, b = maps
    assume(np.ptp(a) > 0 < np.ptp(b))
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a.ravel(), b.ravel())[0], abs=1e-12)


@given(pairs(), st.sampled_from([0.05, 0.07, 0.1, 0.25, 0.5, 1.0]))
@settings(max_examples=100, deadline=None)
def test_top_overlap_is_its_definition(maps: tuple[Maps, Maps], share: float) -> None:
    a, b = maps
    assume(np.ptp(a) > 0 < np.ptp(b))
    count = max(-(-round(share * 100) * a.size // 100), 1)  # in whole percents, rounded up
    tops = [set(sorted(range(m.size), key=lambda i, m=m: (-m.flat[i], i))[:count]) for m in (a, b)]  # type: ignore[misc]
    assert top_overlap(a, b, share) == pytest.approx(len(tops[0] & tops[1]) / count, abs=1e-15)


@given(pairs())
@settings(max_examples=60, deadline=None)
def test_symmetric_and_bounded(maps: tuple[Maps, Maps]) -> None:
    a, b = maps
    for measure, low in ((pearson, -1), (spearman, -1), (top_overlap, 0)):
        there, back = measure(a, b), measure(b, a)
        np.testing.assert_array_equal(there, back)
        assert np.isnan(there) == (np.ptp(a) == 0 or np.ptp(b) == 0)
        assert np.isnan(there) or low <= there <= 1
        if np.ptp(a) > 0:
            assert measure(a, a) == pytest.approx(1, abs=1e-12)


@given(pairs(many_ties=True))
@settings(max_examples=60, deadline=None)
def test_monotone_and_affine_maps_change_nothing(maps: tuple[Maps, Maps]) -> None:
    a, b = maps
    rising = np.searchsorted(np.unique(a), a) ** 3.0  # strictly rising in a
    np.testing.assert_array_equal(spearman(a, b), spearman(rising, b))
    np.testing.assert_allclose(spearman(a, b), -spearman(-a, b), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(top_overlap(a, b), top_overlap(rising, b))
    assume(varies(a, b))
    assert pearson(8 * a, b) == pytest.approx(float(pearson(a, b)), abs=1e-12)
    assert pearson(-8 * a, b) == pytest.approx(-float(pearson(a, b)), abs=1e-12)


@given(hnp.arrays(np.float64, (2, 2, 3, 3, 2), elements=st.integers(0, 4).map(float)))
@settings(max_examples=30, deadline=None)
def test_a_batch_is_its_maps_one_by_one(maps: Maps) -> None:
    a, b = maps
    for measure in (pearson, spearman, top_overlap):
        found = measure(a, b)
        assert found.shape == (2, 3)
        assert found.dtype == np.float64
        for index in np.ndindex(2, 3):
            np.testing.assert_array_equal(found[index], measure(a[index], b[index]))


@pytest.mark.parametrize("value", [0.0, 0.1, 0.3, 1e-300, 1e9 + 0.1, float(np.float32(0.1))])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (16, 20)])
def test_constant_maps_correlate_with_nothing(value: float, shape: tuple[int, int]) -> None:
    """The mean of many 0.1 is not 0.1: what is left of it is no map."""
    constant, other = np.full(shape, value), np.arange(math.prod(shape), dtype=np.float64).reshape(shape)
    for measure in (pearson, spearman, top_overlap):
        for a, b in ((constant, other), (other, constant), (constant, constant)):
            assert np.isnan(measure(a, b))
            assert np.isnan(measure(a.astype(np.float32), b.astype(np.float32)))


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e-20, 1e150])
def test_scale_does_not_matter(scale: float) -> None:
    """The squares of the smallest and the largest of these are 0 and infinity in float64."""
    a, b = np.array([[1.0, 2], [3, 5]]), np.array([[2.0, 1], [3, 9]])
    assert pearson(scale * a, scale * b) == pytest.approx(stats.pearsonr(a.ravel(), b.ravel())[0], abs=1e-12)


def test_nan_stays_nan() -> None:
    a, b = np.array([[1.0, 2], [np.nan, 5]]), np.array([[2.0, 1], [3, 9]])
    assert np.isnan(pearson(a, b))
    assert np.isnan(spearman(a, b))
    assert np.isnan(spearman(b, a))


def test_by_hand() -> None:
    """Ranks 1, 2.5, 2.5, 4 beside 1, 2, 3, 4: covariance 4.5, variances 4.5 and 5."""
    a, b = np.array([[0.0, 7], [7, 9]]), np.array([[1.0, 2], [3, 40]])
    assert spearman(a, b) == pytest.approx(4.5 / math.sqrt(4.5 * 5), abs=1e-15)
    # 7 % of 100 pixels are 7, though 0.07 * 100 is a little more; of 30 pixels 2.1, rounded up to 3
    row = np.arange(100.0).reshape(4, 25)
    shifted = np.roll(row.ravel(), 1).reshape(4, 25)  # its highest are one further right; 99 is first
    assert top_overlap(row, shifted, 0.07) == pytest.approx(6 / 7, abs=1e-15)
    assert top_overlap(row[:, :10], -row[:, :10], 0.07) == 0
    assert top_overlap(np.array([[1.0, 1, 1, 0]]), np.array([[1.0, 0, 1, 1]]), 0.5) == 1 / 2


def test_quantus() -> None:
    """quantus 0.6.0's correlation_pearson and correlation_spearman, see `peers`."""
    a, b = peers.maps(peers.inputs(), peers.TARGET), peers.maps(peers.inputs(), peers.OTHER)
    np.testing.assert_allclose(pearson(a, b), peers.QUANTUS["pearson"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(spearman(a, b), peers.QUANTUS["spearman"], rtol=0, atol=1e-12)


def test_8_bit_maps() -> None:
    a, b = np.array([[0, 255], [3, 9]], np.uint8), np.array([[0, 1], [200, 9]], np.uint8)
    for measure in (pearson, spearman, top_overlap):
        np.testing.assert_array_equal(measure(a, b), measure(a.astype(np.float64), b.astype(np.float64)))
