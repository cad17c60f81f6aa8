"""TIFF 6.0 and BigTIFF: a directory of tags, and strips or tiles of pixels. The first page is read."""

from __future__ import annotations

import contextlib
import math
import struct
import zlib
from collections.abc import Mapping
from functools import partial
from typing import Literal

from .header import Header, Incomplete, Unsupported

_CODES = {1: "B", 3: "H", 4: "I", 16: "Q"}  # field types of whole numbers: BYTE, SHORT, LONG, LONG8
_WIDTH, _HEIGHT, _BITS, _PACKING, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, _ROWS = 256, 257, 258, 259, 262, 274, 277, 278
_STRIPS, _STRIP_SIZES, _PLANAR, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_SIZES = 273, 279, 284, 322, 323, 324, 325
_FORMAT = 339
_FEW = {_WIDTH, _HEIGHT, _BITS, _PACKING, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, _ROWS}
_FEW |= {_PLANAR, _TILE_WIDTH, _TILE_HEIGHT, _FORMAT}  # tags of one value, or one a sample
_MANY = {_STRIPS, _STRIP_SIZES, _TILES, _TILE_SIZES}
_LONGEST = dict.fromkeys(_FEW, 16) | dict.fromkeys(_MANY, 1 << 20)  # most values of a tag
_RAW, _DEFLATE = 1, (8, 32946)
_KINDS: dict[int, Literal["uint", "int", "float"]] = {1: "uint", 2: "int", 3: "float"}
_WHITE_IS_ZERO, _PALETTE, _YCBCR = 0, 3, 6  # photometric interpretations
# photometric interpretation -> samples without extra ones; 8 (CIELab) is left out, because OpenCV reads it in wrong colours
_COLOURS = {_WHITE_IS_ZERO: 1, 1: 1, 2: 3, _PALETTE: 1, 4: 1, 5: 4, _YCBCR: 3}
_FITS = {"uint": (1, 8, 16, 32), "int": (8, 16, 32), "float": (32, 64)}  # bits that OpenCV reads, and 4 in palettes
EXIF = b"Exif\0\0"
"""What EXIF data begin with in most files; what follows is a TIFF without pixels."""
_FEED = 1 << 16  # bytes unpacked at a time
_TILE_LIMIT = 1 << 24  # pixels of a tile

Tags = dict[int, list[int]]


def tiff(data: bytes) -> Header:
    """Read the size and how values are stored. `Header.check` then checks that every strip or tile has its full length."""
    tags = _tags(data)
    if _WIDTH not in tags or _HEIGHT not in tags:
        raise Incomplete
    width, height = tags[_WIDTH][0], tags[_HEIGHT][0]
    samples = _one(tags, _SAMPLES, 1)
    photometric = _one(tags, _PHOTOMETRIC, 1)
    bits, kind = _values(tags, photometric)
    if photometric not in _COLOURS:
        raise Unsupported(f"is a TIFF of photometric interpretation {photometric}, which is not read; save it as RGB")
    if (kind != "uint" or bits > 16) and _one(tags, _ORIENTATION, 1) != 1:
        raise Unsupported(f"is a rotated TIFF of {bits}-bit {kind} values, which is not read; save it upright")
    deep = kind != "uint" or bits > 8
    if deep and samples > 1 and _one(tags, _PLANAR, 1) == 2:  # OpenCV takes a row of one channel for a row of pixels
        raise Unsupported(
            f"is a TIFF of {bits}-bit {kind} values, one channel after the other, which is not read; save it with the "
            "channels of a pixel side by side"
        )
    if deep and photometric == _WHITE_IS_ZERO:  # OpenCV reads it as a negative
        raise Unsupported(
            f"is a TIFF of {bits}-bit {kind} values in which 0 is white, which is not read; save it with 0 as black"
        )
    _check_extra(tags, samples, bits, photometric)
    if samples > 4:
        raise Unsupported(f"is a TIFF of {samples} channels, which is not read; save three of them as RGB")
    return Header(
        width,
        height,
        bits,
        kind,
        alpha=samples > _COLOURS[photometric],
        colours_below=False,
        turns=True,
        check=partial(_check_pieces, data, tags, samples * bits),
    )


def _check_extra(tags: Tags, samples: int, bits: int, photometric: int) -> None:
    """Refuse a grey picture with extra channels in all layouts but those in which OpenCV reads the grey values.

    It reads alpha into them if the channels or the last column of tiles are apart, and makes 8 bits of more.
    """
    if _COLOURS[photometric] > 1 or samples == 1:
        return
    cut = _TILES in tags and tags[_WIDTH][0] % max(_one(tags, _TILE_WIDTH, 1), 1) > 0
    if bits != 8 or cut or _one(tags, _PLANAR, 1) == 2:
        raise Unsupported(
            f"is a grey TIFF of {bits} bits with alpha or other extra channels, which is not read in this layout; save "
            "it without them"
        )


def orientation(exif: bytes) -> int:
    """How a picture is turned, 1 (upright) to 8, by its EXIF data, which are a TIFF without pixels.

    Raises:
        Incomplete, Unsupported, struct.error: The EXIF data are damaged.
    """
    turned = _one(_tags(exif), _ORIENTATION, 1)
    return turned if turned in range(1, 9) else 1


def long_orientation(exif: bytes) -> int | None:
    """How a picture is turned, 2 to 8, if its EXIF data say so in 32 bits: OpenCV reads 16 alone. None for any other data."""
    with contextlib.suppress(Incomplete, Unsupported, struct.error, IndexError, OverflowError):
        turned = _one(_tags(exif.removeprefix(EXIF), {4: "I"}), _ORIENTATION, 1)
        return turned if turned in range(2, 9) else None
    return None


def _tags(data: bytes, codes: Mapping[int, str] = _CODES) -> Tags:
    """The first directory: the tags of these types of fields. A tag that occurs twice is refused, because readers differ in which
    of the two they take."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    (position,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, position)
    # An entry is tag, type, count, and 4 bytes (BigTIFF: 8) that hold the values, or their position if they do not fit.
    entry, inline, first = ("HHQ", 8, position + 8) if big else ("HHI", 4, position + 2)
    size = struct.calcsize(order + entry) + inline
    if count > (len(data) - first) // size:
        raise Incomplete
    seen: set[int] = set()
    tags: Tags = {}
    for at in range(first, first + count * size, size):
        tag, kind, length = struct.unpack_from(order + entry, data, at)
        if tag in seen:
            raise Unsupported(
                f"is a TIFF with tag {tag} twice, so that it is not known which one counts; save it again"
            )
        seen.add(tag)
        code = codes.get(kind)
        if code is None or tag not in _LONGEST:
            continue
        place = at + size - inline
        if length * struct.calcsize(order + code) > inline:
            (place,) = struct.unpack_from(order + ("Q" if big else "I"), data, place)
        if not 0 < length <= _LONGEST[tag]:
            raise Incomplete
        tags[tag] = list(struct.unpack_from(f"{order}{length}{code}", data, place))
    return tags


def _one(tags: Tags, tag: int, default: int) -> int:
    return tags.get(tag, [default])[0]


def _values(tags: Tags, photometric: int) -> tuple[int, Literal["uint", "int", "float"]]:
    """The bits of a value, and its kind."""
    bits, kinds = tags.get(_BITS, [1]), tags.get(_FORMAT, [1])
    if len(set(bits)) > 1 or len(set(kinds)) > 1:
        raise Unsupported("is a TIFF whose channels differ in their bits, which is not read; save it as PNG")
    kind = _KINDS.get(kinds[0], "uint")  # 4: undefined
    if bits[0] not in _FITS[kind] and (bits[0], kind, photometric) != (4, "uint", _PALETTE):
        raise Unsupported(
            f"is a TIFF of {bits[0]}-bit {kind} values, which is not read; save it with "
            f"{', '.join(map(str, _FITS[kind]))} bits"
        )
    return bits[0], kind


def _check_pieces(data: bytes, tags: Tags, bits: int) -> None:
    """Refuse a file with fewer strips or tiles than its size needs, or with pieces outside of the file or too short.

    Too short is checked without compression and with deflate. Other compressions do not show it.

    Args:
        data: The file.
        tags: Its directory.
        bits: Bits of a pixel, all samples together.

    Raises:
        Incomplete, Unsupported: The file has one of these faults.
    """
    width, height = tags[_WIDTH][0], tags[_HEIGHT][0]
    tiled = _TILES in tags
    offsets, sizes = (tags.get(tag) for tag in ((_TILES, _TILE_SIZES) if tiled else (_STRIPS, _STRIP_SIZES)))
    across = _one(tags, _TILE_WIDTH, 0) if tiled else width
    down = _one(tags, _TILE_HEIGHT, 0) if tiled else min(_one(tags, _ROWS, height), height)
    if offsets is None or sizes is None or len(offsets) != len(sizes) or not (across and down):
        raise Incomplete
    planes = _one(tags, _SAMPLES, 1) if _one(tags, _PLANAR, 1) == 2 else 1
    count = math.ceil(width / across) * math.ceil(height / down)
    if len(offsets) < count * planes or sum(sizes) > 2 * len(data):  # the latter: many pieces share the same bytes
        raise Incomplete
    if tiled and count * across * down > 4 * max(width * height, _TILE_LIMIT):
        raise Unsupported("is a TIFF whose tiles hold many times its pixels; save it again")
    if _one(tags, _PHOTOMETRIC, 1) == _YCBCR:  # chroma may be subsampled, so only the brightness is counted
        bits, planes = 8, 1
    packing = _one(tags, _PACKING, 1)
    for number in range(count * planes):
        at, size = offsets[number], sizes[number]
        if at + size > len(data):
            raise Incomplete
        # With one plane per channel, the pieces of a plane follow each other. The last strip of a plane may be shorter.
        rows = down if tiled else min(down, height - number % count * down)
        wanted = rows * math.ceil(across * bits / planes / 8)
        if packing == _RAW and size < wanted:
            raise Incomplete
        if packing in _DEFLATE:
            _check_deflate(memoryview(data)[at : at + size], wanted)


def _check_deflate(packed: memoryview, wanted: int) -> None:
    """Refuse a strip that does not unpack to `wanted` bytes. libtiff only warns, and fills the rest with zeros."""
    unpack, unpacked = zlib.decompressobj(), 0
    try:
        for start in range(0, len(packed), _FEED):
            left: bytes | memoryview = packed[start : start + _FEED]
            while left and not unpack.eof and unpacked <= wanted:
                unpacked += len(unpack.decompress(left, 1 << 20))
                left = unpack.unconsumed_tail
    except zlib.error:
        raise Incomplete from None
    if unpacked < wanted:
        raise Incomplete
