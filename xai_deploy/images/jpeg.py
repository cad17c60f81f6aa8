"""JPEG (ITU-T T.81): segments of FF, marker, length, data. The data of a scan follow its header, up to the next marker."""

from __future__ import annotations

import re
import struct
from dataclasses import replace

from .header import Header, Incomplete, Unsupported, pieces
from .tiff import EXIF, long_orientation

SCANS = 100
"""The most scans of a file. A few kilobytes can repeat a progressive scan thousands of times, and each goes over all pixels."""

_FILL = re.compile(rb"\xff+")
_NEXT = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # in a scan, FF00 and the restart markers FFD0 to FFD7 are data
_READ = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)  # baseline, extended, progressive, and the latter two with arithmetic coding


def jpeg(data: bytes) -> Header:
    """Check that the file has one frame header, at least one scan, and the end marker."""
    position, header, scans, exif = 2, None, 0, b""
    for _ in pieces():
        fill = _FILL.match(data, position)
        if fill is None:
            raise Incomplete
        position = fill.end() + 1
        marker = data[position - 1]
        if marker == 0xD9:  # EOI, the end
            break
        if marker == 0xD8:  # SOI: another image begins before this one has ended
            raise Incomplete
        if marker == 0x01 or marker in range(0xD0, 0xD8):  # TEM and restart markers have no length
            continue
        (length,) = struct.unpack_from(">H", data, position)
        # C0 to CF start a frame, except for DHT, JPG and DAC.
        if marker in range(0xC0, 0xD0) and marker not in (0xC4, 0xC8, 0xCC):
            if header is not None:
                raise Incomplete
            header = _frame(marker, data, position)
        if marker == 0xE1 and not exif and data.startswith(EXIF, position + 2):
            exif = data[position + 2 : position + length]
        position += length
        if marker == 0xDA:  # SOS, a scan
            scans += 1
            if scans > SCANS:
                raise Unsupported(
                    f"has more than {SCANS} scans, each of which costs a pass over all pixels; save it again"
                )
            following = _NEXT.search(data, position)
            if following is None:
                raise Incomplete
            position = following.start()
    if header is None or scans == 0:
        raise Incomplete
    return replace(header, orientation=long_orientation(exif) if exif else None)


def _frame(marker: int, data: bytes, position: int) -> Header:
    bits, height, width = struct.unpack_from(">BHH", data, position + 2)
    if marker not in _READ:
        raise Unsupported("is a lossless or hierarchical JPEG, which is not read; save it as PNG")
    if bits != 8:
        raise Unsupported(f"is a JPEG of {bits} bits per value, which is not read; save it as PNG of 16 bits")
    return Header(width, height, turns=True)
