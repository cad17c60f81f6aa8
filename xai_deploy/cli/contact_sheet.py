"""A contact sheet: one row per image, one column per method and target; each page is written when its rows are complete."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..foundation.exits import printable
from ..images import opencv

Pixels = NDArray[np.uint8]

TILE = 224  # pixels, width and height of the box that a picture is fitted into
_GAP = 16
_MARGIN = 24
_HEADING = 56  # pixels, for two lines above the columns
_CAPTION = 48  # pixels, for two lines below a tile
_ROWS = 12  # rows per page; the rows of one page are kept in memory
_COLUMNS = 24  # columns per sheet; nobody compares more at a glance, and a page must have a largest size

_FRAME = (222, 224, 227)


class _Style(NamedTuple):
    size: int  # pixels
    weight: int  # 400 regular to 700 bold
    ink: tuple[int, int, int]


_TITLE = _Style(17, 700, (32, 33, 36))
_HEAD = _Style(15, 600, (32, 33, 36))
_TEXT = _Style(14, 500, (32, 33, 36))
_NOTE = _Style(13, 400, (95, 99, 104))


@dataclass(frozen=True)
class Tile:
    """One picture of a row.

    Attributes:
        picture: RGB [h,w,3] uint8, at most `TILE` on either side.
        caption: First line below the picture.
        note: Second line, in grey.
    """

    picture: Pixels
    caption: str
    note: str = ""


class ContactSheet:
    """Collects rows and writes a page whenever it is full.

    Args:
        path: File of the first page; the other pages get "-2", "-3" ... before the ending.
        title: Title line of every page.
        write: Writes an RGB picture to a path.

    Attributes:
        pages: The files written so far.
    """

    def __init__(self, path: Path, title: str, write: Callable[[Path, Pixels], None]) -> None:
        self.pages: list[Path] = []
        self._path, self._title, self._write = path, title, write
        self._pen = _Pen()
        self._headings: list[str] = []
        self._rows: list[Pixels] = []

    @staticmethod
    def fits(columns: int) -> bool:
        """Whether a sheet shows this many columns; `add` leaves out those after the last that it shows."""
        return columns <= _COLUMNS

    def add(self, headings: Sequence[str], row: Sequence[Tile]) -> None:
        """Add a row. The headings, "title" or "title|subtitle", are the same for every row."""
        self._headings = list(headings[:_COLUMNS])
        self._rows.append(self._draw(row[:_COLUMNS]))
        if len(self._rows) == _ROWS:
            self.flush()

    def flush(self) -> None:
        """Write the rows collected since the last page."""
        if not self._rows:
            return
        head = _blank(_MARGIN + 32 + _HEADING, self._rows[0].shape[1])
        self._pen.write(head, self._title, (_MARGIN, _MARGIN + 14), _TITLE, head.shape[1] - 2 * _MARGIN)
        for column, heading in enumerate(self._headings):
            left = _MARGIN + column * (TILE + _GAP)
            title, _, subtitle = heading.partition("|")
            self._pen.write(head, title, (left, _MARGIN + 52), _HEAD, TILE)
            self._pen.write(head, subtitle, (left, _MARGIN + 72), _NOTE, TILE)
        number = len(self.pages) + 1
        path = self._path if number == 1 else self._path.with_stem(f"{self._path.stem}-{number}")
        # Each row ends with _GAP; the rest of the bottom margin follows the last one.
        self._write(path, np.concatenate([head, *self._rows, _blank(_MARGIN - _GAP, head.shape[1])]))
        self.pages.append(path)
        self._rows.clear()

    def _draw(self, row: Sequence[Tile]) -> Pixels:
        tallest = max(tile.picture.shape[0] for tile in row)
        # There is a gap between tiles, but none after the last; each row has the height of its tallest picture.
        canvas = _blank(tallest + _CAPTION + _GAP, 2 * _MARGIN + len(row) * (TILE + _GAP) - _GAP)
        for column, tile in enumerate(row):
            left = _MARGIN + column * (TILE + _GAP)
            height, width = tile.picture.shape[:2]
            y, x = (
                tallest - height,
                left + (TILE - width) // 2,
            )  # at the bottom of the row, so that picture and caption are next to each other
            canvas[y : y + height, x : x + width] = tile.picture
            _frame(canvas, y, x, height, width)
            self._pen.write(canvas, tile.caption, (left, tallest + 20), _TEXT, TILE)
            self._pen.write(canvas, tile.note, (left, tallest + 38), _NOTE, TILE)
        return canvas


def fit(picture: Pixels) -> Pixels:
    """The picture scaled to fill the box of a tile, with its proportions kept. Small pictures are enlarged."""
    cv2 = opencv()
    height, width = picture.shape[:2]
    scale = TILE / max(height, width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    fitted: Pixels = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    return fitted


class _Pen:
    """Writes text with OpenCV: with TrueType if OpenCV has it (version 5), else with its stroked letters (ASCII only)."""

    def __init__(self) -> None:
        self._cv2 = opencv()
        self._font = self._cv2.FontFace("sans") if hasattr(self._cv2, "FontFace") else None
        self._dots = "..." if self._font is None else "…"  # the stroked letters are ASCII only

    def write(self, canvas: Pixels, text: str, corner: tuple[int, int], style: _Style, room: int) -> None:
        """Write one line whose lower left corner is `corner`, shortened in the middle to `room` pixels."""
        text = self._shorten(printable(text), style, room)
        cv2 = self._cv2
        if self._font is not None:
            cv2.putText(canvas, text, corner, style.ink, self._font, style.size, style.weight)
        else:
            cv2.putText(canvas, text, corner, cv2.FONT_HERSHEY_SIMPLEX, style.size / 32, style.ink, 1, cv2.LINE_AA)

    def _shorten(self, text: str, style: _Style, room: int) -> str:
        shown = text = text[:400] if self._font is not None else text[:400].encode("ascii", "replace").decode()
        kept = len(text)
        while kept > 1 and self._width(shown, style) > room:
            kept = min(kept - 1, int(kept * 0.95))
            # Both ends of the text: the first half of the kept characters, rounded up, and the last half.
            shown = text[: (kept + 1) // 2] + self._dots + text[len(text) - kept // 2 :]
        return shown

    def _width(self, text: str, style: _Style) -> int:
        cv2 = self._cv2
        if self._font is not None:
            return int(cv2.getTextSize((0, 0), text, (0, 0), self._font, style.size, style.weight)[2])
        return int(cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, style.size / 32, 1)[0][0])


def _blank(height: int, width: int) -> Pixels:
    return np.full((height, width, 3), 255, np.uint8)


def _frame(canvas: Pixels, y: int, x: int, height: int, width: int) -> None:
    """A line of 1 pixel just outside a picture, so that a white picture has an edge."""
    # The tallest picture of a row begins at y = 0: it has no upper line, and its first row of pixels stays.
    canvas[y - 1 if y else 0, x : x + width] = _FRAME if y else canvas[0, x : x + width]
    canvas[y + height, x - 1 : x + width + 1] = _FRAME
    canvas[y : y + height, x - 1] = _FRAME
    canvas[y : y + height, x + width] = _FRAME
