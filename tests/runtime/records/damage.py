"""Records to damage: a folder of a few chains, and what an attacker or an accident does to them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from xai_deploy.explained_network import ExplainedNetwork
from xai_deploy.format.bundle import Input, Preprocess, TargetLayer
from xai_deploy.records import Deployed, Recorder
from xai_deploy.records.record import Source

SIZE = (32, 48)
LABELS = ("cat", "dog", "owl")


def deployed(labels: tuple[str, ...] = LABELS, size: tuple[int, int] = SIZE) -> Deployed:
    """A network that another program runs, without a bundle."""
    spec = Input("image", "NCHW", 3, *size, "float32", Preprocess())
    layer = TargetLayer("layer4", "layer4", (8, 4, 6), "float32")
    network = ExplainedNetwork("net", "d1", spec, layer, "softmax", labels)
    source = Source("net", "d1", None, "layer4", size, "p1", "triton", "", "", {"xai-deploy": "1"})
    return Deployed(source, network)


def write(folder: Path, count: int, file_bytes: int = 64 << 20, close: bool = True) -> Recorder:
    """A chain of `count` records, in files of about `file_bytes`."""
    rng = np.random.default_rng(count)
    recorder = Recorder(folder, file_bytes=file_bytes, durable=True)  # durable: each record is a batch of its own
    for i in range(count):
        recorder.record(deployed(), rng.random((4, 6)), rng.standard_normal(3), "grad-cam", fields={"n": i})
    if close:
        recorder.close()
    return recorder


def files(folder: Path) -> list[Path]:
    """The files of records, in order."""
    return sorted(folder.glob("*.jsonl"))


def copy(folder: Path, to: Path) -> Path:
    """A copy to damage."""
    shutil.copytree(folder, to)
    return to


def places(folder: Path) -> list[tuple[Path, int]]:
    """(file, index of the line) of each record."""
    return [(file, i) for file in files(folder) for i in range(len(file.read_bytes().splitlines()))]


def lines_of(file: Path) -> list[bytes]:
    """The lines, with their ends."""
    return file.read_bytes().splitlines(keepends=True)


def put(file: Path, lines: list[bytes]) -> None:
    """Write them back."""
    file.write_bytes(b"".join(lines))
