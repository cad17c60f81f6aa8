"""Regions laid on images: boxes, polygons and masks of the photo, through resize and crop, on the grid of the scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from xai_deploy import write_image
from xai_deploy.errors import ImageFileError, TargetError
from xai_deploy.format.bundle import LOGITS, Explained, Input, Preprocess
from xai_deploy.targets.places import Place, Seen, is_place, overlaps


def seen(size: tuple[int, int] | None, grid: tuple[int, int], resize: int | str = "stretch", side: int = 40) -> Seen:
    """One image of a network with an input of `side` x `side` pixels."""
    how = Preprocess(resize=resize)  # type: ignore[arg-type]
    spec = Input("x", "NCHW", 3, side, side, "float32", how)
    return Seen(spec, Explained(LOGITS, "dense", (2, *grid)), [size], lambda: np.zeros((1, *grid), np.int64))


def covered(place: object, view: Seen) -> NDArray[np.float32]:
    """The share of each position."""
    shares: NDArray[np.float32] = Place.read(place).covers(view, np.zeros(1, np.int64))[0]
    return shares


def test_a_box_counts_positions_in_part() -> None:
    """A box of 3 x 2 pixels on cells of 2 x 2 pixels: the shares add up to its area."""
    shares = covered((1, 2, 3, 2), seen((8, 8), (4, 4)))
    np.testing.assert_allclose(shares[1], [0.5, 1, 0, 0])
    assert shares.sum() == pytest.approx(3 * 2 / 4)


@given(
    mask=hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))),
    grid=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_area_is_kept(mask: NDArray[np.bool_], grid: tuple[int, int]) -> None:
    """The mean of the shares is the share of the picture that the mask covers, whatever the sizes."""
    if mask.any():
        shares = covered(mask, seen(mask.shape, grid))
        assert shares.mean() == pytest.approx(mask.mean(), rel=1e-4)


def test_a_mask_of_the_scores_size_is_itself() -> None:
    mask = np.random.default_rng(0).random((7, 9)) > 0.5
    assert np.array_equal(covered(mask, seen((7, 9), (7, 9))), mask)
    np.testing.assert_array_equal(overlaps(5, 5), np.eye(5))


def test_a_polygon_holds_the_pixels_whose_centres_it_holds() -> None:
    """Against the definition, for a triangle: half planes."""
    corners = [(2.0, 1.0), (17.0, 3.0), (6.0, 15.0)]
    got = covered(corners, seen((16, 20), (16, 20)))
    y, x = np.mgrid[:16, :20] + 0.5

    def side(a: tuple[float, float], b: tuple[float, float]) -> NDArray[np.bool_]:
        return np.asarray((b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0]) >= 0)

    wanted = side(corners[0], corners[1]) & side(corners[1], corners[2]) & side(corners[2], corners[0])
    assert np.array_equal(got > 0, wanted)


def test_the_crop_is_followed() -> None:
    """A photo of 80 x 40 pixels, its shorter side resized to 40 and the centre cropped: columns 20 to 59 are seen."""
    view = seen((40, 80), (4, 4), 40)
    shares = covered((20, 0, 10, 40), view)
    np.testing.assert_allclose(shares, np.repeat([[1, 0, 0, 0]], 4, axis=0), rtol=1e-6)
    with pytest.raises(
        TargetError, match="the region 0,0,10,40 lies outside the part of the image that the network sees"
    ):
        covered((0, 0, 10, 40), view)


def test_smaller_than_a_pixel() -> None:
    shares = covered((3.1, 2.1, 0.2, 0.2), seen((8, 8), (8, 8)))
    assert np.argwhere(shares).tolist() == [[2, 3]]


def test_a_mask_from_a_file(tmp_path: Path) -> None:
    picture = np.zeros((6, 8, 3), np.uint8)
    picture[2:4, 3:7] = 255
    write_image(tmp_path / "mask.png", picture)
    shares = covered(str(tmp_path / "mask.png"), seen((6, 8), (6, 8)))
    assert np.array_equal(shares, picture[..., 0] > 0)
    assert Place.read(tmp_path / "mask.png").said == "mask.png"
    picture[0, 0] = (255, 0, 0)
    write_image(tmp_path / "colours.png", picture)
    with pytest.raises(TargetError, match=r"colours.png: a mask is black and white, and this picture has colours"):
        Place.read(tmp_path / "colours.png")
    with pytest.raises(ImageFileError, match=r"missing.png"):
        Place.read("missing.png")


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("all", True),
        ("predicted", True),
        ("1,2,3,4", True),
        ("1.5, 2, 3, 4", True),
        ("1,2 3,4 5,6", True),
        ("mask.PNG", True),
        ("1,2,3", False),
        ("dog", False),
        ("", False),
    ],
)
def test_what_a_place_looks_like(text: str, is_one: bool) -> None:
    assert is_place(text) is is_one


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (
            "dog",
            "region 'dog': give 'predicted', 'all', a box x,y,width,height, corners 'x,y x,y x,y', or a mask's file",
        ),
        ([(1, 2), (3, 4)], "a region is 'predicted', 'all', a box"),
        (
            3.5,
            "a region is 'predicted', 'all', a box x,y,width,height, corners, a PNG file or an array of booleans, not 3.5",
        ),
        ((1, 2, -3, 4), "the box 1,2,-3,4 is empty: width and height are above 0"),
        (np.array([[3, 5], [5, 5]]), "a mask has two values, 0 outside and another inside; this one has 3, 5"),
        (np.zeros((3, 3), bool), "the mask: the mask is empty, all of its 3 x 3 values are 0"),
        (np.ones(3, bool), r"a mask is a picture \[h,w\] of two values, not bool \[3\]"),
        (np.full((3, 3), np.nan), "the mask: the mask holds NaN or infinity"),
        ((1, float("nan"), 3, 4), "the numbers of a box, and of corners, are finite"),
        ([(1, 1), (5, 1), (2, float("inf"))], "the numbers of a box, and of corners, are finite"),
        (("a", 1, 2, 3), "a region is 'predicted', 'all'"),
        ("1,1 2,2 5,5", "the polygon 1,1 2,2 5,5 is empty: its corners lie on one line"),
        ("1,1 1,1 1,1", "the polygon 1,1 1,1 1,1 is empty"),
    ],
    ids=str,
)
def test_refusals(written: object, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        Place.read(written)


@pytest.mark.parametrize("tall", [True, False])
def test_the_letterbox_is_followed(tall: bool) -> None:
    """A photo twice as long as wide, in the middle of a square: against the mean of the mask with the border around it."""
    rng = np.random.default_rng(3)
    mask = rng.random((80, 40) if tall else (40, 80)) > 0.5
    padded = np.pad(mask, ((0, 0), (20, 20)) if tall else ((20, 20), (0, 0))).astype(np.float64)
    wanted = padded.reshape(10, 8, 10, 8).mean((1, 3))
    got = covered(mask, seen(mask.shape, (10, 10), "letterbox"))
    np.testing.assert_allclose(got, wanted, atol=1e-6)
