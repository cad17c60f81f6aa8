"""Recorder: from several threads and processes, over forks, killed at any moment, on a disk that is full."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from xai_deploy.errors import OptionError, RecordsError
from xai_deploy.records import Recorder, records, verify
from xai_deploy.records.chain import Chain

from . import damage

ROOT = Path(__file__).resolve().parents[3]


def one(recorder: Recorder, **fields: Any) -> str:
    return recorder.record(damage.deployed(), np.eye(4), np.arange(3.0), "grad-cam", fields=fields)


def run(code: str, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """A program with `folder`, `one` and `Recorder`."""
    head = (
        "import os, sys, threading, time\nfrom pathlib import Path\n"
        "from tests.runtime.records.test_recorder import Recorder, one\nfolder = Path(sys.argv[1])\n"
    )
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", head + code, str(folder), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )


def ended(process: subprocess.Popen[str]) -> int:
    """The exit status of a program."""
    process.communicate(timeout=60)
    return process.returncode


def test_threads(tmp_path: Path) -> None:
    """Every record is there once, and each thread's are in its own order."""
    with Recorder(tmp_path / "r", queue=3) as recorder:
        threads = [
            threading.Thread(target=lambda t=t: [one(recorder, thread=t, n=n) for n in range(40)]) for t in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = [record.fields for _, record in records(tmp_path / "r")]
    assert len(found) == 240
    for t in range(6):
        assert [fields["n"] for fields in found if fields["thread"] == t] == list(range(40))
    assert verify(tmp_path / "r").faults == []


def test_several_processes_in_one_folder(tmp_path: Path) -> None:
    code = (
        "with Recorder(folder, file_bytes=20000) as r:\n    for n in range(60): one(r, process=int(sys.argv[2]), n=n)"
    )
    started = [run(code, tmp_path / "r", str(i)) for i in range(3)]
    assert [ended(process) for process in started] == [0, 0, 0]
    found = verify(tmp_path / "r")
    assert (found.faults, [chain.count for chain in found.chains]) == ([], [60] * 3)
    assert len(damage.files(tmp_path / "r")) > 6  # rotated
    for chain in found.chains:
        own = [record.fields for _, record in records(tmp_path / "r") if record.chain == chain.name]
        assert [fields["n"] for fields in own] == list(range(60))
        assert len({fields["process"] for fields in own}) == 1


FORK = """
recorder = Recorder(folder)
[one(recorder, who="parent", n=n) for n in range(500)]  # some of them wait in the queue while the process is forked
child = os.fork()
who = "child" if child == 0 else "parent"
[one(recorder, who=who, n=500 + n) for n in range(100)]
recorder.close()
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork(tmp_path: Path) -> None:
    """Each process writes a chain of its own; what waited is written once."""
    assert ended(run(FORK, tmp_path / "r")) == 0
    found = verify(tmp_path / "r")
    assert found.faults == []
    assert sorted((chain.count, chain.closed) for chain in found.chains) == [(100, True), (600, True)]
    for chain in found.chains:
        own = [record.fields for _, record in records(tmp_path / "r") if record.chain == chain.name]
        who = "parent" if chain.count == 600 else "child"
        assert own == [{"who": who, "n": n + (0 if who == "parent" else 500)} for n in range(chain.count)]


def test_a_program_that_does_not_close(tmp_path: Path) -> None:
    code = "recorder = Recorder(folder)\nfor n in range(300): one(recorder, n=n)"
    assert ended(run(code, tmp_path / "r")) == 0
    [chain] = verify(tmp_path / "r").chains
    assert (chain.count, chain.closed) == (300, True)


WRITES = """
recorder = Recorder(folder, queue=50, durable=sys.argv[2] == "durable")
for n in range(100_000):
    one(recorder, n=n)
    print(n, flush=True)
"""


@pytest.mark.parametrize("mode", ["behind", "durable"])
def test_kill_9(tmp_path: Path, mode: str) -> None:
    """The chain verifies up to the last whole record. Nothing but the queue is lost, and the count says how much."""
    for turn, seconds in enumerate((0.02, 0.11, 0.3)):
        folder = tmp_path / str(turn)
        process = run(WRITES, folder, mode)
        assert process.stdout is not None
        process.stdout.readline()
        while not any(
            file.stat().st_size for file in folder.glob("*.jsonl")
        ):  # the first record is accepted, not yet written
            time.sleep(0.005)
        time.sleep(seconds)
        process.kill()
        said, _ = process.communicate()
        accepted = int(said.split()[-1]) + 1
        found = verify(folder, allow_unfinished=True)
        [chain] = found.chains
        assert (found.faults, chain.live, chain.closed) == ([], False, False)
        assert chain.accepted in (accepted, accepted + 1)
        assert 0 <= chain.missing == chain.accepted - chain.count <= 50
        if mode == "durable":
            assert chain.count >= accepted
        assert [record.fields["n"] for _, record in records(folder)] == list(range(chain.count))


def test_the_queue_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk stands still a full queue makes its caller wait, or drops and says how many."""
    go, write = threading.Event(), Chain.write

    def slow(self: Any, *arguments: Any) -> None:
        go.wait()
        write(self, *arguments)

    monkeypatch.setattr(Chain, "write", slow)
    waiting, dropping = Recorder(tmp_path / "w", queue=4), Recorder(tmp_path / "d", queue=4, when_full="drop")
    thread = threading.Thread(target=lambda: [one(waiting, n=n) for n in range(6)])
    thread.start()
    for n in range(10):
        one(dropping, n=n)
    assert dropping.lost == 6
    thread.join(0.2)
    assert thread.is_alive()
    go.set()
    thread.join(30)
    time.sleep(0.05)
    one(dropping, n=10)
    waiting.close()
    dropping.close()
    assert [record.fields["n"] for _, record in records(tmp_path / "w")] == list(range(6))
    assert [(r.fields["n"], r.lost) for _, r in records(tmp_path / "d")] == [(0, 0), (1, 0), (2, 0), (3, 0), (10, 6)]
    [chain] = verify(tmp_path / "d").chains
    assert (chain.lost, chain.accepted, chain.missing) == (6, 5, 0)


def test_bytes_in_the_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Chain, "write", lambda *_: time.sleep(3600))
    recorder = Recorder(tmp_path / "r", queue_bytes=5000, when_full="drop")
    for n in range(10):
        one(recorder, n=n)
    assert 10 - 5000 // 1000 <= recorder.lost < 10
    recorder._end.detach()  # its thread never ends


@pytest.mark.parametrize("durable", [False, True])
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool) -> None:
    """One line says so, at the call or the next one; the file holds whole records only."""
    write, left = os.write, [3000]

    def full(handle: int, data: Any) -> int:
        if len(data) < 100:  # the count, which takes no further space
            return write(handle, data)
        if left[0] == 0:
            raise OSError(28, "No space left on device")
        taken = min(len(data), left[0])
        left[0] -= taken
        return write(handle, bytes(data)[:taken])

    monkeypatch.setattr(os, "write", full)
    recorder = Recorder(tmp_path / "r", durable=durable)
    message = (
        r"r: records can't be written \(No space left on device\); \d+ that were accepted are lost; mend that, and"
    )
    with pytest.raises(RecordsError, match=message):  # noqa: PT012 -- which of the calls learns of it is chance
        for n in range(100):
            one(recorder, n=n)
            time.sleep(0.01)
    with pytest.raises(RecordsError, match=message):
        one(recorder)
    with pytest.raises(RecordsError, match=message):
        recorder.close()
    found = verify(tmp_path / "r")
    [chain] = found.chains
    assert (found.faults, chain.count, chain.closed) == (
        [],
        3000 // len(damage.lines_of(damage.files(tmp_path / "r")[0])[0]),
        False,
    )
    assert chain.missing >= 1


def test_a_limit_of_the_system(tmp_path: Path) -> None:
    """RLIMIT_FSIZE, as `ulimit -f` and service managers set it: one line, and whole records."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)); from xai_deploy.errors import RecordsError\n"
        "recorder = Recorder(folder, durable=True)\n"
        "try:\n    for n in range(100): one(recorder, n=n)\nexcept RecordsError as error: print(error)"
    )
    process = run(code, tmp_path / "r")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    line = (
        "records can't be written (File too large); 1 that were accepted are lost; mend that, and open another Recorder"
    )
    assert said == f"{tmp_path / 'r'}: {line}\n"
    found = verify(tmp_path / "r")
    [chain] = found.chains
    assert (found.faults, chain.missing) == ([], 1)
    assert chain.count > 1


def replaced(file: Path) -> None:
    data = file.read_bytes()
    file.rename(file.with_suffix(".1"))
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("touch", "said"),
    [
        (Path.unlink, "removed or replaced"),
        (replaced, "removed or replaced"),
        (lambda file: shutil.rmtree(file.parent), "removed or replaced"),
        (lambda file: os.truncate(file, 0), "wrote to"),
        (lambda file: file.write_bytes(file.read_bytes() + b"x"), "wrote to"),
    ],
    ids=["removed", "replaced", "no folder", "cut off", "longer"],
)
def test_a_file_that_another_program_touches(touch: Any, said: str, tmp_path: Path) -> None:
    """As a log rotation may: what is appended to a file without a name is lost, and nobody would learn of it."""
    recorder = Recorder(tmp_path / "r", durable=True)
    one(recorder)
    [file] = damage.files(tmp_path / "r")
    touch(file)
    with pytest.raises(
        RecordsError, match=rf"records can't be written \(another program {said} \S+jsonl\); 1 that were"
    ):
        one(recorder)
    with pytest.raises(RecordsError):
        recorder.close()


def test_a_clock_that_goes_backwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order is that of the numbers and hashes, not of the times."""

    class Clock(datetime):
        left: ClassVar[list[int]] = [100, 50, 70, 10, 10, 10]

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.fromtimestamp(1.7e9 + cls.left.pop(0), tz)

    monkeypatch.setattr("xai_deploy.records.facts.datetime", Clock)
    with Recorder(tmp_path / "r") as recorder:
        ids = [one(recorder) for _ in range(3)]
    found = verify(tmp_path / "r")
    assert (found.faults, found.chains[0].count) == ([], 3)
    told = [record for _, record in records(tmp_path / "r")]
    assert [record.id for record in told] == ids
    assert told[1].time < told[2].time < told[0].time


def test_closed(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "r")
    recorder.close()
    recorder.close()
    assert list((tmp_path / "r").iterdir()) == []  # a Recorder that was not used leaves nothing
    with pytest.raises(RecordsError, match=r"r: this Recorder is closed; open another$"):
        one(recorder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queue": 0}, "queue is a whole number, at least 1, not 0"),
        ({"queue_bytes": 2.5}, r"queue_bytes is a whole number, at least 1, not 2\.5"),
        ({"file_bytes": True}, "file_bytes is a whole number, at least 1, not True"),
        ({"when_full": "stop"}, "when_full is 'wait' or 'drop', not 'stop'"),
    ],
)
def test_options(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Recorder(tmp_path / "r", **options)


def test_folders(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RecordsError, match=r"file: is a file; records go into a folder$"):
        Recorder(tmp_path / "file")
    with pytest.raises(RecordsError, match=r"b: the folder that it would lie in does not exist$"):
        Recorder(tmp_path / "a" / "b")
    (tmp_path / "sealed").mkdir(mode=0o500)
    if not os.access(tmp_path / "sealed", os.W_OK):  # root may write anywhere
        with pytest.raises(RecordsError, match=r"sealed: can't be written \(Permission denied\)"):
            Recorder(tmp_path / "sealed")


def test_not_for_everyone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        damage.write(tmp_path / "r", 1)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "r").iterdir()} == {0o640}


def test_interrupted_wait(tmp_path: Path) -> None:
    """A signal handler may close the recorder that its own thread is using."""
    code = (
        "import signal\nrecorder = Recorder(folder)\n"
        "def stop(*_):\n    recorder.close()\n    os._exit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "for n in range(10**6):\n    one(recorder, n=n)\n    if n == 20: print('ready', flush=True)"
    )
    process = run(code, tmp_path / "r")
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert ended(process) == 0
    [chain] = verify(tmp_path / "r").chains
    assert (chain.closed, chain.missing) == (True, 0)
    assert json.loads(damage.lines_of(damage.files(tmp_path / "r")[0])[0])["number"] == 0
