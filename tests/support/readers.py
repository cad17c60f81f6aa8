"""The exporters' readers of files as forked processes: see `forked.py`."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from . import server


def fork(parent: Any) -> None:
    """Let a module that starts a reader by `subprocess.run([python, "-P", "-m", MODULE, ...])` have it forked.

    Args:
        parent: The module `xai_exporters.sources.openvino_ir.parent`.
    """
    parent.subprocess = SimpleNamespace(
        run=_run, DEVNULL=subprocess.DEVNULL, PIPE=subprocess.PIPE, TimeoutExpired=subprocess.TimeoutExpired
    )


def _run(command: list[str], env: Mapping[str, str], timeout: float, **_: Any) -> subprocess.CompletedProcess[str]:
    return server.run(*command[3:], env=env, timeout=timeout)
