"""Archives: single files that hold many images, as a data set's shards do. An image in one has the path ARCHIVE/NAME.

So it is named, listed, matched with annotations and read as a file in a folder is. Nothing is unpacked: a name in an archive never
becomes a path of the file system. An entry that can't be read is listed, too, and the reason is raised when it is read.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

from ..errors import ImageFileError

Label: TypeAlias = int | str

FILE_LIMIT = 1 << 30  # bytes of one image, in an archive or not


class Archive(Protocol):
    """An opened archive. Its index is in memory, its contents are not."""

    @property
    def images(self) -> Sequence[str]:
        """The names of its images, in the archive's order."""
        ...

    @property
    def masks(self) -> Mapping[str, str]:
        """The names of its masks, by the images' names without their endings."""
        ...

    def read(self, name: str) -> bytes:
        """The bytes of an image or a mask.

        Raises:
            ImageFileError: There is no such entry, or it can't be read.
        """
        ...

    def label(self, name: str) -> Label | None:
        """The class that the archive gives for an image, an index or a text; None if it gives none.

        Raises:
            ImageFileError: It can't be read.
        """
        ...


def _tar(path: Path) -> Archive:
    from .tar import Tar  # late, as below: few images lie in archives

    return Tar(path)


def _parquet(path: Path) -> Archive:
    from .parquet import Parquet

    return Parquet(path)


_KINDS: Mapping[str, Callable[[Path], Archive]] = {".tar": _tar, ".parquet": _parquet}
_COMPRESSED = re.compile(r"\.(tar\.\w+|tgz|tbz2?|txz)", re.IGNORECASE)
_OPEN = 4  # archives whose indices are in memory at a time


def is_archive(path: Path) -> bool:
    """Whether a file is an archive, by its name.

    Raises:
        ImageFileError: It is a compressed tar file, in which nothing can be found without reading all before it.
    """
    if is_named_so(path):
        return path.is_file()
    if _COMPRESSED.fullmatch("".join(path.suffixes[-2:])) or _COMPRESSED.fullmatch(path.suffix):
        raise ImageFileError(
            f"{path}: is a compressed tar file; decompress it to .tar (its images are compressed already)"
        )
    return False


def is_named_so(path: Path) -> bool:
    """Whether a path has the name of an archive."""
    return path.suffix.lower() in _KINDS


def archives(path: Path) -> list[Path]:
    """An archive itself, or the archives anywhere in a folder, in the order of their paths; hidden ones are left out."""
    if not path.is_dir():
        return [path] if is_archive(path) else []
    there = []
    for folder, inside, names in os.walk(path):
        inside[:] = [name for name in inside if not name.startswith(".")]
        there += [one for name in names if not name.startswith(".") and is_named_so(one := Path(folder, name))]
    return sorted(there)


def split(path: Path) -> tuple[Path, str] | None:
    """The archive and the name in it that a path stands for; None if no folder of the path is an archive."""
    for folder in path.parents:
        if is_named_so(folder) and folder.is_file():
            return folder, path.relative_to(folder).as_posix()
    return None


def label_of(path: Path) -> Label | None:
    """The class that an image's archive gives for it; None if it gives none, or if the image is a file of its own.

    Raises:
        ImageFileError: It can't be read.
    """
    inside = split(path)
    return None if inside is None else opened(inside[0]).label(inside[1])


def opened(path: Path) -> Archive:
    """An archive; a few stay open.

    Raises:
        ImageFileError: It can't be read, or is damaged.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ImageFileError(f"{path}: can't be read ({error.strerror})") from None
    return _opened(os.path.abspath(path), path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(_OPEN)
def _opened(place: str, path: Path, size: int, changed: int) -> Archive:
    return _KINDS[path.suffix.lower()](path)


def state(path: Path) -> list[int]:
    """Size and time of the last change of a file, or of the archive that it lies in; empty if it can't be read."""
    inside = split(path)
    try:
        status = (path if inside is None else inside[0]).stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]
