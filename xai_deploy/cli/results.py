"""The folder of results. A call writes into OUT/unfinished as it goes; all files move to OUT together, after the last one.

A journal in OUT/unfinished says which images are done, so that the same call goes on after an interruption.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import XaiError
from ..format.places import numbered, require_folder
from ..foundation.journal import Journal, Line

REPORT = "results.json"
UNFINISHED = "unfinished"
_JOURNAL = "journal.jsonl"
_PAGE = "report.html"

# The names of this command's files. An old report may list any name; only files with these names are deleted.
_CHARACTER = r"[^/\0]" if os.sep == "/" else r"[^/\\\0]"  # of a name; it may hold a backslash if that parts no folders
_OURS = re.compile(
    rf"{_CHARACTER}+--{_CHARACTER}+\.(png|jpg|webp|npy)|contact-sheet(-\d+)?\.(png|jpg|webp)|report\.html", re.DOTALL
)
_FILES = ("overlay", "raw")


class Results:
    """The results of one call, or of an interrupted one that goes on. A context manager.

    Nothing is made until the first file is written, or `begin` is called. What was done before an error stays in OUT/unfinished.
    Only this command's own files are moved or deleted.

    Args:
        out: The folder for the results.
        plan: Everything that the files depend on, as JSON. Only a call with the same plan goes on.
        overwrite: Replace finished results, and unfinished ones of another call.

    Attributes:
        earlier: What an interrupted call has done: one line per chunk of images, in order.

    Raises:
        XaiError: OUT is no place for results; it holds finished results, or unfinished ones of another call, and `overwrite` is not
            set; OUT/unfinished holds other files; another process is writing there.
    """

    def __init__(self, out: Path, plan: Mapping[str, Any], overwrite: bool) -> None:
        require_folder(out)
        self.out, self._overwrite = out, overwrite
        self._refuse_finished()
        self.folder = out / UNFINISHED
        if self.folder.exists() and not _holds_results(self.folder):
            raise XaiError(
                f"{self.folder}: holds no unfinished results, which would lie there; choose another folder with -o"
            )
        page = (
            out / _PAGE
        )  # of another command, or the user's: no report says that it is ours, and no call that may have moved it
        if page.exists() and not overwrite and not (self.folder / _JOURNAL).exists():
            raise XaiError(f"{page}: exists; choose another folder with -o, or give --overwrite")
        self._made: list[Path] = []  # folders that this call has made, innermost first: the order to remove them in
        self._since: list[str] = []  # files written since the last chunk was complete
        self._begun = False
        try:
            self._journal = Journal(self.folder / _JOURNAL, plan, kind="a call")
        except XaiError:
            if not overwrite:
                raise
            self._journal = Journal(self.folder / _JOURNAL, plan, restart=True, kind="a call")
        self.earlier = [self._journal.chunks[number] for number in sorted(self._journal.chunks)]

    def write(self, name: str, data: bytes) -> None:
        """Write one file.

        Raises:
            OSError: It can't be written; `filename` is the file.
        """
        self.begin()
        self._since.append(name)
        try:
            (self.folder / name).write_bytes(data)
        except OSError as error:
            error.filename = error.filename or str(self.folder / name)  # the error of a full disk names no file
            raise

    def begin(self) -> None:
        """Keep other processes from writing into this folder.

        Raises:
            XaiError: Another process does, or has finished its results there since this call began.
        """
        if self._begun:
            return
        self._refuse_finished()
        self._made = [path for path in (self.out, *self.out.parents) if not path.exists()]
        self._journal.begin()
        self._begun = True
        if not self.earlier:  # what lies there is of another call, which --overwrite replaces, or of no complete chunk
            for path in _ours(self.folder):
                path.unlink()

    def _refuse_finished(self) -> None:
        if (self.out / REPORT).exists() and not self._overwrite:
            raise XaiError(f"{self.out / REPORT}: exists; choose another folder with -o, or give --overwrite")

    def _remove_folder(self) -> None:
        """Remove OUT/unfinished, but for files that are not of this command."""
        self._journal.__exit__(None, None, None)  # Windows removes no open file
        with contextlib.suppress(OSError):
            for path in (*_ours(self.folder), self.folder / _JOURNAL):
                path.unlink()
            self.folder.rmdir()

    def read(self, name: str) -> bytes:
        """A file that an interrupted call has written.

        Raises:
            OSError: It can't be read.
        """
        moved = self.out / name  # the call was interrupted while it moved the files
        return (moved if not (self.folder / name).exists() and moved.exists() else self.folder / name).read_bytes()

    def done(self, number: int, images: list[Line], skipped: list[Line]) -> None:
        """Say that a chunk is complete: it is not done again.

        Args:
            number: How many images came before it.
            images: What the report will say of its images.
            skipped: The images that could not be read.
        """
        self.begin()
        self._journal.append(number, images, skipped)
        self._since = []

    def publish(self, report: bytes) -> None:
        """Remove the earlier results, then move the new ones to OUT, the report last: if it exists, the other files do."""
        self.write(REPORT, report)
        # `_listed` reads the old report before the loop removes it. It may be the report of an earlier part of this call, which was
        # killed when it had moved all but the journal.
        old = set(_listed(self.out / REPORT)) - set(_listed(self.folder / REPORT) if self.earlier else ())
        for name in (REPORT, *sorted(old)):
            (self.out / name).unlink(missing_ok=True)
        for path in sorted(_ours(self.folder), key=lambda path: path.name == REPORT):
            path.replace(self.out / path.name)
        self._remove_folder()
        self._begun = False  # published: OUT stays

    def __enter__(self) -> Results:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._journal.__exit__(kind, error, at)
        if not self._begun:
            return
        for name in self._since:
            (self.folder / name).unlink(missing_ok=True)
        if any(chunk["rows"] for chunk in self._journal.chunks.values()):
            return
        self._remove_folder()  # nothing is done: nothing stays
        for folder in self._made:
            with contextlib.suppress(OSError):
                folder.rmdir()  # fails, as it should, if something else is in it


def open_results(
    out: str | None, base: Path, inputs: Sequence[str], plan: Mapping[str, Any], overwrite: bool
) -> Results:
    """The results of a call whose user may have named no folder for them.

    Without a name they lie in BASE, in a folder named after the first input. It gets a number if the folder holds the results of
    another call, finished or not.

    Args:
        out: The folder that the user named, or None.
        base: The folder of all results without a name.
        inputs: The images and folders on the command line.
        plan, overwrite: See `Results`.

    Raises:
        XaiError: See `Results`.
    """
    if out is not None:
        return Results(Path(out), plan, overwrite)
    for folder in numbered(base, [Path(path) for path in inputs]):
        try:
            results = Results(folder, plan, overwrite)
            results.begin()  # now, so that of two calls at a time the second takes the next number
            return results
        except XaiError:
            if not ((folder / REPORT).exists() or (folder / UNFINISHED).exists()):
                raise
    raise AssertionError("the numbers of folders never end")


def _ours(folder: Path) -> list[Path]:
    """The files of this command in a folder, without the journal."""
    return [path for path in sorted(folder.iterdir()) if path.name == REPORT or _OURS.fullmatch(path.name)]


def _holds_results(folder: Path) -> bool:
    """Whether a folder is empty or has the journal of unfinished results: a user's own folder may have the same name."""
    return folder.is_dir() and ((folder / _JOURNAL).exists() or not any(folder.iterdir()))


def _listed(report: Path) -> list[str]:
    """The files of this command that a report lists; none if the report can't be read."""
    names: list[Any] = []
    try:
        document = json.loads(report.read_bytes())
        names += [*document["contact_sheets"], document.get("report")]
        names += [entry[key] for image in document["images"] for entry in image["explanations"] for key in _FILES]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    return [name for name in names if isinstance(name, str) and _OURS.fullmatch(name)]
