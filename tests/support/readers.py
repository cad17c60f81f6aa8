"""The exporters' readers of files as forked processes: see `forked.py`."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from . import forked, server


def fork(parent: Any) -> None:
    """Let a module that starts a reader by `subprocess.run([python, "-P", "-m", MODULE, ...])` have it forked.

    Args:
        parent: The module `xai_exporters.sources.openvino_ir.parent`.
    """
    parent.subprocess = SimpleNamespace(
        run=_run, DEVNULL=subprocess.DEVNULL, PIPE=subprocess.PIPE, TimeoutExpired=subprocess.TimeoutExpired
    )


def _run(
    command: list[str], env: Mapping[str, str], timeout: float, encoding: str, errors: str, **_: Any
) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryFile() as printed, open("/dev/null", "r+b") as nothing:
        descriptors = (nothing.fileno(), nothing.fileno(), printed.fileno())
        try:
            status = forked.request(server.address(), command[3], command[4:], env, descriptors, timeout)
        except TimeoutError:
            raise subprocess.TimeoutExpired(command, timeout) from None
        printed.seek(0)
        return subprocess.CompletedProcess(command, status, None, printed.read().decode(encoding, errors))
