"""The journal of an evaluation: one line per chunk of images, on disk as soon as it is measured, so that an evaluation that
was killed goes on where it stopped. The first line says what is measured; only the same evaluation may go on."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from ..errors import XaiError
from ..foundation.whole_files import lock

Line = dict[str, Any]


class Journal:
    """Opens or begins a journal; a context manager.

    Args:
        path: The file; it appears with the first chunk.
        plan: What is measured, as JSON; everything that its figures depend on.
        anew: Begin anew; what the file holds is lost with the first chunk, not before.

    Attributes:
        chunks: The chunks that are done, by number.

    Raises:
        XaiError: The journal is of another evaluation, is damaged, or is being written by another process.
    """

    def __init__(self, path: Path, plan: Mapping[str, Any], anew: bool = False) -> None:
        self.path = path
        self.chunks: dict[int, Line] = {}
        self._plan = json.loads(json.dumps(plan))
        self._file: BinaryIO | None = None
        self._begun = False  # the file holds the plan
        if path.exists():
            self._file = path.open("r+b")
            try:
                _lock(self._file, path)
                if not anew:
                    self._resume(self._file)
            except BaseException:
                self._file.close()
                raise

    def append(self, number: int, rows: list[Line], skipped: list[Line]) -> None:
        """Write one chunk; it is on the disk when this returns."""
        line = _encode({"chunk": number, "rows": rows, "skipped": skipped})
        try:
            if self._file is None:
                self._file = self._create()
            if not self._begun:
                self._file.seek(0)
                self._file.truncate()
                self._file.write(_encode({"plan": self._plan}))
                self._begun = True
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            error.filename = error.filename or str(self.path)  # a full disk does not say which
            raise
        self.chunks[number] = json.loads(line)

    def _create(self) -> BinaryIO:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = self.path.open("x+b")
        except FileExistsError:  # it was not there when this evaluation began
            raise _taken(self.path) from None
        try:
            _lock(file, self.path)
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
                self.chunks[entry["chunk"]] = entry
            end += len(line)
        file.truncate(end)  # the line that was being written when it was killed
        file.seek(end)
        self._begun = end > 0

    def _read(self, line: bytes, number: int) -> Line | None:
        """A line's content; None for one that was not finished, which can only be the last."""
        if not line.endswith(b"\n"):
            return None
        try:
            entry = json.loads(line)
            valid = {"plan": dict} if number == 0 else {"chunk": int, "rows": list, "skipped": list}
            if not isinstance(entry, dict) or {key: type(value) for key, value in entry.items()} != valid:
                raise ValueError
        except (ValueError, RecursionError):
            raise XaiError(
                f"{self.path}: line {number + 1} is damaged; give --overwrite to begin anew, or another folder with -o"
            ) from None
        return entry

    def _check(self, entry: Line) -> None:
        different = [key for key in self._plan if entry["plan"].get(key) != self._plan[key]]
        if different or set(entry["plan"]) != set(self._plan):
            what = ", ".join(different) or "format"
            raise XaiError(
                f"{self.path}: of an evaluation that differs in {what}; give --overwrite to begin anew, or another "
                "folder with -o"
            )

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # `append` has written everything, or has said why not
                self._file.close()


def _lines(file: BinaryIO) -> Iterator[bytes]:
    file.seek(0)
    return iter(file.readline, b"")


def _encode(line: Line) -> bytes:
    # ASCII, so that a line's end is a line's end, and a file name that is not UTF-8 survives
    return json.dumps(line, allow_nan=False).encode("ascii") + b"\n"


def _lock(file: BinaryIO, path: Path) -> None:
    """Keep other processes from writing the same journal, where the system can."""
    try:
        lock(file.fileno())
    except BlockingIOError:
        raise _taken(path) from None


def _taken(path: Path) -> XaiError:
    return XaiError(f"{path}: another evaluation is writing there; wait for it, or give another folder with -o")
