"""Layouts of pixels that OpenCV reads wrongly, without a word, or in some versions only."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps

from xai_deploy import read_image
from xai_deploy.errors import ImageFileError

ROWS, COLUMNS = np.mgrid[:31, :20]
PIXELS = np.stack([ROWS * 8, COLUMNS * 12, ROWS * 3 + COLUMNS * 5], -1).astype(np.uint8)
DEEP = ["uint16", "uint32", "int16", "int32", "float32", "float64"]


def refused(path: Path, reason: str) -> None:
    with pytest.raises(ImageFileError, match=f"{path.name}: {reason}"):
        read_image(path, input_range=(0, 255))


@pytest.mark.parametrize("dtype", DEEP)
@pytest.mark.parametrize("options", [{}, {"tile": (16, 16)}, {"compression": "zlib"}], ids=["strips", "tiles", "zlib"])
def test_deep_channels_one_after_the_other(tmp_path: Path, dtype: str, options: dict[str, Any]) -> None:
    apart = np.moveaxis(PIXELS.astype(dtype), -1, 0)
    tifffile.imwrite(tmp_path / "a", apart, photometric="rgb", planarconfig="separate", **options)
    refused(tmp_path / "a", r"is a TIFF of \d\d-bit \w+ values, one channel after the other, which is not read")


def test_8_bit_channels_one_after_the_other(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a", np.moveaxis(PIXELS, -1, 0), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_image(tmp_path / "a"), PIXELS)


@pytest.mark.parametrize("dtype", DEEP)
def test_deep_values_where_0_is_white(tmp_path: Path, dtype: str) -> None:
    tifffile.imwrite(tmp_path / "a", PIXELS[..., 0].astype(dtype), photometric="miniswhite")
    refused(tmp_path / "a", r"is a TIFF of \d\d-bit \w+ values in which 0 is white, which is not read")


def test_8_bits_where_0_is_white(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a", 255 - PIXELS[..., 0], photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "a"), np.dstack([PIXELS[..., 0]] * 3))


SHAPES = [{}, {"tile": (32, 32)}, {"tile": (32, 32), "compression": "zlib"}]


@pytest.mark.parametrize("tiles", SHAPES, ids=["strips", "tiles", "zlib"])
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("width", [64, 60])
def test_grey_with_extra_channels(
    tmp_path: Path, width: int, count: int, dtype: str, apart: bool, tiles: dict[str, Any]
) -> None:
    """The grey values, or a refusal: OpenCV puts alpha into them if channels or columns of tiles lie apart, or makes 8 bits."""
    grey = np.arange(48)[:, None] * 5 + np.arange(width) % 16
    planes = np.stack([grey, *[np.full_like(grey, 255)] * (count - 1)]).astype(dtype)
    tifffile.imwrite(
        tmp_path / "a", planes if apart else np.moveaxis(planes, 0, -1), photometric="minisblack",
        planarconfig="separate" if apart else "contig", extrasamples=["unassalpha"] * (count - 1), **tiles,
    )  # fmt: skip
    if dtype == "uint8" and not apart and (not tiles or width == 64):
        np.testing.assert_array_equal(read_image(tmp_path / "a"), np.dstack([grey] * 3))
    else:
        refused(
            tmp_path / "a",
            r"is a (grey )?TIFF of \d+(-bit \w+ values, one channel after the other| bits with alpha)",
        )


FIELDS = {
    "555": (16, (0x7C00, 0x3E0, 0x1F)),
    "565": (16, (0xF800, 0x7E0, 0x1F)),
    "blue first": (32, (0xFF0000, 0xFF00, 0xFF)),
    "red first": (32, (0xFF, 0xFF00, 0xFF0000)),
    "from the top": (32, (0xFF000000, 0xFF0000, 0xFF00)),
    "of 10 bits": (32, (0x3FF00000, 0xFFC00, 0x3FF)),
}


def fields(name: str, header: int, packing: int = 3) -> bytes:
    """A BMP whose colours lie where masks say, with a header of so many bytes."""
    bits, masks = FIELDS[name]
    pixels = np.zeros(PIXELS.shape[:2], np.uint64)
    for i, mask in enumerate(masks):
        values = PIXELS[..., i].astype(np.uint64) * np.uint64(mask.bit_count() > 8) * np.uint64(4)
        values += (PIXELS[..., i] >> max(8 - mask.bit_count(), 0)).astype(np.uint64) * np.uint64(mask.bit_count() <= 8)
        pixels |= values << np.uint64((mask & -mask).bit_length() - 1)
    rows = pixels[::-1].astype(f"<u{bits // 8}").tobytes()
    info = struct.pack("<IiiHHIIiiII", header, 20, 31, 1, bits, packing, len(rows), 0, 0, 0, 0)
    info += struct.pack("<III", *masks) + bytes(max(header - 52, 0)) if packing == 3 else bytes(header - 40)
    return b"BM" + struct.pack("<IHHI", 14 + len(info) + len(rows), 0, 0, 14 + len(info)) + info + rows


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("header", [40, 52, 56, 108, 124])
def test_bmp_with_masks(tmp_path: Path, name: str, header: int) -> None:
    """The colours, or a refusal, and never red for blue; 5 bits reach 255, as with PIL."""
    data = fields(name, header)
    (tmp_path / "a").write_bytes(data)
    bits, _ = FIELDS[name]
    if bits == 16 and header > 40:  # OpenCV reads none of these
        return refused(tmp_path / "a", "the image is truncated or damaged")
    if bits == 32 and header < 56 and name != "blue first":
        return refused(tmp_path / "a", "is a BMP of 32 bits with its colours in an unusual order")
    want = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) if bits == 16 else PIXELS
    assert np.abs(read_image(tmp_path / "a").astype(int) - want).max() <= (name == "of 10 bits")
    return None


def test_bmp_of_15_bits_without_masks(tmp_path: Path) -> None:
    data = fields("555", 40, packing=0)
    (tmp_path / "a").write_bytes(data)
    np.testing.assert_array_equal(read_image(tmp_path / "a"), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("turn", [1, 3, 5, 6, 8, 0, 9, 70_000])
def test_a_turn_in_32_bits(tmp_path: Path, turn: int, order: str) -> None:
    """EXIF's orientation as LONG: PIL turns such pictures, OpenCV does not."""
    mark = b"II" if order == "<" else b"MM"
    exif = mark + struct.pack(order + "HIHHHIII", 42, 8, 1, 0x112, 4, 1, turn, 0)
    for kind, more in (("PNG", {}), ("JPEG", {"quality": 98, "subsampling": 0})):
        Image.fromarray(PIXELS).save(tmp_path / "a", kind, exif=b"Exif\0\0" + exif, **more)
        with Image.open(tmp_path / "a") as opened:
            want = np.asarray(ImageOps.exif_transpose(opened)).astype(int)
        found = read_image(tmp_path / "a")
        assert found.shape == want.shape
        assert np.abs(found - want).max() <= (0 if kind == "PNG" else 4)


def test_lab(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).convert("LAB").save(tmp_path / "a", "TIFF")
    refused(tmp_path / "a", "is a TIFF of photometric interpretation 8, which is not read; save it as RGB")


def grey_of(bits: int) -> NDArray[np.uint8]:
    """[31,20] as rows of packed values."""
    each = 8 // bits
    values = PIXELS[..., 0].astype(int) >> (8 - bits)
    packed = sum(values[:, i::each] << (8 - bits * (i + 1)) for i in range(each))
    return np.asarray(packed, np.uint8)


@pytest.mark.parametrize("bits", [2, 4])
def test_few_bits(tmp_path: Path, bits: int) -> None:
    """By name, not as "damaged"."""
    tifffile.imwrite(tmp_path / "a", grey_of(bits), photometric="minisblack")
    with tifffile.TiffFile(tmp_path / "a", mode="r+") as opened:
        opened.pages[0].tags["ImageWidth"].overwrite(20)  # type: ignore[union-attr]
        opened.pages[0].tags["BitsPerSample"].overwrite(bits)  # type: ignore[union-attr]
    refused(tmp_path / "a", f"is a TIFF of {bits}-bit uint values, which is not read; save it with 1, 8, 16, 32 bits")


@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_turned_webp(tmp_path: Path, turn: int, prefix: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """By ourselves: before OpenCV 4.13, nobody else does."""
    exif = Image.Exif()
    exif[274] = turn
    data = prefix + exif.tobytes().removeprefix(b"Exif\0\0")
    Image.fromarray(PIXELS).save(tmp_path / "a", "WEBP", lossless=True, exif=data)
    plain = Image.Exif()
    plain[274] = turn
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "PNG", exif=plain)
    wanted = ImageOps.exif_transpose(Image.open(stream)).convert("RGB")
    np.testing.assert_array_equal(read_image(tmp_path / "a"), np.asarray(wanted))
    real = cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda data, flags: real(data, flags | cv2.IMREAD_IGNORE_ORIENTATION))
    np.testing.assert_array_equal(read_image(tmp_path / "a"), np.asarray(wanted))


@pytest.mark.parametrize(
    "exif", [b"", b"II", b"II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\0\x09", b"nonsense" * 9]
)
def test_damaged_exif_turns_nothing(tmp_path: Path, exif: bytes) -> None:
    chunk = b"EXIF" + len(exif).to_bytes(4, "little") + exif + b"\0" * (len(exif) & 1)
    Image.fromarray(PIXELS).save(tmp_path / "a", "WEBP", lossless=True, icc_profile=b"any")  # so that it has VP8X
    data = (tmp_path / "a").read_bytes() + chunk
    (tmp_path / "a").write_bytes(data[:4] + (len(data) - 8).to_bytes(4, "little") + data[8:])
    np.testing.assert_array_equal(read_image(tmp_path / "a"), PIXELS)


def test_fewer_values_of_colour_than_of_brightness(tmp_path: Path) -> None:
    """A TIFF in YCbCr, four values of Y for one each of Cb and Cr, of a grey picture: R = G = B = Y where Cb = Cr = 128."""
    grey = (ROWS[:30] * 8).astype(np.uint8)
    blocks = [grey[i : i + 2, j : j + 2].tobytes() + b"\x80\x80" for i in range(0, 30, 2) for j in range(0, 20, 2)]
    pixels = b"".join(blocks)
    end = 8 + len(pixels)
    tags = [(256, 20), (257, 30), (259, 1), (262, 6), (273, 8), (277, 3), (278, 30), (279, len(pixels)), (284, 1)]
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags]
    entries.insert(2, struct.pack("<HHII", 258, 3, 3, end))  # 8 bits, three times
    entries.append(struct.pack("<HHIHH", 530, 3, 2, 2, 2))  # subsampling
    directory = struct.pack("<HHHH", 8, 8, 8, len(entries)) + b"".join(entries) + bytes(4)
    (tmp_path / "a").write_bytes(b"II*\0" + struct.pack("<I", end + 6) + pixels + directory)
    np.testing.assert_array_equal(read_image(tmp_path / "a"), np.dstack([grey] * 3))


def test_run_lengths_that_end_early(tmp_path: Path) -> None:
    """A BMP of runs, one a row, from the last row to the first. OpenCV reads it without the end marker, too."""
    palette = b"".join(bytes([i, i, i, 0]) for i in range(256))
    runs = b"".join(bytes([20, 8 * row]) + b"\0\0" for row in range(30, -1, -1)) + b"\0\1"
    start = 14 + 40 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, 20, 31, 1, 8, 1, len(runs), 0, 0, 256, 0)
    data = b"BM" + struct.pack("<IHHI", start + len(runs), 0, 0, start) + header + palette + runs
    (tmp_path / "a").write_bytes(data)
    np.testing.assert_array_equal(read_image(tmp_path / "a"), np.dstack([ROWS * 8] * 3))
    for cut in (1, 2, 30, len(runs)):
        (tmp_path / "a").write_bytes(data[:-cut])
        refused(tmp_path / "a", "the image is truncated or damaged")


def test_opencv_without_gif(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is not damaged."""
    Image.fromarray(PIXELS).quantize(64).save(tmp_path / "a", "GIF")
    monkeypatch.setattr(cv2, "imdecode", lambda *_: None)
    monkeypatch.setattr(cv2, "haveImageWriter", lambda name: not name.endswith(".gif"))
    refused(tmp_path / "a", r"OpenCV [\d.]+ reads no GIF; pip install -U")
