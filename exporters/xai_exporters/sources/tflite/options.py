"""Numbers in the options of TFLite's custom operators: a map in FlexBuffers, the schemaless form of FlatBuffers.

The last byte is the root's width in bytes, the one before it its type; the root's value lies before both. A type's two low bits
are the width of what it refers to (1, 2, 4, 8 bytes). A map is a vector of values, sorted by their keys. Before its first value
stand its number of values, the width of its vector of keys, and the distance back to that; after the last value stand the types.
(FlatBuffers' documentation, "FlexBuffers".)
"""

from __future__ import annotations

import struct

_INT, _UINT, _FLOAT, _MAP, _BOOL = 1, 2, 3, 9, 26
_FORMS = {
    _INT: {1: "<b", 2: "<h", 4: "<i", 8: "<q"},
    _UINT: {1: "<B", 2: "<H", 4: "<I", 8: "<Q"},
    _FLOAT: {2: "<e", 4: "<f", 8: "<d"},
}
_MOST = 1000  # entries
_LONGEST = 100  # bytes of a key


def numbers(data: bytes) -> dict[str, float]:
    """The numbers of a map, by their keys.

    Raises:
        ValueError: It is no map, or damaged.
    """
    if len(data) < 3 or data[-2] >> 2 != _MAP:
        raise ValueError("its options are no map")
    width, own = data[-1], 1 << (data[-2] & 3)
    place = len(data) - 2 - width
    start = place - int(_read(data, place, _UINT, width))
    count = int(_read(data, start - own, _UINT, own))
    if count > _MOST:
        raise ValueError(f"its options have {count} entries")
    key_width = int(_read(data, start - 2 * own, _UINT, own))
    keys = start - 3 * own - int(_read(data, start - 3 * own, _UINT, own))
    found = {}
    for i in range(count):
        at = keys + i * key_width
        name = _key(data, at - int(_read(data, at, _UINT, key_width)))
        kind = int(_read(data, start + count * own + i, _UINT, 1)) >> 2
        kind = _UINT if kind == _BOOL else kind
        if kind in _FORMS:
            found[name] = _read(data, start + i * own, kind, own)
    return found


def _read(data: bytes, at: int, kind: int, width: int) -> float:
    form = _FORMS[kind].get(width)
    if form is None or not 0 <= at <= len(data) - width:
        raise ValueError("its options are damaged")
    return float(struct.unpack_from(form, data, at)[0])


def _key(data: bytes, at: int) -> str:
    end = data.find(b"\0", at, at + _LONGEST) if at >= 0 else -1
    if end < 0:
        raise ValueError("its options are damaged")
    return data[at:end].decode("utf-8", "replace")
