"""BMP: a file header of 14 bytes, a header of the bitmap, a palette, rows."""

from __future__ import annotations

import struct

from .header import Header, Incomplete, Unsupported

_PLAIN, _RLE8, _RLE4, _FIELDS, _JPEG, _PNG, _ALPHA_FIELDS = range(7)


def bmp(data: bytes) -> Header:
    """Read the bitmap's header. Its first field is its own length, which shows the version: 12 is the oldest one."""
    (size,) = struct.unpack_from("<I", data, 2)
    offset, header = struct.unpack_from("<II", data, 10)
    if len(data) < size:
        raise Incomplete
    if header == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        packing = _PLAIN
    else:
        width, height, _, bits, packing = struct.unpack_from("<iiHHI", data, 18)
    if packing in (_JPEG, _PNG):
        raise Unsupported("is a BMP that holds a JPEG or PNG, which is not read; save it as PNG")
    # A negative height means that the top row comes first.
    row = (abs(width) * bits + 31) // 32 * 4  # bytes, a multiple of 4
    if packing not in (_RLE8, _RLE4) and width > 0 and len(data) < offset + row * abs(height):
        raise Incomplete
    return Header(width, abs(height), alpha=bits == 32)
