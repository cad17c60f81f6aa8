"""Overlays against the mixture written out, of the whole photo at once, in float64."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from xai_deploy.errors import OptionError
from xai_deploy.format.bundle import Input, Preprocess
from xai_deploy.pictures import Style, colorize, draw, drawn, on_photo, overlay
from xai_deploy.preprocess import frame

CROP = Input("x", "NCHW", 3, 24, 20, "float32", Preprocess(resize=27))
STRETCH = Input("x", "NCHW", 3, 24, 20, "float32", Preprocess())
SIZES = [(61, 47), (47, 161), (300, 233), (9, 14)]
RNG = np.random.default_rng(0)
POSITIVE = RNG.random((24, 20)).astype(np.float32)
SIGNED = (2 * RNG.random((24, 20)) - 1).astype(np.float32)


def photo_of(size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)


def wanted(photo: NDArray[np.uint8], values: NDArray[np.float32], spec: Input, signed: bool, style: Style) -> Any:
    """(1 - share) photo + share color inside, 40 % of the photo outside; the lines of the frame are left out."""
    base = photo.astype(float)
    if style.grey:
        base = np.repeat(base @ [[0.299], [0.587], [0.114]], 3, axis=-1)
    whole = on_photo(values, photo.shape[0], photo.shape[1], spec)
    share = style.opacity * np.minimum(np.abs(whole) * 2, 1)[..., None]
    colors = colorize(whole, style.diverging if signed else style.sequential, signed)
    inside = np.zeros(photo.shape[:2], bool)
    inside[frame(photo.shape[0], photo.shape[1], spec).slices] = True
    return np.where(inside[..., None], (1 - share) * base + share * colors, 0.4 * base), inside


STYLES = [Style(), Style(opacity=1, sequential="turbo", diverging="PuOr_r"), Style(opacity=0), Style(grey=True)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("spec", [CROP, STRETCH], ids=["crop", "stretch"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("style", STYLES, ids=["plain", "opaque", "none", "grey"])
def test_the_mixture(
    size: tuple[int, int], spec: Input, signed: bool, style: Style, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo, values = photo_of(size), SIGNED if signed else POSITIVE
    kept = photo.copy()
    found = overlay(photo, values, spec, signed, style)
    expected, inside = wanted(photo, values, spec, signed, style)
    off = np.abs(found - expected)
    # A step of the colour map changes a channel by at most 7 (with its share of 8 bits); 40 % is 102 / 256.
    assert off[inside].max() <= 8
    assert off[inside].mean() <= 1.5
    line = (found == 255).all(axis=-1) & ~inside
    assert off[~inside & ~line].max(initial=0) <= 2
    assert (photo == kept).all()
    monkeypatch.setattr("xai_deploy.pictures.mixing._STRIP", 5 * size[1])
    assert (overlay(photo, values, spec, signed, style) == found).all()


def test_the_frame_is_drawn() -> None:
    """White lines one pixel wide around the part seen; none along the borders of the photo."""
    photo = photo_of((161, 47)) // 2
    seen = frame(161, 47, CROP)
    found = overlay(photo, POSITIVE * 0, CROP)
    assert (found[seen.top - 1, seen.left - 1 : seen.left + seen.width + 1] == 255).all()
    assert (found[seen.top + seen.height, seen.left : seen.left + seen.width] == 255).all()
    assert (found[seen.top : seen.top + seen.height, seen.left - 1] == 255).all()
    assert (found[seen.slices] == photo[seen.slices]).all()
    assert not (overlay(photo, POSITIVE * 0, STRETCH) == 255).any()


def test_zero_leaves_the_photo() -> None:
    photo = photo_of((48, 40))
    for signed in (False, True):
        assert (overlay(photo, POSITIVE * 0, STRETCH, signed) == photo).all()


def test_contours() -> None:
    """Of a ramp from 0 to 1, at a quarter, the half and three quarters of the width; black for a ramp down to -1."""
    photo = np.full((100, 200, 3), 128, np.uint8)
    ramp = np.tile(np.linspace(0, 1, 20, dtype=np.float32), (24, 1))
    for signed, ink, values in ((False, 255, ramp), (True, 255, ramp), (True, 0, -ramp)):
        style = Style(opacity=0, contours=True)
        found = overlay(photo, values, STRETCH, signed, style)
        lines = np.flatnonzero((found == ink).all(axis=(0, 2)))
        at = np.interp([0.25, 0.5, 0.75], ramp[0], (np.arange(20) + 0.5) * 10)
        np.testing.assert_allclose(lines, at, atol=2)
        found[:, lines] = 128
        assert (found == 128).all()
    assert (overlay(photo, ramp * 0 + 0.3, STRETCH, style=style) == 128).all()


def test_maps_at_the_pixels_get_no_contours() -> None:
    photo, raw = photo_of((100, 80)), POSITIVE
    lined = Style(contours=True)
    plain = draw(photo, raw, raw, STRETCH, signed=False, at_pixels=True)
    assert (draw(photo, raw, raw, STRETCH, signed=False, at_pixels=True, style=lined) == plain).all()
    assert (draw(photo, raw, raw, STRETCH, signed=False, at_pixels=False, style=lined) != plain).any()


@pytest.mark.parametrize("at_pixels", [False, True])
def test_what_is_drawn(at_pixels: bool) -> None:
    """Signed: raw over its largest magnitude, 0 stays 0. At the pixels: over the 99th percentile, cut."""
    raw = np.random.default_rng(2).standard_normal((24, 20)).astype(np.float32) ** 3
    heat = (raw - raw.min()) / np.ptp(raw)
    for signed, values in ((True, raw), (False, heat)):
        largest = np.sort(np.abs(values).ravel())
        # the 99th percentile of 480 values lies between the values 474 and 475
        top = largest[474] + (0.99 * 479 - 474) * (largest[475] - largest[474]) if at_pixels else largest[-1]
        found = drawn(heat, raw, signed, at_pixels)
        np.testing.assert_allclose(found, np.clip(values / top, -1, 1), rtol=1e-5)
        assert (np.sign(found) == np.sign(values)).all()


def test_coarse_signed_maps_are_enlarged() -> None:
    raw = SIGNED[:6, :5]
    large = torch.nn.functional.interpolate(torch.from_numpy(raw)[None, None], size=(24, 20), mode="bilinear")[
        0, 0
    ].numpy()
    np.testing.assert_allclose(drawn(POSITIVE, raw, True, False), large / np.abs(large).max(), atol=1e-6)


def test_a_map_of_a_few_pixels_is_not_cut() -> None:
    raw = np.zeros((24, 20), np.float32)
    raw[3, 4], raw[5, 6] = 2, -4
    assert drawn(raw, raw, True, True)[[3, 5], [4, 6]].tolist() == [0.5, -1]
    assert not drawn(raw * 0, raw * 0, True, True).any()


def test_styles() -> None:
    assert Style().with_colormap("viridis") == Style(sequential="viridis")
    assert Style().with_colormap("RdBu_r") == Style(diverging="RdBu_r")
    with pytest.raises(OptionError, match="no colour map 'jet'"):
        Style().with_colormap("jet")
    with pytest.raises(OptionError, match="coolwarm is a diverging colour map"):
        replace(Style(), sequential="coolwarm")


def test_memory_is_that_of_the_result() -> None:
    photo = np.zeros((3000, 4000, 3), np.uint8)
    tracemalloc.start()
    try:
        overlay(photo, POSITIVE, CROP, style=Style(grey=True, contours=True))
        assert tracemalloc.get_traced_memory()[1] < photo.nbytes + 20e6
    finally:
        tracemalloc.stop()
