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
    place = Path(os.path.abspath(out))  # "../results" does not lie in the present folder
    if any((folder / MANIFEST).is_file() for folder in (place, *place.parents)):
        raise XaiError(f"{out}: lies in a bundle, which results would spoil; choose another folder with -o")


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
