"""An evaluation in parts: each shard measures some of the chunks, on a machine or in a process of its own; a merge takes them over.

All shards have the plan of the whole evaluation, so a merge has the figures of one machine, byte for byte, if all of them run the
same versions on the same kind of processor with the same number of threads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import OptionError, XaiError
from ..foundation.journal import Chunks, Journal

_WRITTEN = re.compile(r"(\d{1,9})/(\d{1,9})")
_FILES = "shard-*-of-*.jsonl"
_FILE = re.compile(r"shard-(\d+)-of-(\d+)\.jsonl")


@dataclass(frozen=True)
class Shard:
    """One of `count` parts of an evaluation: the chunks of images whose number leaves the rest `index` - 1 when divided by `count`.

    Attributes:
        index: From 1 to `count`.
        count: How many parts there are.

    Raises:
        OptionError: The index is not between 1 and the count.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise OptionError(f"shard {self}: the first number is between 1 and the second")

    @classmethod
    def parse(cls, text: str) -> Shard:
        """A shard written as "I/N".

        Raises:
            OptionError: It is written otherwise.
        """
        found = _WRITTEN.fullmatch(text)
        if found is None:
            raise OptionError(f"shard {text!r}: give I/N, as 1/4 for the first of four")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def takes(self, chunk: int) -> bool:
        """Whether a chunk is measured by this shard."""
        return chunk % self.count == self.index - 1

    @property
    def journal(self) -> str:
        """The name of its journal."""
        return f"shard-{self.index}-of-{self.count}.jsonl"


def journals(folders: Sequence[Path]) -> list[Path]:
    """The journals of all shards in these folders.

    Raises:
        XaiError: There is none; a shard is missing; or they are shards of different counts.
    """
    found: dict[int, Path] = {}
    counts: set[int] = set()
    for path in (path for folder in folders for path in sorted(folder.glob(_FILES))):
        if (name := _FILE.fullmatch(path.name)) is not None:
            index, count = int(name[1]), int(name[2])
            if index in found and count in counts:
                raise XaiError(
                    f"{path}: shard {index}/{count} is there twice, as {found[index]}, too; name one of them"
                )
            found[index] = path
            counts.add(count)
    where = ", ".join(map(str, folders))
    if not found:
        raise XaiError(f"{where}: holds no shard of an evaluation (xai-evaluate --shard I/N writes shard-I-of-N.jsonl)")
    if len(counts) > 1:
        parts = ", ".join(f"of {count}" for count in sorted(counts))
        raise XaiError(f"{where}: holds shards {parts}; a merge takes all shards of one count")
    count = counts.pop()
    if missing := [str(index) for index in range(1, count + 1) if index not in found]:
        raise XaiError(f"{where}: shard {', '.join(missing)} of {count} is missing; name its folder, too")
    return [found[index] for index in range(1, count + 1)]


def take_over(journal: Journal, parts: Sequence[Path], described: Mapping[str, Any], chunks: int) -> None:
    """Copy what shards have measured into the journal of the whole evaluation, in the order of the chunks.

    Args:
        journal: The whole evaluation's; it keeps what it holds.
        parts: The shards' journals.
        described: The plan.
        chunks: How many chunks the plan has.

    Raises:
        XaiError: A shard belongs to another evaluation, is damaged, is being written, or has not measured all its images.
    """
    measured: dict[int, Chunks] = {}  # chunk -> the journal's chunks that hold it
    for path in parts:
        with Journal(path, described) as part:
            measured.update(dict.fromkeys(part.chunks, part.chunks))
            if lacking := _lacking(path, part, chunks):
                raise XaiError(
                    f"{path}: {lacking} of its chunks are not measured yet; give its command again, then merge"
                )
    for number in sorted(measured.keys() - journal.chunks.keys()):
        chunk = measured[number][number]
        journal.append(number, chunk["rows"], chunk["skipped"])


def _lacking(path: Path, part: Journal, chunks: int) -> int:
    """How many of a shard's chunks its journal lacks."""
    name = _FILE.fullmatch(path.name)
    assert name is not None
    own = Shard(int(name[1]), int(name[2]))
    return sum(own.takes(number) and number not in part.chunks for number in range(chunks))
