"""Starts the process that reads a file with OpenVINO, with bounds on its memory and its time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from xai_deploy.format.guard.expansion import constants_limit

from ...errors import SourceError
from .child import BOUND, HELD, REFUSED, TIME
from .given import Given

_ROOM = 12 << 30  # bytes of addresses; OpenVINO and its threads reserve much more than they use
_HELD, _HELD_PER_BYTE = 2 << 30, 8  # bytes that reading a file may hold; ResNets of 45 to 263 MB take 0.5 to 1.5 GB
_HELD_PER_CORE = 16 << 20  # the stack and the heap of a thread, of which OpenVINO starts one for each core
_SECONDS = 1800
_READING, _PER_BYTE = 60, 1e-6
"""Seconds of processor time for reading a file, at least and for each byte: the longest of docs/openvino-ir.md takes 24 s. Readers
take time without bound for a graph with a cycle, and the square of its length for a chain of operators."""
_CHILD = "xai_exporters.sources.openvino_ir.child"


class TooLongError(SourceError):
    """Reading takes too long."""


def call(task: str, given: Given, folder: Path, *more: str) -> None:
    """Run a task of `child` in another process.

    Args:
        task: translate or run.
        given: The file to read.
        folder: Where it reads and writes.
        more: Further arguments.

    Raises:
        SourceError: It refuses, crashes, or needs more memory or time than it may.
    """
    seconds, held = _SECONDS, 0
    if task == "translate":  # nothing runs, so the file alone decides
        seconds = round(_READING + _PER_BYTE * given.size)
        held = _HELD + _HELD_PER_BYTE * given.size + _HELD_PER_CORE * (os.cpu_count() or 1)
    weights = "" if given.frontend or not given.beside else str(given.beside[0])
    arguments = [task, given.frontend, str(given.placed(folder)), weights, str(folder), *more]
    bounds = {BOUND: str(_ROOM + 4 * constants_limit(given.size)), HELD: str(held), TIME: str(seconds)}
    try:
        done = started(arguments, bounds)
    except subprocess.TimeoutExpired:
        raise TooLongError(
            f"{given.shown}: reading it with OpenVINO took more than {_SECONDS // 60} minutes; stopped"
        ) from None
    if done.returncode < 0 and -done.returncode == getattr(signal, "SIGXCPU", None):  # Windows has no such signal
        raise TooLongError(
            f"{given.shown}: OpenVINO's reader needs more than {seconds} s of processor time, far more than for a network of "
            "its size; stopped (does its graph hold a cycle, or a very long chain of operators?)"
        )
    if done.returncode == REFUSED:
        raise SourceError(f"{given.shown}: {last_line(done.stderr)}")
    if done.returncode != 0:
        raise SourceError(f"{given.shown}: {_ended(done.returncode, done.stderr)}")


def started(arguments: Sequence[str], bounds: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `child` until it ends.

    Args:
        arguments: Those of `child`.
        bounds: Its environment variables BOUND, HELD and TIME.

    Returns:
        Its exit status, and what it wrote on standard error.
    """
    path = os.pathsep.join(path for path in sys.path if os.path.isabs(path))
    return subprocess.run(
        [sys.executable, "-P", "-m", _CHILD, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path, **bounds},
        timeout=_SECONDS,
        check=False,
        encoding="utf-8",
        errors="replace",
    )


def last_line(text: str) -> str:
    """The last line that holds anything, bounded."""
    lines: Sequence[str] = [line.strip() for line in text.splitlines() if line.strip()] or ["no reason given"]
    return lines[-1][:1000]


def _ended(status: int, text: str) -> str:
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"damaged: OpenVINO's reader was ended by {signal.Signals(-status).name} while it read it"
    return f"OpenVINO's reader failed ({last_line(text)})"
