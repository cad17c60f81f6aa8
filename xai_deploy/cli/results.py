"""The folder of results. A call writes into OUT/unfinished as it goes; all files move to OUT together, after the last one.

A journal in OUT/unfinished says which images are done, so that the same call goes on after an interruption.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
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

# The names of this command's files. An old report may list any name; only files with these names are deleted.
_OURS = re.compile(
    r"[^/\\\0]+--[^/\\\0]+\.(png|jpg|webp|npy)|contact-sheet(-\d+)?\.(png|jpg|webp)|report\.html", re.DOTALL
)
_FILES = ("overlay", "raw")


class Results:
    """The results of one call, or of an interrupted one that goes on. A context manager.

    Nothing is made until the first file is written. What was done before an error stays in OUT/unfinished.

    Args:
        out: The folder for the results.
        plan: Everything that the files depend on, as JSON. Only a call with the same plan goes on.
        overwrite: Replace finished results, and unfinished ones of another call.

    Attributes:
        earlier: What an interrupted call has done: one line per chunk of images, in order.

    Raises:
        XaiError: OUT is no place for results; it holds finished results, or unfinished ones of another call, and `overwrite` is not
            set; another process is writing there.
    """

    def __init__(self, out: Path, plan: Mapping[str, Any], overwrite: bool) -> None:
        require_folder(out)
        if (out / REPORT).exists() and not overwrite:
            raise XaiError(f"{out / REPORT}: exists; choose another folder with -o, or give --overwrite")
        self.out = out
        self.folder = out / UNFINISHED
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
        self._begin()
        self._since.append(name)
        try:
            (self.folder / name).write_bytes(data)
        except OSError as error:
            error.filename = error.filename or str(self.folder / name)  # the error of a full disk names no file
            raise

    def _begin(self) -> None:
        if self._begun:
            return
        self._made = [path for path in (self.out, *self.out.parents) if not path.exists()]
        self._journal.begin()  # from here on, no other process writes into this folder
        self._begun = True
        if not self.earlier:  # what lies there is of another call, which --overwrite replaces, or of no complete chunk
            for path in self.folder.iterdir():
                if path.name != _JOURNAL:
                    path.unlink()

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
        self._begin()
        self._journal.append(number, images, skipped)
        self._since = []

    def publish(self, report: bytes) -> None:
        """Remove the earlier results, then move the new ones to OUT, the report last: if it exists, the other files do."""
        self.write(REPORT, report)
        # `_listed` reads the old report before the loop removes it.
        for name in (REPORT, *_listed(self.out / REPORT)):
            (self.out / name).unlink(missing_ok=True)
        self._journal.__exit__(None, None, None)  # Windows moves no open file
        kept = {_JOURNAL, REPORT}
        for path in [*(p for p in sorted(self.folder.iterdir()) if p.name not in kept), self.folder / REPORT]:
            path.replace(self.out / path.name)
        shutil.rmtree(self.folder, ignore_errors=True)
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
        shutil.rmtree(self.folder, ignore_errors=True)  # nothing is done: nothing stays
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
        taken = (folder / REPORT).exists() or (folder / UNFINISHED).exists()
        try:
            return Results(folder, plan, overwrite)
        except XaiError:
            if not taken:
                raise
    raise AssertionError("the numbers of folders never end")


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
