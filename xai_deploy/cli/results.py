"""The folder of results: a call's files appear in it together when all are written, or not at all."""

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

# What this command names its files; an old report may list anything, and nothing else of what it lists is deleted.
_OURS = re.compile(r"[^/\\\0]+--[^/\\\0]+\.(png|npy)|contact-sheet(-\d+)?\.png", re.DOTALL)


class Results:
    """Collects files in a hidden folder inside OUT, whose contents `publish` moves to OUT.

    As a context manager it removes whatever has not been published.

    Args:
        out: The folder for the results; made when the first file is written.
        overwrite: Replace the results of an earlier call.

    Raises:
        XaiError: There are results already, and they are not to be replaced.
    """

    def __init__(self, out: Path, overwrite: bool) -> None:
        self.out = out
        self._staging: Path | None = None
        self._made: list[Path] = []  # folders, innermost first
        if (out / REPORT).exists() and not overwrite:
            raise XaiError(f"{out / REPORT}: exists; choose another folder with -o, or give --overwrite")

    def write(self, name: str, data: bytes) -> None:
        """Write one file."""
        if self._staging is None:
            self._made = [folder for folder in (self.out, *self.out.parents) if not folder.exists()]
            self.out.mkdir(parents=True, exist_ok=True)
            self._staging = Path(tempfile.mkdtemp(prefix=".part-", dir=self.out))
        (self._staging / name).write_bytes(data)

    def publish(self, report: bytes) -> None:
        """Remove the earlier results and put the new ones, and last of all the report, in their place."""
        self.write(REPORT, report)
        assert self._staging is not None
        for name in (REPORT, *_listed(self.out / REPORT)):
            (self.out / name).unlink(missing_ok=True)
        moved: list[Path] = []
        try:
            for path in sorted(self._staging.iterdir(), key=lambda path: path.name == REPORT):
                moved.append(path.replace(self.out / path.name))
        except BaseException:
            for path in moved:
                path.unlink(missing_ok=True)
            raise
        self._made = []

    def __enter__(self) -> Results:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._staging is not None:
            shutil.rmtree(self._staging, ignore_errors=True)
        for folder in self._made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _listed(report: Path) -> list[str]:
    """The files of ours that a report lists; none where it can't be read."""
    names: list[Any] = []
    try:
        document = json.loads(report.read_bytes())
        names += document["contact_sheets"]
        names += [entry[key] for image in document["images"] for entry in image["explanations"] for key in _FILES]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    return [name for name in names if isinstance(name, str) and _OURS.fullmatch(name)]


_FILES = ("overlay", "raw")
