"""A graph in parts: its own bytes, and where the weights lie that other files of the bundle hold already.

The graphs of a network hold the same weights. So a file `ROLE.parts` begins with lines `OWN FILE START LENGTH`: OWN bytes of the
graph's own follow, then LENGTH bytes of FILE from START on. An empty line ends the list. After it lie the graph's own bytes; what
the lines leave of them comes last. All of it in this order is an ordinary ONNX file, byte for byte. The manifest records its size
and sha256 (`Graph.whole`), so that no file's change can stay unseen.

A stranger's list takes no more memory than the bundle takes on the disk: nothing is read before all sizes are known to fit.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ..errors import IntegrityError, UnsafePathError
from .graphs import FileRecord

PARTS = "parts"
"""The feature that a bundle with graphs in parts requires of its reader."""
SUFFIX = ".parts"

_MOST = 200_000  # lines: as many as a graph may have tensors (`guard.messages`), and as many attributes with one
_LINE = re.compile(rb"(0|[1-9][0-9]{0,14}) ([A-Za-z0-9_][A-Za-z0-9_.+\-]*) (0|[1-9][0-9]{0,14}) ([1-9][0-9]{0,14})")


@dataclass(frozen=True)
class Part:
    """A line of the list: `own` bytes of the graph's own, then `length` bytes of `file` from `start` on."""

    own: int
    file: str
    start: int
    length: int

    def __str__(self) -> str:
        return f"{self.own} {self.file} {self.start} {self.length}"


def listed(parts: Iterable[Part]) -> bytes:
    """The list as it begins a file; the graph's own bytes follow."""
    return "".join(f"{part}\n" for part in parts).encode() + b"\n"


def read_parts(data: bytes, where: str, files: Mapping[str, FileRecord], size: int) -> tuple[list[Part], int]:
    """The list of a file, and where the graph's own bytes begin.

    Args:
        data: The bytes of the file.
        where: Its path, for messages.
        files: The files of the bundle.
        size: Bytes of the graph.

    Raises:
        IntegrityError: It is no such list, or does not make up a graph of this size.
        UnsafePathError: It names a file that is not one of the bundle's.
    """
    end = 0 if data[:1] == b"\n" else data.find(b"\n\n") + 1
    if (count := data.count(b"\n", 0, end)) > _MOST:
        raise IntegrityError(f"{where}: lists {count} parts; {_MOST} are allowed")
    parts = []
    for line in data[:end].split(b"\n")[:-1]:
        match = _LINE.fullmatch(line)
        if match is None:
            raise IntegrityError(f"{where}: is not the list of a graph's parts; export the network again")
        part = Part(int(match[1]), match[2].decode(), int(match[3]), int(match[4]))
        if part.file not in files:
            raise UnsafePathError(f"{where}: takes weights from {part.file!r}, which is no file of the bundle")
        if part.start + part.length > files[part.file].size:
            raise IntegrityError(f"{where}: takes weights from beyond the end of {part.file}; export the network again")
        parts.append(part)
    own = len(data) - end - 1
    if own < sum(part.own for part in parts) or own + sum(part.length for part in parts) != size:
        raise IntegrityError(f"{where}: its parts do not make up the graph's {size} bytes; export the network again")
    return parts, end + 1


def joined(data: bytes, begin: int, parts: Iterable[Part], take: Callable[[Part], bytes]) -> bytes:
    """The ONNX file that parts make up.

    Args:
        data: The bytes of the file with the list.
        begin: Where the graph's own bytes begin in it.
        parts: The list.
        take: Reads a part's bytes of another file.
    """
    whole = io.BytesIO()  # `getvalue` gives its memory away, so that only one part is in memory twice
    for part in parts:
        whole.write(data[begin : begin + part.own])
        whole.write(take(part))
        begin += part.own
    whole.write(data[begin:])
    return whole.getvalue()
