"""xai-explain goes on where it was interrupted: the same files as without the interruption, and nothing is done twice."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xai_deploy import Explainer, write_image
from xai_deploy.cli import explain

COUNT = 11


@pytest.fixture
def many(work: Path) -> Path:
    """Eleven images, the fifth and the last broken."""
    rng = np.random.default_rng(1)
    Path("many").mkdir()
    for number in range(COUNT):
        write_image(f"many/{number:02}.png", rng.integers(0, 256, (20, 25 + number, 3), dtype=np.uint8))
    for number in (4, COUNT - 1):
        path = Path(f"many/{number:02}.png")
        path.write_bytes(path.read_bytes()[:-20])
    return work


class Interrupted:
    """Explains so many chunks, then the user presses Ctrl-C; counts the images explained."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 99
        self.images = 0
        explain_many = Explainer.explain_many

        def counted(explainer: Explainer, images: Any, *rest: Any) -> Any:
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            self.images += len(images)
            return explain_many(explainer, images, *rest)

        monkeypatch.setattr(Explainer, "explain_many", counted)


def content(out: str) -> dict[str, bytes]:
    """The files by name; of the report what does not hold times."""
    files = {path.name: path.read_bytes() for path in Path(out).iterdir()}
    text = files.pop("results.json").decode()
    # The last parts of the page hold times, the date and the command line.
    page = files.pop("report.html").partition(b"<h2>Methods</h2>")[0]
    return files | {"report": re.sub(r'"seconds": [^,\n]*', "", text).encode(), "page": page}


@pytest.mark.parametrize("chunks", [1, 2])
def test_same_files(many: Path, backend: str, chunks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [
        "net.xai",
        "many",
        "-m",
        "reciprocam,cam",
        "-t",
        "top2",
        "-b",
        backend,
        "--batch-size",
        "4",
        "--skip-bad",
    ]
    assert explain.main([*command, "-o", "whole"]) == 0
    user = Interrupted(monkeypatch)
    user.left = chunks
    assert explain.main([*command, "-o", "parts"]) == 130
    assert [path.name for path in Path("parts").iterdir()] == ["unfinished"]
    user.left = 99
    assert explain.main([*command, "-o", "parts"]) == 0
    assert content("parts") == content("whole")
    assert user.images == COUNT - 2


def test_messages(many: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    user = Interrupted(monkeypatch)
    user.left = 1
    command = ["net.xai", "many", "--batch-size", "3", "--skip-bad", "-o", "out"]
    assert explain.main(command) == 130
    kept = "3 of 11 images are done in out/unfinished; give the same command again to continue"
    assert capsys.readouterr().err.splitlines()[-2:] == [kept, "xai-explain: interrupted"]
    user.left = 99
    assert explain.main(command) == 0
    first = "continuing with out/unfinished: 3 of 11 images are done"
    assert capsys.readouterr().err.splitlines()[0] == first


def test_a_slow_method_loses_one_image_at_most(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = Interrupted(monkeypatch)
    user.left = 2
    command = ["net.xai", "many", "-m", "score-cam,cam", "-q", "--skip-bad", "-o", "out"]
    assert explain.main(command) == 130
    assert user.images == 2
    written = {path.name for path in Path("out/unfinished").iterdir()}
    assert len(written) == 1 + 2 * 2 * 2  # the journal; two images, two methods, a picture and an array each
    user.left = 99
    assert explain.main(command) == 0
    assert user.images == COUNT - 2


def test_a_bad_image_then_skip_bad(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was done before the bad image is kept, and --skip-bad goes on with it."""
    user = Interrupted(monkeypatch)
    command = ["net.xai", "many", "--batch-size", "2", "-q", "-o", "out"]
    assert explain.main(command) == 2
    assert user.images == 4
    assert explain.main([*command, "--skip-bad"]) == 0
    assert user.images == COUNT - 2
    assert len(json.loads(Path("out/results.json").read_bytes())["skipped"]) == 2


def test_a_full_disk(many: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The file is named, no fragment stays, what is done is kept; with room on the disk the same command goes on."""
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.name.startswith("05--"):
            write(path, data[:10])
            raise OSError(28, "No space left on device")
        return write(path, data)

    command = ["net.xai", "many", "--batch-size", "2", "-q", "-o", "out", "--skip-bad"]
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        assert explain.main(command) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(r"xai-explain: error: out/unfinished/05--reciprocam--\d.png: No space left on device", line)
    assert not list(Path("out/unfinished").glob("05--*"))
    user = Interrupted(monkeypatch)
    assert explain.main(command) == 0
    assert 0 < user.images < COUNT - 2


@pytest.mark.parametrize(
    ("more", "what"),
    [(["-m", "cam"], "method"), (["-t", "1"], "target"), (["--opacity", "0.1"], "opacity"), (["-b", "openvino"], "")],
)
def test_another_command(
    many: Path, more: list[str], what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    user = Interrupted(monkeypatch)
    user.left = 1
    command = ["net.xai", "many", "--batch-size", "2", "-q", "-o", "out", "-b", "onnxruntime", "--skip-bad"]
    assert explain.main(command) == 130
    capsys.readouterr()
    assert explain.main([*command, *more]) == 2
    assert f"out/unfinished/journal.jsonl: belongs to a call that differs in {what}" in capsys.readouterr().err


def test_another_image(many: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    user = Interrupted(monkeypatch)
    user.left = 1
    command = ["net.xai", "many", "--batch-size", "2", "-q", "-o", "out", "--skip-bad"]
    assert explain.main(command) == 130
    os.utime("many/00.png", (1, 1))
    capsys.readouterr()
    assert explain.main(command) == 2
    assert "belongs to a call that differs in images; give --overwrite" in capsys.readouterr().err
