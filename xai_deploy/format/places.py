"""Where results may be written: not into a bundle, and by default in a folder for each input."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import XaiError
from .bundle import MANIFEST


def require_folder(out: Path) -> None:
    """Refuse a folder for results that can't be one.

    Raises:
        XaiError: It is a file, or lies in a file or in a bundle.
    """
    for folder in (out, *out.parents):
        if folder.exists() and not folder.is_dir():
            raise XaiError(f"{folder}: is a file; give a folder for the results with -o")
    if (out / MANIFEST).is_file() or in_bundle(out):
        raise XaiError(f"{out}: lies in a bundle, which results would spoil; choose another folder with -o")


def in_bundle(path: Path) -> bool:
    """Whether a path lies in a bundle; a bundle does not lie in itself."""
    place = Path(os.path.abspath(path))  # "../results" does not lie in the present folder
    return any((folder / MANIFEST).is_file() for folder in place.parents)


def numbered(base: Path, inputs: Sequence[Path]) -> Iterator[Path]:
    """Folders for results whose user named none: named after the first input, then with the numbers 2, 3, ...

    Args:
        base: The folder in which they lie.
        inputs: The images, or folders of images.
    """
    first = inputs[0].resolve()
    name = (first.name if first.is_dir() else first.stem) or "root"
    name += f"-and-{len(inputs) - 1}-more" if len(inputs) > 1 else ""
    yield base / name
    yield from (base / f"{name}-{number}" for number in itertools.count(2))
