"""Sums over RISE's masks by their grids, beside the same sums over the masks themselves."""

from __future__ import annotations

import numpy as np
import pytest

from xai_deploy.methods.rise import Rise
from xai_deploy.methods.rise_masks import Enlarged, near


@pytest.mark.parametrize(
    ("size", "cells", "p"), [((16, 20), 3, 0.5), ((13, 31), 8, 0.3), ((7, 9, 11), 4, 0.6), ((5, 4), 1, 0.5)]
)
def test_sums_are_those_of_the_masks(size: tuple[int, ...], cells: int, p: float) -> None:
    method, enlarged = Rise(cells=cells, p=p), Enlarged(size, cells, p)
    rng = np.random.default_rng(3)
    drawn = [method._grid(rng, *size) for _ in range(40)]
    masks = np.stack([method._enlarged(*one, *size) for one in drawn]).astype(np.float64) - p
    grids, offsets = np.array([one[0] for one in drawn], np.float64), np.array([one[1] for one in drawn])
    weights = rng.standard_normal(40)
    np.testing.assert_allclose(enlarged.total(grids, offsets, weights), np.tensordot(weights, masks, 1), atol=1e-5)

    coarse = masks
    for axis, parts in enumerate(enlarged.parts, 1):
        part = np.arange(masks.shape[axis]) * parts // size[axis - 1]
        coarse = np.stack([coarse.take(np.flatnonzero(part == i), axis).mean(axis) for i in range(parts)], axis)
    np.testing.assert_allclose(enlarged.coarse(grids, offsets), coarse.reshape(40, -1), atol=1e-6)


def test_covariance_is_that_of_many_masks() -> None:
    enlarged = Enlarged((12, 10), 3, 0.4)
    grids, offsets = enlarged.draw(np.random.default_rng(0), 60000)
    assert offsets.max(axis=0).tolist() == [3, 3]
    coarse = enlarged.coarse(grids, offsets)
    wanted = coarse.T @ coarse / len(coarse)
    np.testing.assert_allclose(enlarged.covariance(), wanted, atol=0.02 * wanted.max())
    weights = np.random.default_rng(1).standard_normal((coarse.shape[1],))
    whole = enlarged.total(grids, offsets, coarse @ weights) / len(grids)
    np.testing.assert_allclose(enlarged.with_pixels(weights), whole, atol=0.02 * np.abs(whole).max())


def test_each_pair_of_neighbours_once() -> None:
    places = np.arange(12).reshape(3, 4)
    pairs = [pair for one, other in near((3, 4)) for pair in zip(places[one].flat, places[other].flat, strict=True)]
    wanted = {
        tuple(sorted((a, b)))
        for a in range(12)
        for b in range(12)
        if max(abs(a // 4 - b // 4), abs(a % 4 - b % 4)) <= 1
    }
    assert len(pairs) == len(wanted) == 12 + 9 + 8 + 2 * 6
    assert {tuple(sorted(map(int, pair))) for pair in pairs} == wanted
