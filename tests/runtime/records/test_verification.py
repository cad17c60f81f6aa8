"""What is done to records behind their back is found: each kind at every place, in one file and over several."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest

from xai_deploy.errors import RecordsError
from xai_deploy.records import Kept, Verified, read_heads, verify

from . import damage

COUNT = 9


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine records in three or more files, and a second chain of two."""
    folder = tmp_path_factory.mktemp("intact") / "records"
    damage.write(folder, COUNT, file_bytes=4000)
    damage.write(folder, 2)
    assert len(damage.files(folder)) > 3
    return folder


def long_chain(folder: Path) -> list[tuple[Path, int]]:
    """The places of the chain of nine."""
    found = damage.places(folder)
    name = max((p.name[:-11] for p, _ in found), key=lambda n: sum(p.name.startswith(n) for p, _ in found))
    return [(p, i) for p, i in found if p.name.startswith(name)]


def heads(folder: Path) -> list[Kept]:
    """Of each chain by the definition, without our code: the sha256 of the last line, and how many lines there are."""
    by_chain: dict[str, list[bytes]] = {}
    for file in damage.files(folder):
        by_chain.setdefault(file.name[:-12], []).extend(file.read_bytes().splitlines())
    return [Kept(hashlib.sha256(lines[-1]).hexdigest(), len(lines)) for lines in by_chain.values()]


def said(found: Verified) -> list[tuple[str, int | None]]:
    return [(Path(fault.file).name, fault.line) for fault in found.faults]


def test_intact(intact: Path) -> None:
    found = verify(intact, heads(intact))
    assert found.faults == []
    assert sorted((chain.count, chain.accepted, chain.closed) for chain in found.chains) == [
        (2, 2, True),
        (COUNT, COUNT, True),
    ]
    assert {(chain.head, chain.count) for chain in found.chains} == {(kept.head, kept.count) for kept in heads(intact)}
    lines = [line for file, _ in dict(long_chain(intact)).items() for line in file.read_bytes().splitlines()]
    for before, line in itertools.pairwise(lines):  # the chain by its definition
        assert json.loads(line)["previous"] == hashlib.sha256(before).hexdigest()


def test_a_changed_byte(intact: Path, tmp_path: Path) -> None:
    """Any byte of any record, also one that leaves JSON and all types as they were."""
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        for turn in range(6):
            folder = damage.copy(intact, tmp_path / f"{number}-{turn}")
            file, line = long_chain(folder)[number]
            lines = damage.lines_of(file)
            changed = bytearray(lines[line])
            at = int(rng.integers(len(changed) - 1)) if turn else changed.index(b'"label":"') + 9
            changed[at] = ord("x") if changed[at] != ord("x") else ord("y")
            lines[line] = bytes(changed)
            damage.put(file, lines)
            faults = said(verify(folder, heads(intact)))
            assert (file.name, line + 1) in faults, (number, at)
            assert len(faults) <= 3


def test_a_dropped_line(intact: Path, tmp_path: Path) -> None:
    for number in range(COUNT):
        folder = damage.copy(intact, tmp_path / str(number))
        where = long_chain(folder)
        file, line = where[number]
        lines = damage.lines_of(file)
        del lines[line]
        damage.put(file, lines)
        if not lines:
            file.unlink()
        found = verify(folder, heads(intact))
        assert found.faults
        if number == COUNT - 1:
            assert "is missing: 9 records were counted, and the last here is record 7" in str(found.faults[0])
            continue
        after, there = where[number + 1]  # it is named before the record that follows it
        [fault] = found.faults
        assert (Path(fault.file).name, fault.line) == (after.name, there + 1 - (after == file))
        assert f"record {number} is missing before it" in fault.what


def test_swapped_lines(intact: Path, tmp_path: Path) -> None:
    for one in range(COUNT):
        for other in range(one + 1, COUNT):
            folder = damage.copy(intact, tmp_path / f"{one}-{other}")
            where = long_chain(folder)
            (file_a, a), (file_b, b) = where[one], where[other]
            line_a, line_b = damage.lines_of(file_a)[a], damage.lines_of(file_b)[b]
            for file, place, line in ((file_a, a, line_b), (file_b, b, line_a)):
                lines = damage.lines_of(file)
                lines[place] = line
                damage.put(file, lines)
            found = verify(folder, heads(intact))
            assert said(found) == [(file_a.name, a + 1), (file_b.name, b + 1)]
            assert f"record {other} is out of order: record {one} belongs here" in found.faults[0].what


@pytest.mark.parametrize("removed", [1, 2, COUNT - 1])
def test_a_cut_tail(intact: Path, tmp_path: Path, removed: int) -> None:
    folder = damage.copy(intact, tmp_path / "records")
    where = long_chain(folder)
    for file, line in where[COUNT - removed :][::-1]:
        lines = damage.lines_of(file)[:line]
        damage.put(file, lines)
        if not lines:
            file.unlink()
    file, line = where[COUNT - removed - 1]
    found = verify(folder, heads(intact))
    assert (file.name, line + 1) in said(found)
    assert f"record {COUNT - 1} is missing: {COUNT} records were counted" in found.faults[0].what
    for counting in folder.glob("*.count"):  # without the count files nothing but the kept head shows it
        counting.unlink()
    assert verify(folder).faults == []
    assert said(verify(folder, heads(intact))) == [(file.name, line + 1)]


def test_a_cut_line(intact: Path, tmp_path: Path) -> None:
    folder = damage.copy(intact, tmp_path / "records")
    file, line = long_chain(folder)[-1]
    os.truncate(file, file.stat().st_size - 20)
    found = verify(folder)
    assert said(found) == [(file.name, line + 1)]
    assert "has no end: it is cut off, or its process was killed" in found.faults[0].what
    assert [chain.count for chain in found.chains if chain.accepted == COUNT] == [COUNT - 1]
    assert said(verify(folder, allow_unfinished=True)) == [(file.name, line + 1)]  # its process ended the chain
    as_of_killed_processes(folder)
    assert verify(folder, allow_unfinished=True).faults == []
    assert verify(folder, heads(intact), allow_unfinished=True).faults  # the head that was kept still shows it


def test_a_rewritten_chain(intact: Path, tmp_path: Path) -> None:
    """Who rewrites everything from a record on leaves a chain in order: only the head that was kept shows it."""
    folder = damage.copy(intact, tmp_path / "records")
    where, previous = long_chain(folder), None
    for file, line in where:
        lines = damage.lines_of(file)
        record = json.loads(lines[line])
        if record["number"] == 4:
            record["target"]["label"] = "another"
        if previous is not None:
            record["previous"] = previous
        own = json.dumps(record, separators=(",", ":")).encode()
        previous = hashlib.sha256(own).hexdigest()
        lines[line] = own + b"\n"
        damage.put(file, lines)
    assert verify(folder).faults == []
    [fault] = verify(folder, heads(intact)).faults
    assert (Path(fault.file).name, fault.line) == (where[-1][0].name, where[-1][1] + 1)
    assert "record 8 is changed: its sha256 is not the head that was kept" in fault.what


def test_a_missing_chain_or_file(intact: Path, tmp_path: Path) -> None:
    folder = damage.copy(intact, tmp_path / "records")
    where = long_chain(folder)
    short = next(path for path in damage.files(folder) if path not in {file for file, _ in where})
    short.unlink()
    counted, kept = verify(folder, heads(intact)).faults
    assert "all of the 2 records with which its process ended it are missing" in counted.what
    assert "a chain of 2 records with the head" in kept.what
    Path(counted.file).unlink()
    [kept] = verify(folder, heads(intact)).faults
    assert "a chain of 2 records with the head" in kept.what
    middle = where[len(where) // 2][0]
    gone = [i for i, (file, _) in enumerate(where) if file == middle]
    middle.unlink()
    what = f"record{'s' * (len(gone) > 1)} {gone[0]}" + (f" to {gone[-1]} are" if len(gone) > 1 else " is")
    assert any(f"{what} missing before it" in fault.what for fault in verify(folder).faults)


def test_old_files_are_removed(intact: Path, tmp_path: Path) -> None:
    """In order for whoever kept the head at that point, and for nobody else."""
    folder = damage.copy(intact, tmp_path / "records")
    where = long_chain(folder)
    old = [record for record in where if record[0] == where[0][0]]
    head = Kept(hashlib.sha256(damage.lines_of(old[-1][0])[-1].rstrip(b"\n")).hexdigest(), len(old))
    where[0][0].unlink()
    [fault] = verify(folder).faults
    assert (
        "missing before it; if old files were removed, give the head and the count that they ended with" in fault.what
    )
    found = verify(folder, [head])
    assert found.faults == []
    assert {chain.first for chain in found.chains} == {0, len(old)}


def test_growth_is_no_fault(tmp_path: Path) -> None:
    recorder = damage.write(tmp_path / "records", 3, close=False)
    kept = heads(tmp_path / "records")
    found = verify(tmp_path / "records", kept)
    assert (found.faults, [chain.live for chain in found.chains]) == ([], [True])
    recorder.record(damage.deployed(), np.eye(4), np.zeros(3), "grad-cam")
    recorder.close()
    found = verify(tmp_path / "records", kept)
    assert (found.faults, [(chain.live, chain.count) for chain in found.chains]) == ([], [(False, 4)])


def test_lines_of_another_chain(intact: Path, tmp_path: Path) -> None:
    folder = damage.copy(intact, tmp_path / "records")
    where = long_chain(folder)
    short = next(path for path in damage.files(folder) if path not in {file for file, _ in where})
    short.write_bytes(short.read_bytes() + damage.lines_of(where[0][0])[0])
    assert (short.name, 3) in said(verify(folder))
    folder = damage.copy(intact, tmp_path / "twice")
    file, line = long_chain(folder)[2]
    damage.put(file, [*damage.lines_of(file), damage.lines_of(file)[line]])
    assert any("record 2 is there twice" in fault.what for fault in verify(folder).faults)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[]", "holds no heads"),
        (b'{"chains": [{"name": 1}]}', "holds no heads"),
        (b'{"chains": [{"name": "a", "head": "b", "count": "3"}]}', "holds no heads"),
        (b"\xff", "holds no heads"),
        (None, r"can't be read \(No such file or directory\)"),
    ],
)
def test_heads_that_are_none(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "heads.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(RecordsError, match=f"heads.json: {message}"):
        read_heads(file)


def test_no_records(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match=r"holds no records; xai-explain --records and Recorder write such folders"):
        verify(tmp_path)
    with pytest.raises(RecordsError, match=r"nothing: no such folder; verify takes the folder"):
        verify(tmp_path / "nothing")
    (tmp_path / "file").touch()
    with pytest.raises(RecordsError, match=r"file: is a file; verify takes the folder"):
        verify(tmp_path / "file")


def as_of_killed_processes(folder: Path) -> None:
    """Let the count files say that no process ended its chain."""
    for file in folder.glob("*.count"):
        file.write_bytes(file.read_bytes().replace(b"closed", b"open  "))


@pytest.mark.parametrize("closed", [True, False])
def test_a_chain_without_its_files(tmp_path: Path, closed: bool) -> None:
    """Its count file says that there were records: a fault if its process ended it, else told as missing."""
    folder = tmp_path / "records"
    damage.write(folder, 3)
    damage.write(folder, 2)
    if not closed:
        as_of_killed_processes(folder)
    [gone] = [file for file in damage.files(folder) if len(damage.lines_of(file)) == 3]
    gone.unlink()
    found = verify(folder)
    [there, missing] = sorted(found.chains, key=lambda chain: -chain.count)
    assert (there.count, there.missing) == (2, 0)
    assert (missing.name, missing.count, missing.missing, missing.closed) == (gone.name[:-12], 0, 3, closed)
    if not closed:
        assert not found.faults
        return
    [fault] = found.faults
    assert Path(fault.file).name == gone.name[:-12] + ".count"
    assert "all of the 3 records with which its process ended it are missing" in fault.what
    Path(fault.file).unlink()
    assert not verify(folder).faults


def test_a_count_file_without_records_is_no_fault(tmp_path: Path) -> None:
    """A process that recorded nothing, one that writes now, and files of others' names."""
    folder = tmp_path / "records"
    damage.write(folder, 0)
    damage.write(folder, 2)
    (folder / "mine.count").write_text("3")
    assert [chain.count for chain in verify(folder).chains] == [2]
    before = damage.files(folder)
    recorder = damage.write(folder, 2, close=False)
    files = [file for file in damage.files(folder) if file not in before]
    for file in files:
        file.rename(tmp_path / file.name)
    assert not verify(folder).faults
    for file in files:
        (tmp_path / file.name).rename(folder / file.name)
    recorder.close()
