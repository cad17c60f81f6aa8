"""The folder of results: the files of a call appear in it together after all are written, or not at all."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import XaiError

REPORT = "results.json"

# The names of this command's files. An old report may list any name; only files with these names are deleted.
_OURS = re.compile(r"[^/\\\0]+--[^/\\\0]+\.(png|npy)|contact-sheet(-\d+)?\.png", re.DOTALL)


class Results:
    """Collects files in a hidden folder inside OUT; `publish` moves them to OUT.

    As a context manager it removes, at the end, everything that was not published.

    Args:
        out: The folder for the results; it is made when the first file is written.
        overwrite: Replace the results of an earlier call.

    Raises:
        XaiError: OUT holds results already, and `overwrite` is not set.
    """

    def __init__(self, out: Path, overwrite: bool) -> None:
        self.out = out
        self._staging: Path | None = None
        self._made: list[Path] = []  # folders that this call has made, innermost first: the order to remove them in
        if (out / REPORT).exists() and not overwrite:
            raise XaiError(f"{out / REPORT}: exists; choose another folder with -o, or give --overwrite")

    def write(self, name: str, data: bytes) -> None:
        """Write one file."""
        if self._staging is None:
            self._made = [folder for folder in (self.out, *self.out.parents) if not folder.exists()]
            self.out.mkdir(parents=True, exist_ok=True)
            # Inside OUT, so on the same file system: `replace` then only renames.
            self._staging = Path(tempfile.mkdtemp(prefix=".part-", dir=self.out))
        (self._staging / name).write_bytes(data)

    def publish(self, report: bytes) -> None:
        """Remove the earlier results, then move the new ones to OUT, the report last.

        If a move fails, the files moved so far are removed."""
        self.write(REPORT, report)
        assert self._staging is not None
        # `_listed` reads the old report before the loop removes it.
        for name in (REPORT, *_listed(self.out / REPORT)):
            (self.out / name).unlink(missing_ok=True)
        moved: list[Path] = []
        try:
            # False sorts before True, so the report is last: if it exists, the other files do.
            for path in sorted(self._staging.iterdir(), key=lambda path: path.name == REPORT):
                moved.append(path.replace(self.out / path.name))
        except BaseException:
            for path in moved:
                path.unlink(missing_ok=True)
            raise
        self._made = []  # published: OUT stays

    def __enter__(self) -> Results:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._staging is not None:
            shutil.rmtree(self._staging, ignore_errors=True)
        for folder in self._made:
            with contextlib.suppress(OSError):
                folder.rmdir()  # fails, as it should, if something else is in it


def _listed(report: Path) -> list[str]:
    """The files of this command that a report lists; none if the report can't be read."""
    names: list[Any] = []
    try:
        document = json.loads(report.read_bytes())
        names += document["contact_sheets"]
        names += [entry[key] for image in document["images"] for entry in image["explanations"] for key in _FILES]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    return [name for name in names if isinstance(name, str) and _OURS.fullmatch(name)]


_FILES = ("overlay", "raw")
