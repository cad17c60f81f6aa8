"""Resampling against PIL and torch."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from xai_deploy import heatmap, resample

FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
}


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("size", [(20, 30), (13, 9), (90, 31), (47, 61)])
def test_antialiased_resize_is_pils(interpolation: str, size: tuple[int, int]) -> None:
    """PIL rounds to 8 bits after the first axis; of noise, the overshooting bicubic filter makes two levels of that."""
    pixels = np.random.default_rng(0).integers(0, 256, (47, 61, 3), dtype=np.uint8)  # odd: no ties for nearest
    height, width = size
    wanted = np.asarray(Image.fromarray(pixels).resize((width, height), FILTERS[interpolation]))
    found = resample.resize(np.moveaxis(pixels, -1, 0), height, width, interpolation=interpolation, antialias=True)
    rounded = np.clip(np.rint(np.moveaxis(found, 0, -1)), 0, 255)
    assert np.abs(rounded - wanted.astype(float)).max() <= {"nearest": 0, "bilinear": 1, "bicubic": 2}[interpolation]


@pytest.mark.parametrize("size", [(40, 50), (90, 120), (31, 200), (60, 40)])
def test_black_and_white_is_as_torch_resizes_it(size: tuple[int, int]) -> None:
    """Where the bicubic filter overshoots on both axes PIL clips twice: near it, not equal to it."""
    pixels = np.random.default_rng(0).integers(0, 2, (47, 61, 3)).astype(np.uint8) * 255
    found = resample.resize(np.moveaxis(pixels, -1, 0), *size, interpolation="bicubic", antialias=True)
    rounded = np.clip(np.rint(np.moveaxis(found, 0, -1)), 0, 255)
    tensor = torch.from_numpy(np.moveaxis(pixels, -1, 0)[None].astype(np.float32))
    own = torch.nn.functional.interpolate(tensor, size=size, mode="bicubic", antialias=True).clamp(0, 255).round()
    assert np.abs(rounded - np.moveaxis(own[0].numpy(), 0, -1)).max() <= 1
    pil = np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BICUBIC)).astype(float)
    assert 2 < np.abs(rounded - pil).max() <= 32


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_long_strip_is_pils_and_leaves_nothing_behind(interpolation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrices of many pixels are made in blocks and are not kept: 65,535 pixels would hold 58 MB for each such image."""
    monkeypatch.setattr(resample, "_PIXELS", 100_000)  # rows of the image in blocks, too: 7 of 9
    pixels = np.random.default_rng(0).integers(0, 256, (9, 14_001, 3), dtype=np.uint8)
    wanted = np.asarray(Image.fromarray(pixels).resize((224, 5), FILTERS[interpolation]))
    tracemalloc.start()
    found = resample.resize(np.moveaxis(pixels, -1, 0), 5, 224, interpolation=interpolation, antialias=True)
    rounded = np.clip(np.rint(np.moveaxis(found, 0, -1)), 0, 255)
    del found
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.abs(rounded - wanted.astype(float)).max() <= {"bilinear": 1, "bicubic": 2}[interpolation]
    assert held < 1e6, "the matrix alone has 12.5 MB"


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(20, 30), (3, 2), (4, 5), (16, 20), (1, 1)])
def test_plain_resize_is_torchs(mode: str, size: tuple[int, int]) -> None:
    maps = np.random.default_rng(1).random((2, 3, 4, 5)).astype(np.float32)
    wanted = torch.nn.functional.interpolate(torch.from_numpy(maps), size=size, mode=mode, align_corners=False)
    np.testing.assert_allclose(resample.resize(maps, *size, interpolation=mode), wanted.numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(5, 17, 23), (3, 2, 5), (1, 1, 1), (6, 4, 5), (2, 30, 9)])
def test_volumes_are_torchs(size: tuple[int, int, int]) -> None:
    volumes = np.random.default_rng(1).random((2, 3, 3, 4, 5)).astype(np.float32)
    wanted = torch.nn.functional.interpolate(torch.from_numpy(volumes), size=size, mode="trilinear")
    found = resample.resize(volumes, *size)
    np.testing.assert_allclose(found, wanted.numpy(), rtol=0, atol=1e-6)
    part = resample.resize(volumes, *size, part=(size[0] - 1, 0, size[2] // 2, 1, size[1], 1))
    np.testing.assert_allclose(part, found[..., -1:, :, size[2] // 2, None], rtol=0, atol=1e-6)
    [flat] = {heat.min() for heat in heatmap.heatmap(volumes[:, 0], *size)}
    assert flat == 0


def test_plain_nearest_is_torchs() -> None:
    maps = np.random.default_rng(1).random((1, 1, 4, 5)).astype(np.float32)
    wanted = torch.nn.functional.interpolate(torch.from_numpy(maps), size=(7, 11), mode="nearest-exact")
    np.testing.assert_array_equal(resample.resize(maps, 7, 11, interpolation="nearest"), wanted.numpy())


SIZES = st.integers(1, 40)


@given(SIZES, SIZES, st.sampled_from(["bilinear", "bicubic", "nearest"]), st.booleans(), st.data())
@settings(max_examples=150, deadline=None)
def test_weights(source: int, size: int, interpolation: str, antialias: bool, data: st.DataObject) -> None:
    first, matrix = resample.weights(source, size, interpolation, antialias)
    full = np.zeros((size, source))
    full[:, first : first + matrix.shape[1]] = matrix
    np.testing.assert_allclose(full.sum(axis=1), 1, atol=1e-6)  # a constant stays that constant
    np.testing.assert_allclose(full, full[::-1, ::-1], atol=1e-6 if interpolation != "nearest" else 1)  # no drift
    start = data.draw(st.integers(0, size - 1))
    count = data.draw(st.integers(1, size - start))
    first, matrix = resample.weights(source, size, interpolation, antialias, (start, count))
    part = np.zeros((count, source))
    part[:, first : first + matrix.shape[1]] = matrix
    np.testing.assert_allclose(part, full[start : start + count], atol=1e-7)


@given(SIZES, SIZES, SIZES, SIZES)
@settings(max_examples=50, deadline=None)
def test_bilinear_stays_within_the_range(height: int, width: int, to_height: int, to_width: int) -> None:
    maps = np.random.default_rng(height * 41 + width).random((height, width)).astype(np.float32)
    resized = resample.resize(maps, to_height, to_width)
    assert resized.shape == (to_height, to_width)
    assert maps.min() - 1e-6 <= resized.min()
    assert resized.max() <= maps.max() + 1e-6


def test_heatmap_is_resize_then_min_max() -> None:
    raw = np.random.default_rng(2).standard_normal((3, 4, 5)).astype(np.float32)
    up = torch.nn.functional.interpolate(torch.from_numpy(raw)[:, None], size=(32, 41), mode="bilinear")[:, 0].numpy()
    low, high = up.min(axis=(1, 2), keepdims=True), up.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(heatmap.heatmap(raw, 32, 41), (up - low) / (high - low), rtol=0, atol=2e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.3e7, 1e-38])
def test_constant_map_is_all_zeros(value: float) -> None:
    raw = np.full((2, 4, 5), value, np.float32)
    raw[1, 0, 0] += 1 + abs(value)
    heat = heatmap.heatmap(raw, 33, 21)
    assert not heat[0].any()
    assert heat[1].max() == 1
