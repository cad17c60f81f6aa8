"""Boxes of objects, read from a file of any known format. A format is one module of this package; it recognises its files.

Coordinates are continuous: pixel i of an image covers [i, i + 1). So an image of width w spans [0, w], and a box
[left, right] in pixels spans the fractions [left / w, right / w]. Images are upright, as `images.read_image` gives them.
"""

from __future__ import annotations

import hashlib
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ...errors import TruthError
from ...foundation.registry import Registry
from .matching import Matcher
from .reading import check_size, counted, files_in, fraction, read_text

Label = str | int | None


@dataclass(frozen=True)
class Box:
    """Where an object is, in fractions of the whole upright image: 0 <= left < right <= 1, 0 <= top < bottom <= 1.

    Attributes:
        label: The category as the file names it, a number if the file has only a number, None if it names none. The module
            `labels` finds the network's class for it.
    """

    left: float
    top: float
    right: float
    bottom: float
    label: Label = None


@dataclass(frozen=True)
class Entry:
    """A box as written in the file: its edges in the record's unit, its label, and its place in the file, for messages."""

    left: float
    top: float
    right: float
    bottom: float
    label: Label
    where: str

    @classmethod
    def centred(cls, numbers: Sequence[float], label: Label, where: str) -> Entry:
        """(cx, cy, w, h) in fractions -> [cx - w/2, cx + w/2] x [cy - h/2, cy + h/2].

        Raises:
            TruthError: A number is not a fraction, or a size is negative.
        """
        cx, cy, width, height = (fraction(value, where) for value in numbers)
        if width < 0 or height < 0:
            raise TruthError(f"{where}: the box has a negative width or height; correct it")
        # Edges may lie slightly outside 0 to 1; `Boxes` cuts them.
        return cls(cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2, label, where)


@dataclass(frozen=True)
class Record:
    """The annotation of one image.

    Attributes:
        image: The image's path or name as written in the file.
        entries: Its boxes; empty if the annotator found no object.
        where: The place in the file, for messages.
        size: (height, width) in pixels of the image that was annotated; None if the file does not say.
        fractions: The entries are fractions of the image, not pixels.
    """

    image: str
    entries: tuple[Entry, ...]
    where: str
    size: tuple[int, int] | None = None
    fractions: bool = False


@dataclass(frozen=True)
class Annotations:
    """The result of a format's `read`.

    Attributes:
        records: One record per annotated image.
        by_stem: The records name images without the file's ending.
        problems: What was left out or looks wrong, one line each.
    """

    records: tuple[Record, ...]
    by_stem: bool = False
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """The path given to `read_boxes`: the text of a file, or the files anywhere in a folder.

    Attributes:
        path: The file or folder.
        text: The file's contents; None for a folder.
        files: The folder's files, sorted, without hidden ones.
    """

    path: Path
    text: str | None = None
    files: tuple[Path, ...] = ()

    def ending(self, suffix: str) -> list[Path]:
        """The folder's files with this ending; upper and lower case count as equal."""
        return [file for file in self.files if file.suffix.lower() == suffix]

    def name(self, file: Path) -> str:
        """The path of one of the files inside the folder, without its ending: the name of a record."""
        return file.relative_to(self.path).with_suffix("").as_posix()


class Format(ABC):
    """A file format of boxes. A subclass registers with `formats`, in a module of its own.

    Attributes:
        expects: What such a file or folder looks like, for the message if no format fits.
    """

    expects: ClassVar[str]

    @classmethod
    @abstractmethod
    def recognises(cls, source: Source) -> bool:
        """Whether this is, or is meant to be, a file or folder of this format."""

    @classmethod
    @abstractmethod
    def read(cls, source: Source) -> Annotations:
        """Read all records.

        Raises:
            TruthError: The source is malformed; the message names the file and the place.
        """


formats: Registry[type[Format]] = Registry(__package__ or "")


class Boxes:
    """The boxes of all annotated images.

    Attributes:
        source: The format's name: "COCO json", "YOLO txt", "Pascal VOC xml", "csv".
        path: The file or folder that was read.
        problems: What was left out or looks wrong in the file, one line each; to be shown to the user.
        cut_places: Where in the file the boxes are that `of` has cut, so that each counts once.
    """

    def __init__(
        self, source: str, path: Path, annotations: Annotations, root: Path, apart: Iterable[Path] = ()
    ) -> None:
        self.source = source
        self.path = path
        names = [record.image for record in annotations.records]
        self._matcher = Matcher(names, root, annotations.by_stem, path, apart)
        self._records = {record.image: record for record in annotations.records}
        self.cut_places: frozenset[str] = frozenset()
        # Boxes that do not need the image's size are converted now: a mistake shows before hours of computing, not after.
        self._boxes = {
            record.image: self._convert(record, *(record.size or (1, 1)))
            for record in annotations.records
            if record.fractions or record.size
        }
        self.problems = (*annotations.problems, *self.cut)
        self.cut_places = frozenset()

    def __len__(self) -> int:
        """Number of annotated images."""
        return len(self._records)

    def has(self, image: Path) -> bool:
        """Whether an image is annotated; the image is not opened."""
        return self._matcher.find(image) is not None

    @property
    def cut(self) -> tuple[str, ...]:
        """More problems to be shown: how many boxes `of` has cut. A pixel box of unknown image size is cut only there."""
        return counted([(len(self.cut_places), "boxes reach beyond their image; cut at its border")], self.path)

    @property
    def labels(self) -> tuple[str | int, ...]:
        """The boxes' labels, each once, in the order of the file."""
        labels = (entry.label for record in self._records.values() for entry in record.entries)
        return tuple(dict.fromkeys(label for label in labels if label is not None))

    @property
    def digest(self) -> str:
        """A digest of all annotations."""
        return hashlib.sha256(repr(sorted(self._records.items())).encode("utf-8", "surrogateescape")).hexdigest()

    def of(self, image: Path, height: int, width: int) -> tuple[Box, ...] | None:
        """The boxes of one image; () if its annotation has no box, None if it is not annotated.

        An annotation belongs to the image whose path relative to the images' root it names. If there is no such image, it
        belongs to the only image with this file name (see `matching`).

        Args:
            image: The image's path, inside the images' root.
            height: Its height in pixels, upright, as `read_image` gives it.
            width: Its width.

        Raises:
            TruthError: The annotation fits several images, the annotated image had another size, or a box lies outside
                the image.
        """
        name = self._matcher.find(image)
        if name is None:
            return None
        record = self._records[name]
        if record.size is not None:
            check_size(record.size, (height, width), record.where, image)
        if name not in self._boxes:
            return self._convert(record, height, width)
        return self._boxes[name]

    def _convert(self, record: Record, height: int, width: int) -> tuple[Box, ...]:
        down, across = (1, 1) if record.fractions else (height, width)
        boxes = []
        for entry in record.entries:
            edges = (entry.left / across, entry.top / down, entry.right / across, entry.bottom / down)
            if not all(math.isfinite(edge) for edge in edges):
                raise TruthError(f"{entry.where}: the box holds NaN or infinity, or a number too large; correct it")
            if edges[0] >= edges[2] or edges[1] >= edges[3]:
                raise TruthError(f"{entry.where}: the box has no area, or its edges are swapped; correct or remove it")
            left, top, right, bottom = (min(max(edge, 0.0), 1.0) for edge in edges)  # cut at the image's border
            if left >= right or top >= bottom:
                size = "" if record.fractions else f" of {width} x {height} pixels"
                raise TruthError(f"{entry.where}: the box lies outside the image{size}; correct or remove it")
            # Less than a thousandth of the side is a rounding error, which is not worth a message.
            if max(abs(a - b) for a, b in zip(edges, (left, top, right, bottom), strict=True)) > 1e-3:
                self.cut_places |= {entry.where}
            boxes.append(Box(left, top, right, bottom, entry.label))
        return tuple(boxes)


def read_boxes(path: str | os.PathLike[str], root: str | os.PathLike[str], apart: Iterable[Path] = ()) -> Boxes:
    """Read boxes; the format is recognised from the contents.

    Args:
        path: A COCO json or csv file, or a folder of YOLO txt or Pascal VOC xml files.
        root: The folder of the images, to which the images' names in the annotations are relative.
        apart: Folders inside the root whose pictures are not images of the data set (masks, results).

    Raises:
        TruthError: The path does not exist, is of no known format or of several, or is malformed.
    """
    path = Path(path)
    source = Source(path, files=files_in(path)) if path.is_dir() else Source(path, text=read_text(path))
    if source.text == "":
        raise TruthError(f"{path}: is empty; copy or export it again")
    recognised = [name for name in formats if (kind := formats.get(name)) and kind.recognises(source)]
    kind = formats.get(recognised[0]) if recognised else None
    if kind is None:
        known = "; ".join(f"{name}: {kind.expects}" for name in formats if (kind := formats.get(name)))
        raise TruthError(f"{path}: holds no annotations that can be read; {known}")
    if len(recognised) > 1:
        raise TruthError(f"{path}: could be {' or '.join(recognised)}; give a folder that holds files of one kind")
    return Boxes(recognised[0], path, kind.read(source), Path(root), apart)
