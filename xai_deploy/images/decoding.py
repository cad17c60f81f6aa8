"""Decodes the bytes of an image file: checks the header, decodes the pixels, and warns about everything that is lost."""

from __future__ import annotations

import contextlib
import logging
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageFileError, ImageTooLargeError
from ..foundation.mistaken import ORDER, is_network
from .avif import avif, is_avif, is_heic
from .bmp import bmp
from .gif import gif
from .header import Header, Incomplete, Unsupported
from .jpeg import jpeg
from .module import opencv
from .png import png
from .tiff import tiff
from .transparency import warn_of_transparency
from .webp import webp

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


def decoded(data: bytes, max_pixels: int, deep: bool, path: object) -> tuple[NDArray[Any], int]:
    """The pixels of a file as OpenCV gives them, and how they are turned, 1 to 8 as in EXIF.

    Args:
        data: The file.
        max_pixels: An image whose header announces more pixels is refused.
        deep: Values that have no fixed black and white are decoded, too.
        path: The file, for messages.

    Returns:
        [h,w] or [h,w,channels], BGR or BGRA, and the orientation that is left to do: 1 if OpenCV has turned them.

    Raises:
        ImageFileError: The file is incomplete, of another format, or holds values or a transparency that are not read.
        ImageTooLargeError: The image has more pixels than `max_pixels`.
        BackendNotInstalledError: OpenCV is missing, or older than 4.11.
    """
    cv2 = opencv()
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
    return image, header.orientation or 1


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
    return image if header.levels is None else _spread(image, header.levels)


def _spread(image: NDArray[Any], bits: tuple[int, ...]) -> NDArray[Any]:
    """Values of so many bits, shifted up to 8, as shares of 255, rounded down as PIL does: [h,w,3]."""
    tables = [(np.arange(256) >> (8 - own)) * 255 // ((1 << own) - 1) for own in bits]
    return np.stack([table.astype(np.uint8)[image[..., i]] for i, table in enumerate(tables)], axis=-1)


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
