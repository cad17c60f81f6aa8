"""The journal, whatever happens to it: cut at every byte, damaged, of another evaluation, written by two, on a full disk."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from xai_deploy.errors import XaiError
from xai_deploy.foundation.journal import Journal

PLAN: dict[str, Any] = {"networks": ["a\n\udcff"], "metrics": [["deletion", {"steps": 3}]], "limit": (1, 2)}
CHUNKS = [
    ([{"image": "a\n\udcffé.png", "values": {"x": 0.1, "y": None}}], []),
    ([], [{"image": "b", "reason": "broken"}]),
    ([{"image": "=c", "values": {"x": 1e-320}}], []),
]


def fill(journal: Journal) -> None:
    for number, (rows, skipped) in enumerate(CHUNKS):
        if number not in journal.chunks:
            journal.append(number, rows, skipped)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out" / "journal.jsonl"


def test_round_trip(path: Path) -> None:
    with Journal(path, PLAN) as journal:
        assert not path.parent.exists()  # a refusal leaves nothing behind
        fill(journal)
        kept = journal.chunks
    with Journal(path, PLAN) as again:
        assert again.chunks == kept
        assert [again.chunks[number]["rows"] for number in range(3)] == [rows for rows, _ in CHUNKS]
        assert again.chunks[1]["skipped"] == CHUNKS[1][1]
    lines = path.read_bytes().split(b"\n")
    assert lines[-1] == b""
    assert len(lines) == 5
    assert all(line.isascii() for line in lines)


def test_cut_at_every_byte(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much reached the disk, what is whole is kept, and in the end the file is the same."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    with Journal(path, PLAN) as journal:
        fill(journal)
    whole = path.read_bytes()
    ends = [match.end() for match in re.finditer(rb"\n", whole)]
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        with Journal(path, PLAN) as journal:
            assert len(journal.chunks) == max(sum(end <= cut for end in ends) - 1, 0), cut
            fill(journal)
        assert path.read_bytes() == whole, cut


def test_what_a_power_failure_leaves(path: Path) -> None:
    """Room that was taken and not filled: zeros behind the last line."""
    with Journal(path, PLAN) as journal:
        fill(journal)
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(5000))
    with Journal(path, PLAN) as journal:
        assert len(journal.chunks) == 3
    assert path.read_bytes() == whole


def test_each_chunk_is_on_the_disk_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(path.read_bytes()))
    with Journal(path, PLAN) as journal:
        fill(journal)
    assert [data.count(b"\n") for data in synced] == [2, 3, 4]


@pytest.mark.parametrize(
    ("place", "text"),
    [
        (0, b"\x00\x00\x00"),
        (0, b'{"plan": 3}'),
        (0, b'{"chunk": 0, "rows": [], "skipped": []}'),
        (1, b"nonsense"),
        (1, b"[" * 100_000),
        (2, b'{"chunk": "2", "rows": [], "skipped": []}'),
        (2, b'{"chunk": 1, "rows": [], "skipped": {}}'),
        (2, b'{"chunk": 1, "rows": []}'),
        (3, b'"text"'),
        (3, b"\xff\xfe"),
    ],
)
def test_damaged(path: Path, place: int, text: bytes) -> None:
    with Journal(path, PLAN) as journal:
        fill(journal)
    lines = path.read_bytes().split(b"\n")
    lines[place] = text
    damaged = b"\n".join(lines)
    path.write_bytes(damaged)
    message = f"{path}: line {place + 1} is damaged; give --overwrite to begin again, or another folder with -o"
    with pytest.raises(XaiError, match=f"^{re.escape(message)}$"):
        Journal(path, PLAN)
    assert path.read_bytes() == damaged
    with Journal(path, PLAN, restart=True) as journal:
        fill(journal)
    assert path.read_bytes().count(b"\n") == 4


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"networks": ["b"]}, "networks"),
        ({"metrics": [["deletion", {"steps": 4}]], "limit": None}, "metrics, limit"),
        ({"new": 1}, "new"),
        ({"limit": ...}, "format"),
    ],
)
def test_another_evaluation(path: Path, changes: dict[str, Any], what: str) -> None:
    with Journal(path, PLAN) as journal:
        fill(journal)
    before = path.read_bytes()
    other = {key: value for key, value in (PLAN | changes).items() if value is not ...}
    message = f"{path}: belongs to an evaluation that differs in {what}; give --overwrite to begin again"
    with pytest.raises(XaiError, match=re.escape(message)):
        Journal(path, other)
    assert path.read_bytes() == before


def test_beginning_restart_keeps_the_old_one_until_there_is_something_new(path: Path) -> None:
    with Journal(path, PLAN) as journal:
        fill(journal)
    before = path.read_bytes()
    with Journal(path, {"networks": []}, restart=True) as journal:
        assert not journal.chunks
        assert path.read_bytes() == before
        journal.append(0, [], [])
    assert [json.loads(line) for line in path.read_bytes().splitlines()] == [
        {"plan": {"networks": []}},
        {"chunk": 0, "rows": [], "skipped": []},
    ]


def test_two_at_a_time(path: Path) -> None:
    busy = f"{re.escape(str(path))}: another evaluation is writing there; wait for it, or give another folder"
    with Journal(path, PLAN) as first, Journal(path, PLAN) as late:
        first.append(0, [], [])
        for restart in (False, True):
            with pytest.raises(XaiError, match=busy):
                Journal(path, PLAN, restart)
        with pytest.raises(XaiError, match=busy):  # neither was there when the other began
            late.append(0, [], [])
        first.append(1, [], [])
    with Journal(path, PLAN) as journal:
        assert list(journal.chunks) == [0, 1]


def test_a_file_system_without_locks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with Journal(path, PLAN) as journal:
        fill(journal)
    with Journal(path, PLAN) as journal:
        assert len(journal.chunks) == 3


def test_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the file, and what had been written before is kept."""
    with Journal(path, PLAN) as journal:
        journal.append(0, *CHUNKS[0])

        def full(_: int) -> None:
            os.truncate(path, path.stat().st_size - 5)
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space left") as caught:
                journal.append(1, *CHUNKS[1])
        assert caught.value.filename == str(path)
    with Journal(path, PLAN) as journal:
        assert list(journal.chunks) == [0]
        fill(journal)
        assert len(journal.chunks) == 3
