"""The image files of a data set: a folder and its subfolders."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..errors import ImageFileError
from ..images import SUFFIXES


def find(root: Path, limit: int | None = None, seed: int = 0, apart: Iterable[Path] = ()) -> tuple[Path, ...]:
    """The image files below a folder, in the order of their paths. Links to files are followed, links to folders are not.

    Args:
        root: The folder.
        limit: Take this many of them, drawn at random; None takes all.
        seed: Seed of the random choice.
        apart: Folders to leave out, because their pictures are not images of the data set: masks, results.

    Raises:
        ImageFileError: There is no such folder, or it holds no image file.
    """
    if not root.is_dir():
        raise ImageFileError(
            f"{root}: " + ("a file; give the folder of the images" if root.exists() else "no such folder")
        )

    def fail(error: OSError) -> None:
        raise ImageFileError(f"{error.filename}: can't be read ({error.strerror})")

    found = []
    left_out = {os.path.abspath(folder) for folder in apart}
    for folder, inside, names in os.walk(root, onerror=fail):
        inside[:] = [  # in place, so that os.walk does not enter the other folders
            name for name in inside if not name.startswith(".") and os.path.abspath(Path(folder, name)) not in left_out
        ]
        found += [Path(folder, name) for name in names if _is_image(name)]
    if not found:
        raise ImageFileError(f"{root}: no image files in this folder or below it ({', '.join(sorted(SUFFIXES))})")
    found.sort(key=lambda path: path.relative_to(root).as_posix())
    if limit is None or limit >= len(found):
        return tuple(found)
    # The list is sorted before the draw, so one seed always draws the same files, whatever order the file system gives.
    drawn = np.random.default_rng(seed).choice(len(found), limit, replace=False)
    return tuple(found[i] for i in sorted(drawn))


def _is_image(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
