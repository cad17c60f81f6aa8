"""A map on the whole photo: the preprocessing takes a known photo to the network, and `on_photo` takes that back."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from xai_deploy.format.bundle import Input, Preprocess
from xai_deploy.pictures import on_photo
from xai_deploy.preprocess import crop_box, frame, prepare

SIZES = [(61, 47), (47, 61), (200, 33), (31, 180), (24, 20), (240, 233), (9, 14), (181, 240)]
SPECS = {
    "stretch": Input("x", "NCHW", 3, 24, 20, "float32", Preprocess()),
    "crop": Input("x", "NCHW", 3, 24, 20, "float32", Preprocess(resize=27)),
    "no margin": Input("x", "NCHW", 3, 24, 24, "float32", Preprocess(resize=24)),
    "wide": Input("x", "NCHW", 3, 17, 30, "float32", Preprocess(resize=41, antialias=False)),
}
EVERY = pytest.mark.parametrize(("size", "name"), list(product(SIZES, SPECS)), ids=str)
LARGER = pytest.mark.parametrize(  # the network sees more photo pixels than it has
    ("size", "name"),
    [
        c
        for c in product(SIZES, SPECS)
        if min(np.divide(crop_box(*c[0], SPECS[c[1]])[2:], (SPECS[c[1]].height, SPECS[c[1]].width))) >= 1
    ],
    ids=str,
)


def there_and_back(photo: NDArray[Any], spec: Input) -> NDArray[np.float32]:
    """A grey photo [h,w], as the network sees it, on the photo again."""
    pixels = np.repeat(np.rint(photo)[..., None], 3, axis=-1).astype(np.uint8)
    return on_photo(prepare(pixels, spec)[0], photo.shape[0], photo.shape[1], spec)


@EVERY
def test_a_ramp_comes_back(size: tuple[int, int], name: str) -> None:
    """The grey value of a pixel is its row, or its column. It is that again, two positions or more from the edges."""
    for photo in np.mgrid[: size[0], : size[1]].astype(float):
        back, seen = there_and_back(photo, SPECS[name]), frame(*size, SPECS[name])
        step = 1 + 2 * max(seen.height / SPECS[name].height, seen.width / SPECS[name].width)
        inner = np.zeros(size, bool)
        margin = int(np.ceil(step))
        rows, columns = seen.slices
        inner[rows.start + margin : rows.stop - margin, columns.start + margin : columns.stop - margin] = True
        # prepare rounds to whole grey values
        assert not inner.any() or np.abs(back - photo)[inner].max() <= 0.55


@LARGER
def test_a_blob_comes_back_where_it_was(size: tuple[int, int], name: str) -> None:
    spec, y, x = SPECS[name], *np.mgrid[: size[0], : size[1]].astype(float)
    seen = frame(*size, spec)
    tall, wide = seen.height / spec.height, seen.width / spec.width  # pixels of the photo per position
    for down, across in [(0.5, 0.5), (0.55, 0.42)]:
        row, column = seen.top + down * seen.height, seen.left + across * seen.width
        photo = 255 * np.exp(-((y - row) ** 2 / tall**2 + (x - column) ** 2 / wide**2) / 2)
        back = there_and_back(photo, spec)
        weight = np.where(back > 8, back, 0)
        assert abs((weight * y).sum() / weight.sum() - row) < 0.1 * tall
        assert abs((weight * x).sum() / weight.sum() - column) < 0.1 * wide


@LARGER
def test_the_formula(size: tuple[int, int], name: str) -> None:
    """torch's grid_sample at the positions of `crop_box`, in float64."""
    spec = SPECS[name]
    maps = np.random.default_rng(0).standard_normal((2, spec.height, spec.width)).astype(np.float32)
    found, seen = on_photo(maps, *size, spec), frame(*size, spec)
    top, left, height, width = crop_box(*size, spec)
    v = 2 * (torch.arange(size[0]).double() + 0.5 - top) / height - 1
    u = 2 * (torch.arange(size[1]).double() + 0.5 - left) / width - 1
    grid = torch.stack(torch.meshgrid(v, u, indexing="ij")[::-1], dim=-1)[None]
    given = torch.from_numpy(maps)[None].double()
    wanted = torch.nn.functional.grid_sample(given, grid, padding_mode="border", align_corners=False)[0].numpy()
    rows, columns = seen.slices
    np.testing.assert_allclose(found[:, rows, columns], wanted[:, rows, columns], atol=1e-5)
    outside = np.ones(size, bool)
    outside[rows, columns] = False
    assert not found[:, outside].any()
    assert abs(seen.top - top) <= 0.5
    assert abs(seen.left + seen.width - left - width) <= 1


def test_one_pixel() -> None:
    for spec in SPECS.values():
        assert on_photo(np.ones((spec.height, spec.width), np.float32), 1, 1, spec) == pytest.approx(1)
