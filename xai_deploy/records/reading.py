"""Reads the records of a folder or of one file, whoever wrote them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import RecordsError
from .chain import FILE
from .record import LINE_LIMIT, Record, decode


@dataclass(frozen=True)
class Place:
    """Where a line is: its file, and its number there, from 1 on."""

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}"


def files(path: Path) -> list[Path]:
    """The files of records in a folder, chain by chain in the order of their names; or the one file.

    Raises:
        RecordsError: There are none.
    """
    if path.is_file():
        return [path]
    if not path.exists():
        raise RecordsError(f"{path}: no such file or folder")
    if not path.is_dir():
        raise RecordsError(f"{path}: neither a folder nor a file of records")
    own = [(match[1], int(match[2]), file) for file in path.iterdir() if (match := FILE.fullmatch(file.name))]
    if not own:
        raise RecordsError(f"{path}: holds no records; xai-explain --records and Recorder write such folders")
    return [file for _, _, file in sorted(own)]


def lines(file: Path) -> Iterator[tuple[bytes, bool]]:
    """The lines of a file without their ends, and whether each has one; only the last may have none.

    Raises:
        RecordsError: The file can't be read, is no plain file, or has a line that no record has.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        with open(os.open(file, flags), "rb") as opened:
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                raise RecordsError(f"{file}: no plain file")
            number = 0
            while line := opened.readline(LINE_LIMIT):
                number += 1
                if len(line) == LINE_LIMIT:
                    raise RecordsError(f"{file}, line {number}: is longer than {LINE_LIMIT >> 20} MiB; it is no record")
                yield line.removesuffix(b"\n"), line.endswith(b"\n")
    except OSError as error:
        raise RecordsError(f"{file}: can't be read ({error.strerror})") from None


def records(path: Path) -> Iterator[tuple[Place, Record]]:
    """All records of a folder or a file. The unfinished last line of a killed process, or of one that writes now, is left out.

    The chain is not looked at; see `verify`.

    Raises:
        RecordsError: There are none, or a line is no record.
    """
    for file in files(path):
        for number, (line, whole) in enumerate(lines(file), 1):
            if not whole:
                continue
            try:
                record = decode(line)
            except ValueError as error:
                raise RecordsError(f"{file}, line {number}: {error}; xai-records verify says more") from None
            yield Place(file, number), record
