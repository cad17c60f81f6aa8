"""A cache of the test's own, and a stand-in for xai-export that is fast and counts its calls."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from xai_deploy.exported import private_folder

from ..conftest import Bundles

PYTHON = sys.executable  # tests change it
_SCRIPT = """#!{python}
import json, os, shutil, signal, sys, time
calls = {calls!r}
if "--version" in sys.argv:
    print("stand-in 1.0")
    sys.exit()
with open(calls, "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
out = next(argument.partition("=")[2] for argument in sys.argv if argument.startswith("--output-path="))
print("step: reading the network", file=sys.stderr, flush=True)
print("a warning of some library", file=sys.stderr, flush=True)
exec({behaviour!r})
shutil.copytree({bundle!r}, out)
print(json.dumps({{"reads": {reads!r}, "notes": ["a note"], "layer_note": None}}))
"""


@dataclass
class StandIn:
    """A program in the place of xai-export, which copies a bundle."""

    folder: Path
    bundle: Path

    def write(self, behaviour: str = "", reads: Sequence[Path] = ()) -> None:
        """Write the program.

        Args:
            behaviour: Python code that runs before the bundle is copied.
            reads: The files that it says it has read.
        """
        program = self.folder / "xai-export"
        values = {"python": PYTHON, "calls": str(self.folder / "calls"), "behaviour": behaviour}
        program.write_text(_SCRIPT.format(**values, bundle=str(self.bundle), reads=[str(path) for path in reads]))
        program.chmod(0o755)

    @property
    def calls(self) -> list[list[str]]:
        """The arguments of each call."""
        file = self.folder / "calls"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache's folder, which does not exist yet."""
    monkeypatch.setenv(private_folder.FOLDER, str(tmp_path / "cache"))
    monkeypatch.delenv(private_folder.LIMIT, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def stand_in(tmp_path: Path, bundles: Bundles, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """The stand-in, alone on PATH and beside no Python."""
    (tmp_path / "bin").mkdir()
    made = StandIn(tmp_path / "bin", bundles("pooled").path)
    made.write()
    monkeypatch.setenv("PATH", os.pathsep.join(["relative", str(made.folder)]))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nowhere" / "python"))
    return made


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A file that stands for a model."""
    (tmp_path / "net.onnx").write_bytes(b"weights")
    return tmp_path / "net.onnx"
