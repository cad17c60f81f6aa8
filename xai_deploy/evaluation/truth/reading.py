"""What the formats share: reading files up to a size limit, checking numbers, and messages of one line."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from ...errors import TruthError
from ...foundation import options

_FILE_LIMIT = 1 << 30  # bytes; COCO's largest file has 0.5 GB
_SLACK = 0.01  # share of a side, for rounding and for objects annotated slightly outside the border
_SHOWN = 60  # characters of a value that a message repeats


def files_in(folder: Path) -> tuple[Path, ...]:
    """The files anywhere in a folder, sorted, without hidden files and files in hidden folders.

    Raises:
        TruthError: A folder can't be read.
    """

    def refuse(error: OSError) -> NoReturn:
        raise TruthError(f"{error.filename}: can't be read ({error.strerror})")

    paths = []
    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [Path(parent, name) for name in files if not name.startswith(".")]
    return tuple(sorted(paths))


def read_text(path: Path, limit: int = _FILE_LIMIT) -> str:
    """The text of a UTF-8 file, with or without a byte order mark.

    Raises:
        TruthError: The file is missing, larger than `limit` bytes, or not UTF-8.
    """
    try:
        if not path.is_file():
            raise TruthError(f"{path}: " + ("not a plain file" if path.exists() else "no such file or folder"))
        if path.stat().st_size > limit:
            raise TruthError(f"{path}: the file is larger than {limit >> 20} MiB; split it")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise TruthError(f"{path}: can't be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise TruthError(f"{path}: not UTF-8 text at byte {error.start}; save it as UTF-8") from None


def check_size(annotated: tuple[int, int], of_image: tuple[int, int], where: str, image: Path) -> None:
    """Refuse an annotation if the annotated image had another (height, width).

    Raises:
        TruthError: The sizes differ.
    """
    if annotated == of_image:
        return
    sizes = f"{annotated[1]} x {annotated[0]} pixels, but {image} has {of_image[1]} x {of_image[0]}"
    if annotated == of_image[::-1]:  # height and width swapped
        raise TruthError(
            f"{where}: for {sizes} upright; it was annotated without the rotation in the image's EXIF data; "
            "save the image upright and annotate that"
        )
    raise TruthError(f"{where}: for {sizes}; give the images that were annotated")


def number(value: object, where: str) -> float:
    """A finite number, from a number or its text.

    Raises:
        TruthError: It is not one.
    """
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)) or "_" in str(value):
            raise ValueError  # Python reads "1_0" as 10, and a bool as a number
        result = float(value)
    except (ValueError, OverflowError):  # OverflowError: an integer too large for a float
        raise TruthError(f"{where}: {quoted(value)} is not a number; correct it") from None
    if not math.isfinite(result):
        raise TruthError(f"{where}: {quoted(value)} is not finite; correct it")
    return result


def fraction(value: float, where: str) -> float:
    """The value, if it is a fraction of an image's side; up to `_SLACK` outside 0 to 1 is accepted, and cut later.

    Raises:
        TruthError: It is not one.
    """
    if not -_SLACK <= value <= 1 + _SLACK:
        raise TruthError(
            f"{where}: {value:g} is not a fraction of the image, 0 to 1; divide pixels by its width or height"
        )
    return value


def whole(text: str) -> int | None:
    """The number of a text of up to 9 digits without leading zeros; None for any other text."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 and str(int(text)) == text else None


def quoted(value: object) -> str:
    """A value from a file, shortened and on one line, for a message."""
    return options.quoted(value, _SHOWN) if isinstance(value, (str, int, float, type(None))) else type(value).__name__


def counted(problems: Iterable[tuple[int, str]], path: Path) -> tuple[str, ...]:
    """The problems with a count above 0, as messages: "path: 3 crowd regions skipped"."""
    return tuple(f"{path}: {count} {what}" for count, what in problems if count)
