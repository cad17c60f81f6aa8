"""Text in pictures: wrapped to a width, never cut off."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..foundation.printable import printable
from ..images import opencv

Pixels = NDArray[np.uint8]

LINE = 18  # pixels from one line to the next
_LONGEST = 400  # characters; a longer text, as nobody writes it, loses its middle

# A line may end at a space and after these signs, but not within a number; or anywhere in a word that is wider than the line.
_ENDS = re.compile(r"(?<=[/_;:=+-])|(?<=[.,])(?!\d)|(?<= )(?! )|(?<! )(?= )")
NO_BREAK = "\u00a0"  # a space at which no line ends


class Ink(NamedTuple):
    """A kind of text."""

    size: int  # pixels
    weight: int  # 400 regular to 700 bold
    color: tuple[int, int, int]


TITLE = Ink(17, 700, (32, 33, 36))
HEAD = Ink(15, 600, (32, 33, 36))
TEXT = Ink(14, 500, (32, 33, 36))
NOTE = Ink(13, 400, (95, 99, 104))

Lines = Sequence[tuple[str, Ink]]


class Pen:
    """Writes text with OpenCV: with TrueType if OpenCV has it (version 5), else with its stroked letters (ASCII only)."""

    def __init__(self) -> None:
        self._cv2 = opencv()
        self._font = self._cv2.FontFace("sans") if hasattr(self._cv2, "FontFace") else None

    def block(self, columns: Sequence[tuple[int, Lines]], room: int, width: int, low: bool = False) -> Pixels:
        """A strip of a page, as high as its texts are.

        Args:
            columns: The left edge of each column, and its texts; each text begins a line.
            room: Pixels that a line may take.
            width: The width of the page.
            low: The last lines are at the same height, not the first.

        Returns:
            RGB [h,width,3], white where there is no text.
        """
        wrapped = [[(part, ink) for text, ink in lines for part in self.wrap(text, ink, room)] for _, lines in columns]
        count = max(map(len, wrapped), default=0)
        canvas = blank(count * LINE, width)
        for (left, _), lines in zip(columns, wrapped, strict=True):
            first = count - len(lines) if low else 0
            for number, (text, ink) in enumerate(lines, first):
                self._write(canvas, text, (left, number * LINE + 14), ink)
        return canvas

    def wrap(self, text: str, ink: Ink, room: int) -> list[str]:
        """The text in lines of at most `room` pixels; none if it is empty."""
        text = NO_BREAK.join(map(printable, text.split(NO_BREAK)))
        lines = self._wrapped(text, ink, room)
        return [line.replace(NO_BREAK, " ") for line in lines]

    def _wrapped(self, text: str, ink: Ink, room: int) -> list[str]:
        if self._font is None:
            ascii_only = (part.encode("ascii", "replace").decode() for part in text.split(NO_BREAK))
            text = NO_BREAK.join(ascii_only)  # the stroked letters
        if len(text) > _LONGEST:
            text = text[: _LONGEST // 2] + "..." + text[-_LONGEST // 2 :]
        lines: list[str] = []
        line = ""
        for piece in _ENDS.split(text):
            if self.width(line + piece.rstrip(), ink) <= room:
                line += piece
                continue
            if line.strip():
                lines.append(line.rstrip())
            line = piece.lstrip()
            while self.width(line, ink) > room and len(line) > 1:
                kept = next((n for n in range(len(line) - 1, 1, -1) if self.width(line[:n], ink) <= room), 1)
                lines.append(line[:kept])
                line = line[kept:]
        return [*lines, line.rstrip()] if line.strip() else lines

    def _write(self, canvas: Pixels, text: str, corner: tuple[int, int], ink: Ink) -> None:
        cv2 = self._cv2
        if self._font is not None:
            cv2.putText(canvas, text, corner, ink.color, self._font, ink.size, ink.weight)
        else:
            cv2.putText(canvas, text, corner, cv2.FONT_HERSHEY_SIMPLEX, ink.size / 32, ink.color, 1, cv2.LINE_AA)

    def width(self, text: str, ink: Ink) -> int:
        """Pixels that a line takes."""
        cv2 = self._cv2
        if self._font is not None:
            return int(cv2.getTextSize((0, 0), text, (0, 0), self._font, ink.size, ink.weight)[2])
        return int(cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, ink.size / 32, 1)[0][0])


def blank(height: int, width: int) -> Pixels:
    """White, RGB [height,width,3]."""
    return np.full((height, width, 3), 255, np.uint8)
