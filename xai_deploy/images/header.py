"""The contents of an image file's header, in one form for every format.

A format's parser takes the file's bytes and returns a `Header`. It raises `Incomplete`, `Unsupported`, or, if the bytes end before
the field that it reads, struct.error or IndexError.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

PIECES = 1_000_000
"""The most chunks, segments or blocks of one file. A file with more was made to keep its reader busy."""


class Incomplete(Exception):
    """The file ends too early, or is not laid out as its format says."""


class Unsupported(Exception):
    """The file is intact, but of a kind that is not read. The message names the kind, and says what to do."""


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
        turns: Whether OpenCV may exchange width and height, as EXIF or the like says.
        stripped: The file without parts that are dangerous and not needed; None: the file as it is.
        orientation: How the picture is turned, 1 to 8 as in EXIF; None: OpenCV turns it.
        levels: Bits of blue, green and red that OpenCV only shifts up to 8, so that white is 248; None: it gives all 8.
        check: Checks the rest of the file after the size has been allowed; raises as the parser does.
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
    levels: tuple[int, int, int] | None = None
    check: Callable[[], None] = lambda: None

    @property
    def deep(self) -> bool:
        """Whether the type of the values leaves open what is black and what is white."""
        return self.kind != "uint" or self.bits > 16


def pieces(times: int = 1) -> Iterator[int]:
    """Count the pieces of a file from 0, up to `times` the limit.

    Raises:
        Incomplete: The file has more pieces.
    """
    yield from itertools.islice(itertools.count(), times * PIECES)
    raise Incomplete
