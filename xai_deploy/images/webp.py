"""WebP: RIFF chunks of type, length, data, padded to even lengths. The first frame of an animation is read."""

from __future__ import annotations

import contextlib
import struct
from dataclasses import replace

from .header import Header, Incomplete, Unsupported, pieces
from .tiff import EXIF, orientation


def webp(data: bytes) -> Header:
    """Read a single VP8 or VP8L chunk, or a VP8X chunk with the canvas and the chunks of the frames that follow it."""
    (size,) = struct.unpack_from("<I", data, 4)
    end = size + 8
    if len(data) < end:
        raise Incomplete
    canvas: Header | None = None
    turned: int | None = None
    position = 12
    for _ in pieces():
        if position + 8 > end:
            break
        kind, length = struct.unpack_from("<4sI", data, position)
        if position + 8 + length > end:
            raise Incomplete
        if kind == b"EXIF" and turned is None:
            turned = _turned(data[position + 8 : position + 8 + length])
        part = _chunk(kind, data, position + 8)
        if part is not None:
            if canvas is None:
                canvas = part
            elif kind == b"VP8X" or part.width > canvas.width or part.height > canvas.height:
                raise Incomplete  # a second canvas, or an image that is larger than it
        position += 8 + length + (length & 1)
    if canvas is None:
        raise Incomplete
    return replace(canvas, orientation=turned or 1)


def _turned(exif: bytes) -> int:
    """The orientation in EXIF data; 1 (upright) if they are damaged."""
    with contextlib.suppress(Incomplete, Unsupported, struct.error, IndexError, OverflowError):
        return orientation(exif.removeprefix(EXIF))
    return 1


def _chunk(kind: bytes, data: bytes, at: int) -> Header | None:
    # Offsets as in the WebP container specification; all but VP8 store sizes less 1.
    if kind == b"VP8X":  # flags, 3 bytes, width and height of 3 bytes each
        return Header(1 + _three(data, at + 4), 1 + _three(data, at + 7), alpha=bool(data[at] & 0x10))
    if kind == b"ANMF":  # x, y, width and height of 3 bytes each
        return Header(1 + _three(data, at + 6), 1 + _three(data, at + 9))
    if kind == b"VP8L":  # a signature byte, then 14 bits of width, 14 of height, 1 of alpha
        (bits,) = struct.unpack_from("<I", data, at + 1)
        return Header(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), alpha=bool(bits >> 28 & 1))
    if kind == b"VP8 ":  # a tag and a start code of 3 bytes each, then width and height: 14 bits, and 2 of scaling
        width, height = struct.unpack_from("<HH", data, at + 6)
        return Header(width & 0x3FFF, height & 0x3FFF)
    return None


def _three(data: bytes, at: int) -> int:
    if at + 3 > len(data):
        raise Incomplete
    return int.from_bytes(data[at : at + 3], "little")
