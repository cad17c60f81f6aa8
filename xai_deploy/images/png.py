"""PNG (ISO/IEC 15948): chunks of length, type, data, CRC. libpng checks the CRCs."""

from __future__ import annotations

import struct

from .header import Header, Incomplete, pieces
from .tiff import long_orientation

_ALPHA = (4, 6)  # colour types: grey with alpha, RGB with alpha
_EXIF_AS_TEXT = b"Raw profile type exif\0"
_DROPPED = (b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"acTL", b"fcTL", b"fdAT", b"sPLT")
"""Not needed for the pixels: texts and profiles, each of which may unpack to 8 MB in 0.08 s, and an animation's later frames."""


def png(data: bytes) -> Header:
    """Check that IHDR comes first and only once, and IEND last."""
    position, kind = 8, b""
    transparent, dropped, text_kept = False, False, False
    kept, turned = [data[:8]], None
    for _ in pieces():
        length, kind = struct.unpack_from(">I4s", data, position)
        if (kind == b"IHDR") != (position == 8) or position + 12 + length > len(data):
            raise Incomplete
        # The first EXIF text stays, because it may turn the picture.
        exif = kind in (b"tEXt", b"zTXt") and data.startswith(_EXIF_AS_TEXT, position + 8) and not text_kept
        text_kept |= exif
        if kind in _DROPPED and not exif:
            dropped = True
        else:
            kept.append(data[position : position + 12 + length])
        if kind == b"eXIf":
            turned = turned or long_orientation(data[position + 8 : position + 8 + length])
        transparent |= kind == b"tRNS"
        position += 12 + length  # length, type and CRC take 4 bytes each
        if kind == b"IEND":
            break
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    return Header(
        width,
        height,
        bits,
        alpha=transparent or colour in _ALPHA,
        turns=True,
        stripped=b"".join(kept) if dropped else None,
        orientation=turned,
    )
