"""Files that OpenVINO reads: each is translated in a child process, as xai-export does it; if that crashes, the file is refused."""

from __future__ import annotations

import os
from pathlib import Path

from xai_exporters import Request
from xai_exporters.sources import load_source

from . import forked
from .material import folder


def place(name: str) -> Path:
    """A folder of this worker's own."""
    own = folder() / f"{name}-{os.getpid()}"
    own.mkdir(exist_ok=True)
    return own


def read(path: Path, data: bytes) -> None:
    """Write the file, and read it as a source.

    Raises:
        XaiError: It is refused.
    """
    forked.install()
    path.write_bytes(data)
    load_source(Request(path))
