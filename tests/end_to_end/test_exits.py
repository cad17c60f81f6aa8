"""How commands end, run as processes: closed and full outputs, readers that leave, faults of our own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support import server
from xai_deploy import write_image
from xai_deploy.foundation import exits

from ..runtime import tiny

COMMANDS = {
    "xai-export": "xai_exporters.cli",
    "xai-explain": "xai_deploy.cli.explain",
    "xai-evaluate": "xai_deploy.cli.evaluate",
    "xai-check": "xai_deploy.cli.check",
    "xai-bench": "xai_deploy.cli.bench",
    "xai-serve": "xai_deploy.cli.serve",
}
linux = pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    folder = tmp_path_factory.mktemp("exits")
    tiny.write(folder / "net.xai")
    write_image(folder / "image.png", np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8))
    (folder / "net.onnx").write_bytes((root / "models/clutter_digits/clutter_digits.onnx").read_bytes())
    return folder


def shell(place: Path, command: str, line: str, before: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """A command line with what the shell does to its output; `before` is Python that runs first.

    Python itself starts where it has something to do with it, as for streams that are closed; else the command is forked.
    """
    code = f"{before}\nimport sys; from {COMMANDS[command]} import main; sys.exit(main())"
    (place / "run.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **variables}
    forked = not (before or variables or "&-" in line)
    program = f"{server.programs() / command}" if forked else f"{sys.executable} -P run.py"
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {program} {line}"],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_a_fault_of_ours_is_one_line_and_status_2(place: Path, command: str) -> None:
    parse = "parse_args" if command == "xai-export" else "parse_intermixed_args"
    before = f"import argparse\ndef fail(*_): return {{}}['a\\nb']\nargparse.ArgumentParser.{parse} = fail"
    done = shell(place, command, "x", before)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{command}: error: unexpected KeyError: 'a\\nb' (-v shows where; please report it)\n"


def test_verbose_shows_where(place: Path) -> None:
    before = "import xai_deploy.cli.explain as e\ndef fail(*_): raise ValueError('here')\ne._explain = fail"
    done = shell(place, "xai-explain", "net.xai image.png -v", before)
    assert "Traceback" in done.stderr
    assert "in fail" in done.stderr


def test_no_memory(place: Path) -> None:
    before = "import xai_deploy.cli.explain as e\ndef fail(*_): raise MemoryError\ne._explain = fail"
    done = shell(place, "xai-explain", "net.xai image.png", before)
    assert done.returncode == 2
    assert done.stderr == "xai-explain: error: not enough memory; take a smaller batch or fewer images at a time\n"


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("xai-export", "net.onnx --list-layers"),
        ("xai-export", "net.onnx --list-layers --json -"),
        ("xai-explain", "--help"),
    ],
)
def test_a_reader_that_leaves(place: Path, command: str, line: str) -> None:
    done = shell(place, command, f"{line} | true")
    assert done.returncode == exits.BROKEN_PIPE
    assert done.stderr == ""


LINES = (
    ("xai-export", "net.onnx --list-layers"),
    ("xai-export", "net.onnx --list-layers --json -"),
    ("xai-check", "net.xai net.xai image.png --json -"),
    ("xai-explain", "--help"),
    ("xai-export", "--help"),
    ("xai-bench", "--version"),
    ("xai-serve", "--help"),
)
FULL, CLOSED = (">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")


@linux
@pytest.mark.parametrize(
    ("command", "line", "where", "reason"),
    [(*line, *FULL) for line in LINES] + [(*line, *CLOSED) for line in LINES[:4]],
)
def test_output_that_cannot_be_written(place: Path, command: str, line: str, where: str, reason: str) -> None:
    done = shell(place, command, f"{line} {where}")
    assert done.returncode == 2, done.stderr
    assert done.stderr.endswith(f"{reason})\n") or done.stderr == f"{command}: error: {reason}\n"
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-"])
def test_other_streams_may_be_closed(place: Path, closed: str) -> None:
    done = shell(place, "xai-explain", f"net.xai image.png -o out --overwrite {closed}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "out" in done.stdout
    assert shell(place, "xai-explain", f"nothing.xai image.png {closed}").returncode == 2


def test_an_output_that_knows_ascii_only(place: Path, tmp_path: Path) -> None:
    net = tiny.write(tmp_path / "net.xai", labels=("Käse", "猫", "c", "d", "e"))
    line = f"{net.path} image.png -t 猫 -o out --overwrite"
    done = shell(place, "xai-explain", line, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
