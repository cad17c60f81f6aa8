"""What --overwrite may replace beside bundles: a folder that xai-export wrote, as long as it holds nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ..errors import OutputError


def check_ours(folder: Path, listing: str, what: str, marks: Mapping[str, str] | None = None) -> None:
    """Refuse to replace a folder that xai-export did not write, or to which files were added since.

    Args:
        folder: An existing folder.
        listing: Name of the JSON file that lists the folder's other files under "files".
        what: What messages call the folder: "repository" or "page".
        marks: Further keys of that file and the values that it must have; with other values the folder is not ours.

    Raises:
        OutputError: The folder is not ours, or holds a file that is not.
    """
    try:
        if folder.is_symlink():  # a link is not ours, wherever it points
            raise ValueError
        about = json.loads((folder / listing).read_bytes())
        ours = all(about[key] == value for key, value in (marks or {}).items())
        files = {listing, *about["files"]} if ours else set()
    except (OSError, ValueError, KeyError, TypeError):
        raise OutputError(
            f"{folder}: exists and is not a {what} that xai-export wrote; --overwrite replaces only those"
        ) from None
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if name not in files and (file.is_symlink() or not file.is_dir()):
            raise OutputError(f"{folder}: holds {name!r}, which xai-export did not write; move it away first")
