"""The image files of a folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ..errors import ImageFileError
from ..foundation.mistaken import ORDER, is_bundle
from .npy import is_npy
from .read import SUFFIXES


def image_files(root: Path, recursive: bool = True, apart: Iterable[Path] = (), volumes: bool = False) -> list[Path]:
    """The image files in a folder, in the order of their paths. Hidden files and folders are left out.

    Links to files are followed. Links to folders are not. If there is no image file, arrays (`.npy`) are the images.

    Args:
        root: The folder.
        recursive: Take its sub folders, too.
        apart: Folders to leave out, because their pictures are no images of the data set: masks, results.
        volumes: Arrays alone are looked for.

    Raises:
        ImageFileError: There is no such folder, it can't be read, or it holds no image file.
    """
    if not root.is_dir():
        raise ImageFileError(
            f"{root}: " + ("a file; give the folder of the images" if root.exists() else "no such folder")
        )

    def fail(error: OSError) -> None:
        raise ImageFileError(f"{error.filename}: can't be read ({error.strerror})")

    files, arrays = [], []
    left_out = {os.path.abspath(folder) for folder in apart}
    for folder, inside, names in os.walk(root, onerror=fail):
        inside[:] = [  # in place, so that os.walk does not enter the other folders
            name
            for name in inside
            if recursive and not name.startswith(".") and os.path.abspath(Path(folder, name)) not in left_out
        ]
        files += [Path(folder, name) for name in names if _is_image(name)]
        arrays += [Path(folder, name) for name in names if not name.startswith(".") and is_npy(Path(name))]
    files = arrays if volumes else files or arrays  # results of xai-explain lie beside pictures
    if not files and is_bundle(root):
        raise ImageFileError(f"{root}: is a bundle, not an image; {ORDER}")
    if not files:
        where = "in this folder or below it" if recursive else "directly in this folder"
        what = "no volumes (.npy)" if volumes else f"no image files ({', '.join(sorted(SUFFIXES))})"
        raise ImageFileError(f"{root}: {what} {where}")
    return sorted(files, key=lambda path: path.relative_to(root).as_posix())


def _is_image(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
