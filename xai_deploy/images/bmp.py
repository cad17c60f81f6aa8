"""BMP: a file header of 14 bytes, a header of the bitmap, a palette, rows."""

from __future__ import annotations

import struct

from .header import Header, Incomplete, Unsupported

_PLAIN, _RLE8, _RLE4, _FIELDS, _JPEG, _PNG, _ALPHA_FIELDS = range(7)

_MASKS = 54  # where the masks of the colours are, inside of the bitmap's header or after it
_WITH_ALPHA = 56  # bytes of the first header that has a mask for alpha
_BGR, _WIDE_GREEN = (0xFF0000, 0xFF00, 0xFF), 0x7E0


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
    masks = struct.unpack_from("<III", data, _MASKS) if packing == _FIELDS else ()
    if (
        bits == 32 and masks not in ((), _BGR) and header < _WITH_ALPHA
    ):  # OpenCV takes blue, green and red in this order
        raise Unsupported("is a BMP of 32 bits with its colours in an unusual order, which is not read; save it as PNG")
    levels = (5, 6 if masks and masks[1] == _WIDE_GREEN else 5, 5) if bits == 16 else None
    # A negative height means that the top row comes first.
    row = (abs(width) * bits + 31) // 32 * 4  # bytes, a multiple of 4
    if packing not in (_RLE8, _RLE4) and width > 0 and len(data) < offset + row * abs(height):
        raise Incomplete
    return Header(width, abs(height), alpha=bits == 32, levels=levels)
