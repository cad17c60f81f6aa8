"""Read FlatBuffers: every offset is checked against the buffer, and nothing is copied but what is asked for.

Many offsets may point to one place: a list of a thousand tables that are all the same, with a list of a thousand numbers, is a few
kilobytes. Therefore all that is read of a buffer may take at most 4 times its bytes + 1 MiB.

A table begins with the distance back to its vtable. The vtable holds, after its own size and the table's, a 16-bit offset into the
table for each field; 0 if the field is absent. Strings, vectors and tables are referred to by a 32-bit offset from where it
stands. (FlatBuffers' documentation, "FlatBuffer Internals".)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

_LONGEST_VECTOR = 1 << 20  # elements
_LONGEST_TEXT = 1 << 16  # bytes
_SPARE = 1 << 20
_TABLE = 4  # bytes, the least that a vector holds for one


class Table:
    """A table in a buffer.

    Args:
        data: The buffer.
        at: Where the table begins.
        left: The bytes that may still be read of the buffer, one number shared by its tables.

    Raises:
        ValueError: From here and from every method: the buffer is damaged, or more is read of it than it may hold.
    """

    def __init__(self, data: bytes, at: int, left: list[int]) -> None:
        self._data, self._at, self._left = data, at, left
        self._vtable = at - int(self._read("<i", at))
        self._fields = (int(self._read("<H", self._vtable)) - 4) // 2

    @classmethod
    def root(cls, data: bytes) -> Table:
        """The root table."""
        return cls(data, int(_unpack(data, "<I", 0)), [4 * len(data) + _SPARE])

    def number(self, field: int, form: str, default: int = 0) -> int:
        """A scalar field, in a form of `struct`."""
        at = self.place(field)
        return default if at is None else int(self._read(form, at))

    def text(self, field: int) -> str:
        """A string; "" if it is absent."""
        at = self._follow(field)
        return "" if at is None else self._bytes(at, _LONGEST_TEXT).decode("utf-8", "replace")

    def blob(self, field: int) -> bytes:
        """A vector of bytes."""
        at = self._follow(field)
        return b"" if at is None else self._bytes(at, len(self._data))

    def numbers(self, field: int, form: str) -> list[Any]:
        """A vector of scalars."""
        at = self._follow(field)
        if at is None:
            return []
        count = self._count(at)
        size = struct.calcsize(form)
        self._take(count * size)
        return [self._read(form, at + 4 + size * i) for i in range(count)]

    def table(self, field: int) -> Table | None:
        """A table, or None."""
        at = self._follow(field)
        return None if at is None else Table(self._data, at, self._left)

    def tables(self, field: int) -> Iterator[Table]:
        """A vector of tables."""
        return (table for _, table in self.entries(field))

    def entries(self, field: int) -> Iterator[tuple[int, Table]]:
        """A vector of tables, each with the place of the offset that refers to it."""
        at = self._follow(field)
        for i in range(0 if at is None else self._count(at)):
            self._take(_TABLE)
            place = (at or 0) + 4 + 4 * i
            yield place, Table(self._data, place + int(self._read("<I", place)), self._left)

    def place(self, field: int) -> int | None:
        """Where a field lies in the buffer; None if it is absent."""
        offset = int(self._read("<H", self._vtable + 4 + 2 * field)) if field < self._fields else 0
        return self._at + offset if offset else None

    def _follow(self, field: int) -> int | None:
        at = self.place(field)
        return None if at is None else at + int(self._read("<I", at))

    def _count(self, at: int) -> int:
        count = int(self._read("<I", at))
        if count > _LONGEST_VECTOR:
            raise ValueError(f"a list of {count} elements")
        return count

    def _bytes(self, at: int, longest: int) -> bytes:
        length = int(self._read("<I", at))
        if length > longest or at + 4 + length > len(self._data):
            raise ValueError(f"{length} bytes at {at}, beyond its end")
        self._take(length)
        return self._data[at + 4 : at + 4 + length]

    def _take(self, size: int) -> None:
        self._left[0] -= size
        if self._left[0] < 0:
            raise ValueError("its lists name the same bytes many times")

    def _read(self, form: str, at: int) -> Any:
        return _unpack(self._data, form, at)


def _unpack(data: bytes, form: str, at: int) -> Any:
    if not 0 <= at <= len(data) - struct.calcsize(form):
        raise ValueError(f"an offset to {at}, outside its {len(data)} bytes")
    return struct.unpack_from(form, data, at)[0]
