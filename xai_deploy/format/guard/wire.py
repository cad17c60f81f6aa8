"""Protobuf's wire format: the fields of a message. Contents are skipped by their length and never copied."""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # wire types; groups (3, 4) do not occur in ONNX
_ORT_MAGIC = b"ORTM"  # at position 4: ONNX Runtime takes such a file for one of its own format, whatever else it holds


class Malformed(Exception):
    """The bytes are not a message of the kind expected."""


def refuse_own_format(data: bytes) -> None:
    """Refuse a file that ONNX Runtime would read in its own format.

    Raises:
        Malformed: The file is of that format.
    """
    if data[4:8] == _ORT_MAGIC:
        raise Malformed


def varint(data: bytes, position: int) -> tuple[int, int]:
    """The number at a position, below 2^64, and the position after it.

    Raises:
        Malformed, IndexError: It has more than 10 bytes, or the data end within it.
    """
    # A byte carries 7 bits, the lowest first. Its top bit is set if another byte follows.
    byte = data[position]
    if byte < 0x80:
        return byte, position + 1
    value, shift = byte & 0x7F, 7
    while True:
        position += 1
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position + 1
        shift += 7
        if shift > 63:
            raise Malformed


def signed(value: int) -> int:
    """A varint as int64."""
    return value - (1 << 64) if value >> 63 else value


def fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Each field of the message that lies from `start` to `end`.

    Yields:
        Number, wire type, and two more: for a varint its value and 0, for all others the start and the end of its contents.

    Raises:
        Malformed, IndexError: The bytes are not a message.
    """
    position = start
    while position < end:
        tag, position = varint(data, position)
        number, wire = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:  # protobuf's range of field numbers
            raise Malformed
        if wire == VARINT:
            value, position = varint(data, position)
            yield number, wire, value, 0
            continue
        if wire == LENGTH:
            length, position = varint(data, position)
        elif wire == FIXED32:
            length = 4
        elif wire == FIXED64:
            length = 8
        else:
            raise Malformed
        if position + length > end:
            raise Malformed
        yield number, wire, position, position + length
        position += length
    if position != end:
        raise Malformed


def text(data: bytes, start: int, end: int) -> str:
    """A string.

    Raises:
        Malformed: It is not UTF-8.
    """
    try:
        return data[start:end].decode()
    except UnicodeDecodeError:
        raise Malformed from None


def varints(data: bytes, wire: int, first: int, end: int) -> list[int]:
    """The numbers of a field of repeated int64: a single one, or a packed list.

    Raises:
        Malformed, IndexError: The field does not hold numbers.
    """
    if wire == VARINT:
        return [signed(first)]
    if wire != LENGTH:
        raise Malformed
    numbers, position = [], first
    while position < end:
        value, position = varint(data, position)
        numbers.append(signed(value))
    if position != end:
        raise Malformed
    return numbers


def count_varints(data: bytes, wire: int, start: int, end: int) -> int:
    """How many numbers a field of repeated integers holds. Each number ends with its only byte below 0x80.

    Raises:
        Malformed: The field does not hold integers.
    """
    if wire == VARINT:
        return 1
    if wire != LENGTH or (end > start and data[end - 1] & 0x80):
        raise Malformed
    return len(data[start:end].translate(None, _NOT_LAST))  # deletes all bytes but the last one of each number


_NOT_LAST = bytes(range(0x80, 0x100))  # bytes of a number that are not its last one
