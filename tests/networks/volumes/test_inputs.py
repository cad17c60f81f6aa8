"""Volumes as users have them: arrays and files, their slices preprocessed as images, and the pictures of their maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow.parquet
import pytest
from numpy.typing import NDArray

from xai_deploy import Explainer, Explanation, write_image
from xai_deploy import volumes as slices
from xai_deploy.cli import check, explain
from xai_deploy.errors import InputError, NotApplicableError
from xai_deploy.pictures import Style, overlay
from xai_deploy.preprocess import Prepared

from .exported import Exported
from .nets import SIZE

DEPTH, HEIGHT, WIDTH = SIZE


def film(depth: int = DEPTH, height: int = 34, width: int = 30) -> NDArray[np.uint8]:
    """Frames of colours, [D,h,w,3]."""
    return np.random.default_rng(2).integers(0, 256, (depth, height, width, 3), dtype=np.uint8)


def prepared(pixels: NDArray[np.uint8], last: bool) -> NDArray[Any]:
    """Frames resized by PIL, divided by 255; [3,D,H,W] or [D,H,W,3]."""
    frames = [PIL.Image.fromarray(one).resize((WIDTH, HEIGHT), PIL.Image.Resampling.BILINEAR) for one in pixels]
    x = np.stack([np.asarray(one, np.float32) for one in frames]) / np.float32(255)
    return x if last else np.moveaxis(x, -1, 0)


def test_arrays(resnet: Exported) -> None:
    explainer, pixels = Explainer(resnet.path), film()
    one = explainer.prepare(pixels).x
    want = prepared(pixels, resnet.network.last)
    assert one.shape == (1, *want.shape)
    assert np.abs(one[0] - want).max() <= 1.01 / 255  # PIL rounds after each axis
    grey = film()[..., 0]
    assert np.array_equal(explainer.prepare(grey).x, explainer.prepare(np.repeat(grey[..., None], 3, -1)).x)
    batch = explainer.explain(np.stack([pixels, pixels[::-1]]), "grad-cam", 1)
    np.testing.assert_allclose(batch.raw[:1], explainer.explain(pixels, "grad-cam", 1).raw, rtol=1e-4, atol=1e-6)
    again = explainer.explain([one[0], pixels[::-1]], "grad-cam", 1)  # floats are preprocessed
    np.testing.assert_allclose(again.raw, batch.raw, rtol=1e-4, atol=1e-6)
    assert again.sizes == (None, (34, 30))
    assert again.to_image_size()[1].shape == (DEPTH, 34, 30)


def test_files(resnet: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels, bundle = film(), str(resnet.path)
    np.save(tmp_path / "film.npy", pixels)
    np.save(tmp_path / "floats.npy", prepared(pixels, resnet.network.last))
    out = tmp_path / "out"
    files = [str(tmp_path / name) for name in ("film.npy", "floats.npy")]
    assert explain.main([bundle, *files, "-m", "grad-cam", "-t", "1", "-o", str(out)]) == 0
    assert np.load(out / "film--grad-cam--1.npy").shape == (3, 5, 6)
    picture = np.asarray(PIL.Image.open(out / "film--grad-cam--1.png"))
    assert picture.shape == (2 * 34, 3 * 30, 3)  # five slices, two rows of three
    assert "5 slices" in (out / "report.html").read_text()
    capsys.readouterr()

    np.save(tmp_path / "short.npy", pixels[:4])
    write_image(tmp_path / "photo.png", pixels[0])
    np.save(tmp_path / "objects.npy", np.array([None]), allow_pickle=True)
    for name, message in (
        ("short.npy", "short.npy: a volume for this network has 5 slices, not 4"),
        ("photo.png", "photo.png: this network takes volumes; a volume is an array"),
        ("objects.npy", "objects.npy: "),
    ):
        assert explain.main([bundle, str(tmp_path / name), "-o", str(tmp_path / "not")]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "not").exists() or not list((tmp_path / "not").glob("*.png"))
    assert check.main([bundle, bundle, files[0], "-m", "grad-cam"]) == 0


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        (film(7), r"a volume for this network has 5 slices, not 7 .* resample its depth"),
        (film()[0, 0], r"neither a volume nor a batch of volumes"),
        (film().astype(np.int16), r"not int16; a network exported with --input-range"),
        (film()[..., :2], r"an image has shape \[h,w,3\]"),
        (film().astype(np.float32), r"floats are taken as preprocessed, and such a volume"),
        (PIL.Image.new("RGB", (30, 34)), r"this network takes volumes"),
    ],
)
def test_no_volumes(resnet: Exported, volume: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Explainer(resnet.path).explain(volume, "grad-cam", 1)


def test_numbers_that_are_not_finite(resnet: Exported, tmp_path: Path) -> None:
    explainer = Explainer(resnet.path)
    x = np.full(explainer.bundle.manifest.input.image_shape, np.nan, np.float32)
    np.save(tmp_path / "film.npy", x)
    for given in (x, tmp_path / "film.npy"):
        with pytest.raises(InputError, match=r"^the input holds NaN or infinity$"):
            explainer.explain(given, "grad-cam", 1)


def test_pictures(resnet: Exported, tmp_path: Path) -> None:
    """The slices lie in a grid, and on each lies what an image of that slice alone would show."""
    explainer, pixels = Explainer(resnet.path), film()
    got = explainer.explain(pixels, "grad-cam", 1)
    [picture] = got.overlay(pixels)
    tiles = picture.reshape(2, 34, 3, 30, 3).swapaxes(1, 2).reshape(6, 34, 30, 3)
    assert not tiles[5].any()
    spec = explainer.network.input
    for i in range(DEPTH):
        alone = overlay(pixels[i], got.heatmap[0, i], spec.slice, style=Style()).astype(int)
        assert (
            np.abs(tiles[i, 2:-2, 2:-2] - alone[2:-2, 2:-2]).max() <= 6
        )  # beside a border the next slice shines through
    assert got.thumbnails[0] is not None
    assert "base64" in got._repr_html_()
    floats = explainer.explain(Prepared(explainer.prepare(pixels).x), "grad-cam", 1)
    assert "base64" in floats._repr_html_()
    got.save(tmp_path / "saved")
    loaded = Explanation.load(tmp_path / "saved")
    assert np.array_equal(loaded.raw, got.raw)
    assert np.array_equal(loaded.overlay(pixels)[0], picture)
    with pytest.raises(NotApplicableError, match=r"of a volume take the heatmap \[D,H,W\]"):
        got.boxes()


def test_rows(resnet: Exported, tmp_path: Path) -> None:
    """The maps of files in a folder as rows: all of each map, those of the coarse layer and of the pixels."""
    for i in range(3):
        np.save(tmp_path / f"{i}.npy", film() + np.uint8(40 * i))
    asked = [str(resnet.path), str(tmp_path), "-t", "1", "-m", "grad-cam,gradient", "-q", "--rows"]
    assert explain.main([*asked, "-o", str(tmp_path / "out")]) == 0
    rows = pyarrow.parquet.read_table(tmp_path / "out/explanations.parquet").to_pylist()
    assert len(rows) == 6
    explainer = Explainer(resnet.path)
    for row in rows:
        own = explainer.explain(np.load(row["image"]), row["method"], 1).raw[0]
        assert (row["depth"], row["height"], row["width"]) == own.shape
        got = np.frombuffer(row["map"], "<f4").reshape(own.shape)
        np.testing.assert_allclose(got, own, rtol=1e-3, atol=1e-4 * np.abs(own).max())


@pytest.mark.parametrize(
    ("depth", "want"), [(1, [0]), (3, [0, 1, 2]), (9, list(range(9))), (18, list(range(1, 18, 2)))]
)
def test_slices_shown(depth: int, want: list[int]) -> None:
    assert slices.shown(depth).tolist() == want
    assert len(set(slices.shown(100).tolist())) == slices.SHOWN
    tiles = np.arange(len(want))[:, None, None] * np.ones((1, 2, 3), int) + 1
    whole = slices.mosaic(tiles)
    assert sorted(set(whole.ravel().tolist()) - {0}) == [i + 1 for i in range(len(want))]
    assert (whole[:2, :3] == 1).all()
