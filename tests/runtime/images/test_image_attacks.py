"""Files made to cost time or memory, or to be read by two readers in two ways: refused by one line, before they are decoded."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from xai_deploy import images, read_image
from xai_deploy.errors import ImageFileError, ImageTooLargeError
from xai_deploy.images import header

PIXELS = np.asarray(
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize((48, 32))
)


def saved(kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, kind, **options)
    return stream.getvalue()


def read(folder: Path, data: bytes, **options: Any) -> Any:
    (folder / "a").write_bytes(data)
    return read_image(folder / "a", **options)


def directory(data: bytes) -> tuple[int, int]:
    """Where a little-endian TIFF's directory lies, and how many tags it has."""
    (at,) = struct.unpack_from("<I", data, 4)
    return at, struct.unpack_from("<H", data, at)[0]


def with_tag(data: bytes, tag: int, value: int, again: bool = False) -> bytes:
    """A TIFF whose tag is another value, or is there again with it; the directory goes to the end."""
    at, count = directory(data)
    entries = [data[at + 2 + 12 * i : at + 14 + 12 * i] for i in range(count)]
    index = next(i for i, entry in enumerate(entries) if struct.unpack_from("<H", entry)[0] == tag)
    entry = struct.pack("<HHII", tag, 4, 1, value)
    entries[index : index + (not again)] = [entry]
    whole = data[:4] + struct.pack("<I", len(data)) + data[8:]
    return whole + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)


@pytest.mark.parametrize("tag", [256, 257, 273, 279, 278, 262])
def test_tiff_with_a_tag_twice(tmp_path: Path, tag: int) -> None:
    with pytest.raises(ImageFileError, match=f"a: is a TIFF with tag {tag} twice, so that it is not known which"):
        read(tmp_path, with_tag(saved("TIFF"), tag, 32_000, again=True))


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize(("tag", "value"), [(257, 6000), (257, 33), (278, 1), (278, 0), (279, 1 << 30), (273, 1 << 30)])
def test_tiff_without_all_its_strips(tmp_path: Path, compression: str, tag: int, value: int) -> None:
    data = saved("TIFF", compression=compression)
    read(tmp_path, data)
    if tag == 257 and value == 33 and compression in ("tiff_lzw", "packbits"):
        return  # a row more in the same strip: only unpacking would tell
    with pytest.raises(ImageFileError, match="truncated or damaged"):
        read(tmp_path, with_tag(with_tag(data, 278, 32), tag, value))


def test_tiff_whose_strips_are_the_same_bytes(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "b", PIXELS, photometric="rgb", rowsperstrip=1)
    size = (tmp_path / "b").stat().st_size
    with tifffile.TiffFile(tmp_path / "b", mode="r+") as opened:
        tags = opened.pages[0].tags  # type: ignore[union-attr]
        for name, value in (("StripOffsets", 8), ("StripByteCounts", size // 2)):
            tags[name].overwrite([value] * 32)
    with pytest.raises(ImageFileError, match="truncated or damaged"):
        read_image(tmp_path / "b")


def test_short_raw_strip(tmp_path: Path) -> None:
    data = saved("TIFF")
    with pytest.raises(ImageFileError, match="truncated or damaged"):
        read(tmp_path, with_tag(data, 279, 48 * 32 * 3 - 1))


@pytest.mark.parametrize("damage", [3, 200, -3])
def test_damaged_deflate_strip(tmp_path: Path, damage: int) -> None:
    """libtiff goes on with zeros."""
    data = bytearray(saved("TIFF", compression="tiff_adobe_deflate"))
    with Image.open(io.BytesIO(data)) as image:
        assert isinstance(image, TiffImageFile)
        at, size = image.tag_v2[273][0], image.tag_v2[279][0]
    data[at + damage % size] ^= 0x55
    with pytest.raises(ImageFileError, match="truncated or damaged"):
        read(tmp_path, bytes(data))


def test_tiff_kinds(tmp_path: Path) -> None:
    """BigTIFF, planes, tiles, several pages: as tifffile has written them."""
    for options in (
        {"bigtiff": True},
        {"byteorder": ">"},
        {"tile": (64, 64)},
        {"compression": "zlib"},
        {"rowsperstrip": 5},
    ):
        tifffile.imwrite(tmp_path / "b", PIXELS, photometric="rgb", **options)
        np.testing.assert_array_equal(read_image(tmp_path / "b"), PIXELS)
    tifffile.imwrite(tmp_path / "b", np.moveaxis(PIXELS, 2, 0), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_image(tmp_path / "b"), PIXELS)
    with tifffile.TiffWriter(tmp_path / "b") as pages:
        for page in (PIXELS, PIXELS[::-1]):
            pages.write(page, photometric="rgb")
    np.testing.assert_array_equal(read_image(tmp_path / "b"), PIXELS)


def test_big_tiff_is_judged_too(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "b", PIXELS, photometric="rgb", bigtiff=True)
    with pytest.raises(ImageTooLargeError, match="its header announces 48 x 32"):
        read_image(tmp_path / "b", max_pixels=1000)
    data = (tmp_path / "b").read_bytes()
    for length in range(16, len(data) - 1, 97):
        with pytest.raises(ImageFileError):
            read(tmp_path, data[:length])


def test_tiff_of_many_channels(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "b", np.zeros((20, 30, 7), np.uint8), photometric="rgb", planarconfig="contig")
    with pytest.raises(ImageFileError, match="a TIFF of 7 channels, which is not read"):
        read_image(tmp_path / "b")


def test_tiles_of_many_pixels(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "b", PIXELS, photometric="rgb", tile=(64, 64))
    data = (tmp_path / "b").read_bytes()
    with pytest.raises(ImageFileError, match="tiles hold many times its pixels"):
        read(tmp_path, with_tag(with_tag(data, 322, 1 << 20), 323, 1 << 20))


def progressive(scans: int) -> bytes:
    """A progressive JPEG whose last scan is there again and again."""
    data = saved("JPEG", progressive=True, quality=30)
    count, last = data.count(b"\xff\xda"), data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * (scans - count) + data[-2:]


def test_scans(tmp_path: Path) -> None:
    assert read(tmp_path, saved("JPEG", progressive=True)).shape == (32, 48, 3)
    with pytest.raises(ImageFileError, match="a: has more than 100 scans, each of which costs a pass over all pixels"):
        read(tmp_path, progressive(101))


def test_jpeg_with_two_frame_headers(tmp_path: Path) -> None:
    data = saved("JPEG")
    at = data.index(b"\xff\xc0")
    frame = data[at : at + 19]
    with pytest.raises(ImageFileError, match="truncated or damaged"):
        read(tmp_path, data[:at] + frame + data[at:])


def test_lossless_jpeg(tmp_path: Path) -> None:
    with pytest.raises(ImageFileError, match="is a lossless or hierarchical JPEG"):
        read(tmp_path, saved("JPEG").replace(b"\xff\xc0", b"\xff\xc3", 1))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_png_texts_and_profiles_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each unpacks to 8 MB and takes 0.08 s; OpenCV does not see them."""
    data = saved("PNG")
    bombs = b"".join(chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(7_000_000))) for _ in range(200))
    seen: list[int] = []
    decode = images.opencv().imdecode

    def watched(pixels: NDArray[np.uint8], flags: int) -> Any:
        seen.append(len(pixels))
        return decode(pixels, flags)

    monkeypatch.setattr(images.opencv(), "imdecode", watched)
    np.testing.assert_array_equal(read(tmp_path, data[:33] + bombs + data[33:]), PIXELS)
    assert seen == [len(data)]
    exif = chunk(b"tEXt", b"Raw profile type exif\0" + bytes(40))  # a text that libpng takes for EXIF: once
    np.testing.assert_array_equal(read(tmp_path, data[:33] + exif * 3 + data[33:]), PIXELS)
    assert seen[1:] == [len(data) + len(exif)]


def test_many_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a gigabyte may not be a gigabyte of empty blocks."""
    monkeypatch.setattr(header, "PIECES", 1000)
    png, jpeg, gif = saved("PNG"), saved("JPEG"), saved("GIF")
    for data in (
        png[:33] + chunk(b"aaAa", b"") * 1000 + png[33:],
        jpeg[:2] + b"\xff\xfe\0\2" * 1000 + jpeg[2:],
        gif[:-1] + b"\x21\xfe\0" * 5000 + gif[-1:],
    ):
        with pytest.raises(ImageFileError, match="truncated or damaged"):
            read(tmp_path, data)


def test_gif_frame_beyond_the_canvas(tmp_path: Path) -> None:
    data = bytearray(saved("GIF"))
    struct.pack_into("<HH", data, 6, 20, 20)
    with pytest.raises(ImageFileError, match="truncated or damaged"):
        read(tmp_path, bytes(data))


def test_gif_frame_within_the_canvas(tmp_path: Path) -> None:
    """The rest of the canvas has the background's colour."""
    data = bytearray(saved("GIF"))
    struct.pack_into("<HH", data, 6, 60, 40)
    with Image.open(io.BytesIO(data)) as opened:
        np.testing.assert_array_equal(read(tmp_path, bytes(data)), np.asarray(opened.convert("RGB")))


def test_webp_with_two_canvases(tmp_path: Path) -> None:
    canvas = b"VP8X" + struct.pack("<II", 10, 0) + (47).to_bytes(3, "little") + (31).to_bytes(3, "little")
    for times in (1, 2):
        body = b"WEBP" + canvas * times + saved("WEBP", lossless=True)[12:]
        data = b"RIFF" + struct.pack("<I", len(body)) + body
        if times == 1:
            np.testing.assert_array_equal(read(tmp_path, data), PIXELS)
        else:
            with pytest.raises(ImageFileError, match="truncated or damaged"):
                read(tmp_path, data)


def test_webp_frame_beyond_the_canvas(tmp_path: Path) -> None:
    image = saved("WEBP", lossless=True)[12:]
    for size in (19, 47):
        canvas = b"VP8X" + struct.pack("<II", 10, 0) + size.to_bytes(3, "little") + (31).to_bytes(3, "little")
        body = b"WEBP" + canvas + image
        data = b"RIFF" + struct.pack("<I", len(body)) + body
        if size == 47:
            np.testing.assert_array_equal(read(tmp_path, data), PIXELS)
        else:
            with pytest.raises(ImageFileError, match="truncated or damaged"):
                read(tmp_path, data)


@pytest.mark.parametrize("height", [-(1 << 31), (1 << 31) - 1, -32, 1 << 20])
def test_bmp_heights(tmp_path: Path, height: int) -> None:
    data = bytearray(saved("BMP"))
    struct.pack_into("<i", data, 22, height)
    if height == -32:
        np.testing.assert_array_equal(read(tmp_path, bytes(data)), PIXELS[::-1])
        return
    with pytest.raises(ImageFileError, match="truncated or damaged"):
        read(tmp_path, bytes(data))


def test_bmp_that_holds_a_jpeg(tmp_path: Path) -> None:
    data = bytearray(saved("BMP"))
    struct.pack_into("<I", data, 30, 4)
    with pytest.raises(ImageFileError, match="is a BMP that holds a JPEG or PNG"):
        read(tmp_path, bytes(data))


@pytest.mark.parametrize("shape", [(32, 47, 3), (64, 96, 3), (49, 32, 3)])
def test_what_is_decoded_has_the_size_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: Any) -> None:
    data = saved("PNG")
    monkeypatch.setattr(images.opencv(), "imdecode", lambda pixels, flags: np.zeros(shape, np.uint8))
    with pytest.raises(ImageFileError, match=f"announces 48 x 32 pixels, but it holds {shape[1]} x {shape[0]}"):
        read(tmp_path, data)
