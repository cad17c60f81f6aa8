"""Tar files as archives of images (WebDataset's shards, and any other plain tar file).

Headers are read here (POSIX.1-2017, pax, section "ustar Interchange Format"; GNU's long names), since a name or an extended header
of a declared terabyte must not be read into memory. Links, devices and names that lead out of the archive are refused one by one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import ImageFileError, ImageTooLargeError
from .archive import FILE_LIMIT

_BLOCK = 512
_NAME_LIMIT = 1 << 16  # bytes of a long name or an extended header
_LABEL_LIMIT = 1 << 16  # bytes of a .cls or .json file
_LABELS = (".cls", ".json")
_NAMED = ("cls", "label", "class")  # where an object of JSON holds the class
_PLAIN = (b"0", b"\0", b"7")
_PICTURE = re.compile(r"\.(png|jpe?g|bmp|webp|gif|tiff?|avif)", re.IGNORECASE)
_MASK = re.compile(r"(.+)\.(mask|seg)\.png", re.IGNORECASE)


class _Damaged(Exception):
    """The file is no tar file from here on."""


@dataclass(frozen=True)
class _Entry:
    """Where an entry's bytes are, or why they are not read."""

    start: int
    size: int
    problem: str = ""


class Tar:
    """A tar file. See `Archive`.

    WebDataset's names are KEY.ENDING: of one KEY `.jpg` or the like is the image, `.cls` its label (else
    "cls", "label" or "class" of a `.json`), `.mask.png` or `.seg.png` its
    mask. A file that ends early is an archive of what comes before; its last entry is one that can't be read.

    Raises:
        ImageFileError: It can't be read, or is no tar file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: dict[str, _Entry] = {}
        self._labels: dict[str, _Entry] = {}
        self._repeats: dict[str, int] = {}  # name -> entries of it after the first
        try:
            with path.open("rb", buffering=0) as file:
                for name, entry in _entries(file, path.stat().st_size):
                    self._add(name, entry)
        except OSError as error:
            raise ImageFileError(f"{path}: can't be read ({error.strerror})") from None
        except _Damaged as error:
            if not self._entries:
                raise ImageFileError(f"{path}: {error}; copy it again, or give a .tar file") from None
            self._entries["damaged"] = _Entry(0, 0, f"{error}; nothing after it is read")
        masks = {found[1]: name for name in self._entries if (found := _MASK.fullmatch(name)) is not None}
        self.images: Sequence[str] = tuple(name for name in self._entries if _MASK.fullmatch(name) is None)
        self.masks: Mapping[str, str] = masks or {
            _stem(name): name for name in self.images if name.lower().endswith(".png")
        }

    def _add(self, name: str, entry: _Entry) -> None:
        parts = [part for part in name.split("/") if part not in ("", ".")]
        own = "/".join(parts)
        if name.startswith("/") or ".." in re.split(r"[/\\]", name):
            entry = _Entry(0, 0, f"its name {name!r} leads out of the archive")
            own = f"entry-{len(self._entries) + 1}"  # no picture's name, as those below
        elif any(part.startswith(".") for part in parts):  # hidden, as in folders; macOS adds ._NAME to each file
            return
        elif (ending := Path(own).suffix.lower()) in _LABELS:
            self._labels[own[: -len(ending)] + ending] = entry
            return
        elif _PICTURE.fullmatch(Path(own).suffix) is None:
            return
        elif own in self._entries:
            entry = _Entry(0, 0, f"the archive holds {own!r} twice")
            self._repeats[own] = number = self._repeats.get(own, 0) + 1
            own = f"{own}-again" if number == 1 else f"{own}-again-{number}"
        self._entries[own] = entry

    def read(self, name: str) -> bytes:
        """See `Archive.read`."""
        if name not in self._entries:
            raise ImageFileError(f"{self.path / name}: no such file in the archive")
        return self._bytes(self._entries[name], name, FILE_LIMIT)

    def label(self, name: str) -> int | str | None:
        """See `Archive.label`. A number is an index."""
        places = [own + ending for ending in _LABELS for own in dict.fromkeys((_stem(name), _key(name)))]
        where = next((place for place in places if place in self._labels), None)
        if where is None:
            return None
        try:
            given: Any = self._bytes(self._labels[where], where, _LABEL_LIMIT).decode().strip()
            if where.endswith(".json"):
                given = json.loads(given)
                given = next((given[key] for key in _NAMED if key in given), None) if isinstance(given, dict) else given
        except (ValueError, RecursionError):  # UnicodeDecodeError and JSON's are both of them
            raise ImageFileError(f"{self.path / where}: is no text; a label is an index or a class's label") from None
        if isinstance(given, str):
            return int(given) if re.fullmatch(r"\d{1,9}", given) else given
        if given is None or (isinstance(given, int) and not isinstance(given, bool)):
            return given
        raise ImageFileError(
            f"{self.path / where}: its label is {type(given).__name__}; it is an index or a class's label"
        )

    def _bytes(self, entry: _Entry, name: str, limit: int) -> bytes:
        if entry.problem:
            raise ImageFileError(f"{self.path / name}: {entry.problem}")
        if entry.size > limit:
            raise ImageTooLargeError(f"{self.path / name}: {entry.size} bytes, the limit is {limit}")
        try:
            with self.path.open("rb", buffering=0) as file:
                data = _exactly(file, entry.start, entry.size)
        except OSError as error:
            raise ImageFileError(f"{self.path}: can't be read ({error.strerror})") from None
        except _Damaged:
            raise ImageFileError(f"{self.path / name}: the archive was changed while it was read") from None
        if not data:
            raise ImageFileError(f"{self.path / name}: is empty; copy or download it again")
        return data


def _entries(file: BinaryIO, end: int) -> Iterator[tuple[str, _Entry]]:
    """The entries of a tar file, in order: name and place.

    Raises:
        _Damaged: A header is damaged.
    """
    place, number = 0, 0
    long: dict[str, str] = {}  # what extended headers say of the next entry: path, size
    while place + _BLOCK <= end:
        block = _exactly(file, place, _BLOCK)
        if not any(block):
            return
        number += 1
        kind = block[156:157]
        size = int(long["size"]) if kind not in b"xgLK" and "size" in long else _number(block[124:136], number, block)
        start, place = place + _BLOCK, place + _BLOCK + -(-size // _BLOCK) * _BLOCK
        if kind in b"xLgK":
            if size > _NAME_LIMIT or start + size > end:
                raise _Damaged(f"entry {number} has a name or a header of {size} bytes")
            if kind == b"x":
                long |= _pax(_exactly(file, start, size), number)
            elif kind == b"L":
                long["path"] = _text(_exactly(file, start, size))
            continue
        prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else ""
        name = long.get("path") or (f"{prefix}/" if prefix else "") + _text(block[:100])
        sparse = any(key.startswith("GNU.sparse") for key in long)
        long = {}
        if kind == b"5" or name.endswith("/"):
            continue
        problem = ""
        if kind not in _PLAIN or sparse:
            problem = "is a link, a device or a sparse file; an archive of images holds plain files"
            place = start if kind in b"123456" else place
        elif start + size > end:
            problem = f"the archive ends {start + size - end} bytes before this entry does; copy or download it again"
        yield name, _Entry(start, size, problem)
        if start + size > end:
            return
    if place < end:
        raise _Damaged("the file ends in the middle of a header")


def _exactly(file: BinaryIO, start: int, size: int) -> bytes:
    file.seek(start)
    parts, left = [], size
    while left and (part := file.read(left)):
        parts.append(part)
        left -= len(part)
    if left:
        raise _Damaged("the file ends early")
    return b"".join(parts)


def _number(field: bytes, number: int, block: bytes) -> int:
    """The size in a header, of which the check sum is compared: octal digits, or GNU's base 256."""
    known = sum(block) - sum(block[148:156]) + 8 * 32
    try:
        if int(_text(block[148:156]).strip() or "-1", 8) != known:
            raise ValueError
        size = int.from_bytes(field[1:], "big") if field[:1] == b"\x80" else int(_text(field).strip() or "0", 8)
        if size < 0:
            raise ValueError
    except ValueError:
        raise _Damaged(f"entry {number} has no header of a tar file" if number > 1 else "is no tar file") from None
    return size


def _pax(data: bytes, number: int) -> dict[str, str]:
    """The records "LENGTH KEY=VALUE\\n" of an extended header."""
    records: dict[str, str] = {}
    try:
        while data:
            digits, _, _ = data.partition(b" ")
            length = int(digits) if len(digits) < 8 else 0
            key, equals, value = data[len(digits) + 1 : length].partition(b"=")
            if not (len(digits) < length <= len(data) and equals and value.endswith(b"\n")):
                raise ValueError
            records[_text(key)] = _text(value[:-1])
            data = data[length:]
        if not re.fullmatch(r"\d{1,18}", records.get("size", "0")):
            raise ValueError
    except ValueError:
        raise _Damaged(f"entry {number} has a damaged extended header") from None
    return {key: value for key, value in records.items() if key in ("path", "size") or key.startswith("GNU.sparse")}


def _text(field: bytes) -> str:
    """Bytes up to the first NUL, as a file name."""
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _stem(name: str) -> str:
    """A name without its last ending."""
    return name[: -len(Path(name).suffix)] if Path(name).suffix else name


def _key(name: str) -> str:
    """WebDataset's key: a name up to the first dot of its last part."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.partition(".")[0]
