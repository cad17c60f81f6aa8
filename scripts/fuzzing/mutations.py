"""Changes of bytes that know nothing of what they mean."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

_LONGEST = 1 << 16  # bytes of a chunk
_NUMBERS = (0, 1, 2, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)


def mutate_bytes(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """One to four changes: bits and bytes, numbers, truncation, chunks removed, doubled or taken from another input."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = rng.choice(_CHANGES)(data, others, rng)
    return data


def _flip(data: bytes, _: Sequence[bytes], rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _bit in range(rng.choice((1, 1, 2, 8, 64))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _overwrite(data: bytes, _: Sequence[bytes], rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    new = rng.choice((rng.randbytes(rng.randint(1, 8)), b"\xff" * 10, b"\0" * 4))
    return data[:place] + new + data[place + len(new) :]


def _number(data: bytes, _: Sequence[bytes], rng: random.Random) -> bytes:
    number = rng.choice(_NUMBERS)
    form, bits = rng.choice((("B", 8), ("<H", 16), (">H", 16), ("<I", 32), (">I", 32), ("<Q", 64)))
    new = struct.pack(form, number & ((1 << bits) - 1))
    place = rng.randrange(max(1, len(data)))
    return data[:place] + new + data[place + len(new) :]


def _truncate(data: bytes, _: Sequence[bytes], rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _remove(data: bytes, _: Sequence[bytes], rng: random.Random) -> bytes:
    start, end = _chunk(data, rng)
    return data[:start] + data[end:]


def _double(data: bytes, _: Sequence[bytes], rng: random.Random) -> bytes:
    start, end = _chunk(data, rng)
    times = min(rng.choice((1, 1, 2, 100)), 1 + _LONGEST // max(1, end - start))
    return data[:end] + data[start:end] * times + data[end:]


def _splice(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    other = rng.choice(others)
    start, end = _chunk(other, rng)
    place = rng.randrange(len(data) + 1)
    kept = place + rng.choice((0, end - start))
    return data[:place] + other[start:end] + data[kept:]


def _cross(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    other = rng.choice(others)
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _chunk(data: bytes, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    longest = min(len(data) - start, _LONGEST, rng.choice((4, 64, 1024, _LONGEST)))
    return start, start + rng.randint(0, longest)


_CHANGES = (_flip, _flip, _flip, _overwrite, _number, _truncate, _remove, _double, _splice, _cross)
