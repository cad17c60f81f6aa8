"""Values of more than 8 bits, and transparency: what is made of them is formulas' or PIL's, and it is said."""

from __future__ import annotations

import importlib
import io
import logging
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from xai_deploy import read_image
from xai_deploy.errors import ImageFileError, OptionError
from xai_deploy.images import parse_range

RAMP = np.linspace(0, 1, 31 * 20 * 3).reshape(31, 20, 3)


def as_tiff(path: Path, values: NDArray[Any], **options: Any) -> None:
    tifffile.imwrite(path, values, photometric="rgb" if values.ndim == 3 else "minisblack", **options)


def as_png(path: Path, values: NDArray[Any]) -> None:
    path.write_bytes(cv2.imencode(".png", values[..., ::-1])[1].tobytes())


def scaled(values: NDArray[Any], low: float, high: float) -> NDArray[Any]:
    """The formula, one value at a time."""
    share = [(float(v) - low) / (high - low) for v in values.ravel()]
    return np.array([round(255 * min(max(s, 0), 1)) for s in share]).reshape(values.shape)


@pytest.mark.parametrize("write", [as_png, as_tiff])
def test_16_bits(tmp_path: Path, write: Any, caplog: pytest.LogCaptureFixture) -> None:
    values = (RAMP * 65_535).astype(np.uint16)
    write(tmp_path / "a", values)
    with caplog.at_level(logging.INFO):
        found = read_image(tmp_path / "a")
    np.testing.assert_array_equal(found, scaled(values, 0, 65_535))
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("INFO", f"{tmp_path / 'a'}: 16 bits per value, 0 to 65535 scaled to 0 to 255")
    ]


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("write", [as_png, as_tiff])
def test_12_bits_in_16(tmp_path: Path, write: Any, bits: int, caplog: pytest.LogCaptureFixture) -> None:
    """Nearly black without a range, and a warning says so; right with it."""
    most = (1 << bits) - 1
    values = (RAMP * most).astype(np.uint16)
    write(tmp_path / "a", values)
    assert read_image(tmp_path / "a").max() == round(255 * most / 65_535)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert f"they reach only from 0 to {most}" in record.getMessage()
    assert f"--input-range 0,{most} (in Python: input_range=(0, {most}))" in record.getMessage()
    caplog.clear()
    np.testing.assert_array_equal(read_image(tmp_path / "a", input_range=(0, most)), scaled(values, 0, most))
    assert not caplog.records


def test_the_range_clips_and_leaves_8_bits_alone(tmp_path: Path) -> None:
    values = (RAMP * 65_535).astype(np.uint16)
    as_tiff(tmp_path / "a", values)
    np.testing.assert_array_equal(read_image(tmp_path / "a", input_range=(900, 7000)), scaled(values, 900, 7000))
    small = (RAMP * 255).astype(np.uint8)
    as_tiff(tmp_path / "b", small)
    np.testing.assert_array_equal(read_image(tmp_path / "b", input_range=(0, 4095)), small)


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("dtype", ["int16", "uint32", "int32", "float32", "float64"])
def test_no_black_and_white_of_their_own(tmp_path: Path, dtype: str, grey: bool) -> None:
    values = ((RAMP - 0.25) * (4 if "float" in dtype else 4000)).clip(0 if dtype[0] == "u" else -np.inf).astype(dtype)
    values = values[..., 0] if grey else values
    as_tiff(tmp_path / "a", values)
    with pytest.raises(
        ImageFileError, match=r"a: \d\d-bit \w+ values have no fixed black and white; give --input-range"
    ):
        read_image(tmp_path / "a")
    low, high = (-0.5, 2.5) if "float" in dtype else (-500, 2500)
    wanted = scaled(values, low, high)
    np.testing.assert_array_equal(
        read_image(tmp_path / "a", input_range=(low, high)), wanted if not grey else np.dstack([wanted] * 3)
    )


def test_nan(tmp_path: Path) -> None:
    values = RAMP.astype(np.float32)
    values[3, 4, 1] = np.nan
    as_tiff(tmp_path / "a", values)
    with pytest.raises(ImageFileError, match="a: holds NaN or infinity"):
        read_image(tmp_path / "a", input_range=(0, 1))


def test_half_floats(tmp_path: Path) -> None:
    as_tiff(tmp_path / "a", RAMP.astype(np.float16))
    with pytest.raises(
        ImageFileError, match="a TIFF of 16-bit float values, which is not read; save it with 32, 64 bits"
    ):
        read_image(tmp_path / "a", input_range=(0, 1))


@pytest.mark.parametrize("text", ["", "1", "1,2,3", "a,b", "2,1", "1,1", "0,inf", "nan,1"])
def test_no_range(text: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="an input range is two numbers, LOW,HIGH"):
        parse_range(text)


def test_a_range() -> None:
    assert parse_range("-0.5,4095") == (-0.5, 4095.0)
    with pytest.raises(OptionError):
        read_image("a", input_range=(2, 1))


def test_jpeg_of_12_bits(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray((RAMP * 255).astype(np.uint8)).save(stream, "JPEG")
    data = bytearray(stream.getvalue())
    data[data.index(b"\xff\xc0") + 4] = 12
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(ImageFileError, match="a: is a JPEG of 12 bits per value"):
        read_image(tmp_path / "a")


ALPHA = np.full((31, 20), 255, np.uint8)
ALPHA[4:9] = 128
ALPHA[12:14] = 0


def transparent(mode: str, opaque: bool) -> tuple[Image.Image, dict[str, Any]]:
    """An image of this mode, and how it is to be saved."""
    rgb = (RAMP[::-1] * 255).astype(np.uint8)
    alpha = np.full_like(ALPHA, 255) if opaque else ALPHA
    if mode == "P":
        image = Image.fromarray(rgb).quantize(30)
        return image, {"transparency": bytes([255] * 30) if opaque else 3}
    colours = rgb if mode == "RGBA" else rgb[..., :1]
    return Image.fromarray(np.dstack([colours, alpha])), {}


CASES = [("PNG", "RGBA"), ("PNG", "LA"), ("PNG", "P"), ("WEBP", "RGBA"), ("TIFF", "RGBA"), ("GIF", "P")]


@pytest.mark.parametrize(("kind", "mode"), CASES)
def test_transparent(tmp_path: Path, kind: str, mode: str, caplog: pytest.LogCaptureFixture) -> None:
    """The colour below, as PIL's convert("RGB") gives it; refused where OpenCV has lost it."""
    image, options = transparent(mode, opaque=False)
    image.save(tmp_path / "a", kind, **options, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    if kind in ("TIFF", "GIF"):
        with pytest.raises(
            ImageFileError, match=r"a: transparent in places, and the colours there are lost; save it without"
        ):
            read_image(tmp_path / "a")
        return
    with Image.open(tmp_path / "a") as opened:
        np.testing.assert_array_equal(read_image(tmp_path / "a"), np.asarray(opened.convert("RGB")))
    (record,) = caplog.records
    assert record.getMessage().endswith(
        "a: transparent in places; the transparency is ignored and the stored colours are used"
    )


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
@pytest.mark.parametrize(("kind", "mode"), CASES[:-1])
def test_opaque_alpha(tmp_path: Path, kind: str, mode: str, caplog: pytest.LogCaptureFixture) -> None:
    image, options = transparent(mode, opaque=True)
    image.save(tmp_path / "a", kind, **options, **({"lossless": True} if kind == "WEBP" else {}))
    with Image.open(tmp_path / "a") as opened:
        np.testing.assert_array_equal(read_image(tmp_path / "a"), np.asarray(opened.convert("RGB")))
    assert not caplog.records


def test_transparent_16_bits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = np.dstack([(RAMP * 65_535).astype(np.uint16), ALPHA.astype(np.uint16) * 257])
    (tmp_path / "a").write_bytes(cv2.imencode(".png", values[..., [2, 1, 0, 3]])[1].tobytes())
    np.testing.assert_array_equal(read_image(tmp_path / "a"), scaled(values[..., :3], 0, 65_535))
    assert "transparent in places" in caplog.text


def test_later_frames_may_be_transparent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As they are in most animations: the first frame counts."""
    frames = [Image.fromarray(np.roll((RAMP * 255).astype(np.uint8), i, 0)) for i in range(4)]
    for kind, options in (("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})):
        frames[0].save(tmp_path / "a", kind, save_all=True, append_images=frames[1:], **options)
        with Image.open(tmp_path / "a") as opened:
            np.testing.assert_array_equal(read_image(tmp_path / "a"), np.asarray(opened.convert("RGB")))
    assert not caplog.records


def test_cmyk(tmp_path: Path) -> None:
    image = Image.fromarray((RAMP * 255).astype(np.uint8)).convert("CMYK")
    image.save(tmp_path / "a", "JPEG", quality=98)
    with Image.open(tmp_path / "a") as opened:
        assert np.abs(read_image(tmp_path / "a") - np.asarray(opened.convert("RGB")).astype(int)).max() <= 2


def test_bmp_of_32_bits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without fields, the fourth byte means nothing; with a mask for it, it is alpha."""
    rgb = (RAMP * 255).astype(np.uint8)
    rows = np.dstack([rgb[..., ::-1], ALPHA])[::-1].tobytes()
    plain = struct.pack("<IiiHHIIiiII", 40, 20, 31, 1, 32, 0, len(rows), 0, 0, 0, 0)
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    fields = struct.pack("<IiiHHIIiiII", 108, 20, 31, 1, 32, 3, len(rows), 0, 0, 0, 0) + masks + b"BGRs" + bytes(48)
    for header, warned in ((plain, False), (fields, True)):
        size = 14 + len(header)
        (tmp_path / "a").write_bytes(b"BM" + struct.pack("<IHHI", size + len(rows), 0, 0, size) + header + rows)
        np.testing.assert_array_equal(read_image(tmp_path / "a"), rgb)
        assert ("transparent in places" in caplog.text) == warned


@pytest.mark.parametrize("command", ["explain", "check", "evaluate", "bench"])
def test_the_option(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command that reads images takes a range, and refuses what is none in one line."""
    main = importlib.import_module(f"xai_deploy.cli.{command}").main
    arguments = ["a.xai", "b", "--input-range"] if command != "bench" else ["a.xai", "--input-range"]
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "5,2"])
    assert stopped.value.code == 2
    assert "--input-range: an input range is two numbers, LOW,HIGH" in capsys.readouterr().err
