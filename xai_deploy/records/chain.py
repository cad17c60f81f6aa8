"""The files of one chain of records.

A chain is what one process writes: `CHAIN-00000.jsonl`, `CHAIN-00001.jsonl`, ..., each begun when the one before has reached its
size. Files are only appended to. `CHAIN.count` beside them says how many records were accepted, so that those which a killed
process had not written yet are known to be missing.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ..foundation.whole_files import lock
from .record import link

_NAME = r"\d{8}T\d{6}-\d+-[0-9a-f]{8}"
FILE = re.compile(rf"({_NAME})-(\d{{5,}})\.jsonl")
COUNT = ".count"
COUNT_FILE = re.compile(rf"({_NAME})\{COUNT}")
_COUNT = re.compile(rb"(\d{20}) (\d{20}) (open  |closed)\n")
_MODE = 0o640  # records may hold personal data: not for everyone
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def first_link(chain: str) -> str:
    """What `previous` of a chain's first record is."""
    return hashlib.sha256(chain.encode()).hexdigest()


class Chain:
    """A chain that this process writes. Not for several threads at a time.

    Args:
        folder: It exists.
        file_bytes: A file that has reached this size gets no further records.

    Attributes:
        name: The time at which it began, the process's id, and random digits.
        number: How many records it has.
        head: The sha256 of the last one.
        ended: The disk has everything, and says that no more will come.

    Raises:
        OSError: The folder can't be written.
    """

    def __init__(self, folder: Path, file_bytes: int) -> None:
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        self.name = f"{now}-{os.getpid()}-{secrets.token_hex(4)}"
        self.number, self.head, self.ended = 0, first_link(self.name), False
        self._folder, self._file_bytes = folder, file_bytes
        self._counting = os.open(folder / (self.name + COUNT), _FLAGS, _MODE)
        with contextlib.suppress(BlockingIOError):
            lock(self._counting)  # held while this process lives: `verify` sees that more may come
        self._files, self._size, self._file, self._path = 0, 0, -1, folder
        self.count(0, 0)

    def count(self, accepted: int, lost: int, closed: bool = False) -> None:
        """Say how many records were accepted, and how many were dropped. A killed process leaves the last count.

        Raises:
            OSError: It can't be written.
        """
        os.lseek(self._counting, 0, os.SEEK_SET)
        os.write(self._counting, b"%020d %020d %s\n" % (accepted, lost, b"closed" if closed else b"open  "))

    def write(self, contents: Sequence[tuple[bytes, int]], durable: bool) -> None:
        """Append records: their contents, and how many were lost before each.

        Args:
            contents: See `record.encode` and `Record.lost`.
            durable: Return when they are on the disk.

        Raises:
            OSError: They can't be written, nothing of them stays in the file; or another program has touched the file.
        """
        if self._file < 0 or self._size >= self._file_bytes:
            self._next()
        self._require_untouched()
        number, head, lines = self.number, self.head, []
        for content, lost in contents:
            line = link(content, self.name, number, head, lost)
            number, head = number + 1, hashlib.sha256(line).hexdigest()
            lines.append(line)
        data = b"\n".join(lines) + b"\n"
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            if durable:
                os.fsync(self._file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)  # a full disk may have taken a part of them
            raise
        self._size += len(data)
        self.number, self.head = number, head

    def _require_untouched(self) -> None:
        """Refuse to go on if the file has another name, or another size: what is appended to a removed file is lost in silence.

        Raises:
            OSError: It has.
        """
        own = os.fstat(self._file)
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != (own.st_dev, own.st_ino):
            raise OSError(errno.ESTALE, f"another program removed or replaced {self._path.name}")
        if own.st_size != self._size:
            raise OSError(errno.ESTALE, f"another program wrote to {self._path.name}")

    def _next(self) -> None:
        """Begin the next file."""
        if self._file >= 0:
            os.fsync(self._file)
            os.close(self._file)
            self._file = -1
        self._path = self._folder / f"{self.name}-{self._files:05d}.jsonl"
        self._file = os.open(self._path, _FLAGS | os.O_APPEND, _MODE)
        self._files, self._size = self._files + 1, 0
        with contextlib.suppress(OSError):  # not on Windows
            handle = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(handle)  # the file's name has to survive a crash, too
            finally:
                os.close(handle)

    def close(self, accepted: int, lost: int) -> None:
        """Bring everything to the disk, and say that no more will come.

        Raises:
            OSError: It can't be written; or a signal handler has called this meanwhile, and the chain has `ended`.
        """
        if self.ended:
            return
        if self._file >= 0:
            os.fsync(self._file)
        self.count(accepted, lost, closed=True)
        os.fsync(self._counting)
        self.ended = True
        self.abandon()

    def abandon(self) -> None:
        """Close the files as they are: in a forked process, which must not write another's chain, or after an error."""
        file, self._file = (
            self._file,
            -1,
        )  # forgotten first: a signal handler that closes, too, must not close a number twice
        counting, self._counting = self._counting, -1
        for handle in (file, counting):
            if handle >= 0:
                with contextlib.suppress(OSError):
                    os.close(handle)


@dataclass(frozen=True)
class Count:
    """What a count file says.

    Attributes:
        accepted: How many records the chain has, or had in its queue.
        lost: How many were dropped because the queue was full.
        closed: The process ended the chain: there is no queue any more.
    """

    accepted: int
    lost: int
    closed: bool

    @classmethod
    def read(cls, data: bytes) -> Count | None:
        """The content of a count file; None if it is something else."""
        match = _COUNT.fullmatch(data)
        return None if match is None else cls(int(match[1]), int(match[2]), match[3] == b"closed")
