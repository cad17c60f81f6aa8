"""Pictures for notebooks: HTML, and PNG files without OpenCV."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

_GAP = 8  # pixels between pictures that stand side by side


def as_html(pictures: Sequence[Pixels], captions: Sequence[str], title: str, note: str) -> str:
    """Pictures with captions, in lines that wrap. All texts are escaped, and nothing is loaded from elsewhere."""
    import html  # late: its table of entities takes time, and only notebooks need it

    parts = [f"<div><div>{html.escape(title)}</div>", '<div style="display:flex;flex-wrap:wrap;gap:12px;margin:8px 0">']
    for picture, caption in zip(pictures, captions, strict=True):
        source, said = base64.b64encode(png(picture)).decode(), html.escape(caption)
        parts.append(
            f'<figure style="margin:0;max-width:256px"><img alt="{said}" style="min-width:160px" '
            f'src="data:image/png;base64,{source}"><figcaption>{said}</figcaption></figure>'
        )
    return "".join([*parts, f"</div><div>{html.escape(note)}</div></div>"])


def side_by_side(pictures: Sequence[Pixels]) -> Pixels:
    """Pictures in a line on white, at the top of it."""
    height, width = max(len(p) for p in pictures), sum(p.shape[1] + _GAP for p in pictures) - _GAP
    line = np.full((height, width, 3), 255, np.uint8)
    left = 0
    for picture in pictures:
        line[: len(picture), left : left + picture.shape[1]] = picture
        left += picture.shape[1] + _GAP
    return line


def png(picture: Pixels) -> bytes:
    """RGB [h,w,3] as the bytes of a PNG file (ISO/IEC 15948: 8 bits, no filter, no interlace)."""
    height, width, _ = picture.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # each row begins with the number of its filter, 0
    rows[:, 1:] = picture.reshape(height, -1)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (b"IHDR", head), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b"")
    written = (struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)
