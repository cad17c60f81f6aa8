"""Protobuf's wire format: what messages of TensorFlow and PaddlePaddle are written with."""

from __future__ import annotations

import struct
from collections.abc import Sequence


def varint(value: int) -> bytes:
    """A number of 64 bits, seven bits a byte."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: bytes | str | int | bool | float) -> bytes:
    """A field: a message, bytes or text; a number; a float of 32 bits."""
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(int(value))
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def fields(number: int, values: Sequence[bytes | str | int]) -> bytes:
    """A repeated field."""
    return b"".join(field(number, value) for value in values)
