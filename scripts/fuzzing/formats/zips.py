"""Zip archives whose directory, headers and end records are changed: sizes, places, names and flags that do not fit the entries."""

from __future__ import annotations

import random
import struct

_FIELDS = {  # signature -> (offset, form) of its fields (PKWARE's APPNOTE.TXT, 4.3)
    b"PK\x03\x04": ((6, "H"), (8, "H"), (14, "L"), (18, "L"), (22, "L"), (26, "H"), (28, "H")),
    b"PK\x01\x02": ((8, "H"), (10, "H"), (20, "L"), (24, "L"), (28, "H"), (30, "H"), (32, "H"), (42, "L")),
    b"PK\x05\x06": ((8, "H"), (10, "H"), (12, "L"), (16, "L"), (20, "H")),
    b"PK\x06\x06": ((24, "Q"), (32, "Q"), (40, "Q"), (48, "Q")),
}
_STEPS = (-64, -16, -1, 1, 4, 8, 12, 16, 20, 24, 30, 64, 1 << 16)


def mutate_zip(data: bytes, rng: random.Random) -> bytes:
    """One or two numbers of an archive's records, a little or much larger or smaller, or those of another record; also of archives
    in it. Other data stay as they are.
    """
    changed = bytearray(data)
    places = [(sign, at) for sign in _FIELDS for at in _found(data, sign)]
    for _ in range(rng.choice((1, 1, 2))):
        if not places:
            break
        sign, at = rng.choice(places)
        offset, form = rng.choice(_FIELDS[sign])
        width = struct.calcsize("<" + form)
        if at + offset + width > len(data):
            continue
        (number,) = struct.unpack_from("<" + form, data, at + offset)
        others = [other + offset for same, other in places if same == sign and other + offset + width <= len(data)]
        number = rng.choice((number + rng.choice(_STEPS), *struct.unpack_from("<" + form, data, rng.choice(others))))
        struct.pack_into("<" + form, changed, at + offset, number % (1 << 8 * width))
    return bytes(changed)


def _found(data: bytes, sign: bytes) -> list[int]:
    places, at = [], data.find(sign)
    while at >= 0:
        places.append(at)
        at = data.find(sign, at + 1)
    return places
