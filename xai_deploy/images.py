"""Image files through OpenCV (extra `image`): the header is read and judged before anything is decoded.

OpenCV decodes a truncated file to a half grey picture without a word, and a 109 kB PNG can unpack to 5 GB. So size and
completeness come from the header first; only formats whose header is understood here are read. What the decoders
behind OpenCV complain of, they write to standard error; it is caught there, and a damaged file refused.
"""

from __future__ import annotations

import os
import re
import struct
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import BackendNotInstalledError, ImageFileError, ImageTooLargeError

Pixels = NDArray[np.uint8]

MAX_PIXELS = 100_000_000
"""Largest image that is decoded, in pixels (300 MB as RGB), unless the caller asks otherwise."""

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff"})
"""How the names of readable files usually end; `read_image` goes by the content alone."""

_FILE_LIMIT = 1 << 30  # bytes
_SIDE_LIMIT = 65_535  # pixels, as in JPEG; a strip of 100,000,000 x 1 would ask for a resampling matrix of gigabytes


# Bytes between the last scan and the end marker 0xd9 are padding that some cameras write: nothing is missing.
_DAMAGE = re.compile(
    rb"Premature end of JPEG|Corrupt JPEG data: (?!\d+ extraneous bytes before marker 0xd9)|libpng error"
)
_stderr_lock = threading.Lock()


class _Incomplete(Exception):
    """The file ends too early, or is not laid out as its format says."""


def read_image(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> Pixels:
    """Read a PNG, JPEG, BMP, WebP, GIF (first frame) or TIFF file.

    Args:
        path: The file.
        max_pixels: Refuse an image whose header announces more.

    Returns:
        RGB [h,w,3] uint8, turned upright as EXIF says; transparency dropped, 16-bit values reduced to 8.

    Raises:
        ImageFileError: Missing, not an image of these kinds, or incomplete.
        ImageTooLargeError: More pixels than `max_pixels`.
        BackendNotInstalledError: OpenCV is missing.
    """
    cv2 = opencv()
    path = Path(path)
    try:
        if not path.is_file():
            raise ImageFileError(f"{path}: " + ("not a plain file" if path.exists() else "no such file"))
        if path.stat().st_size > _FILE_LIMIT:
            raise ImageTooLargeError(f"{path}: the file is larger than {_FILE_LIMIT >> 20} MiB")
        data = path.read_bytes()
    except OSError as error:
        raise ImageFileError(f"{path}: can't be read ({error.strerror})") from None
    parse = next((parse for magic, parse in _FORMATS if magic(data)), None)
    if parse is None:
        raise ImageFileError(f"{path}: not a PNG, JPEG, BMP, WebP, GIF or TIFF image; convert it to one of these")
    try:
        width, height = parse(data)
    except (_Incomplete, struct.error, IndexError):
        raise ImageFileError(f"{path}: the image is truncated or damaged; copy or save it again") from None
    if width < 1 or height < 1:
        raise ImageFileError(f"{path}: its header announces {width} x {height} pixels")
    if max(width, height) > _SIDE_LIMIT:
        raise ImageTooLargeError(f"{path}: {width} x {height} pixels; neither side may exceed {_SIDE_LIMIT}")
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"{path}: its header announces {width} x {height} pixels, the limit is {max_pixels}; "
            "scale it down or raise the limit"
        )
    image, complaints = _decode(cv2, data)
    if image is None or _DAMAGE.search(complaints):
        raise ImageFileError(f"{path}: the image is truncated or damaged; copy or save it again")
    rgb: Pixels = np.ascontiguousarray(image[:, :, ::-1])
    return rgb


def _decode(cv2: Any, data: bytes) -> tuple[Any, bytes]:
    """The decoded image, or None; and what the decoder wrote to standard error meanwhile, which is not passed on."""
    pixels = np.frombuffer(data, np.uint8)
    with _stderr_lock, tempfile.TemporaryFile() as caught:
        try:
            kept = os.dup(2)
        except OSError:  # there is no standard error
            kept = None
        try:
            if kept is not None:
                os.dup2(caught.fileno(), 2)
            image = cv2.imdecode(pixels, cv2.IMREAD_COLOR)
        except cv2.error:
            image = None
        finally:
            if kept is not None:
                os.dup2(kept, 2)
                os.close(kept)
        caught.seek(0)
        return image, caught.read()


def write_image(path: str | os.PathLike[str], image: Pixels) -> None:
    """Write RGB [h,w,3] uint8 to a file whose ending tells the format.

    Raises:
        ImageFileError: The file can't be written.
        BackendNotInstalledError: OpenCV is missing.
    """
    try:
        Path(path).write_bytes(encode_image(image, Path(path).suffix))
    except OSError as error:
        raise ImageFileError(f"{path}: can't be written ({error.strerror})") from None


def encode_image(image: Pixels, suffix: str = ".png") -> bytes:
    """RGB [h,w,3] uint8 as the bytes of an image file; `suffix` tells the format.

    Raises:
        ImageFileError: No such format, or too large for it.
        BackendNotInstalledError: OpenCV is missing.
    """
    cv2 = opencv()
    try:
        encoded, data = cv2.imencode(suffix, np.ascontiguousarray(image[:, :, ::-1]))
    except cv2.error:
        encoded = False
    if not encoded:
        raise ImageFileError(f"an image of {image.shape[1]} x {image.shape[0]} pixels can't be encoded as {suffix!r}")
    contents: bytes = data.tobytes()
    return contents


def opencv() -> Any:
    """The module `cv2`.

    Raises:
        BackendNotInstalledError: It is not installed.
    """
    try:
        import cv2
    except ImportError:
        raise BackendNotInstalledError("image files need OpenCV; pip install 'xai-deploy[image]'") from None
    return cv2


def _png(data: bytes) -> tuple[int, int]:
    position, kind = 8, b""
    while kind != b"IEND":  # chunks: length, type, data, CRC (OpenCV checks it); IHDR comes first, IEND last
        length, kind = struct.unpack_from(">I4s", data, position)
        if (kind == b"IHDR") != (position == 8):
            raise _Incomplete
        position += 12 + length
    if position > len(data):
        raise _Incomplete
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # in a scan, FF00 and the restart markers FFD0 to FFD7 are data


def _jpeg(data: bytes) -> tuple[int, int]:
    position, size, scans = 2, None, 0
    while True:  # segments: FF, marker, length, data; behind the header of a scan its data, up to the next marker
        while data[position] == 0xFF and data[position + 1] == 0xFF:
            position += 1
        if data[position] != 0xFF:
            raise _Incomplete
        marker = data[position + 1]
        if marker == 0xD9:
            break
        if marker == 0xD8:  # another image begins before this one has ended
            raise _Incomplete
        if marker in range(0xC0, 0xD0) and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, position + 5)
            size = (width, height)
        position += 2 + (
            0 if marker == 0x01 or marker in range(0xD0, 0xD9) else struct.unpack_from(">H", data, position + 2)[0]
        )
        if marker == 0xDA:
            behind = _JPEG_MARKER.search(data, position)
            if behind is None:
                raise _Incomplete
            position, scans = behind.start(), scans + 1
    if size is None or scans == 0:
        raise _Incomplete
    return size


def _bmp(data: bytes) -> tuple[int, int]:
    (size,) = struct.unpack_from("<I", data, 2)
    (header,) = struct.unpack_from("<I", data, 14)
    if header == 12:
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    if len(data) < size:
        raise _Incomplete
    return width, abs(height)


def _webp(data: bytes) -> tuple[int, int]:
    (size,) = struct.unpack_from("<I", data, 4)
    if len(data) < size + 8:
        raise _Incomplete
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _gif(data: bytes) -> tuple[int, int]:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + _gif_palette(flags)
    while data[position] != 0x3B:  # blocks: a tag, a fixed part, sub-blocks that each start with their length
        if data[position] == 0x2C:
            position += 11 + _gif_palette(data[position + 9])
        elif data[position] == 0x21:
            position += 2
        else:
            raise _Incomplete
        while data[position]:
            position += 1 + data[position]
        position += 1
    return width, height


def _gif_palette(flags: int) -> int:
    """Bytes of the colour table that these flags announce."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _tiff(data: bytes) -> tuple[int, int]:
    order = "<" if data[:2] == b"II" else ">"
    (position,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, position)
    tags: dict[int, list[int]] = {}
    for i in range(count):
        tag, kind, length = struct.unpack_from(order + "HHI", data, position + 2 + 12 * i)
        if kind in (3, 4) and tag in (256, 257, 273, 279, 324, 325):  # sizes, and where strips and tiles lie
            code, width = ("H", 2) if kind == 3 else ("I", 4)
            at = position + 10 + 12 * i
            if length * width > 4:
                (at,) = struct.unpack_from(order + "I", data, at)
            if length > len(data):
                raise _Incomplete
            tags[tag] = list(struct.unpack_from(f"{order}{length}{code}", data, at))
    for offsets, sizes in ((273, 279), (324, 325)):
        if any(at + size > len(data) for at, size in zip(tags.get(offsets, []), tags.get(sizes, []), strict=False)):
            raise _Incomplete
    if 256 not in tags or 257 not in tags:
        raise _Incomplete
    return tags[256][0], tags[257][0]


_FORMATS: list[tuple[Callable[[bytes], bool], Callable[[bytes], tuple[int, int]]]] = [
    (lambda data: data.startswith(b"\x89PNG\r\n\x1a\n"), _png),
    (lambda data: data.startswith(b"\xff\xd8\xff"), _jpeg),
    (lambda data: data.startswith(b"BM"), _bmp),
    (lambda data: data[:4] == b"RIFF" and data[8:12] == b"WEBP", _webp),
    (lambda data: data.startswith((b"GIF87a", b"GIF89a")), _gif),
    (lambda data: data[:4] in (b"II*\0", b"MM\0*"), _tiff),
]
