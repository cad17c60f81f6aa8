"""Pascal VOC xml: a folder with one file per image: <annotation><filename/><size/><object><name/><bndbox/></object>.

bndbox is in pixels counted from 1, and the last pixel belongs to the box: the box is [xmin - 1, xmax] x [ymin - 1, ymax]. A
file belongs to the image with the file's own name, as in VOC's own tools; a <filename> that differs is reported. Objects
marked difficult or truncated are kept; parts of objects (<part>) are not read. A document type or entities could make a
parser expand to gigabytes or open other files, so they are refused before anything is parsed.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from ...errors import TruthError
from .annotations import Annotations, Entry, Format, Record, Source, formats
from .reading import counted, number, quoted, read_text

_FILE_LIMIT = 1 << 24  # bytes
_UNSAFE = re.compile(r"<!\s*(DOCTYPE|ENTITY)", re.IGNORECASE)


@formats.register("Pascal VOC xml")
class Voc(Format):
    """One file per image, in the same subfolders as the images."""

    expects = "a folder of .xml files, one per image, with <annotation> <object> <bndbox>"

    @classmethod
    def recognises(cls, source: Source) -> bool:
        return bool(source.ending(".xml"))

    @classmethod
    def read(cls, source: Source) -> Annotations:
        records, renamed = [], 0
        for file in source.ending(".xml"):
            root = _parse(file)
            says = PurePosixPath((root.findtext("filename") or "").strip().replace("\\", "/"))
            renamed += file.stem not in (says.stem, says.name) and says.name != ""
            objects = root.findall("object")
            entries = tuple(_entry(item, f"{file}, object {index}") for index, item in enumerate(objects, 1))
            records.append(Record(source.name(file), entries, str(file), _size(root, file)))
        what = "files whose <filename> names another image; each is used for the image with the file's own name"
        return Annotations(tuple(records), by_stem=True, problems=counted([(renamed, what)], source.path))


def _parse(file: Path) -> ElementTree.Element:
    text = read_text(file, _FILE_LIMIT)
    if _UNSAFE.search(text):
        raise TruthError(f"{file}: has a document type or entities, which are not read; remove them")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise TruthError(f"{file}: not valid XML ({error}); save it again") from None
    if root.tag != "annotation":
        raise TruthError(f"{file}: not a Pascal VOC file: its root is <{root.tag[:40]}>, not <annotation>")
    return root


def _size(root: ElementTree.Element, file: Path) -> tuple[int, int] | None:
    """(height, width), or None if the file does not say, or says 0 x 0 as some tools do."""
    size = root.find("size")
    if size is None:
        return None
    height, width = (_number(size, side, f"{file}, size") for side in ("height", "width"))
    if height == width == 0:
        return None
    if height < 1 or width < 1 or height % 1 or width % 1:
        raise TruthError(f"{file}, size: an image of {width:g} x {height:g} pixels; correct it")
    return int(height), int(width)


def _entry(item: ElementTree.Element, where: str) -> Entry:
    box = item.find("bndbox")
    if box is None:
        raise TruthError(f"{where}: has no <bndbox>; add or remove it")
    xmin, ymin, xmax, ymax = (_number(box, edge, where) for edge in ("xmin", "ymin", "xmax", "ymax"))
    if xmin > xmax or ymin > ymax:
        raise TruthError(
            f"{where}: the box's edges are swapped: {xmin:g} to {xmax:g}, {ymin:g} to {ymax:g}; correct it"
        )
    # Pixels 1 to xmax, both included, are the interval [0, xmax]: only the lower edges are shifted.
    return Entry(xmin - 1, ymin - 1, xmax, ymax, (item.findtext("name") or "").strip() or None, where)


def _number(parent: ElementTree.Element, tag: str, where: str) -> float:
    text = parent.findtext(tag)
    if text is None:
        raise TruthError(f"{where}: has no <{tag}>; add it")
    try:
        return number(text, where)
    except TruthError:
        raise TruthError(f"{where}: <{tag}> is {quoted(text)}, not a finite number; correct it") from None
