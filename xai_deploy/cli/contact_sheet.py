"""A contact sheet: each image beside its maps, or a grid if there is one map per image; each page is written when it is full."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..pictures import PERCENTILE, Style, color_bar
from .sheet_text import HEAD, LINE, NOTE, TEXT, TITLE, Lines, Pen, blank

Pixels = NDArray[np.uint8]

TILE = 224  # pixels, width and height of the box that a picture is fitted into
COLUMNS = 6
PREDICTED = "predicted class"
_GAP = 16
_MARGIN = 24
_LINES = 12  # lines of pictures on a page, unless one image needs more
_TALLEST = 15_000  # pixels of a page without its head; no format takes more than 16383
_BAR = 176  # pixels, width of a colour bar
_FRAME = (222, 224, 227)


@dataclass(frozen=True)
class Tile:
    """One picture.

    Attributes:
        picture: RGB [h,w,3] uint8, at most the tile's size on either side.
        caption: Below the picture; of a map, what is explained.
        notes: Further lines, in grey; of a map, the method's options.
        method: The method of a map.
        signed: Of a map: 0 is neutral.
        at_pixels: Of a map: it was cut at a percentile.
    """

    picture: Pixels
    caption: str
    notes: tuple[str, ...] = ()
    method: str = ""
    signed: bool = False
    at_pixels: bool = False


class Row(NamedTuple):
    """One image: its own tile, its maps, the label of its predicted class."""

    image: Tile
    maps: list[Tile]
    predicted: str


class ContactSheet:
    """Collects images and writes a page whenever it is full.

    Args:
        path: File of the first page; the other pages get "-2", "-3" ... before the ending.
        title: Title line of every page.
        write: Writes an RGB picture to a path.
        style: How the maps are drawn; for the colour bars.
        tile: Width and height of the box of a picture, in pixels.
        cropped: The network does not see all of an image.

    Attributes:
        pages: The files written so far.
    """

    def __init__(
        self,
        path: Path,
        title: str,
        write: Callable[[Path, Pixels], None],
        style: Style | None = None,
        tile: int = TILE,
        cropped: bool = False,
    ) -> None:
        self.pages: list[Path] = []
        self._path, self._title, self._write = path, title, write
        self._style, self._tile, self._cropped = style or Style(), tile, cropped
        self._pen = Pen()
        self._rows: list[Row] = []
        self._most = max(_TALLEST // (tile + 160), 1)  # lines of a page, with some 160 pixels of text each

    def fits(self, maps: int) -> bool:
        """Whether a page shows so many maps of an image; `add` leaves out those after the last that it shows."""
        return maps <= self._most * (COLUMNS - 1)

    def add(self, image: Tile, maps: Sequence[Tile], predicted: str) -> None:
        """Add an image.

        Args:
            image: The image itself.
            maps: Its maps, by the same methods for each image.
            predicted: The label of its predicted class.
        """
        self._rows.append(Row(image, list(maps[: self._most * (COLUMNS - 1)]), predicted))
        lines = -(-len(maps) // (COLUMNS - 1))
        full = min(_LINES, self._most)
        if len(self._rows) >= (full * COLUMNS if len(maps) == 1 else max(full // lines, 1)):
            self.flush()

    def flush(self) -> None:
        """Write the page of the images collected since the last one."""
        if not self._rows:
            return
        rows = self._rows
        grid = len(rows[0].maps) == 1 and (len(rows) > 1 or bool(self.pages))
        maps = len(rows[0].maps)
        columns = min(COLUMNS, len(rows)) if grid else 1 + _per_line(maps)
        width = max(2 * _MARGIN + columns * (self._tile + _GAP) - _GAP, 2 * (_MARGIN + TILE))
        drawn = self._grid(rows, width) if grid else self._beside(rows, width)
        number = len(self.pages) + 1
        path = self._path if number == 1 else self._path.with_stem(f"{self._path.stem}-{number}")
        page = np.concatenate([*self._head(rows, width), *drawn, blank(_MARGIN - _GAP, width)])
        del rows, drawn  # on a small device a page is worth 10 MB, and it is encoded now
        self._rows = []
        self._write(path, page)
        self.pages.append(path)

    def _head(self, rows: Sequence[Row], width: int) -> list[Pixels]:
        """Title and colour bars."""
        title = self._pen.block([(_MARGIN, [(self._title, TITLE)])], width - 2 * _MARGIN, width)
        maps = [tile for row in rows for tile in row.maps]
        parts = [blank(_MARGIN - 4, width), title, blank(8, width)]
        for signed in sorted({tile.signed for tile in maps}):
            parts += [self._bar(signed, width), blank(4, width)]
        words = "Each map has its own scale, so colours do not compare between maps; they fade out below half of it."
        if cut := dict.fromkeys(tile.method for tile in maps if tile.at_pixels):
            words += f" Values of {', '.join(cut)} above the {PERCENTILE:g}th percentile look the same."
        words += " Dimmed: not seen by the network." * self._cropped
        return [*parts, self._pen.block([(_MARGIN, [(words, NOTE)])], width - 2 * _MARGIN, width), blank(_GAP, width)]

    def _bar(self, signed: bool, width: int) -> Pixels:
        """A colour bar, the words at its ends, and what they mean."""
        if signed:
            ends = ("against", "0", "for")
            words = "Signed: against and for what is explained, from minus to plus the largest magnitude; 0 is neutral."
        else:
            ends = ("lowest", "", "highest")
            words = "From the lowest to the highest value of a map."
        text = _MARGIN + _BAR + _GAP
        strip = self._pen.block([(text, [(words, NOTE)])], width - text - _MARGIN, width)
        strip = np.concatenate([strip, blank(max(2 * LINE - len(strip), 0), width)])
        name = self._style.diverging if signed else self._style.sequential
        strip[3:15, _MARGIN : _MARGIN + _BAR] = color_bar(12, _BAR, name, signed)
        below = strip[LINE - 2 : 2 * LINE - 2]
        for end, place in zip(ends, (0, 0.5, 1), strict=True):
            own = self._pen.width(end, NOTE)
            label = self._pen.block([(0, [(end, NOTE)])], _BAR, own) if end else blank(LINE, 0)
            left = _MARGIN + round(place * (_BAR - own))
            below[: len(label), left : left + own] = label
        return strip

    def _beside(self, rows: Sequence[Row], width: int) -> list[Pixels]:
        """Each image beside its maps. If they take one line, one heading serves the page; else each line has its own."""
        count = len(rows[0].maps)
        same = [_shared(rows, number) for number in range(count)]
        all_predicted = set(same) == {PREDICTED}
        first: Lines = [("image", HEAD), *([("maps of the " + PREDICTED, NOTE)] if all_predicted else [])]
        step = _per_line(count)
        parts: list[Pixels] = []
        for row in rows:
            for start in range(0, count, step):
                numbers = range(start, min(start + step, count))
                if step < count or row is rows[0]:
                    heads: list[Lines] = [_heading(row.maps[n], None if all_predicted else same[n]) for n in numbers]
                    parts.append(self._texts([[] if start else first, *heads], width, low=True))
                own = row.image if start == 0 else None
                captions = [row.maps[n].caption if same[n] is None else "" for n in numbers]
                below: list[Lines] = [[(caption, TEXT)] for caption in captions]
                parts += self._line([own, *(row.maps[n] for n in numbers)], [_own_text(own), *below], width)
            parts.append(blank(_GAP * (step < count), width))
        return parts

    def _grid(self, rows: Sequence[Row], width: int) -> list[Pixels]:
        """One map per image, as many side by side as fit."""
        same = _shared(rows, 0)
        heading = ", ".join(text for text, _ in _heading(rows[0].maps[0], same))
        parts = [self._pen.block([(_MARGIN, [(heading, HEAD)])], width - 2 * _MARGIN, width), blank(4, width)]
        for start in range(0, len(rows), COLUMNS):
            some = rows[start : start + COLUMNS]
            below: list[Lines] = [
                [*_own_text(row.image), *([(row.maps[0].caption, NOTE)] if same is None else [])] for row in some
            ]
            parts += self._line([row.maps[0] for row in some], below, width)
        return parts

    def _line(self, tiles: Sequence[Tile | None], texts: Sequence[Lines], width: int) -> list[Pixels]:
        """Pictures side by side, their lower edges at one height, and the texts below them."""
        tallest = max(tile.picture.shape[0] for tile in tiles if tile is not None)
        canvas = blank(tallest + 6, width)
        for column, tile in enumerate(tiles):
            if tile is None:
                continue
            height, across = tile.picture.shape[:2]
            y, x = tallest - height, self._left(column) + (self._tile - across) // 2
            canvas[y : y + height, x : x + across] = tile.picture
            _frame(canvas, y, x, height, across)
        return [canvas, self._texts(texts, width), blank(_GAP, width)]

    def _texts(self, texts: Sequence[Lines], width: int, low: bool = False) -> Pixels:
        columns = [(self._left(column), lines) for column, lines in enumerate(texts)]
        return self._pen.block(columns, max(self._tile, 64), width, low)

    def _left(self, column: int) -> int:
        return _MARGIN + column * (self._tile + _GAP)


def _per_line(maps: int) -> int:
    """How many maps of an image are in a line: in as few lines as possible, as evenly as possible."""
    lines = -(-maps // (COLUMNS - 1))
    return -(-maps // lines)


def _shared(rows: Sequence[Row], number: int) -> str | None:
    """What the maps of one column explain, if one phrase says it for all rows; else None."""
    captions = {row.maps[number].caption for row in rows}
    if len(captions) == 1:
        return captions.pop()
    if all(row.maps[number].caption == row.predicted for row in rows):
        return PREDICTED
    return None


def _heading(tile: Tile, shared: str | None) -> Lines:
    return [(tile.method, HEAD), *((note, NOTE) for note in tile.notes), *([(shared, TEXT)] if shared else [])]


def _own_text(tile: Tile | None) -> Lines:
    return [] if tile is None else [(tile.caption, TEXT), *((note, NOTE) for note in tile.notes)]


def _frame(canvas: Pixels, y: int, x: int, height: int, width: int) -> None:
    """A line of 1 pixel just outside a picture, so that a white picture has an edge."""
    # The tallest picture of a line begins at y = 0: it has no upper line, and its first row of pixels stays.
    canvas[y - 1 if y else 0, x : x + width] = _FRAME if y else canvas[0, x : x + width]
    canvas[y + height, x - 1 : x + width + 1] = _FRAME
    canvas[y : y + height, x - 1] = _FRAME
    canvas[y : y + height, x + width] = _FRAME
