"""AVIF (AV1 Image File Format 1.1): boxes of length, type, data (ISO/IEC 14496-12), around the AV1 bitstreams of items.

The decoder allocates by the size that the bitstream announces, not by the box that others read. So the sequence header of every
bitstream is read here, and has to announce the size of the picture.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from .header import Header, Incomplete, Unsupported, pieces

_FULL = (
    b"meta",
    b"pitm",
    b"iinf",
    b"infe",
    b"iloc",
    b"ipma",
    b"iref",
    b"ispe",
    b"auxC",
)  # 4 bytes of version and flags first
_ITEMS = 64
_FRAMES = 8  # layers of a progressive picture: 4, each with a header of its own
_ALPHA = b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha"
_SEQUENCE, _FRAME_HEADER, _FRAME, _TILE_LIST = 1, 3, 6, 8  # kinds of AV1 units
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")


@dataclass
class _Item:
    """A bitstream or other content of the file: its kind, properties, and bytes."""

    kind: bytes = b""
    properties: list[tuple[bytes, bytes]] = field(default_factory=list)
    content: bytes = b""

    def property(self, kind: bytes) -> bytes | None:
        return next((body for name, body in self.properties if name == kind), None)


def brands(data: bytes) -> tuple[bytes, ...]:
    """The names of what the file is compatible with; none if it is no ISO media file."""
    if data[4:8] != b"ftyp":
        return ()
    end = min(int.from_bytes(data[:4], "big"), len(data), 1024)
    return (data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4)))


def is_avif(data: bytes) -> bool:
    """Whether the file says that it is AVIF."""
    return bool({b"avif", b"avis"} & set(brands(data)))


def is_heic(data: bytes) -> bool:
    """Whether the file is HEIC, which OpenCV does not read."""
    return (brands(data)[:1] == (b"mif1",) and not is_avif(data)) or bool(set(_HEIC) & set(brands(data)))


def avif(data: bytes) -> Header:
    """Check that there is one picture, whole, and that no bitstream is larger than it."""
    boxes = list(_boxes(data, 0, len(data)))
    metas = [(at, end) for kind, at, end in boxes if kind == b"meta"]
    if len(metas) != 1:
        raise Incomplete
    if any(kind == b"moov" for kind, *_ in boxes):
        raise Unsupported("is an animated AVIF, which is not read; save one picture of it")
    primary, items, alphas = _meta(data, *metas[0])
    if primary not in items:
        raise Incomplete
    item = items[primary]
    if item.kind != b"av01":
        raise Unsupported("is an AVIF made of tiles or layers, which is not read; save it as PNG")
    width, height = _size(item)
    for each in items.values():
        if each.kind == b"av01":
            _check_bitstream(each, width * height)
    config = item.property(b"av1C")
    if config is None or len(config) < 4:
        raise Incomplete
    if config[2] & 0x40:
        raise Unsupported("is an AVIF of more than 8 bits per value, which is not read; save it with 8 bits")
    if item.property(b"clap") is not None:
        raise Unsupported("is an AVIF that shows a part of itself (clean aperture), which is not read; save it as PNG")
    alpha = any(to == primary and _ALPHA in (items[of].property(b"auxC") or b"") for of, to in alphas if of in items)
    return Header(width, height, alpha=alpha, orientation=_orientation(item))


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The boxes between two positions: type, start and end of the contents."""
    counter = pieces()
    while at < end:
        next(counter)
        size, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1:
            (size,), head = struct.unpack_from(">Q", data, at + 8), 16
        stop = end if size == 0 else at + size
        if (size != 0 and size < head) or stop > end:
            raise Incomplete
        yield kind, at + head + 4 * (kind in _FULL), stop
        at = stop


def _meta(data: bytes, at: int, end: int) -> tuple[int, dict[int, _Item], list[tuple[int, int]]]:
    """The number of the picture, all items, and which item is an auxiliary picture of which."""
    boxes = {kind: (start, stop) for kind, start, stop in _boxes(data, at, end)}
    if not {b"pitm", b"iinf", b"iloc", b"iprp"} <= set(boxes):
        raise Incomplete
    start = boxes[b"pitm"][0]
    primary = _number(data, start, 4 if data[start - 4] else 2)
    items: dict[int, _Item] = {}
    start, stop = boxes[b"iinf"]
    for kind, entry, _ in _boxes(data, start + (4 if data[start - 4] else 2), stop):
        if kind == b"infe":
            wide = 4 if data[entry - 4] > 2 else 2
            items[_number(data, entry, wide)] = _Item(data[entry + wide + 2 : entry + wide + 6])
    if len(items) > _ITEMS:
        raise Unsupported(f"is an AVIF of more than {_ITEMS} items, which is not read; save it again")
    _place(data, *boxes[b"iloc"], boxes.get(b"idat", (0, 0)), items)
    _describe(data, *boxes[b"iprp"], items)
    return primary, items, _auxiliary(data, *boxes[b"iref"]) if b"iref" in boxes else []


def _place(data: bytes, at: int, end: int, inside: tuple[int, int], items: dict[int, _Item]) -> None:
    """Fill in the items' bytes (box iloc)."""
    version, sizes, more = data[at - 4], data[at], data[at + 1]
    offset, length, base, index = sizes >> 4, sizes & 15, more >> 4, (more & 15) if version else 0
    if not {offset, length, base, index} <= {0, 4, 8}:
        raise Incomplete
    wide = 4 if version == 2 else 2
    count, at = _number(data, at + 2, wide), at + 2 + wide
    taken = 0
    for _ in range(count):
        item, at = items.get(_number(data, at, wide)), at + wide
        method = _number(data, at, 2) & 15 if version else 0
        at += (2 if version else 0) + 2  # the method, then the number of the file, 0: this one
        first, at = _number(data, at, base), at + base
        extents, at = _number(data, at, 2), at + 2
        for _ in range(extents):
            at += index
            start, size = first + _number(data, at, offset), _number(data, at + offset, length)
            at += offset + length
            low, high = (0, len(data)) if method == 0 else inside
            taken += size
            if at > end or method > 1 or low + start + size > high or taken > len(data):
                raise Incomplete
            if item is not None:
                item.content += data[low + start : low + start + size]


def _describe(data: bytes, at: int, end: int, items: dict[int, _Item]) -> None:
    """Fill in the items' properties (box iprp: the list ipco, and which item has which, ipma)."""
    properties: list[tuple[bytes, bytes]] = []
    for kind, start, stop in _boxes(data, at, end):
        if kind == b"ipco":
            properties += [(name, data[one:two]) for name, one, two in _boxes(data, start, stop)]
        elif kind == b"ipma":
            wide, long = (4 if data[start - 4] else 2), data[start - 1] & 1
            count, place = _number(data, start, 4), start + 4
            for _ in range(min(count, _ITEMS)):
                item, place = items.get(_number(data, place, wide)), place + wide
                links, place = _number(data, place, 1), place + 1
                for _ in range(links):
                    link = _number(data, place, 1 + long) & (0x7FFF if long else 0x7F)
                    place += 1 + long
                    if link > len(properties):
                        raise Incomplete
                    if item is not None and link:
                        item.properties.append(properties[link - 1])


def _auxiliary(data: bytes, at: int, end: int) -> list[tuple[int, int]]:
    wide = 4 if data[at - 4] else 2
    links = []
    for kind, start, _ in _boxes(data, at, end):
        if kind == b"auxl":
            for i in range(min(_number(data, start + wide, 2), _ITEMS)):
                links.append((_number(data, start, wide), _number(data, start + wide + 2 + i * wide, wide)))
    return links


def _size(item: _Item) -> tuple[int, int]:
    size = item.property(b"ispe")
    if size is None:
        raise Incomplete
    width, height = struct.unpack_from(">II", size)
    return width, height


def _orientation(item: _Item) -> int:
    """As in EXIF, 1 to 8. irot turns counterclockwise by its value times 90 degrees, then imir mirrors: 0 upside down, 1 sides."""
    turn, mirror = item.property(b"irot"), item.property(b"imir")
    turned = (1, 8, 3, 6)[turn[0] & 3] if turn else 1
    if not mirror:
        return turned
    return {1: (4, 2), 8: (5, 7), 3: (2, 4), 6: (7, 5)}[turned][mirror[0] & 1]


def _check_bitstream(item: _Item, most: int) -> None:
    """Refuse a bitstream of another size than the item, of more pixels than the picture, or of many frames."""
    data, at, frames, sizes = item.content, 0, 0, set()
    counter = pieces()
    while at < len(data):
        next(counter)
        kind, at = data[at], at + (2 if data[at] & 4 else 1)
        length, at = _leb128(data, at) if kind & 2 else (len(data) - at, at)
        if at + length > len(data):
            raise Incomplete
        kind = kind >> 3 & 15
        frames += kind in (_FRAME_HEADER, _FRAME)
        if kind == _SEQUENCE:
            sizes.add(_sequence_size(data[at : at + length]))
        if kind == _TILE_LIST or frames > _FRAMES:
            raise Unsupported("is an AVIF of many frames, which is not read; save one picture of it")
        at += length
    if not frames or sizes != {_size(item)} or any(width * height > most for width, height in sizes):
        raise Incomplete


def _sequence_size(data: bytes) -> tuple[int, int]:
    """Width and height in a sequence header (AV1 specification, 5.5.1)."""
    bits = _Bits(data)
    bits.take(4)  # profile, still picture
    if bits.take(1):  # reduced header: only the level
        bits.take(5)
    else:
        if bits.take(1):
            raise Unsupported("is an AVIF with the timing of a video, which is not read; save it again")
        delays = bits.take(1)
        for _ in range(bits.take(5) + 1):  # operating points
            bits.take(12)
            if bits.take(5) > 7:  # the level; higher ones have a tier
                bits.take(1)
            if delays and bits.take(1):
                bits.take(4)
    wide, high = bits.take(4) + 1, bits.take(4) + 1
    return bits.take(wide) + 1, bits.take(high) + 1


class _Bits:
    """Reads bits, the highest of each byte first."""

    def __init__(self, data: bytes) -> None:
        self.value, self.left = int.from_bytes(data[:1024], "big"), 8 * len(data[:1024])

    def take(self, count: int) -> int:
        self.left -= count
        if self.left < 0:
            raise Incomplete
        return self.value >> self.left & (1 << count) - 1


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(8):
        value |= (data[at + i] & 0x7F) << 7 * i
        if not data[at + i] & 0x80:
            return value, at + i + 1
    raise Incomplete


def _number(data: bytes, at: int, size: int) -> int:
    if at + size > len(data):
        raise Incomplete
    return int.from_bytes(data[at : at + size], "big")
