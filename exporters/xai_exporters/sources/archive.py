"""Look into a zip archive before anything unpacks it.

Two readers may read an odd archive in two ways, and a small archive may unpack to more than any memory. Therefore an archive has
to meet four conditions:

1. Its directory ends where the file's end record starts, without a comment and without bytes between.
2. No two entries share bytes or a name.
3. A stored entry is as large as its bytes.
4. All entries together unpack to at most 4 times the file + 512 MiB.

No entry can unpack to more than it declares: torch's reader and Python's both stop there.
"""

from __future__ import annotations

import os
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

from xai_deploy.format.guard.expansion import BASE, OF_FILE, constants_limit

from ..errors import SourceError

_ENTRIES = 200_000
# the end record, the ZIP64 end record and its locator (PKWARE's APPNOTE.TXT, 4.3.16, 4.3.14 and 4.3.15)
_END, _END64, _LOCATOR = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
_LOCAL = 30  # bytes of an entry's own header, without its name


def names_in(path: Path) -> frozenset[str]:
    """The names of a sound archive's entries, without the root folder.

    Raises:
        SourceError: The archive is damaged, ambiguous, or unpacks to too much.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = _directory(file, size)
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
    except _UnsoundError as error:
        raise SourceError(f"{path}: {error}; refused") from None
    except Exception as error:  # zipfile lets every error that the damage causes through
        raise SourceError(f"{path}: a damaged or truncated archive ({error})") from None
    if problem := _problem(entries, start, size):
        raise SourceError(f"{path}: {problem}; refused")
    return frozenset(entry.filename.partition("/")[2] for entry in entries)


class _UnsoundError(Exception):
    """The archive's directory does not have the place or the size that the archive states."""


def _directory(file: BinaryIO, size: int) -> int:
    """The offset at which the directory of entries starts, according to the records at the file's end.

    Raises:
        _UnsoundError: The records contradict each other or the file, or state too many entries.
    """
    end = size - _END.size
    sign, disk, first, here, count, length, start, comment = _read(file, _END, end)
    if sign != b"PK\x05\x06" or comment:
        raise _UnsoundError("a damaged or truncated archive, or one with bytes after its end")
    sign64, _, offset, _ = _read(file, _LOCATOR, end - _LOCATOR.size)
    if sign64 == b"PK\x06\x07":
        end -= _LOCATOR.size + _END64.size
        sign, _, _, _, disk, first, here, count, length, start = _read(file, _END64, end)
        if sign != b"PK\x06\x06" or offset != end:
            raise _UnsoundError("an archive whose end records contradict each other")
    if disk or first or here != count or start + length != end:
        raise _UnsoundError("an archive whose directory is not where its end says")
    if count > _ENTRIES or length > 512 * _ENTRIES:
        raise _UnsoundError(f"an archive of {count} entries, more than any network has")
    return int(start)


def _read(file: BinaryIO, what: struct.Struct, offset: int) -> tuple[Any, ...]:
    if offset < 0:  # the file is too short: zeros, which match no signature
        return what.unpack(bytes(what.size))
    file.seek(offset)
    return what.unpack(file.read(what.size))


def _problem(entries: list[zipfile.ZipInfo], start: int, size: int) -> str | None:
    """The fault of the entries in words, or None."""
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > constants_limit(size):
        return f"a zip bomb: {size} bytes that unpack to {unpacked}, above {OF_FILE} times the file + {BASE >> 20} MiB"
    if len({entry.filename for entry in entries}) != len(entries):
        return "an archive with two entries of one name"
    free = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        # a lower bound of its end, without the extra field
        stop = entry.header_offset + _LOCAL + len(entry.orig_filename.encode()) + entry.compress_size
        if entry.header_offset < free or stop > start:
            return f"an archive whose entries overlap ({entry.filename!r})"
        if entry.compress_type == zipfile.ZIP_STORED and entry.file_size != entry.compress_size:
            return f"an archive whose entry {entry.filename!r} is not as large as it says"
        free = stop
    return None
