"""A csv file whose first line names its columns, in any order. There are two sets of columns, each with or without `label`:

    image,left,top,right,bottom[,label]     edges in pixels: pixel i covers [i, i + 1), so right - left is the width
    image,cx,cy,w,h[,label]                 centre and size in fractions of the image, as YOLO has them

The file has one line per box; an image's path is relative to the images' root. A line with empty coordinates says that the
image was annotated and shows no object. Cells are separated by commas and quoted with "; the encoding is UTF-8.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from ...errors import TruthError
from .annotations import Annotations, Entry, Format, Record, Source, formats
from .reading import number, quoted

_PIXELS = ("left", "top", "right", "bottom")
_FRACTIONS = ("cx", "cy", "w", "h")
_HEADERS = "image,left,top,right,bottom[,label] in pixels or image,cx,cy,w,h[,label] in fractions"


@formats.register("csv")
class Table(Format):
    """One file for a whole set of images."""

    expects = f"a file with the columns {_HEADERS}"

    @classmethod
    def recognises(cls, source: Source) -> bool:
        first = (source.text or "")[:1000].split("\n", 1)[0]
        # A file with ";" is recognised too, so that `read` can say what is wrong with its columns.
        names = [name.strip().strip('"') for name in first.replace(";", ",").split(",")]
        return "image" in names and not first.lstrip().startswith(("{", "["))

    @classmethod
    def read(cls, source: Source) -> Annotations:
        path = source.path
        rows = _rows(source.text or "", path)
        _, header = next(rows)
        columns = [name.strip() for name in header]
        kind = next((k for k in (_PIXELS, _FRACTIONS) if {*columns} - {"label"} == {"image", *k}), None)
        if kind is None or len(set(columns)) != len(columns):
            raise TruthError(f"{path}, line 1: the columns are {quoted(','.join(columns))}; expected {_HEADERS}")
        entries: dict[str, list[Entry]] = {}
        empty: dict[str, str] = {}
        for where, cells in rows:
            if len(cells) != len(columns):
                raise TruthError(f"{where}: has {len(cells)} cells for {len(columns)} columns; correct it")
            row = dict(zip(columns, (cell.strip() for cell in cells), strict=True))
            image = row["image"]
            if not image:
                raise TruthError(f"{where}: names no image; correct it")
            boxes = entries.setdefault(image, [])
            if any(row[name] for name in kind):
                boxes.append(_entry([number(row[name], where) for name in kind], kind, row.get("label", ""), where))
            else:
                empty[image] = where
            if image in empty and boxes:
                raise TruthError(
                    f"{empty[image]}: says that {quoted(image)} shows no object, but it has a box; correct it"
                )
        records = (
            Record(image, tuple(boxes), str(path), fractions=kind is _FRACTIONS) for image, boxes in entries.items()
        )
        return Annotations(tuple(records))


def _rows(text: str, path: Path) -> Iterator[tuple[str, list[str]]]:
    """The lines that are not blank, each with its place in the file for messages."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield f"{path}, line {reader.line_num}", cells
    except csv.Error as error:
        raise TruthError(f"{path}, line {reader.line_num}: not valid csv ({error}); save it again") from None


def _entry(numbers: list[float], kind: tuple[str, ...], label: str, where: str) -> Entry:
    if kind is _FRACTIONS:
        return Entry.centred(numbers, label or None, where)
    left, top, right, bottom = numbers
    if left > right or top > bottom:
        raise TruthError(f"{where}: the box's edges are swapped; left < right and top < bottom")
    return Entry(left, top, right, bottom, label or None, where)
