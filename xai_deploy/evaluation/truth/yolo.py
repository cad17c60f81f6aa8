"""YOLO txt: a folder with one file per image, named like the image; one line "class cx cy w h" per box, in fractions.

The box is [cx - w/2, cx + w/2] x [cy - h/2, cy + h/2]. A sixth number is a confidence and is ignored. A line "class x1 y1 x2
y2 x3 y3 ..." is a polygon, whose bounding box is taken. Of a line "class cx cy w h x1 y1 ..." the box is taken, and its key
points are left out; see `key_points`. An empty file says that the image shows no object. The class is a number; a file
classes.txt, with one name per line, in the same folder or in a folder above it, gives the names. (The names in a data.yaml
are not read.)
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...errors import TruthError
from .annotations import Annotations, Entry, Format, Label, Record, Source, formats
from .key_points import Line, has_key_points
from .reading import fraction, number, quoted, read_text

_CLASSES = "classes.txt"
_FILE_LIMIT = 1 << 24  # bytes
_SHAPES = (
    "expected 'class cx cy w h', or 'class x1 y1 x2 y2 x3 y3 ...' for a polygon; key points need a data.yaml with kpt_shape "
    "beside the labels"
)


@formats.register("YOLO txt")
class Yolo(Format):
    """One file per image, in the same subfolders as the images."""

    expects = "a folder of .txt files, one per image, with lines 'class cx cy w h'"

    @classmethod
    def recognises(cls, source: Source) -> bool:
        return bool(_labels(source))

    @classmethod
    def read(cls, source: Source) -> Annotations:
        names = {file.parent: _names(file) for file in source.ending(".txt") if file.name == _CLASSES}
        posed = has_key_points(lambda: (line for file in _labels(source) for line in _lines(file)), source.path)
        records = []
        for file in _labels(source):
            # `parents` goes from the file's own folder upwards: the nearest classes.txt counts.
            known = next((names[folder] for folder in file.parents if folder in names), None)
            entries = tuple(_entry(words[:5] if posed else words, known, where) for where, words in _lines(file))
            records.append(Record(source.name(file), entries, str(file), fractions=True))
        return Annotations(tuple(records), by_stem=True)


def _labels(source: Source) -> list[Path]:
    return [file for file in source.ending(".txt") if file.name != _CLASSES]


def _lines(file: Path) -> Iterator[Line]:
    """The lines with words, and where each stands."""
    for index, line in enumerate(read_text(file, _FILE_LIMIT).splitlines(), 1):
        if words := line.split():
            yield f"{file}, line {index}", words


def _names(file: Path) -> list[str]:
    return [line.strip() for line in read_text(file, _FILE_LIMIT).rstrip().splitlines()]


def _entry(words: list[str], names: list[str] | None, where: str) -> Entry:
    numbers = [number(word, where) for word in words]
    label = _label(words[0], names, where)
    polygon = len(numbers) >= 7 and len(numbers) % 2 == 1  # the class and at least three points
    if not polygon and len(numbers) not in (5, 6):
        raise TruthError(f"{where}: has {len(numbers)} numbers; {_SHAPES}")
    if not polygon:
        return Entry.centred(numbers[1:5], label, where)
    x, y = ([fraction(value, where) for value in numbers[first::2]] for first in (1, 2))
    return Entry(min(x), min(y), max(x), max(y), label, where)


def _label(word: str, names: list[str] | None, where: str) -> Label:
    if not (word.isascii() and word.isdigit() and len(word) < 10):
        raise TruthError(f"{where}: the class {quoted(word)} is not a whole number; {_SHAPES}")
    index = int(word)
    if names is None:
        return index
    if index >= len(names):
        raise TruthError(f"{where}: class {index}, but {_CLASSES} has {len(names)} names; correct one of them")
    return names[index]
