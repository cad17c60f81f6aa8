"""Look into a zip archive before anything unpacks it.

An archive has to be sound (`zip_files` says what that is), so that all readers read the same, and all its entries together may
unpack to at most 4 times the file + 512 MiB. An archive in it, as a `.pt2` holds, has to meet the same conditions.
"""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import IO

from xai_deploy.format.guard.expansion import BASE, OF_FILE, constants_limit
from xai_deploy.foundation.zip_files import LOCAL_SIGN, UnsoundZipError, data_at, sound_entries

from ..errors import SourceError

_DEEPEST = 2
"""Archives within the file's own; torch's `.pt2` has one."""


def names_in(path: Path) -> frozenset[str]:
    """The names of a sound archive's entries, without the root folder.

    Raises:
        SourceError: The archive, or one in it, is damaged, ambiguous, or unpacks to too much.
    """
    try:
        with open(path, "rb") as file:
            entries = _checked(file, os.fstat(file.fileno()).st_size, 0)
    except UnsoundZipError as error:
        raise SourceError(f"{path}: {error}; refused") from None
    except Exception as error:  # zipfile lets every error that the damage causes through
        raise SourceError(f"{path}: a damaged or truncated archive ({error})") from None
    return frozenset(entry.filename.partition("/")[2] for entry in entries)


def _checked(file: IO[bytes], size: int, depth: int) -> list[zipfile.ZipInfo]:
    """The entries of an archive, after a look at those that are archives themselves.

    Args:
        file: The archive.
        size: Bytes of the file that it is, or is in.
        depth: In how many other archives it is.

    Raises:
        UnsoundZipError: It or one in it is unsound, unpacks to too much, or lies too deep.
        Exception: It is damaged in another way.
    """
    entries = sound_entries(file)
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > constants_limit(size):
        raise UnsoundZipError(
            f"a zip bomb: {size} bytes that unpack to {unpacked}, above {OF_FILE} times the file + {BASE >> 20} MiB"
        )
    with zipfile.ZipFile(file) as archive:
        for entry in entries:
            if _first_bytes(file, archive, entry, len(LOCAL_SIGN)) != LOCAL_SIGN:
                continue
            if depth == _DEEPEST:
                raise UnsoundZipError(f"an archive with archives more than {_DEEPEST} deep in it")
            inner = io.BytesIO(_first_bytes(file, archive, entry, entry.file_size))
            try:
                _checked(inner, size, depth + 1)
            except UnsoundZipError as error:
                raise UnsoundZipError(f"{entry.filename!r} in it is {error}") from None
    return entries


def _first_bytes(file: IO[bytes], archive: zipfile.ZipFile, entry: zipfile.ZipInfo, count: int) -> bytes:
    """The first bytes of an entry. The check sums of stored ones are not compared: torch can leave them out, and ignores them."""
    if entry.compress_type == zipfile.ZIP_STORED:
        file.seek(data_at(file, entry))
        return file.read(min(count, entry.file_size))
    with archive.open(entry) as member:
        return member.read(count)
