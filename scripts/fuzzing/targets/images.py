"""Image files of every format: headers, tags and data are changed, with CRCs that fit or not."""

from __future__ import annotations

import io
import os
import random
import struct
import zlib
from collections.abc import Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np
from PIL import Image

from xai_deploy import read_image

from ..material import folder
from ..mutations import mutate_bytes

_LIMIT = 4_000_000  # pixels
_WAYS: list[tuple[str, dict[str, Any]]] = [
    ("PNG", {}),
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("BMP", {}),
    ("WEBP", {"lossless": True}),
    ("WEBP", {"quality": 80}),
    ("GIF", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ("TIFF", {"big_tiff": True}),
]


@cache
def seeds() -> list[bytes]:
    """A small picture in each way, with and without alpha, with 16 bits, and animations."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize((40, 30))
    files = [_saved(small, kind, **options) for kind, options in _WAYS]
    for kind in ("PNG", "WEBP", "TIFF"):
        files.append(_saved(small.convert("RGBA"), kind))
    for kind in ("PNG", "WEBP", "GIF", "TIFF"):
        files.append(_saved(small, kind, save_all=True, append_images=[small.rotate(90), small.rotate(180)]))
    files.append(_saved(small.quantize(9), "PNG", transparency=2))
    deep = np.asarray(small).astype(np.uint16) * 257
    files += [cv2.imencode(suffix, deep)[1].tobytes() for suffix in (".png", ".tiff")]
    files.append(cv2.imencode(".tiff", deep.astype(np.float32))[1].tobytes())
    return files


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def mutate(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Bytes; half the time in the header only, and in PNG with CRCs that fit."""
    head = rng.choice((40, 200, len(data)))
    head = head if rng.random() < 0.5 else len(data)
    data = mutate_bytes(data[:head], others, rng) + data[head:]
    return _with_crcs(data) if data.startswith(b"\x89PNG\r\n\x1a\n") and rng.random() < 0.8 else data


def _with_crcs(data: bytes) -> bytes:
    fitted, position = bytearray(data), 8
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            break
        struct.pack_into(">I", fitted, end, zlib.crc32(data[position + 4 : end]))
        position = end + 4
    return bytes(fitted)


def one(data: bytes) -> None:
    """Read the file, with an input range so that deep values are decoded, too.

    Raises:
        XaiError: It is refused.
    """
    place = folder() / f"images-{os.getpid()}"
    place.write_bytes(data)
    pixels = read_image(place, _LIMIT, input_range=(0, 1000))
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
