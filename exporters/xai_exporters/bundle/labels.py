"""Class names from a text file, one a line."""

from __future__ import annotations

from pathlib import Path

from ..errors import RequestError


def read_labels(path: Path, classes: int) -> list[str]:
    """The labels, in the classes' order.

    Args:
        path: The text file, in UTF-8.
        classes: The number of classes.

    Raises:
        RequestError: The file can't be read, has another number of lines than there are classes, or an empty one.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")  # as the bundle is read
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: can't be read as text ({error})") from None
    if len(lines) != classes:
        raise RequestError(
            f"{path}: {len(lines)} labels for {classes} classes; one label a line, in the classes' order"
        )
    if not all(line.strip() for line in lines):
        raise RequestError(f"{path}: line {next(i for i, line in enumerate(lines, 1) if not line.strip())} is empty")
    return [line.strip() for line in lines]
