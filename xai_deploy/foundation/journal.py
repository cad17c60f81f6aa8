"""The journal of long work on images: one JSON line per chunk of images, written to disk as soon as the chunk is done.

Work that was killed can continue where it stopped. The first line is the plan: only the same work may continue.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from ..errors import XaiError
from .whole_files import lock

Line = dict[str, Any]


class Chunks(Mapping[int, Line]):
    """The chunks of a journal's file, by number, each read when it is asked for: their contents take no memory.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: dict[int, int] = {}  # number -> where its line begins in the file

    def add(self, number: int, place: int) -> None:
        """Say where a chunk's line begins; a later line of the same number takes its place."""
        self._places[number] = place

    def __getitem__(self, number: int) -> Line:
        with self._path.open("rb") as file:
            file.seek(self._places[number])
            line: Line = json.loads(file.readline())
        return line

    def __contains__(self, number: object) -> bool:
        return number in self._places

    def __iter__(self) -> Iterator[int]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class Journal:
    """A journal, opened or begun; a context manager.

    Args:
        path: The file; it is created when the first chunk is written.
        plan: Everything that the results depend on, as JSON.
        restart: Begin from the start; the file's old content is lost when the first chunk is written, not before.
        kind: What the journal is of, with its article, for messages.

    Attributes:
        chunks: The chunks that are done, by number.

    Raises:
        XaiError: The journal belongs to other work, is damaged, or is being written by another process.
    """

    def __init__(self, path: Path, plan: Mapping[str, Any], restart: bool = False, kind: str = "an evaluation") -> None:
        self.path, self.kind = path, kind
        self.chunks = Chunks(path)
        self._plan = json.loads(json.dumps(plan))  # as it will be read back: tuples become lists
        self._file: BinaryIO | None = None
        self._begun = False  # whether the file holds the plan
        if path.exists():
            self._file = path.open("r+b")
            try:
                self._lock(self._file)
                if not restart:
                    self._resume(self._file)
            except BaseException:
                self._file.close()
                raise

    def append(self, number: int, rows: list[Line], skipped: list[Line]) -> None:
        """Write one chunk; it is on disk when this returns."""
        line = _encode({"chunk": number, "rows": rows, "skipped": skipped})
        try:
            file = self._started()
            place = file.tell()
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            error.filename = error.filename or str(self.path)  # the error of a full disk names no file
            raise
        self.chunks.add(number, place)

    def begin(self) -> None:
        """Create the file, if there is none yet, so that no other process can begin the same work."""
        self._started().flush()

    def discard(self) -> None:
        """Close and remove the file, and its folder if nothing else lies in it: no other work goes on from here."""
        self.__exit__(None, None, None)
        self.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # other files lie there
            self.path.parent.rmdir()

    def _started(self) -> BinaryIO:
        """The file, which holds the plan at least."""
        if self._file is None:
            self._file = self._create()
        if not self._begun:
            self._file.seek(0)
            self._file.truncate()
            self._file.write(_encode({"plan": self._plan}))
            self._begun = True
        return self._file

    def _create(self) -> BinaryIO:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = self.path.open("x+b")
        except FileExistsError:  # another process has created it since this work began
            raise self._taken() from None
        try:
            self._lock(file)
        except XaiError:
            file.close()
            raise
        return file

    def _resume(self, file: BinaryIO) -> None:
        end = 0
        for number, line in enumerate(_lines(file)):
            entry = self._read(line, number)
            if entry is None:
                break
            if number == 0:
                self._check(entry)
            else:
                self.chunks.add(entry["chunk"], end)
            end += len(line)
        file.truncate(end)  # removes the unfinished line of a killed process
        file.seek(end)
        self._begun = end > 0

    def _read(self, line: bytes, number: int) -> Line | None:
        """A line's content; None for an unfinished line, which can only be the last one."""
        if not line.endswith(b"\n"):
            return None
        try:
            entry = json.loads(line)
            valid = {"plan": dict} if number == 0 else {"chunk": int, "rows": list, "skipped": list}
            if not isinstance(entry, dict) or {key: type(value) for key, value in entry.items()} != valid:
                raise ValueError
        except (ValueError, RecursionError):
            raise XaiError(
                f"{self.path}: line {number + 1} is damaged; give --overwrite to begin again, or another folder with -o"
            ) from None
        return entry

    def _check(self, entry: Line) -> None:
        different = [key for key in self._plan if entry["plan"].get(key) != self._plan[key]]
        # A journal of another version may have more keys.
        if different or set(entry["plan"]) != set(self._plan):
            what = ", ".join(different) or "format"
            raise XaiError(
                f"{self.path}: belongs to {self.kind} that differs in {what}; give --overwrite to begin again, or another "
                "folder with -o"
            )

    def _lock(self, file: BinaryIO) -> None:
        """Keep other processes from writing the same journal, if the system has such locks."""
        try:
            lock(file.fileno())
        except BlockingIOError:
            raise self._taken() from None

    def _taken(self) -> XaiError:
        other = f"another {self.kind.partition(' ')[2]}"
        return XaiError(f"{self.path}: {other} is writing there; wait for it, or give another folder with -o")

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # `append` has flushed everything, or has raised its error
                self._file.close()


def _lines(file: BinaryIO) -> Iterator[bytes]:
    file.seek(0)
    return iter(file.readline, b"")


def _encode(line: Line) -> bytes:
    # ASCII: no other character in a name can look like a line break, and a file name that is not UTF-8 survives as \u escapes
    return json.dumps(line, allow_nan=False).encode("ascii") + b"\n"
