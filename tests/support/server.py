"""The server of `forked.py`, one for all tests of a process."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping
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
    for name, module in _modules().items():
        program = folder / name
        client = f'exec "{sys.executable}" -I -S "{forked.__file__}" "{address()}" {module} "$@"'
        program.write_text(f"#!/bin/sh\n{client}\n", encoding="utf-8")
        program.chmod(0o755)
    return folder


def run(
    module: str,
    *arguments: object,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a module's `main` in a process of its own, as `subprocess.run` does with all that it prints captured, in UTF-8."""
    command = list(map(str, arguments))
    with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as said, open(os.devnull, "rb") as nothing:
        descriptors = [file.fileno() for file in (nothing, printed, said)]
        environment, folder = env or os.environ, str(cwd or Path.cwd())
        try:
            status = forked.request(address(), module, command, environment, folder, descriptors, timeout)
        except TimeoutError:
            raise subprocess.TimeoutExpired([module, *command], timeout or 0) from None
        texts = []
        for file in (printed, said):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return subprocess.CompletedProcess([module, *command], status, *texts)


def command(name: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run one of our commands by the name that it is installed by."""
    return run(_modules()[name], *arguments, cwd=cwd)


@functools.cache
def _modules() -> dict[str, str]:
    """Command -> module."""
    projects = (_ROOT / "pyproject.toml", _ROOT / "exporters" / "pyproject.toml")
    scripts = [tomllib.loads(file.read_text(encoding="utf-8"))["project"]["scripts"] for file in projects]
    return {name: entry.partition(":")[0] for of_one in scripts for name, entry in of_one.items()}


_started: list[subprocess.Popen[bytes]] = []
"""Its standard input stays open as long as this process lives."""
