"""Image files: what is read equals PIL's reading, and what is refused before OpenCV sees it."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from xai_deploy import images, read_image, write_image
from xai_deploy.errors import BackendNotInstalledError, ImageFileError, ImageTooLargeError
from xai_deploy.images import read

FORMATS = {
    "png": ("PNG", {}),
    "jpg": ("JPEG", {"quality": 95}),
    "bmp": ("BMP", {}),
    "webp": ("WEBP", {"lossless": True}),
    "lossy.webp": ("WEBP", {"quality": 90}),
    "gif": ("GIF", {}),
    "tif": ("TIFF", {}),
    "lzw.tif": ("TIFF", {"compression": "tiff_lzw"}),
}


def picture(height: int = 37, width: int = 53) -> NDArray[np.uint8]:
    """Smooth, so that lossy formats keep it, and different in every channel."""
    small = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def encoded(name: str) -> bytes:
    kind, options = FORMATS[name]
    stream = io.BytesIO()
    Image.fromarray(picture()).save(stream, kind, **options)  # type: ignore[arg-type]
    return stream.getvalue()


@pytest.mark.parametrize("name", FORMATS)
def test_reads_as_pil_does(tmp_path: Path, name: str) -> None:
    (tmp_path / f"a.{name}").write_bytes(encoded(name))
    found = read_image(tmp_path / f"a.{name}")
    wanted = np.asarray(Image.open(io.BytesIO(encoded(name))).convert("RGB")).astype(int)
    assert found.dtype == np.uint8
    assert found.shape == (37, 53, 3)
    assert found.flags.c_contiguous
    exact = name not in ("jpg", "lossy.webp")
    assert np.abs(found - wanted).max() <= (0 if exact else 4)  # decoders round lossy formats differently


def test_the_content_counts_not_the_name(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded("png"))
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), picture())


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "LA", "I;16"])
def test_other_png_modes(tmp_path: Path, mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(picture()[..., 0].astype(np.uint16) * 257)
        wanted = np.repeat(picture()[..., :1], 3, axis=2).astype(int)
    else:
        image = Image.fromarray(picture()).convert(mode)
        wanted = np.asarray(image.convert("RGB")).astype(int)
    image.save(tmp_path / "a.png")
    assert np.abs(read_image(tmp_path / "a.png") - wanted).max() <= 1


@pytest.mark.parametrize("block", [1, 500, 53 * 3 * 7, 1 << 17])
@pytest.mark.parametrize("alpha", [False, True])
def test_colours_are_turned_round_in_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, alpha: bool
) -> None:
    """37 rows, in blocks of one, three, seven and all."""
    image = Image.fromarray(picture())
    if alpha:
        image.putalpha(255)
    image.save(tmp_path / "a.png")
    monkeypatch.setattr(read, "_BLOCK", block)
    assert (read_image(tmp_path / "a.png") == picture()).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture()).save(tmp_path / "a.jpg", quality=95, exif=exif)
    with Image.open(tmp_path / "a.jpg") as image:
        wanted = np.asarray(ImageOps.exif_transpose(image)).astype(int)
    found = read_image(tmp_path / "a.jpg")
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 4


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("name", FORMATS)
def test_truncated(tmp_path: Path, name: str, kept: float) -> None:
    data = encoded(name)
    (tmp_path / "a").write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ImageFileError, match="a: the image is truncated or damaged"):
        read_image(tmp_path / "a")


@pytest.mark.parametrize("name", FORMATS)
def test_truncated_anywhere_is_refused_or_whole(tmp_path: Path, name: str) -> None:
    """Wherever it is cut, a file is refused, or (a few padding bytes at its end) still complete."""
    data = encoded(name)
    wanted = None
    for length in range(len(data) - 1, 0, -max(len(data) // 60, 1)):
        (tmp_path / "a").write_bytes(data[:length])
        try:
            found = read_image(tmp_path / "a")
        except ImageFileError:
            continue
        if wanted is None:
            (tmp_path / "whole").write_bytes(data)
            wanted = read_image(tmp_path / "whole")
        np.testing.assert_array_equal(found, wanted)


def test_damaged_png(tmp_path: Path) -> None:
    data = bytearray(encoded("png"))
    data[len(data) // 2] ^= 0x40
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ImageFileError, match="truncated or damaged"):
        read_image(tmp_path / "a.png")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width: int, height: int) -> bytes:
    """A small PNG file whose header announces width x height pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_decompression_bomb(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(bomb(50_000, 50_000))
    assert (tmp_path / "bomb.png").stat().st_size < 2000
    with pytest.raises(
        ImageTooLargeError, match=r"bomb\.png: its header announces 50000 x 50000 pixels, the limit is 100000000"
    ):
        read_image(tmp_path / "bomb.png")


def test_second_header_does_not_hide_the_first(tmp_path: Path) -> None:
    data = bomb(50_000, 50_000)
    small = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    (tmp_path / "bomb.png").write_bytes(data[:33] + small + data[33:])
    with pytest.raises(ImageFileError, match="truncated or damaged"):
        read_image(tmp_path / "bomb.png")


@pytest.mark.parametrize("size", [(100_000, 1), (1, 70_000)])
def test_long_strip(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "strip.png").write_bytes(bomb(*size))
    with pytest.raises(ImageTooLargeError, match="neither side may exceed 65535"):
        read_image(tmp_path / "strip.png")


def test_no_pixels(tmp_path: Path) -> None:
    (tmp_path / "none.png").write_bytes(bomb(0, 10))
    with pytest.raises(ImageFileError, match="its header announces 0 x 10 pixels"):
        read_image(tmp_path / "none.png")


@pytest.mark.parametrize("name", FORMATS)
def test_the_limit_is_the_callers(tmp_path: Path, name: str) -> None:
    (tmp_path / "a").write_bytes(encoded(name))
    assert read_image(tmp_path / "a", max_pixels=37 * 53).shape == (37, 53, 3)
    with pytest.raises(
        ImageTooLargeError, match=r"53 x 37 pixels, the limit is 1960; scale it down or raise the limit"
    ):
        read_image(tmp_path / "a", max_pixels=37 * 53 - 1)


@pytest.mark.parametrize("data", [b"\0", b"hello", b"<svg/>", b"%PDF-1.7", bytes(1000), b"II,\0"])
def test_unknown_format(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(
        ImageFileError, match=r"a\.png: not a PNG, JPEG, BMP, WebP, GIF, TIFF or AVIF image; convert it"
    ):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", FORMATS)
def test_noise_behind_the_magic_number(tmp_path: Path, name: str, seed: int) -> None:
    """Nothing but an ImageFileError (or, by luck, an image) comes of random bytes."""
    noise = np.random.default_rng(seed).integers(0, 256, 300, dtype=np.uint8).tobytes()
    (tmp_path / "a").write_bytes(encoded(name)[: 12 + seed] + noise)
    with contextlib.suppress(ImageFileError, ImageTooLargeError):
        read_image(tmp_path / "a")


def test_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ImageFileError, match=r"none\.png: no such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(ImageFileError, match="not a plain file"):
        read_image(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageFileError, match=r"pipe\.png: not a plain file"):
        read_image(tmp_path / "pipe.png")


def test_too_large_a_file(tmp_path: Path) -> None:
    with (tmp_path / "a.png").open("wb") as stream:
        stream.truncate((1 << 30) + 1)
    with pytest.raises(ImageTooLargeError, match="larger than 1024 MiB"):
        read_image(tmp_path / "a.png")


def test_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(encoded("png"))

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ImageFileError, match=r"a\.png: can't be read \(Permission denied\)"):
        read_image(tmp_path / "a.png")


def test_write_and_read_again(tmp_path: Path) -> None:
    for name in ("a.png", "b.bmp", "c.tiff"):
        write_image(tmp_path / name, picture())
        np.testing.assert_array_equal(read_image(tmp_path / name), picture())


@pytest.mark.parametrize("writeable", [True, False])
def test_a_spent_picture_gives_the_same_file(writeable: bool) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    spent, want = picture.copy(), images.encode_image(picture)
    spent.flags.writeable = writeable
    assert images.encode_image(spent, spent=True) == want
    with Image.open(io.BytesIO(want)) as read_again:
        assert np.array_equal(np.asarray(read_again), picture)


def test_write_refusals(tmp_path: Path) -> None:
    with pytest.raises(ImageFileError, match=r"can't be encoded as '\.xyz'"):
        write_image(tmp_path / "a.xyz", picture())
    with pytest.raises(ImageFileError, match="can't be written"):
        write_image(tmp_path / "none" / "a.png", picture())


def test_without_opencv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(BackendNotInstalledError, match=r"pip install 'xai-deploy\[image\]'"):
        images.read_image(tmp_path / "a.png")


def test_jpeg_cut_in_half_with_another_behind(tmp_path: Path) -> None:
    """Its layout shows it. (With an end marker behind the half, nobody notices: see the package's docstring.)"""
    for options in ({}, {"progressive": True}):
        stream = io.BytesIO()
        Image.fromarray(picture(200, 300)).save(stream, "JPEG", quality=95, **options)
        data = stream.getvalue()
        (tmp_path / "a.jpg").write_bytes(data)
        assert read_image(tmp_path / "a.jpg").shape == (200, 300, 3)
        (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2] + data)
        with pytest.raises(ImageFileError, match=r"a\.jpg: the image is truncated or damaged"):
            read_image(tmp_path / "a.jpg")


def test_jpeg_with_more_behind_it(tmp_path: Path) -> None:
    """A thumbnail in front, restart markers within, and whatever a camera appends."""
    stream = io.BytesIO()
    Image.fromarray(picture()).save(stream, "JPEG", quality=95, restart_marker_blocks=1)
    data = stream.getvalue()
    thumbnail = b"\xff\xe1" + struct.pack(">H", len(data) + 2) + data
    (tmp_path / "a.jpg").write_bytes(data[:2] + thumbnail + data[2:] + data + b"more")
    assert np.abs(read_image(tmp_path / "a.jpg") - picture().astype(int)).max() <= 16


@pytest.mark.parametrize("version", ["4.10.0", "3.4.18", "4.9.0-dev"])
def test_old_opencv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str) -> None:
    """Before 4.11 a truncated file is decoded without a word."""
    import cv2

    monkeypatch.setattr(cv2, "__version__", version)
    with pytest.raises(BackendNotInstalledError, match=f"need OpenCV 4.11 or newer, not {version}"):
        read_image(tmp_path / "a.png")
    monkeypatch.setattr(cv2, "__version__", "4.11.0-dev")
    with pytest.raises(ImageFileError, match="no such file"):
        read_image(tmp_path / "a.png")
