"""Check a zip archive's structure before anything reads an entry of it: two readers may read an odd archive in two ways.

A sound archive meets four conditions:

1. Its directory ends where the file's end record starts, without a comment and without bytes between.
2. Each entry of the directory has a header of its own with the same name and method where the directory says.
3. No two entries share bytes or a name; the bytes of an entry are its header, its data, and its sizes if they come after the data.
4. A stored entry is as large as its bytes.

How much all entries unpack to is the caller's to bound. No entry unpacks to more than it declares: torch's reader and Python's
both stop there.
"""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Sequence
from typing import IO, Any

_ENTRIES = 200_000
# the end record, the ZIP64 end record and its locator (PKWARE's APPNOTE.TXT, 4.3.16, 4.3.14 and 4.3.15)
END, END64, LOCATOR = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
_LOCAL = struct.Struct("<4s5H3L2H")
"""An entry's own header, without its name and its extra field (4.3.7)."""
LOCAL_SIGN, _SIZES_SIGN = b"PK\x03\x04", b"PK\x07\x08"
_SIZES_AFTER, _UTF8 = 1 << 3, 1 << 11  # flags (4.4.4)
_CRC_AND_SIZES = 12  # bytes; an entry of 4 GiB has 8 more


class UnsoundZipError(ValueError):
    """An archive that does not meet one of the conditions. The message says which: "an archive ..."."""


def sound_entries(file: IO[bytes]) -> list[zipfile.ZipInfo]:
    """The entries of an archive that is the whole file, in the order of its directory.

    Raises:
        UnsoundZipError: It is not sound.
        Exception: It is no archive or damaged in another way: zipfile lets every error that damage causes through.
    """
    file.seek(0, os.SEEK_END)
    start = _directory(file, file.tell())
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    require_apart(file, entries, start)
    return entries


def require_apart(file: IO[bytes], entries: Sequence[zipfile.ZipInfo], start: int) -> None:
    """Check conditions 2 to 4.

    Args:
        file: The file that holds the archive.
        entries: Those of its directory.
        start: Where the directory begins, or any later place.

    Raises:
        UnsoundZipError: One is not met.
    """
    for names in ({entry.filename for entry in entries}, {entry.orig_filename for entry in entries}):
        if len(names) != len(entries):
            raise UnsoundZipError("an archive with two entries of one name")
    free = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < free:
            raise UnsoundZipError(f"an archive whose entries overlap ({entry.filename!r})")
        free = _end(file, entry)
        if free > start:
            raise UnsoundZipError(f"an archive whose entries overlap ({entry.filename!r} and what follows the entries)")
        if entry.compress_type == zipfile.ZIP_STORED and entry.file_size != entry.compress_size:
            raise UnsoundZipError(f"an archive whose entry {entry.filename!r} is not as large as it says")


def data_at(file: IO[bytes], entry: zipfile.ZipInfo) -> int:
    """The offset of an entry's data, after its own header."""
    *_, length, extra = _read(file, _LOCAL, entry.header_offset)
    return entry.header_offset + _LOCAL.size + int(length) + int(extra)


def _end(file: IO[bytes], entry: zipfile.ZipInfo) -> int:
    """The offset after an entry's bytes.

    Raises:
        UnsoundZipError: Its header is not there, or is another entry's.
    """
    sign, _, flags, method, *_, length, _ = _read(file, _LOCAL, entry.header_offset)
    name = file.read(length)
    wanted = entry.orig_filename.encode("utf-8" if entry.flag_bits & _UTF8 else "cp437")
    if sign != LOCAL_SIGN or name != wanted or method != entry.compress_type:
        raise UnsoundZipError(f"an archive whose entry {entry.filename!r} is not where its directory says")
    end = data_at(file, entry) + entry.compress_size
    if flags & _SIZES_AFTER:
        file.seek(end)
        end += _CRC_AND_SIZES + (4 if file.read(4) == _SIZES_SIGN else 0)
    return end


def _directory(file: IO[bytes], size: int) -> int:
    """The offset at which the directory of entries starts, according to the records at the file's end.

    Raises:
        BadZipFile: The file does not end with an archive's end record.
        UnsoundZipError: The records contradict each other or the file, or state too many entries.
    """
    end = size - END.size
    sign, disk, first, here, count, length, start, comment = _read(file, END, end)
    if sign != b"PK\x05\x06" or comment:
        raise zipfile.BadZipFile("it does not end with an end record: cut off, or with bytes after its end")
    sign64, _, offset, _ = _read(file, LOCATOR, end - LOCATOR.size)
    if sign64 == b"PK\x06\x07":
        end -= LOCATOR.size + END64.size
        sign, _, _, _, disk, first, here, count, length, start = _read(file, END64, end)
        if sign != b"PK\x06\x06" or offset != end:
            raise UnsoundZipError("an archive whose end records contradict each other")
    if disk or first or here != count or start + length != end:
        raise UnsoundZipError("an archive whose directory is not where its end says")
    if count > _ENTRIES or length > 512 * _ENTRIES:
        raise UnsoundZipError(f"an archive of {count} entries, more than any network has")
    return int(start)


def _read(file: IO[bytes], what: struct.Struct, offset: int) -> tuple[Any, ...]:
    """The fields at an offset; zeros, which match no signature, if the file does not reach that far."""
    if offset < 0:
        return what.unpack(bytes(what.size))
    file.seek(offset)
    return what.unpack(file.read(what.size).ljust(what.size, b"\0"))
