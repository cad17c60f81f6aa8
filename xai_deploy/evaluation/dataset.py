"""The image files of a data set: a folder and its sub folders."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..images import image_files


def find(
    root: Path,
    limit: int | None = None,
    seed: int = 0,
    apart: Iterable[Path] = (),
    recursive: bool = True,
    volumes: bool = False,
) -> tuple[Path, ...]:
    """The image files in a folder and below it, see `image_files`.

    Args:
        root: The folder.
        limit: Take this many of them, drawn at random; None takes all.
        seed: Seed of the random choice.
        apart: Folders to leave out.
        recursive: Take the folder's sub folders, too.
        volumes: The data set is made of volumes, `.npy` files.

    Raises:
        ImageFileError: There is no such folder, or it holds no image file.
    """
    files = image_files(root, recursive, apart, volumes)
    if limit is None or limit >= len(files):
        return tuple(files)
    # The list is sorted before the draw, so one seed always draws the same files, whatever order the file system gives.
    drawn = np.random.default_rng(seed).choice(len(files), limit, replace=False)
    return tuple(files[i] for i in sorted(drawn))
