"""Boxes around what is hot, against scikit-image's labels, region by region."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.measure import label, regionprops

from xai_deploy.pictures.boxes import HotBox, hot_boxes

Array = NDArray[np.float32]


def by_skimage(values: Array, threshold: float) -> list[Any]:
    parts = regionprops(label(values >= threshold, connectivity=2), intensity_image=values.astype(np.float64))  # type: ignore[no-untyped-call]
    found = []
    for part in parts:
        top, left, bottom, right = part.bbox
        heat = part.image_intensity.sum() / values.sum(dtype=np.float64)
        found.append((left, top, right, bottom, heat, part.intensity_max))
    return sorted(found, key=lambda one: -one[4])


@pytest.mark.parametrize("shape", [(1, 1), (1, 17), (23, 1), (13, 29), (64, 47)])
@pytest.mark.parametrize("smooth", [0, 3])
@pytest.mark.parametrize("threshold", [0.05, 0.5, 0.9, 1.0])
def test_random_maps(shape: tuple[int, int], smooth: int, threshold: float) -> None:
    for seed in range(4):
        values: Array = np.random.default_rng(seed).random(shape, np.float32)
        for _ in range(smooth):
            padded = np.pad(values, 1, mode="edge")
            values = (padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]) / np.float32(4)
        values = (values - values.min()) / (np.ptp(values) or 1)
        found, wanted = hot_boxes(values, threshold), by_skimage(values, threshold)
        assert len(found) == len(wanted)
        np.testing.assert_allclose(sorted(found), sorted(wanted), rtol=1e-6)
        np.testing.assert_allclose([box.heat for box in found], [one[4] for one in wanted], rtol=1e-6)


def test_shapes_that_join_late() -> None:
    """Spirals, combs and diagonals: parts whose runs meet only rows later."""
    spiral = np.array(
        [
            [1, 1, 1, 1, 1, 1, 1],
            [0, 0, 0, 0, 0, 0, 1],
            [1, 1, 1, 1, 1, 0, 1],
            [1, 0, 0, 0, 1, 0, 1],
            [1, 0, 1, 1, 1, 0, 1],
            [1, 0, 0, 0, 0, 0, 1],
            [1, 1, 1, 1, 1, 1, 1],
        ],
        np.float32,
    )
    comb = np.zeros((9, 21), np.float32)
    comb[:, ::2] = 1
    assert len(hot_boxes(comb, 0.5)) == 11
    comb[8] = 1
    for values in (spiral, comb, np.eye(9, dtype=np.float32), np.eye(9, dtype=np.float32)[::-1], comb[::-1]):
        assert [box[:4] for box in hot_boxes(values, 0.5)] == [one[:4] for one in by_skimage(values, 0.5)]
        assert len(hot_boxes(values, 0.5)) == 1


def test_conventions_by_hand() -> None:
    values = np.zeros((5, 8), np.float32)
    values[1, 2:4] = 0.5, 0.75
    values[2, 4] = 0.5  # joined by a corner
    values[4, 7] = 1
    assert hot_boxes(values, 0.5) == [HotBox(2, 1, 5, 3, 1.75 / 2.75, 0.75), HotBox(7, 4, 8, 5, 1 / 2.75, 1.0)]
    assert hot_boxes(np.zeros((4, 4), np.float32), 0.5) == []
