"""Shards of an evaluation, merged, are the evaluation of one machine."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from xai_deploy.cli import evaluate as command
from xai_deploy.errors import OptionError, XaiError
from xai_deploy.evaluation import evaluate
from xai_deploy.evaluation.shards import Shard

from ..support.pages import body
from .conftest import Refused, Run, interrupt, pictures

MANY = 37  # three chunks, the last one short
ASKED = ("-m", "reciprocam", "--metrics", "complexity,average-drop", "--threads", "1")
FILES = ("journal.jsonl", "results.json", "images.csv", "images.parquet")


@pytest.fixture
def many(desk: Path) -> Path:
    """Images for three chunks, one of them damaged."""
    pictures(desk / "many", MANY)
    Path("many/0020-cut.png").write_bytes(Path("many/0001.png").read_bytes()[:-40])
    return desk


def measure(shard: str, out: str, *more: str) -> int:
    return command.main(["net.xai", "many", *ASKED, "-o", out, "--shard", shard, *more])


def files(out: str) -> dict[str, bytes]:
    return {**{name: Path(out, name).read_bytes() for name in FILES}, "report.html": body(Path(out, "report.html"))}


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_byte_for_byte(many: Path, run: Run, capsys: pytest.CaptureFixture[str], count: int) -> None:
    run(*ASKED, images="many", out="whole")
    whole = capsys.readouterr()
    for index in range(1, count + 1):
        assert measure(f"{index}/{count}", "parts") == 0
    told = capsys.readouterr().out.splitlines()
    counted = [int(re.search(r"(\d+) images", line)[1]) for line in told]  # type: ignore[index]
    assert sum(counted) == MANY
    assert told[-1].endswith("xai-evaluate merge parts")
    assert not Path("parts/results.json").exists()
    assert command.main(["merge", "parts"]) == 0
    merged = capsys.readouterr()
    assert merged.out.replace(str(many) + os.sep, "").replace("parts/", "whole/") == whole.out
    assert merged.err.replace("xai-evaluate merge: ", "xai-evaluate: ") == whole.err
    page = {key: value.replace(b"parts", b"whole") for key, value in files("parts").items()}
    assert {**page, "report.html": b""} == {**files("whole"), "report.html": b""}


def test_folders_of_their_own_and_from_elsewhere(many: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run(*ASKED, images="many", out="whole")
    assert measure("1/2", "one") == measure("2/2", "two", "-q") == 0
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert command.main(["merge", "../one", "../two", "-o", "all", "--json", "all.json", "-q"]) == 0
    assert sorted(os.listdir()) == ["all", "all.json"]
    assert Path("all/results.json").read_bytes() == Path("../whole/results.json").read_bytes()
    assert json.loads(Path("all.json").read_bytes()) == json.loads(Path("all/results.json").read_bytes())


def test_an_interrupted_shard_goes_on(
    many: Path, run: Run, refused: Refused, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(*ASKED, images="many", out="whole")
    assert measure("2/2", "parts") == 0
    with monkeypatch.context() as patch:
        interrupt(patch)
        assert measure("1/2", "parts") == 130
    capsys.readouterr()
    assert command.main(["merge", "parts"]) == 2
    line = "parts/shard-1-of-2.jsonl: 1 of its chunks are not measured yet; give its command again, then merge"
    assert line in capsys.readouterr().err.replace(str(many) + os.sep, "")
    assert measure("1/2", "parts") == 0
    assert "continuing with" in capsys.readouterr().err
    assert command.main(["merge", "parts", "-q"]) == 0
    assert files("parts")["results.json"] == files("whole")["results.json"]


def test_from_python(many: Path, run: Run) -> None:
    whole = evaluate("net.xai", "many", out="whole", methods=["reciprocam"], metrics=["complexity"])
    shards = [
        evaluate("net.xai", "many", out="parts", methods=["reciprocam"], metrics=["complexity"], shard=f"{i}/4")
        for i in (1, 2, 3, 4)
    ]
    assert [shard.images for shard in shards] == [16, 15, 6, 0]
    assert shards[3].groups == []
    merged = evaluate("net.xai", "many", out="all", methods=["reciprocam"], metrics=["complexity"], parts=["parts"])
    assert merged.document == whole.document
    with pytest.raises(XaiError, match="belongs to an evaluation that differs in metrics"):
        evaluate("net.xai", "many", out="other", methods=["reciprocam"], metrics=["average-drop"], parts=["parts"])
    with pytest.raises(OptionError, match=r"shard 1/4: give the folder of all shards \(-o OUT\)"):
        evaluate("net.xai", "many", methods=["reciprocam"], shard="1/4")


def test_other_threads_are_another_evaluation(many: Path, run: Run, refused: Refused) -> None:
    assert measure("1/2", "parts") == 0
    line = refused("net.xai", "-o", "parts", "--shard", "1/2", "--metrics", "complexity,average-drop", images="many")
    assert "differs in networks" in line


def test_refused_merges(many: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure("1/3", "one") == measure("2/3", "two") == measure("1/2", "half") == measure("1/3", "again") == 0
    assert command.main(["net.xai", "many", "-m", "eigen-cam", "-o", "other", "--shard", "3/3"]) == 0
    Path("empty").mkdir()
    Path("damaged").mkdir()
    Path("damaged/command.json").write_text("{}")

    def line(*folders: str) -> str:
        capsys.readouterr()
        assert command.main(["merge", *folders, "-o", "all"]) == 2
        assert not Path("all").exists()
        captured = capsys.readouterr().err.replace(str(many) + os.sep, "")
        assert captured.count("\n") == 1
        return captured.removeprefix("xai-evaluate merge: error: ").strip()

    assert line("one") == "one: shard 2, 3 of 3 is missing; name its folder, too"
    assert line("one", "two") == "one, two: shard 3 of 3 is missing; name its folder, too"
    assert line("one", "half") == "one, half: holds shards of 2, of 3; a merge takes all shards of one count"
    assert line("one", "again", "two") == (
        "again/shard-1-of-3.jsonl: shard 1/3 is there twice, as one/shard-1-of-3.jsonl, too; name one of them"
    )
    assert line("one", "two", "other") == "other: holds shards of another command than one"
    assert line("empty") == (
        "empty: holds no shards (command.json is missing); xai-evaluate --shard I/N -o OUT writes them"
    )
    assert line("damaged") == "damaged/command.json: is damaged; give the command of a shard again"
    assert line("absent").startswith("absent: holds no shards")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--shard", "1/2"), "--shard: give -o OUT, the folder that all shards write to"),
        (("--shard", "0/2", "-o", "out"), "shard 0/2: the first number is between 1 and the second"),
        (("--shard", "3/2", "-o", "out"), "shard 3/2: the first number is between 1 and the second"),
        (("--shard", "half", "-o", "out"), "shard 'half': give I/N, as 1/4 for the first of four"),
        (("--shard=-1/2", "-o", "out"), "shard '-1/2': give I/N, as 1/4 for the first of four"),
    ],
)
def test_refused_shards(desk: Path, refused: Refused, arguments: tuple[str, ...], message: str) -> None:
    assert message in refused("net.xai", *arguments)
    assert not Path("out").exists()


def test_every_chunk_in_one_shard() -> None:
    for count in range(1, 9):
        shards = [Shard(index, count) for index in range(1, count + 1)]
        assert [sum(shard.takes(chunk) for shard in shards) for chunk in range(40)] == [1] * 40
