"""The files of weights beside a graph: a stranger's archive may hold links and sparse files in their place."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import SourceError

_LARGE = (
    1 << 29
)  # bytes from which a file is asked how much of it is stored; small ones may lie in the folder's own entry
_STORED = 8  # a file of zeros compresses to less than this part on some file systems, weights do not


def require_beside(shown: Path, graph: Path, weights: Path) -> Path:
    """The file of weights, which lies in the graph's folder, or is a link to the folder that the graph's own link leads to.

    Args:
        shown: The graph's path as the user names it.
        graph: The graph's file.
        weights: The file beside it.

    Raises:
        SourceError: It is missing or no plain file, lies elsewhere, or is sparse.
    """
    if not weights.is_file():
        raise SourceError(f"{shown}: its weights, {weights.name}, are missing; put the file beside it")
    if weights.resolve().parent not in (graph.parent.resolve(), graph.resolve().parent):
        raise SourceError(f"{shown}: {weights.name} is a link out of the folder; refused, put the file itself there")
    require_stored(weights, shown)
    return weights


def require_stored(path: Path, shown: Path) -> None:
    """Refuse a large file that is nearly all holes: it reads as gigabytes of zeros, and its size would explain any memory.

    Raises:
        SourceError: It is such a file.
    """
    facts = path.stat()
    stored = 512 * getattr(facts, "st_blocks", 0)  # Windows does not say it; no blocks at all: the file system does not
    if facts.st_size >= _LARGE and 0 < stored < facts.st_size // _STORED and os.name == "posix":
        raise SourceError(
            f"{shown}: {path.name} has {facts.st_size} bytes, of which the disk holds {stored} (a sparse file); refused, "
            "copy it again"
        )
