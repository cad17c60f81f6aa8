"""GIF: blocks of a tag, a fixed part, and sub-blocks that each start with their length. The first frame is read."""

from __future__ import annotations

import struct

from .header import Header, Incomplete, pieces

_FRAME, _EXTENSION, _END = 0x2C, 0x21, 0x3B
_CONTROL = 0xF9  # the extension that announces transparency


def gif(data: bytes) -> Header:
    """The canvas. It is transparent if the first frame says so, or leaves a part of the canvas free."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + _palette(flags)  # after signature, screen descriptor and colour table
    frames, alpha = 0, False
    counter = pieces(5)  # a sub-block holds 255 bytes at most
    while data[position] != _END:
        if data[position] == _FRAME:
            left, top, columns, rows = struct.unpack_from("<HHHH", data, position + 1)
            if left + columns > width or top + rows > height:
                raise Incomplete
            alpha |= frames == 0 and (columns, rows) != (width, height)
            frames += 1
            # a tag of 1 byte, 9 bytes of descriptor, the colour table, 1 byte of LZW code size
            position += 11 + _palette(data[position + 9])
        elif data[position] == _EXTENSION:
            alpha |= frames == 0 and data[position + 1] == _CONTROL and bool(data[position + 3] & 1)
            position += 2  # a tag and the extension's kind
        else:
            raise Incomplete
        while data[position]:  # sub-blocks; one of length 0 ends them
            next(counter)
            position += 1 + data[position]
        next(counter)
        position += 1
    if not frames:
        raise Incomplete
    return Header(width, height, alpha=alpha, colours_below=False)


def _palette(flags: int) -> int:
    """Bytes of the colour table that these flags announce."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0
