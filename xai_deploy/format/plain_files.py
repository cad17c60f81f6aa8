"""Reads a stranger's files: no links, no pipes, no more bytes than asked for."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from ..errors import IntegrityError, UnsafePathError
from .parts import Part


def missing(path: Path) -> IntegrityError:
    """The error of a file that the manifest lists and the folder does not hold."""
    return IntegrityError(f"{path}: the manifest lists it, but it is missing; copy the bundle again")


def read_plain(path: Path, limit: int) -> bytes:
    """Read a plain file; see `opened_plain`.

    Raises:
        IntegrityError: It has more than `limit` bytes.
    """
    with opened_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise IntegrityError(f"{path}: larger than the {limit} bytes it may have; copy the bundle again")
        # Read the present size, not `limit`, which an attacker may have chosen. The extra byte shows whether the file has grown.
        return file.read(size + 1)


def opened_plain(path: Path) -> BinaryIO:
    """Open a plain file without following links or blocking on a pipe.

    Raises:
        FileNotFoundError: There is none.
        UnsafePathError: It is a link or not a plain file.
    """
    if path.is_symlink():  # checked here too, because O_NOFOLLOW does not exist on Windows
        raise UnsafePathError(f"{path}: is a link; a bundle holds plain files only")
    # O_NONBLOCK: opening a pipe does not wait for a writer. O_BINARY: Windows must not translate line ends.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnsafePathError(f"{path}: can't be read as a plain file ({error.strerror})") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnsafePathError(f"{path}: is not a plain file")
    return open(descriptor, "rb")


class Ranges:
    """Reads parts of a bundle's files, which are in order mostly: one file is open at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name: str | None = None
        self._file: BinaryIO | None = None

    def __call__(self, part: Part) -> bytes:
        """The bytes of a part; they are fewer if the file has shrunk."""
        if self._file is None or part.file != self._name:
            self._close()
            path = self._folder / part.file
            try:
                self._file, self._name = opened_plain(path), part.file
            except FileNotFoundError:
                raise missing(path) from None
        self._file.seek(part.start)
        return self._file.read(part.length)

    def __enter__(self) -> Ranges:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
