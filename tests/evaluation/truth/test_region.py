"""Boxes and masks through resize and crop: by hand, and against images that are marked and really preprocessed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from xai_deploy.evaluation.truth import Box, mask_region, region
from xai_deploy.format.bundle import Input, Preprocess
from xai_deploy.preprocess import prepare

Mask = NDArray[np.bool_]


def spec(resize: Any, height: int, width: int, antialias: bool = True) -> Input:
    how = Preprocess(resize=resize, scale=1 / 255, mean=(0.0,) * 3, std=(1.0,) * 3, antialias=antialias)
    return Input("x", "NCHW", 3, height, width, "float32", how)


def rectangle(height: int, width: int, top: int, bottom: int, left: int, right: int) -> Mask:
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = True
    return mask


def test_stretch_by_hand() -> None:
    """30 x 50 -> 6 x 10, five pixels each: centres at 2.5, 7.5, ...; rows 5 to 15 hold two centres, 8 to 12 none."""
    how = spec("stretch", 6, 10)
    wide = Box(0.0, 5 / 30, 22 / 50, 15 / 30)  # columns 0 to 22: centres 2.5 to 17.5
    np.testing.assert_array_equal(region([wide], 30, 50, how), rectangle(6, 10, 1, 3, 0, 4))
    assert not region([Box(0.0, 8 / 30, 1.0, 12 / 30)], 30, 50, how).any()
    edge = Box(2.5 / 50, 2.5 / 30, 7.5 / 50, 7.5 / 30)  # an edge on a centre: the left one holds it, the right does not
    np.testing.assert_array_equal(region([edge], 30, 50, how), rectangle(6, 10, 0, 1, 0, 1))
    both = region([wide, edge], 30, 50, how)
    np.testing.assert_array_equal(both, rectangle(6, 10, 1, 3, 0, 4) | rectangle(6, 10, 0, 1, 0, 1))
    assert not region([], 30, 50, how).any()
    assert region([Box(0, 0, 1, 1)], 30, 50, how).all()


def test_centre_crop_by_hand() -> None:
    """20 x 60 resized by half to 10 x 30, the middle 6 x 8 of it: rows 4 to 16 and columns 22 to 38 of the image."""
    how = spec(10, 6, 8)
    whole = region([Box(22 / 60, 4 / 20, 38 / 60, 16 / 20)], 20, 60, how)
    assert whole.all()
    part = region([Box(30 / 60, 0.0, 1.0, 8 / 20)], 20, 60, how)  # partly outside the crop: cut
    np.testing.assert_array_equal(part, rectangle(6, 8, 0, 2, 4, 8))
    for outside in (Box(0, 0, 22 / 60, 1), Box(38 / 60, 0, 1, 1), Box(0, 0, 1, 4 / 20), Box(0, 16 / 20, 1, 1)):
        assert not region([outside], 20, 60, how).any()


def test_odd_sizes_by_hand() -> None:
    """7 x 9 -> shorter side 7 (as it is), the middle 3 x 3: corner (2, 3)."""
    marked = region([Box(4 / 9, 3 / 7, 5 / 9, 4 / 7)], 7, 9, spec(7, 3, 3))
    np.testing.assert_array_equal(marked, rectangle(3, 3, 1, 2, 1, 2))


def agrees(found: Mask, levels: NDArray[Any]) -> None:
    """Along one axis: white where a pixel and both neighbours are inside, black where all three are outside.

    (Half white, half black is rounded to the grey level 127 or 128.)
    """
    inside = found[:-2] & found[1:-1] & found[2:]
    outside = ~(found[:-2] | found[1:-1] | found[2:])
    assert (levels[1:-1][inside] > 126.9 / 255).all()
    assert (levels[1:-1][outside] < 128.1 / 255).all()


@st.composite
def cases(draw: st.DrawFn) -> tuple[int, int, tuple[int, int, int, int], Input]:
    height, width = draw(st.integers(5, 90)), draw(st.integers(5, 90))
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    right, bottom = draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height))
    rows, columns = draw(st.integers(3, 40)), draw(st.integers(3, 40))
    resize = draw(st.sampled_from(["stretch", max(rows, columns) + draw(st.integers(0, 12))]))
    return height, width, (left, top, right, bottom), spec(resize, rows, columns, draw(st.booleans()))


@settings(max_examples=300, deadline=None)
@given(cases())
def test_marked_image(case: tuple[int, int, tuple[int, int, int, int], Input]) -> None:
    """The box's rows, and its columns, drawn white into a black image, and that preprocessed: equal up to one pixel.

    (Both at once would blur the box's corners by more than a pixel.)
    """
    height, width, (left, top, right, bottom), how = case
    rows, columns = np.zeros((2, height, width, 3), np.uint8)
    rows[top:bottom], columns[:, left:right] = 255, 255
    tall = region([Box(left / width, 0, right / width, 1)], height, width, how)
    wide = region([Box(0, top / height, 1, bottom / height)], height, width, how)
    agrees(tall[0], prepare(columns, how)[0, 0])
    agrees(wide[:, 0], prepare(rows, how)[0, :, 0])
    both = region([Box(left / width, top / height, right / width, bottom / height)], height, width, how)
    np.testing.assert_array_equal(both, tall & wide)
    np.testing.assert_array_equal(both, mask_region((rows & columns)[..., 0] > 0, how))


@pytest.mark.parametrize("resize", ["stretch", 24, 31])
def test_marked_image_exactly(resize: Any) -> None:
    """Enlarged without interpolation between, the border agrees too."""
    how = Preprocess(resize=resize, scale=1 / 255, interpolation="nearest", antialias=False)
    nearest = Input("x", "NCHW", 3, 24, 22, "float32", how)
    image = np.zeros((11, 13, 3), np.uint8)
    image[2:7, 3:12] = 255
    found = region([Box(3 / 13, 2 / 11, 12 / 13, 7 / 11)], 11, 13, nearest)
    np.testing.assert_array_equal(found, prepare(image, nearest)[0] > 0.5)
    assert found.any()
    assert not found.all()


def test_mask_beyond_the_image() -> None:
    """A crop larger than the resized image: what lies beyond is not the object."""
    seen = mask_region(np.ones((4, 4), bool), spec(4, 6, 8))
    np.testing.assert_array_equal(seen, rectangle(6, 8, 1, 5, 2, 6))
    np.testing.assert_array_equal(seen, region([Box(0, 0, 1, 1)], 4, 4, spec(4, 6, 8)))


def test_mask_takes_the_nearest_pixel() -> None:
    rng = np.random.default_rng(0)
    mask = rng.random((12, 20)) > 0.5
    np.testing.assert_array_equal(mask_region(mask, spec("stretch", 12, 20)), mask)
    np.testing.assert_array_equal(mask_region(mask, spec("stretch", 4, 4)), mask[1::3, 2::5])
    doubled = mask.repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(mask_region(mask, spec("stretch", 24, 40)), doubled)
