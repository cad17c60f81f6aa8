"""Images to input tensors, against PIL and torchvision's geometry written out; and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from xai_deploy.errors import DtypeError, NonFiniteInputError, ShapeError
from xai_deploy.format.bundle import Input, Preprocess
from xai_deploy.preprocess import as_list, crop_box, frame, prepare, view

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGENET = Preprocess(resize=40, scale=1 / 255, mean=MEAN, std=STD)


def spec(preprocess: Preprocess = IMAGENET, **changes: Any) -> Input:
    return replace(Input("x", "NCHW", 3, 32, 36, "float32", preprocess), **changes)


def pixels(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """A smooth picture with a few edges."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def torchvision_like(image: NDArray[np.uint8], side: int, height: int, width: int) -> NDArray[np.uint8]:
    """Resize(side), CenterCrop((height, width)) as torchvision does them on PIL images."""
    h, w = image.shape[:2]
    size = (side, int(side * w / h)) if h <= w else (int(side * h / w), side)
    resized = np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))
    top, left = round((size[0] - height) / 2.0), round((size[1] - width) / 2.0)
    return resized[top : top + height, left : left + width]


SHAPES = [(47, 64), (64, 47), (40, 40), (301, 123), (33, 200), (40, 61), (90, 37)]


@pytest.mark.parametrize("shape", SHAPES)
def test_shorter_side_and_centre_crop(shape: tuple[int, int]) -> None:
    image = pixels(*shape)
    wanted = torchvision_like(image, 40, 32, 36).astype(float)
    found = prepare(image, spec())
    assert found.shape == (3, 32, 36)
    assert found.dtype == np.float32
    levels = (np.moveaxis(found, 0, -1) * np.array(STD) + np.array(MEAN)) * 255
    assert np.abs(levels - wanted).max() <= 1.001


def test_geometry_is_torchvisions() -> None:
    """The oracle above is itself held against torchvision."""
    from torchvision.transforms import functional

    for shape in SHAPES:
        image = Image.fromarray(pixels(*shape))
        wanted = functional.center_crop(functional.resize(image, [40]), [32, 36])
        np.testing.assert_array_equal(torchvision_like(np.asarray(image), 40, 32, 36), np.asarray(wanted))


@pytest.mark.parametrize("shape", SHAPES)
def test_both_sides_and_centre_crop(shape: tuple[int, int]) -> None:
    """The photo is stretched, and the middle is cut out; the part that is seen has its proportions, too."""
    from torchvision.transforms import functional

    own = spec(Preprocess(resize=(41, 50)))
    wanted = functional.center_crop(functional.resize(Image.fromarray(pixels(*shape)), [41, 50]), [32, 36])
    found = np.moveaxis(prepare(pixels(*shape), own), 0, -1)
    assert np.abs(found - np.asarray(wanted).astype(float)).max() <= 1
    seen = frame(*shape, own)
    assert (seen.height, seen.width) == (round(shape[0] * 32 / 41), round(shape[1] * 36 / 50))
    assert (seen.top, seen.left) == (
        round(shape[0] * 4 / 41),
        round(shape[1] * 7 / 50),
    )  # (41 - 32) / 2 is rounded to even


def test_stretch() -> None:
    image = pixels(47, 64)
    wanted = np.asarray(Image.fromarray(image).resize((36, 32), Image.Resampling.BILINEAR)).astype(float)
    found = np.moveaxis(prepare(image, spec(Preprocess())), 0, -1)
    assert np.abs(found - wanted).max() <= 1


def test_plain_interpolation_is_opencvs() -> None:
    import cv2

    image = pixels(47, 64)
    for name, flag in (("bilinear", cv2.INTER_LINEAR), ("bicubic", cv2.INTER_CUBIC)):
        wanted = cv2.resize(image, (36, 32), interpolation=flag).astype(float)
        how = Preprocess(interpolation=name, antialias=False)  # type: ignore[arg-type]
        assert np.abs(np.moveaxis(prepare(image, spec(how)), 0, -1) - wanted).max() <= 1


def test_values_and_layouts() -> None:
    image = pixels(32, 36)
    how = Preprocess(scale=1 / 255, mean=MEAN, std=STD)
    rgb = (image / 255 - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(np.moveaxis(prepare(image, spec(how)), 0, -1), rgb, atol=1e-5)
    np.testing.assert_allclose(prepare(image, spec(how, layout="NHWC")), rgb, atol=1e-5)
    half = prepare(image, spec(how, dtype="float16"))
    assert half.dtype == np.float16
    np.testing.assert_allclose(np.moveaxis(half, 0, -1).astype(float), rgb, atol=2e-3)
    bgr = prepare(image, spec(Preprocess(color="BGR"), layout="NHWC"))
    np.testing.assert_array_equal(bgr, image[..., ::-1])
    kept = prepare(image, spec(Preprocess(), dtype="uint8", layout="NHWC"))
    assert kept.dtype == np.uint8
    np.testing.assert_array_equal(kept, image)
    assert kept.flags.c_contiguous


def test_grey() -> None:
    image = pixels(32, 36)
    how = Preprocess(color="GRAY", mean=(0.0,), std=(1.0,))
    wanted = np.asarray(Image.fromarray(image).convert("L")).astype(float)
    found = prepare(image, spec(how, channels=1))
    assert found.shape == (1, 32, 36)
    assert np.abs(found[0] - wanted).max() <= 1
    from_grey = prepare(image[..., 0], spec(Preprocess()))
    for plane in from_grey:
        np.testing.assert_array_equal(plane, image[..., 0])
    np.testing.assert_array_equal(prepare(image[..., :1], spec(Preprocess())), from_grey)


def test_extreme_proportions_cost_no_memory() -> None:
    """The shorter side of this strip becomes 40, its longer side 2,400,000; only the crop is computed."""
    strip = np.zeros((1, 60_000, 3), np.uint8)
    strip[:, 30_000:] = 255
    found = prepare(strip, spec(Preprocess(resize=40)))
    assert found.shape == (3, 32, 36)
    ramp = 255 * (np.arange(36) + 0.5 + 40 / 2 - 36 / 2) / 40  # the crop lies around the edge, 40 columns wide
    np.testing.assert_allclose(found, np.broadcast_to(np.rint(ramp - 0.01), found.shape), atol=1)


@pytest.mark.parametrize("shape", SHAPES)
def test_view_is_what_the_network_sees(shape: tuple[int, int]) -> None:
    image = pixels(*shape)
    seen = view(image, spec())
    _, _, height, width = crop_box(*shape, spec())
    assert abs(seen.shape[0] - height) <= 1
    assert abs(seen.shape[1] - width) <= 1
    assert height / width == pytest.approx(32 / 36, rel=0.03)
    again = np.asarray(Image.fromarray(seen).resize((36, 32), Image.Resampling.BILINEAR)).astype(float)
    assert np.abs(again - torchvision_like(image, 40, 32, 36)).mean() < 12
    np.testing.assert_array_equal(view(image, spec(Preprocess())), image)


def test_floats_pass_as_they_are() -> None:
    x = np.random.default_rng(0).standard_normal((3, 32, 36))
    found = prepare(x, spec())
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, x.astype(np.float32))


def test_one_or_many() -> None:
    grey, rgb, floats = np.zeros((8, 9), np.uint8), np.zeros((8, 9, 3), np.uint8), np.zeros((3, 8, 9), np.float32)
    for single in (grey, rgb, floats):
        assert [image.shape for image in as_list(single)] == [single.shape]
        assert [image.shape for image in as_list([single, single])] == [single.shape] * 2
        if single.ndim == 3:
            assert [image.shape for image in as_list(np.stack([single, single]))] == [single.shape] * 2
    mixed = as_list([rgb, np.zeros((100, 50, 3), np.uint8), grey])
    assert [image.shape for image in mixed] == [(8, 9, 3), (100, 50, 3), (8, 9)]


FLOATS = np.zeros((3, 32, 36), np.float32)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (np.zeros((3, 32, 35), np.float32), ShapeError, r"has shape \(3, 32, 36\) \(CHW\), not \(3, 32, 35\)"),
        (np.zeros((32, 36, 3), np.float32), ShapeError, r"has shape \(3, 32, 36\)"),
        (np.zeros((32, 36, 2), np.uint8), ShapeError, r"\[h,w,3\] \(RGB\) or \[h,w\] \(grey\), not \(32, 36, 2\)"),
        (np.zeros((0, 36, 3), np.uint8), ShapeError, "not \\(0, 36, 3\\)"),
        (np.zeros((3, 32, 36), np.int64), DtypeError, "uint8 pixels or preprocessed floats, not int64"),
        (np.zeros((3, 32, 36), bool), DtypeError, "not bool"),
        (np.where(FLOATS == 0, np.nan, 0), NonFiniteInputError, "NaN or infinity"),
        (np.where(FLOATS == 0, np.inf, 0), NonFiniteInputError, "NaN or infinity"),
        (np.full((3, 32, 36), 1e300), NonFiniteInputError, "NaN or infinity"),  # infinite as float32
    ],
)
def test_refused_images(image: NDArray[Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        prepare(image, spec())


@pytest.mark.parametrize("dtype", ["uint8"])
def test_floats_for_a_pixel_network(dtype: Literal["uint8"]) -> None:
    with pytest.raises(DtypeError, match="takes uint8 pixels"):
        prepare(FLOATS, spec(dtype=dtype))


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ([], ShapeError, "no image was given"),
        (np.zeros((0, 8, 9, 3), np.uint8), ShapeError, "no image was given"),
        (np.zeros(3, np.uint8), ShapeError, r"shape \(3,\) is neither an image nor a batch"),
        (np.zeros((1, 1, 3, 8, 9), np.float32), ShapeError, "neither an image nor a batch"),
        (np.float32(3), DtypeError, "images are arrays"),
        (b"cat", DtypeError, "read_image reads a file"),
        (b"cat", DtypeError, "images are arrays"),
        (None, DtypeError, "images are arrays"),
        ([[[1, 2], [3]]], DtypeError, "images are arrays"),
    ],
)
def test_refused_batches(images: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        as_list(images)


def test_channels_do_not_fit() -> None:
    with pytest.raises(ShapeError, match="takes 1 channels, a RGB image has 3"):
        prepare(pixels(32, 36), spec(Preprocess(mean=(0.0,), std=(1.0,)), channels=1))


@pytest.mark.parametrize("shape", [(32, 36, 2), (3, 32, 36), (5, 32, 36), (1, 32, 36)])
def test_array_that_could_be_a_batch_of_greys(shape: tuple[int, ...]) -> None:
    """Grey images with alpha and planes first are not a batch of narrow grey images."""
    with pytest.raises(ShapeError, match=r"an image has shape \[h,w,3\].*give several grey images as a list"):
        as_list(np.zeros(shape, np.uint8))


def test_normalisation_in_the_type_of_the_planes() -> None:
    planes = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5)).astype(np.float64)
    wanted = [[(plane / 255 - m) / s for plane, m, s in zip(one, MEAN, STD, strict=True)] for one in planes]
    np.testing.assert_allclose(IMAGENET.normalise(planes), wanted, rtol=1e-12)
    assert IMAGENET.normalise(planes.astype(np.float32)).dtype == np.float32
    ends = [[(pixel / 255 - m) / s for m, s in zip(MEAN, STD, strict=True)] for pixel in (0, 255)]
    np.testing.assert_allclose(IMAGENET.ends(), ends, rtol=1e-12)
    assert np.isinf(Preprocess(scale=1e300, std=(1e-300,) * 3).ends()[1]).all()
