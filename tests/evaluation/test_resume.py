"""Killed at any moment and started again, an evaluation ends with the same files as an undisturbed one."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from xai_deploy import Explainer
from xai_deploy.cli import evaluate
from xai_deploy.evaluation import Journal, Plan, Subject, report
from xai_deploy.evaluation import measure as evaluate_images
from xai_deploy.foundation import whole_files

from ..support.pages import body
from .conftest import Run, pictures

FILES = ("journal.jsonl", "images.csv", "images.parquet", "results.json", "report.html")
ROOT = Path(evaluate.__file__).parents[2]

KILLED = """
import os, signal, sys
from pathlib import Path
from xai_deploy.cli import evaluate

moment, count = sys.argv[1], int(sys.argv[2])

def killing(function, before=lambda *_: None):
    def call(*arguments):
        global count
        count -= 1
        if count == 0:
            before(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)
    return call

def half_a_line(descriptor):
    os.truncate(descriptor, os.fstat(descriptor).st_size - 700)

def half_a_file(path, target):
    os.truncate(path, os.stat(path).st_size // 2)

if moment == "line":
    os.fsync = killing(os.fsync, half_a_line)
else:
    Path.replace = killing(Path.replace, half_a_file)
sys.exit(evaluate.main(sys.argv[3:]))
"""


def command(out: str) -> list[str]:
    metrics = "average-drop,coherency,complexity,adcc"
    given = ["net.xai", "many", "-m", "reciprocam", "--metrics", metrics, "--threads", "1", "-q"]
    return [*given, "-o", out]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def start(out: str) -> subprocess.Popen[bytes]:
    program = [sys.executable, "-W", "error", "-m", "xai_deploy.cli.evaluate", *command(out)]
    return subprocess.Popen(program, env=environment(), stderr=subprocess.PIPE)


def lines(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def files(out: str) -> dict[str, bytes]:
    return {name: (body if name == "report.html" else Path.read_bytes)(Path(out, name)) for name in FILES}


def killed(moment: str, count: int, out: str) -> None:
    """Run it until it kills itself."""
    program = [sys.executable, "-c", KILLED, moment, str(count), *command(out)]
    finished = subprocess.run(program, env=environment(), check=False, capture_output=True, timeout=60)
    assert finished.returncode == -signal.SIGKILL, finished.stderr


def test_a_thousand_images(desk: Path) -> None:
    """Killed while it starts, at random moments, in the middle of a line, and while it writes its results."""
    pictures(desk / "many", 997)
    whole = Path("many/0001.png").read_bytes()
    Path("many/0002-cut.png").write_bytes(whole[:-40])
    Path("many/0500-empty.png").touch()
    Path("many/9999-text.png").write_text("no image")
    undisturbed = start("undisturbed")
    moments = random.Random(4)
    journal = Path("out/journal.jsonl")
    process = start("out")
    time.sleep(moments.uniform(0.1, 0.3))
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert lines(journal) == 0
    killed("line", 3, "out")
    assert lines(journal) == 3
    assert not journal.read_bytes().endswith(b"\n")
    for wanted in (8, 25):
        process = start("out")
        while lines(journal) < wanted and process.poll() is None:
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.05))
        process.kill()
        _, errors = process.communicate()
        assert process.returncode == -signal.SIGKILL, errors
        assert wanted <= lines(journal) < 64  # the plan, and 63 chunks
    killed("file", 2, "out")
    assert lines(journal) == 64
    _, errors = undisturbed.communicate(timeout=60)
    assert undisturbed.returncode == 0
    finished = start("out")
    _, again = finished.communicate(timeout=60)
    assert finished.returncode == 0
    assert files("out") == files("undisturbed")
    assert sorted(path.name for path in Path("out").iterdir()) == sorted(FILES)
    assert again == errors
    told = [line.split(": ")[2] for line in errors.decode().splitlines()]
    assert told == ["many/0002-cut.png", "many/0500-empty.png", "many/9999-text.png"]
    results = json.loads(files("out")["results.json"])
    assert results["images"] == 997
    assert [entry["image"] for entry in results["skipped"]] == ["0002-cut.png", "0500-empty.png", "9999-text.png"]
    assert results["results"][0]["figures"]["complexity"]["count"] == 997


class Killed(BaseException):
    pass


def test_killed_while_the_results_are_written(desk: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of each file, and before each is put in its place: what is there is whole, and the rest comes later."""
    monkeypatch.setattr(report, "html", lambda *_: b"<page>")
    pictures(desk / "many", 20)
    run(images="many", out="undisturbed")
    wanted = files("undisturbed")
    write, replace = whole_files.write_whole, Path.replace
    for moment in ("write", "replace"):
        for count in range(1, 5):
            calls = []

            def write_half(path: Path, data: bytes) -> None:
                calls.append(path)  # noqa: B023
                if moment == "write" and len(calls) == count:  # noqa: B023
                    with whole_files.whole_file(path) as file:
                        file.write(data[: len(data) // 2])
                        raise Killed
                write(path, data)

            def never_replace(path: Path, target: Path) -> Path:
                if moment == "replace" and len(calls) == count:  # noqa: B023
                    raise Killed
                return replace(path, target)

            with monkeypatch.context() as patch:
                patch.setattr("xai_deploy.evaluation.session.write_whole", write_half)
                patch.setattr(Path, "replace", never_replace)
                with pytest.raises(Killed):
                    run(images="many")
            done = {path.name: path.read_bytes() for path in Path("out").iterdir() if path.name in FILES}
            assert len(done) == count  # the journal, and all before
            assert done.items() <= wanted.items()
            run(images="many")
            assert files("out") == wanted
            assert sorted(path.name for path in Path("out").iterdir()) == sorted(FILES)
            for name in FILES[1:]:
                Path("out", name).unlink()


def test_cut_anywhere(desk: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal that a kill leaves may end at any byte."""
    monkeypatch.setattr(report, "html", lambda *_: b"")
    pictures(desk / "many", 36)
    Path("many/0017-broken.png").touch()
    run(images="many", out="undisturbed")
    wanted = files("undisturbed")
    journal = wanted["journal.jsonl"]
    header = journal.index(b"\n") + 1
    second = journal.index(b"\n", header) + 1
    measured = []
    explain_many = Explainer.explain_many

    def watch(self: Explainer, images: Any, *rest: Any) -> Any:
        measured.append(len(images.x))
        return explain_many(self, images, *rest)

    monkeypatch.setattr(Explainer, "explain_many", watch)
    cuts = {0: 3, 1: 3, header - 1: 3, header: 3, header + 9: 3, second - 1: 3, second: 2, len(journal) - 1: 1}
    for cut, chunks in (cuts | {len(journal): 0}).items():
        measured.clear()
        Path("out").mkdir(exist_ok=True)
        Path("out/journal.jsonl").write_bytes(journal[:cut])
        run(images="many")
        assert len([count for count in measured if count > 1]) == chunks, cut
        assert files("out") == wanted, cut


def test_goes_on(desk: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """It says so, and measures nothing twice."""
    run()
    assert "going on" not in capsys.readouterr().err
    first = files("out")
    run()
    assert capsys.readouterr().err == "continuing with out/journal.jsonl: 6 of 6 images are done\n"
    assert files("out") == first
    run("--overwrite")
    assert "going on" not in capsys.readouterr().err
    assert files("out") == first


def test_interrupted(desk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Control-C: one line, and what was measured is kept."""
    pictures(desk / "many", 40)
    append = Journal.append

    def interrupt(self: Journal, number: int, *rest: Any) -> None:
        if number == 1:
            raise KeyboardInterrupt
        append(self, number, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", interrupt)
        assert evaluate.main(command("out")) == 130
    kept = "16 of 40 images are done in out/journal.jsonl; give the same command again to continue"
    assert capsys.readouterr().err == f"{kept}\nxai-evaluate: interrupted\n"
    assert lines(Path("out/journal.jsonl")) == 2
    assert evaluate.main(command("out")) == 0
    assert evaluate.main(command("undisturbed")) == 0
    assert files("out") == files("undisturbed")


def test_memory(desk: Path, tmp_path: Path) -> None:
    """Four times the images, 1 MB each, take no more."""
    pictures(desk / "few", 16, (500, 700))
    many = desk / "many"
    many.mkdir()
    for number in range(64):
        (many / f"{number:04}.png").symlink_to(f"../few/{number % 16:04}.png")
    subject = Subject("net", Explainer("net.xai"))
    peaks: list[int] = []
    for folder in ("few", "few", "many"):  # the first opens the graphs
        images = sorted((desk / folder).iterdir())
        plan = Plan(desk / folder, images, [("reciprocam", {})], [("complexity", {})])
        tracemalloc.start()
        with Journal(tmp_path / f"{len(peaks)}.jsonl", plan.describe([subject])) as journal:
            evaluate_images([subject], plan, journal)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(journal.chunks) == len(images) / 16
    assert peaks[2] < peaks[1] + 700_000
