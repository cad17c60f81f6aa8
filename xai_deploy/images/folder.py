"""The image files of a folder, or of an archive."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ..errors import ImageFileError
from ..foundation.mistaken import ORDER, is_bundle
from ..foundation.paths import path_of
from .archive import is_archive, is_named_so, opened
from .npy import is_npy
from .read import SUFFIXES


def image_files(
    root: str | os.PathLike[str], recursive: bool = True, apart: Iterable[Path] = (), volumes: bool = False
) -> list[Path]:
    """The image files in a folder, in the order of their paths. Hidden files and folders are left out.

    Links to files are followed. Links to folders are not. If there is no image file, the images in archives are taken (see
    `archive`), and if there is none, arrays (`.npy`) are the images.

    Args:
        root: The folder, or an archive.
        recursive: Take its sub folders, too.
        apart: Folders to leave out, because their pictures are no images of the data set: masks, results.
        volumes: Arrays alone are looked for.

    Raises:
        ImageFileError: There is no such folder, it can't be read, or it holds no image file.
    """
    root = path_of(root, "the images' folder", ImageFileError)
    if is_archive(root):
        return _inside(root)
    if not root.is_dir():
        raise ImageFileError(
            f"{root}: " + ("a file; give the folder of the images" if root.exists() else "no such folder")
        )

    def fail(error: OSError) -> None:
        raise ImageFileError(f"{error.filename}: can't be read ({error.strerror})")

    files, arrays, archives = [], [], []
    left_out = {os.path.abspath(folder) for folder in apart}
    for folder, inside, names in os.walk(root, onerror=fail):
        inside[:] = [  # in place, so that os.walk does not enter the other folders
            name
            for name in inside
            if recursive and not name.startswith(".") and os.path.abspath(Path(folder, name)) not in left_out
        ]
        files += [Path(folder, name) for name in names if _is_image(name)]
        arrays += [Path(folder, name) for name in names if not name.startswith(".") and is_npy(Path(name))]
        archives += [path for name in names if not name.startswith(".") and is_named_so(path := Path(folder, name))]
    archives = [path for path in archives if os.path.abspath(path) not in left_out]
    if archives and not (files or volumes):
        return [image for one in sorted(archives) for image in _inside(one)]
    files = arrays if volumes else files or arrays  # results of xai-explain lie beside pictures
    if not files and is_bundle(root):
        raise ImageFileError(f"{root}: is a bundle, not an image; {ORDER}")
    if not files:
        where = "in this folder or below it" if recursive else "directly in this folder"
        what = "no volumes (.npy)" if volumes else f"no image files ({', '.join(sorted(SUFFIXES))})"
        raise ImageFileError(f"{root}: {what} {where}")
    return sorted(files, key=lambda path: path.relative_to(root).as_posix())


def _inside(archive: Path) -> list[Path]:
    """The images of an archive, in its own order: that of reading."""
    if not (names := opened(archive).images):
        raise ImageFileError(f"{archive}: holds no images")
    return [archive / name for name in names]


def _is_image(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
