"""AVIF: against Pillow's own decoder, and files that lie about themselves."""

from __future__ import annotations

import contextlib
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from xai_deploy import XaiError, read_image
from xai_deploy.errors import ImageFileError
from xai_deploy.images.avif import avif, is_heic
from xai_deploy.images.header import Incomplete, Unsupported

pytestmark = pytest.mark.skipif(not features.check("avif"), reason="this Pillow writes no AVIF")

RNG = np.random.default_rng(0)
SMOOTH = np.asarray(Image.fromarray(RNG.integers(0, 256, (6, 8, 3), np.uint8)).resize((47, 33)))


def encoded(image: Image.Image | None = None, **options: Any) -> bytes:
    file = io.BytesIO()
    (image or Image.fromarray(SMOOTH)).save(file, "AVIF", **options)
    return file.getvalue()


def read(folder: Path, data: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    (folder / "a.avif").write_bytes(data)
    return read_image(folder / "a.avif")


@pytest.mark.parametrize(
    "options",
    [{"quality": 60}, {"quality": 100, "subsampling": "4:4:4"}, {"subsampling": "4:0:0"}, {"speed": 10}],
    ids=str,
)
def test_the_same_pixels_as_pillow(tmp_path: Path, options: dict[str, Any]) -> None:
    data = encoded(**options)
    np.testing.assert_array_equal(read(tmp_path, data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("turn", range(1, 9))
def test_turned_as_the_file_says(tmp_path: Path, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    data = encoded(exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(read(tmp_path, data), np.asarray(upright.convert("RGB")))


def test_transparency_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    alpha = np.full((33, 47, 1), 255, np.uint8)
    read(tmp_path, encoded(Image.fromarray(np.dstack([SMOOTH, alpha]))))
    assert not caplog.records
    alpha[3, 4] = 0
    data = encoded(Image.fromarray(np.dstack([SMOOTH, alpha])))
    assert avif(data).alpha
    read(tmp_path, data)
    assert "transparent in places" in caplog.text


def test_every_shorter_file_is_incomplete() -> None:
    data = encoded()
    for length in range(len(data)):
        with pytest.raises((Incomplete, struct.error, IndexError)):
            avif(data[:length])


def test_a_bitstream_larger_than_its_box(tmp_path: Path) -> None:
    """The decoder would allocate what the bitstream announces: here 8 times the width, in the box only."""
    data = encoded()
    small = data.replace(struct.pack(">II", 47, 33), struct.pack(">II", 4, 4))
    assert small != data
    with pytest.raises(ImageFileError, match="truncated or damaged"):
        read(tmp_path, small)


def test_a_box_that_announces_too_much(tmp_path: Path) -> None:
    data = encoded().replace(struct.pack(">II", 47, 33), struct.pack(">II", 60_000, 60_000))
    with pytest.raises(XaiError):
        read(tmp_path, data)


def test_an_animation_is_refused() -> None:
    other = Image.fromarray(SMOOTH[::-1].copy())
    with pytest.raises(Unsupported, match="is an animated AVIF"):
        avif(encoded(save_all=True, append_images=[other]))


def test_ten_bits_are_refused(tmp_path: Path) -> None:
    import cv2

    written, data = cv2.imencode(".avif", SMOOTH.astype(np.uint16) * 4, [cv2.IMWRITE_AVIF_DEPTH, 10])
    assert written
    with pytest.raises(
        ImageFileError, match=r"a\.avif: is an AVIF of more than 8 bits per value, which is not read; save"
    ):
        read(tmp_path, data.tobytes())


def test_changed_bytes_never_escape(tmp_path: Path) -> None:
    """Either the same size is read, or one of our errors is raised."""
    data = encoded()
    for place in range(min(len(data), 400)):
        for value in (0, 0x7F, 0xFF):
            changed = bytearray(data)
            changed[place] = value
            with contextlib.suppress(XaiError):
                assert read(tmp_path, bytes(changed)).size <= 47 * 33 * 3


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1"])
def test_heic_says_what_to_do(tmp_path: Path, brand: bytes) -> None:
    data = struct.pack(">I4s4sI4s", 20, b"ftyp", brand, 0, b"heic") + bytes(100)
    assert is_heic(data)
    with pytest.raises(
        ImageFileError, match=r"a\.avif: is a HEIC image, which OpenCV does not read; save it as JPEG or PNG"
    ):
        read(tmp_path, data)
