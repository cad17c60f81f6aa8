"""The process that reads a file with OpenVINO, as a fork of the worker.

A fresh process imports for 3 s, a fork reads a small file in 0.1 s. It runs the same code within the same bounds.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import traceback
from collections.abc import Mapping, Sequence

from xai_exporters.sources.openvino_ir import child, parent

SECONDS = 15  # of processor time, less than the worker's limit
_UNCAUGHT = 1


class ChildError(Exception):
    """An exception in the child that nobody caught."""


def install() -> None:
    """Let `parent` fork from now on. The worker must not have run OpenVINO before: a fork has none of its threads."""
    parent.started = run


def run(arguments: Sequence[str], bounds: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """As `parent.started`.

    Raises:
        ChildError: It ended by an exception that is no refusal.
    """
    with tempfile.TemporaryFile() as said:
        process = os.fork()
        if not process:
            _child(list(arguments), bounds, said.fileno())
        _, status = os.waitpid(process, 0)
        said.seek(0)
        text = said.read().decode("utf-8", "replace")
    if os.waitstatus_to_exitcode(status) == _UNCAUGHT:
        raise ChildError(text)
    return subprocess.CompletedProcess(list(arguments), os.waitstatus_to_exitcode(status), None, text)


def _child(arguments: list[str], bounds: Mapping[str, str], said: int) -> None:
    status = _UNCAUGHT
    try:
        os.dup2(said, 2)
        os.environ.update({**bounds, child.TIME: str(min(SECONDS, int(bounds[child.TIME])))})
        status = child.main(arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
