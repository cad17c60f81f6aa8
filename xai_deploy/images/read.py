"""Reads image files: checks the header, decodes the pixels, and warns about everything that is lost."""

from __future__ import annotations

import contextlib
import logging
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageFileError, ImageTooLargeError, OptionError
from ..foundation.mistaken import ORDER, is_bundle, is_network, is_url
from ..foundation.paths import path_of, short
from . import archive
from .avif import avif, is_avif, is_heic
from .bmp import bmp
from .gif import gif
from .header import Header, Incomplete, Unsupported
from .jpeg import jpeg
from .module import opencv
from .png import png
from .scale import InputRange, checked, to_8_bits
from .tiff import tiff
from .transparency import warn_of_transparency
from .webp import webp
from .write import Pixels

MAX_PIXELS = 100_000_000
"""Largest image that is decoded, in pixels (300 MB as RGB), unless the caller asks otherwise."""

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".avif"})
"""The usual endings of the names of readable files. `read_image` looks at the contents alone."""

_BLOCK = 1 << 17  # bytes whose colours are turned round at a time; for more than 65,536 pixels OpenCV takes its threads
_SIDE_LIMIT = 65_535  # pixels, as in JPEG; a strip of 100,000,000 x 1 would ask for a resampling matrix of gigabytes

_GIF = b"GIF87a", b"GIF89a"
_TIFF = b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"
_FORMATS: list[tuple[Callable[[bytes], bool], Callable[[bytes], Header]]] = [
    (lambda data: data.startswith(b"\x89PNG\r\n\x1a\n"), png),
    (lambda data: data.startswith(b"\xff\xd8\xff"), jpeg),
    (lambda data: data.startswith(b"BM"), bmp),
    (lambda data: data[:4] == b"RIFF" and data[8:12] == b"WEBP", webp),
    (lambda data: data.startswith(_GIF), gif),
    (lambda data: data.startswith(_TIFF), tiff),
    (is_avif, avif),
]

log = logging.getLogger(__name__)


class InMemory(os.PathLike[str]):
    """An image file whose bytes are in memory; it stands for its path in `read_image`, `read_values` and `read_pixels`.

    Attributes:
        data: The bytes.
        name: What messages call it.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self.data, self.name = data, name

    def __fspath__(self) -> str:
        return self.name

    def __str__(self) -> str:
        return self.name


def read_image(
    path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS, input_range: InputRange | None = None
) -> Pixels:
    """Read a PNG, JPEG, BMP, WebP, GIF, TIFF or AVIF file. If it holds several frames or pages, the first one is read.

    Transparent pixels keep the colour that the file has below the transparency, as PIL's `convert("RGB")` does in most
    training code, and a warning is logged. In GIF and TIFF, OpenCV loses that colour: a picture with transparent
    pixels is refused.

    Values of 16 bits are scaled: pixel = round(value * 255 / 65535). If all of them are below 32,768, a warning names their
    range. Signed values, 32-bit values and floats need an input range. Corruption in the middle of a JPEG is not noticed (see the
    package's docstring).

    Args:
        path: The file.
        max_pixels: An image whose header announces more pixels is refused.
        input_range: The values that become black (0) and white (255) in images deeper than 8 bits, (0, 4095) for a
            camera of 12 bits; values outside are clipped. Images of 8 bits stay as they are.

    Returns:
        RGB [h,w,3] uint8, turned upright as EXIF says.

    Raises:
        ImageFileError: The file is missing, incomplete, of another format, or holds values or a transparency that are not read.
        ImageTooLargeError: The image has more pixels than `max_pixels`.
        BackendNotInstalledError: OpenCV is missing, or older than 4.11.
        OptionError: `input_range` is not two finite numbers, the lower one first, or `max_pixels` is no number.
    """
    span = checked(input_range) if input_range is not None else None
    return _rgb(_values(path, max_pixels, deep=span is not None), span, path)


def read_values(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> NDArray[Any]:
    """As `read_image`, but values of more than 8 bits keep their type: RGB [h,w,3], or grey [h,w] of files without colours.

    Raises:
        ImageFileError, ImageTooLargeError, BackendNotInstalledError: As for `read_image`.
    """
    values = _values(path, max_pixels, deep=True)
    if values.dtype == np.uint8:
        return _rgb(values, None, path)
    return values if values.ndim == 2 else np.ascontiguousarray(values[:, :, 2::-1])  # BGR or BGRA -> RGB


def _values(path: str | os.PathLike[str], max_pixels: int, deep: bool) -> NDArray[Any]:
    """The pixels of a file as OpenCV gives them, upright; with `deep` also values that have no fixed black and white."""
    cv2 = opencv()
    if type(max_pixels) is not int or max_pixels < 1:
        raise OptionError(f"max_pixels is a whole number, 1 or more, not {short(max_pixels)}")
    data = path.data if isinstance(path, InMemory) else contents(path_of(path, "an image", ImageFileError))
    header = _header(data, max_pixels, path)
    if header.deep and not deep:
        raise ImageFileError(
            f"{path}: {header.bits}-bit {header.kind} values have no fixed black and white; give "
            "--input-range LOW,HIGH (in Python: input_range)"
        )
    data = data if header.stripped is None else header.stripped
    image = _decoded(cv2, data, header, path)
    if header.alpha:
        # Decoded again unless it is deep: IMREAD_COLOR drops the alpha channel, and IMREAD_UNCHANGED does not turn the picture.
        _judge_transparency(image if header.deep else _decode(cv2, data, cv2.IMREAD_UNCHANGED), header, path)
    return upright(image, header.orientation or 1)


def _header(data: bytes, max_pixels: int, path: object) -> Header:
    """The header of a file that may be decoded."""
    parse = next((parse for magic, parse in _FORMATS if magic(data)), None)
    if parse is None:
        if is_heic(data):
            raise ImageFileError(
                f"{path}: is a HEIC image, which OpenCV does not read; save it as JPEG or PNG (an iPhone takes JPEG with Settings, "
                "Camera, Formats, Most Compatible)"
            )
        if is_network(Path(str(path))):
            raise ImageFileError(f"{path}: is a network, not an image; {ORDER}")
        raise ImageFileError(f"{path}: not a PNG, JPEG, BMP, WebP, GIF, TIFF or AVIF image; convert it to one of these")
    with _one_line(path):
        header = parse(data)
    _check_size(header, max_pixels, path)
    with _one_line(path):
        header.check()
    return header


def _decoded(cv2: Any, data: bytes, header: Header, path: object) -> NDArray[Any]:
    """The pixels as OpenCV gives them, of the size that the header announces: [h,w] or [h,w,channels]."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    if header.orientation is not None:
        flags |= cv2.IMREAD_IGNORE_ORIENTATION
    image = _decode(cv2, data, cv2.IMREAD_UNCHANGED if header.deep else flags)
    if image is None:
        if data.startswith(_GIF) and not cv2.haveImageWriter("a.gif"):  # OpenCV reads and writes GIF from 4.12 on
            raise ImageFileError(f"{path}: OpenCV {cv2.__version__} reads no GIF; pip install -U 'xai-deploy[image]'")
        if is_avif(data) and not cv2.haveImageWriter("a.avif"):
            raise ImageFileError(
                f"{path}: this OpenCV reads no AVIF; pip install -U 'xai-deploy[image]', or save it as PNG"
            )
        kind = ", or a TIFF of a kind that OpenCV does not read" if data.startswith(_TIFF) else ""
        raise ImageFileError(f"{path}: the image is truncated or damaged{kind}; copy or save it again")
    sizes = {(header.height, header.width)} | ({(header.width, header.height)} if header.turns else set())
    if image.shape[:2] not in sizes:
        raise ImageFileError(
            f"{path}: its header announces {header.width} x {header.height} pixels, but it holds "
            f"{image.shape[1]} x {image.shape[0]}; the file is damaged, or made to deceive"
        )
    return image


def contents(path: Path) -> bytes:
    """The bytes of an image file, which may lie in an archive.

    Raises:
        ImageFileError: There is no such file, or it can't be read.
        ImageTooLargeError: It is larger than `archive.FILE_LIMIT`.
    """
    try:
        if (inside := archive.split(path)) is not None:
            return archive.opened(inside[0]).read(inside[1])
        if (problem := is_url(path)) is not None:
            raise ImageFileError(problem)
        if is_bundle(path):
            raise ImageFileError(f"{path}: is a bundle, not an image; {ORDER}")
        if not path.is_file():
            raise ImageFileError(f"{path}: " + ("not a plain file" if path.exists() else "no such file"))
        if path.stat().st_size > archive.FILE_LIMIT:
            raise ImageTooLargeError(f"{path}: the file is larger than {archive.FILE_LIMIT >> 20} MiB")
        data = path.read_bytes()
    except OSError as error:
        raise ImageFileError(f"{path}: can't be read ({error.strerror})") from None
    except ValueError:  # a NUL in the name
        raise ImageFileError(f"{str(path)!r}: no such file") from None
    if not data:
        raise ImageFileError(f"{path}: is empty; copy or download it again")
    return data


@contextlib.contextmanager
def _one_line(path: object) -> Iterator[None]:
    """Turn an exception of a parser into one of our errors, which is one line."""
    try:
        yield
    except (Incomplete, struct.error, IndexError, OverflowError):
        raise ImageFileError(f"{path}: the image is truncated or damaged; copy or save it again") from None
    except Unsupported as error:
        raise ImageFileError(f"{path}: {error}") from None


def _check_size(header: Header, max_pixels: int, path: object) -> None:
    width, height = header.width, header.height
    if width < 1 or height < 1:
        raise ImageFileError(f"{path}: its header announces {width} x {height} pixels")
    if max(width, height) > _SIDE_LIMIT:
        raise ImageTooLargeError(f"{path}: {width} x {height} pixels; neither side may exceed {_SIDE_LIMIT}")
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"{path}: its header announces {width} x {height} pixels, the limit is {max_pixels}; "
            "scale it down or raise the limit"
        )


def _decode(cv2: Any, data: bytes, flags: int) -> NDArray[Any] | None:
    try:
        image: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    return image


def _judge_transparency(image: NDArray[Any] | None, header: Header, path: object) -> None:
    """Warn about transparent pixels, or refuse them if OpenCV loses their colours.

    Args:
        image: [h,w,4] with the alpha channel last, if OpenCV gives one.
        header: The file's header.
        path: The file, for messages.

    Raises:
        ImageFileError: The colours are lost.
    """
    if image is None or image.ndim != 3 or image.shape[2] != 4:
        if not header.colours_below and header.turns:  # a TIFF, grey with alpha; OpenCV gives no alpha channel for it
            log.warning("%s: its extra channel (transparency?) is ignored", path)
        return
    opaque = np.iinfo(image.dtype).max if image.dtype.kind in "ui" else 1
    if not header.colours_below and image[..., 3].min() < opaque:
        raise ImageFileError(
            f"{path}: transparent in places, and the colours there are lost; save it without transparency"
        )
    warn_of_transparency(image[..., 3], opaque, path)


def upright(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """A picture [h,w,...] upright, by EXIF's orientation: 2 mirrored, 3 turned by 180 degrees, 4 upside down, 5 to 8 transposed."""
    if orientation > 4:
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return image[:, ::-1] if orientation in (2, 3, 6, 7) else image


def _rgb(image: NDArray[Any], span: InputRange | None, path: object) -> Pixels:
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    if image.dtype != np.uint8:
        image = to_8_bits(image, span, str(path))
    if not (image.flags.c_contiguous and image.flags.writeable and image.shape[2] == 3):
        rgb: Pixels = np.ascontiguousarray(image[:, :, 2::-1])  # BGR or BGRA -> RGB
        return rgb
    cv2, rows = opencv(), max(_BLOCK // image[:1].size, 1)
    for first in range(0, len(image), rows):  # in place: no second picture is held
        part = image[first : first + rows]
        part[...] = cv2.cvtColor(part, cv2.COLOR_BGR2RGB)
    return image
