"""Whether the records of a folder are those that were written: none changed, dropped, out of order or cut off.

A record says the sha256 of the one before it. So a record is known to be unchanged if the next one is. That the last one is, and
that no later one was cut off, is known only to someone who kept the chain's head (the sha256 of its last record) and count
elsewhere. Someone who can rewrite the whole folder can rewrite its chains, too: only a head kept elsewhere shows that.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import RecordsError
from ..foundation.whole_files import lock
from .chain import COUNT, COUNT_FILE, FILE, Count, first_link
from .reading import Place, files, lines
from .record import decode


@dataclass(frozen=True)
class Fault:
    """Something that is wrong.

    Attributes:
        file: Where.
        line: In which line of it, from 1 on; None if it is the file itself, or what is missing at its end.
        what: What is wrong.
    """

    file: str
    line: int | None
    what: str

    def __str__(self) -> str:
        at = "" if self.line is None else f", line {self.line}"
        return f"{self.file}{at}: {self.what}"


@dataclass(frozen=True)
class Kept:
    """A chain's head and count, as they were kept elsewhere.

    Attributes:
        head: The sha256 of the chain's record number `count` - 1.
        count: How many records it had.
        chain: Its name; None if only the two were kept.
    """

    head: str
    count: int
    chain: str | None = None


@dataclass(frozen=True)
class ChainState:
    """A chain as it is found.

    Attributes:
        name: Its name.
        first: The number of its first record; above 0 if earlier ones were removed.
        count: The number of its last record and 1: what to keep with the head.
        head: The sha256 of its last whole record.
        accepted: How many records its process accepted; None if the count file is missing.
        lost: How many were dropped because the queue was full.
        closed: The process ended the chain.
        live: A process writes it now.
    """

    name: str
    first: int
    count: int
    head: str
    accepted: int | None
    lost: int
    closed: bool
    live: bool

    @property
    def missing(self) -> int:
        """How many records were accepted and are not there: lost with the queue of a killed process, or cut off."""
        return 0 if self.accepted is None or self.live else max(self.accepted - self.count, 0)


@dataclass(frozen=True)
class Verified:
    """What `verify` found."""

    chains: Sequence[ChainState]
    faults: Sequence[Fault]


@dataclass
class _Link:
    """A line of a chain."""

    at: Place
    position: int
    number: int
    previous: str
    sha256: str


@dataclass
class _Chain:
    """A chain as it is read."""

    name: str
    files: list[Path]
    links: list[_Link] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    unread: set[int] = field(default_factory=set)  # positions of lines that are no records
    end: Place | None = None  # the last line
    ends: bool = True  # it has an end

    def unread_between(self, low: int, high: int) -> int:
        """How many lines between two positions are no records: each may be a record that is missing otherwise."""
        return sum(low < position < high for position in self.unread)

    def fault(self, at: Place, what: str) -> None:
        """Note that something is wrong."""
        self.faults.append(Fault(str(at.file), at.line, what))


def verify(path: Path, kept: Iterable[Kept] = (), allow_unfinished: bool = False) -> Verified:
    """Verify every chain in a folder.

    Args:
        path: The folder.
        kept: Heads and counts that were kept elsewhere. A chain that lost its beginning, because old files were removed, is in
            order if what was kept at that point fits.
        allow_unfinished: The last line of a process that was killed may have no end; not of one that ended its chain.

    Raises:
        RecordsError: The folder holds no records, or can't be read.
    """
    if not path.is_dir():
        raise RecordsError(f"{path}: {'is a file' if path.exists() else 'no such folder'}; verify takes the folder")
    named: dict[str, _Chain] = {}
    for file in files(path):
        match = FILE.fullmatch(file.name)
        assert match is not None
        named.setdefault(match[1], _Chain(match[1], [])).files.append(file)
    states = []
    for name, chain in named.items():
        count, live = _count(path / (name + COUNT))
        # A process that ended its chain was not killed in the middle of a line.
        ended = count is not None and count.closed
        _read(chain, live or (allow_unfinished and not ended))
        states.append(_state(chain, count, live))
    begins = _compare(list(named.values()), list(kept))
    for chain, state in zip(named.values(), states, strict=True):
        _judge_beginning(chain, chain.name in begins)
        if state.closed and state.missing and chain.ends:
            what = f"it has {state.count} of the {state.accepted} records with which its process ended it: what followed is cut off"
            chain.fault(chain.end or Place(chain.files[-1], 0), what)
    gone = _without_files(path, named)
    general = [
        Fault(
            str(path / (state.name + COUNT)),
            None,
            f"the chain has no file here: all of the {state.accepted} records with which its process ended it are missing; if its "
            "files were moved away, its count file goes with them",
        )
        for state in gone
        if state.closed
    ]
    general += [Fault(str(path), None, what) for what in begins.get("", ())]
    return Verified([*states, *gone], [*(fault for chain in named.values() for fault in chain.faults), *general])


def read_heads(path: Path) -> list[Kept]:
    """The heads in a file that `xai-records verify --json FILE` wrote earlier.

    Raises:
        RecordsError: It can't be read, or is no such file.
    """
    try:
        document = json.loads(path.read_bytes())
        heads = [Kept(one["head"], one["count"], one["name"]) for one in document["chains"]]
        if any(type(one.count) is not int or not isinstance(one.head, str) for one in heads):
            raise ValueError
    except OSError as error:
        raise RecordsError(f"{path}: can't be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise RecordsError(f"{path}: holds no heads; xai-records verify --json writes such files") from None
    return [one for one in heads if one.count]  # a chain without records has nothing to keep


def _count(file: Path) -> tuple[Count | None, bool]:
    """What the count file says, and whether the process that writes the chain lives."""
    try:
        with file.open("rb") as opened:
            count = Count.read(opened.read(100))
            try:
                lock(opened.fileno(), shared=True)
            except BlockingIOError:
                return count, True
    except OSError:
        return None, False
    return count, False


def _without_files(path: Path, named: Collection[str]) -> list[ChainState]:
    """The chains of which the count file alone is there, with records that were accepted; without those that a process writes."""
    names = sorted(match[1] for file in path.iterdir() if (match := COUNT_FILE.fullmatch(file.name)))
    states = []
    for name in names:
        count, live = _count(path / (name + COUNT))
        if name not in named and count is not None and count.accepted and not live:
            states.append(_state(_Chain(name, []), count, live))
    return states


def _read(chain: _Chain, allow_unfinished: bool) -> None:
    """Read the lines of a chain's files, and judge them against each other."""
    position = 0
    for file in chain.files:
        for number, (line, whole) in enumerate(lines(file), 1):
            at = chain.end = Place(file, number)
            position += 1
            if not whole:
                chain.ends = False
                if file is not chain.files[-1] or not allow_unfinished:
                    chain.fault(at, "the line has no end: it is cut off, or its process was killed while it wrote it")
                continue
            try:
                record = decode(line)
                if record.chain != chain.name:
                    raise ValueError(f"belongs to the chain {record.chain[:60]!r}, not to this file's")
            except ValueError as error:
                chain.fault(at, f"changed: {'' if str(error).startswith(('its ', 'the ')) else 'it '}{error}")
                chain.unread.add(position)
                continue
            sha256 = hashlib.sha256(line).hexdigest()
            chain.links.append(_Link(at, position, record.number, record.previous, sha256))
    _order(chain)
    _hashes(chain)


def _order(chain: _Chain) -> None:
    """Find records that are missing, twice, or out of order."""
    seen: dict[int, Place] = {}
    for one in chain.links:
        if one.number in seen:
            chain.fault(one.at, f"record {one.number} is there twice; it is also {seen[one.number]}")
        seen.setdefault(one.number, one.at)
    unique = [one for one in chain.links if seen[one.number] == one.at]
    for one, wanted in zip(unique, sorted(link.number for link in unique), strict=True):
        if one.number != wanted:
            chain.fault(one.at, f"record {one.number} is out of order: record {wanted} belongs here")
    in_order = sorted(unique, key=lambda one: one.number)
    for one, after in itertools.pairwise(in_order):
        gap = after.number - one.number - 1
        if gap > chain.unread_between(one.position, after.position):
            which = f"record {one.number + 1} is" if gap == 1 else f"records {one.number + 1} to {after.number - 1} are"
            chain.fault(after.at, f"{which} missing before it")
    chain.links = in_order


def _hashes(chain: _Chain) -> None:
    """Find records that are not those which the next one names."""
    wrong = [
        after.number == one.number + 1 and after.previous != one.sha256
        for one, after in itertools.pairwise(chain.links)
    ]
    for i, (one, differs) in enumerate(zip(chain.links, wrong, strict=False)):
        if not differs:
            continue
        if (
            i + 1 < len(wrong) and wrong[i + 1]
        ):  # the next record is changed itself: what it says of this one proves nothing
            chain.fault(
                one.at, f"record {one.number} can't be judged: the next one is changed, and names another sha256"
            )
        else:
            chain.fault(one.at, f"record {one.number} is changed: its sha256 is not the one that the next record names")
    if chain.links and chain.links[0].number == 0 and chain.links[0].previous != first_link(chain.name):
        chain.fault(chain.links[0].at, "record 0 is changed: it does not begin this chain")


def _compare(chains: Sequence[_Chain], kept: Sequence[Kept]) -> dict[str, list[str]]:
    """Compare the chains with what was kept of them.

    Returns:
        The names of chains whose missing beginning is known; and under "" what is wrong with no single file.
    """
    begins: dict[str, list[str]] = {}
    suspects, unmatched = list(chains), []
    for one in kept:
        fitting = next((chain for chain in chains if _fits(chain, one)), None)
        if fitting is None:
            unmatched.append(one)
            continue
        suspects = [chain for chain in suspects if chain is not fitting]
        if fitting.links and fitting.links[0].number == one.count:
            begins[fitting.name] = []
    for one in unmatched:
        own = [chain for chain in suspects if one.chain in (None, chain.name)]
        there = [(chain, link) for chain in own for link in chain.links if link.number == one.count - 1]
        if len(own) == 1 and there:
            _, link = there[0]
            own[0].fault(link.at, f"record {link.number} is changed: its sha256 is not the head that was kept")
        elif len(own) == 1 and own[0].end is not None:
            last = own[0].links[-1].number if own[0].links else -1
            what = f"record {one.count - 1} is missing: {one.count} records were counted, and the last here is record {last}"
            own[0].fault(own[0].end, what)
        else:
            name = f"the chain {one.chain[:60]}" if one.chain else "a chain"
            what = f"{name} of {one.count} records with the head {one.head[:64]} is missing, cut off or changed"
            begins.setdefault("", []).append(what)
    return begins


def _fits(chain: _Chain, kept: Kept) -> bool:
    """Whether a chain holds the record whose sha256 was kept, or begins right after it."""
    if kept.chain not in (None, chain.name):
        return False
    first = chain.links[0] if chain.links else None
    if first is not None and first.number == kept.count and first.previous == kept.head:
        return True
    return any(one.number == kept.count - 1 and one.sha256 == kept.head for one in chain.links)


def _judge_beginning(chain: _Chain, known: bool) -> None:
    first = chain.links[0] if chain.links else None
    if first is None or known or first.number <= chain.unread_between(0, first.position):
        return
    which = "record 0 is" if first.number == 1 else f"records 0 to {first.number - 1} are"
    advice = "if old files were removed, give the head and the count that they ended with"
    chain.fault(first.at, f"{which} missing before it; {advice}")


def _state(chain: _Chain, count: Count | None, live: bool) -> ChainState:
    last = chain.links[-1] if chain.links else None
    return ChainState(
        chain.name,
        chain.links[0].number if chain.links else 0,
        last.number + 1 if last else 0,
        last.sha256 if last else first_link(chain.name),
        None if count is None else count.accepted,
        0 if count is None else count.lost,
        count is not None and count.closed,
        live,
    )
