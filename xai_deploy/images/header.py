"""What the header of an image file tells, in every format."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

PIECES = 1_000_000
"""Chunks, segments or blocks of one file that are looked at; a file that has more is made to keep us busy."""


class Incomplete(Exception):
    """The file ends too early, or is not laid out as its format says."""


class Unsupported(Exception):
    """The file is in order, but holds what is not read; the text says what, and what to do."""


@dataclass(frozen=True)
class Header:
    """What is known of an image before it is decoded.

    Attributes:
        width: Pixels in a row, as stored.
        height: Rows, as stored.
        bits: Bits of one value.
        kind: What a value is.
        alpha: Whether some pixel may be transparent.
        colours_below: Whether OpenCV keeps the colours of transparent pixels as they are.
        turns: Whether EXIF, or the like, may exchange width and height.
        orientation: How the picture is turned, 1 to 8 as in EXIF, where that is not left to OpenCV.
        check: Judges the rest of the file, once the size is allowed; raises as the parser does.
        stripped: The file without what is dangerous and not needed; None: the file as it is.
    """

    width: int
    height: int
    bits: int = 8
    kind: Literal["uint", "int", "float"] = "uint"
    alpha: bool = False
    colours_below: bool = True
    turns: bool = False
    stripped: bytes | None = None
    orientation: int | None = None
    check: Callable[[], None] = lambda: None


def pieces(times: int = 1) -> Iterator[int]:
    """0, 1, ...: to count the pieces of a file with, up to `times` the limit.

    Raises:
        Incomplete: There are more than any honest file has.
    """
    yield from itertools.islice(itertools.count(), times * PIECES)
    raise Incomplete
