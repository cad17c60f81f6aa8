"""`xai-export` as a child process: where it is, which version it is, and what it says."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from ..errors import ExporterNotInstalledError, ModelFileError
from ..foundation.exits import INTERRUPTED

NAME = "xai-export"
_DISTRIBUTION = "xai-deploy-exporters"
_STEP, _ERROR = "step: ", f"{NAME}: error: "
_PATIENCE = 5  # seconds that an interrupted child gets to clean up

log = logging.getLogger(__name__)


def find(source: Path) -> Path:
    """The program: beside this Python's own, or else on PATH.

    Args:
        source: The model file, for the message.

    Raises:
        ExporterNotInstalledError: It is nowhere.
    """
    file = f"{NAME}.exe" if sys.platform == "win32" else NAME
    beside = [os.path.dirname(sys.executable)] if sys.executable else []
    for folder in (*beside, *filter(os.path.isabs, os.get_exec_path())):  # never the current folder
        program = Path(folder, file)
        if program.is_file() and os.access(program, os.X_OK):
            return program
    raise ExporterNotInstalledError(
        f"{source}: a model file is exported first, which needs {NAME}: pip install {_DISTRIBUTION} (for torch files "
        f"'{_DISTRIBUTION}[torch]'); or give a bundle, the folder that {NAME} writes"
    )


def version_of(program: Path) -> str:
    """The version of the exporters that a program belongs to, from the metadata of its installation if they are there."""
    prefix = program.resolve().parent.parent
    folders = [str(folder) for folder in (*prefix.glob("lib/python3*/site-packages"), prefix / "Lib" / "site-packages")]
    from importlib import metadata  # late: only a model file needs it

    versions = {other.version for other in metadata.distributions(name=_DISTRIBUTION, path=folders)}
    if len(versions) == 1:
        return versions.pop()
    with _started([str(program), "--version"], subprocess.PIPE) as child:
        return child.communicate()[0].strip()


def run(
    program: Path, source: Path, arguments: Sequence[str], out: Path, show: Callable[[str], None]
) -> dict[str, Any]:
    """Export a model file. The child may not ask: it has no standard input.

    Args:
        program: See `find`.
        source: The model file.
        arguments: See `options.arguments_of`.
        out: The bundle's folder, which does not exist.
        show: Called with each step as it begins.

    Returns:
        What xai-export says about it (`--json`).

    Raises:
        ModelFileError: It refuses, or fails. The message is its own.
        KeyboardInterrupt: It was interrupted.
    """
    command = [str(program), f"--output-path={out}", "--json=-", "--steps", *arguments, "--", str(source)]
    with tempfile.TemporaryFile() as printed:
        with _started(command, printed) as child:
            try:
                last = _listen(child, show)
            except BaseException:
                _end(child)
                raise
        if child.returncode == INTERRUPTED:
            raise KeyboardInterrupt
        if child.returncode != 0:
            raise ModelFileError(last or _ended(child.returncode))
        printed.seek(0)
        try:
            report: dict[str, Any] = json.loads(printed.read())
        except ValueError:
            raise ModelFileError(
                f"{program}: wrote no report; are xai-deploy and {_DISTRIBUTION} of one version?"
            ) from None
        return report


def _started(command: list[str], printed: IO[bytes] | int) -> subprocess.Popen[str]:
    """Start the program, with what it prints going to `printed`."""
    pipe = subprocess.PIPE
    try:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=printed, stderr=pipe, encoding="utf-8", errors="replace"
        )
    except OSError as error:
        raise ModelFileError(f"{command[0]}: can't be run ({error.strerror}); install it again") from None


def _listen(child: subprocess.Popen[str], show: Callable[[str], None]) -> str:
    """Read the child's standard error until it ends; returns its error message, or else its last line."""
    error, last = "", ""
    assert child.stderr is not None
    for line in child.stderr:
        text = line.strip()
        if text.startswith(_STEP):
            show(text.removeprefix(_STEP))
            continue
        log.debug("%s: %s", NAME, text)
        if text.startswith(_ERROR):
            error = text.removeprefix(_ERROR)
        last = text or last
    child.wait()
    return error or (f"{NAME}: {last}" if last and child.returncode > 0 else "")


def _ended(status: int) -> str:
    """The message about a child that ended without one."""
    if status < 0:
        name = signal.Signals(-status).name if -status in set(signal.Signals) else str(-status)
        return f"{NAME} was ended by {name}; if the system did that, the memory was not enough"
    return f"{NAME} ended with status {status}, without a message"


def _end(child: subprocess.Popen[str]) -> None:
    """End the child. Interrupted at a terminal, it is cleaning up already."""
    with contextlib.suppress(OSError):
        child.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
    try:
        child.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
