"""The server of `forked.py`, one for all tests of a process."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from . import forked

_ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def address() -> str:
    """The socket of the server, which starts with the first call and ends with this process."""
    path = str(Path(tempfile.mkdtemp(prefix="xai-tests-")) / forked.SOCKET)
    # the root comes last, for the wheels to be what is tested where they are installed
    places = [place for place in sys.path if os.path.isabs(place)]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "tests.support.forked", path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*places, str(_ROOT)])},
    )
    _started.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return path


@functools.cache
def programs() -> Path:
    """A folder for PATH: all our commands, under the names that they are installed by."""
    folder = Path(address()).with_name(forked.PROGRAMS)
    folder.mkdir()
    client = f'exec "{sys.executable}" -I -S "{forked.__file__}" "{address()}"'
    for file in (_ROOT / "pyproject.toml", _ROOT / "exporters" / "pyproject.toml"):
        for name, entry in tomllib.loads(file.read_text(encoding="utf-8"))["project"]["scripts"].items():
            program = folder / name
            program.write_text(f'#!/bin/sh\n{client} {entry.partition(":")[0]} "$@"\n', encoding="utf-8")
            program.chmod(0o755)
    return folder


def command(name: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run one of our commands."""
    called = [str(programs() / name), *map(str, arguments)]
    return subprocess.run(called, capture_output=True, text=True, cwd=cwd, check=False)


_started: list[subprocess.Popen[bytes]] = []
"""Its standard input stays open as long as this process lives."""
