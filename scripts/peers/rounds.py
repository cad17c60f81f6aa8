"""Rounds: the methods of all packages in turn, one call at a time, all others idle."""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .client import Worker, WorkerError
from .counterpart import PLAIN, Array, Case, Counterpart

OURS = ("ours_onnxruntime", "ours_openvino")
PEERS = ("pytorch_grad_cam", "torchcam", "captum", "zennit", "openvino_xai", "dianna")
PAUSE = 0.02  # seconds before each call, in which the threads of the one before go to sleep


@dataclass
class Entry:
    """One job of one worker: seconds per round, and the last result or the reason why there is none."""

    adapter: str
    job: str
    counterpart: Counterpart | None  # None: the plain forward pass
    seconds: list[float] = field(default_factory=list)
    result: Array | None = None
    failed: str = ""


@dataclass(frozen=True)
class Group:
    """Methods that are run with each other, on one network.

    Attributes:
        arch: torchvision's name.
        methods: Ours, without options.
        rounds: The rounds that count.
        warmup: The rounds before them, which do not count.
    """

    arch: str
    methods: tuple[str, ...]
    rounds: int
    warmup: int


def adapter(name: str) -> Any:
    """A peer's file; see `counterpart.Adapter`."""
    return importlib.import_module(f".{name}", __package__)


def measure(group: Group, case: Case, pythons: Mapping[str, Path | str]) -> tuple[list[Entry], dict[str, str]]:
    """Run a group.

    Args:
        group: The methods.
        case: What is explained.
        pythons: Adapter -> its environment's Python, or the reason why there is none.

    Returns:
        One entry per adapter and job, and the versions of the packages that ran, all if environments hold several of one.
    """
    entries: list[Entry] = []
    versions: dict[str, str] = {}
    with ExitStack() as stack:
        turns: list[tuple[Worker, Entry]] = []
        for name, python in pythons.items():
            mine = _entries(name, group)
            if len(mine) == 1:  # only the plain forward pass
                continue
            entries += mine
            try:
                if isinstance(python, str):
                    raise WorkerError(f"not installed: {python}")
                worker = Worker(python, name, case.folder, [entry.job for entry in mine], case.threads)
            except WorkerError as error:
                for entry in mine:
                    entry.failed = str(error)
                continue
            stack.callback(worker.close)
            for package, own in worker.versions.items():
                seen = versions.get(package, own).split(" and ")
                versions[package] = " and ".join(seen if own in seen else [*seen, own])
            for entry in mine:
                entry.failed = worker.failed.get(entry.job, "")
                turns.append((worker, entry))
        for number in range(-group.warmup, group.rounds):
            _round(turns, counts=number >= 0)
        for worker, entry in turns:
            if not entry.failed:
                entry.result = worker.result(entry.job)
    return entries, versions


def _entries(name: str, group: Group) -> list[Entry]:
    counterparts: Mapping[str, Counterpart] = adapter(name).COUNTERPARTS
    wanted = {job: counterpart for job, counterpart in counterparts.items() if counterpart.method in group.methods}
    return [Entry(name, PLAIN, None), *(Entry(name, job, counterpart) for job, counterpart in wanted.items())]


def _round(turns: Sequence[tuple[Worker, Entry]], counts: bool) -> None:
    for worker, entry in turns:
        if entry.failed:
            continue
        time.sleep(PAUSE)
        try:
            seconds = worker.run(entry.job)
        except WorkerError as error:
            entry.failed = str(error)
            continue
        if counts:
            entry.seconds.append(seconds)


def agreement(mine: Array, theirs: Array, scaled: bool) -> tuple[float, float]:
    """Correlation of two maps, and their largest difference: in parts of our largest magnitude, or of [0,1] when `scaled`."""
    a, b = np.asarray(mine, np.float64), np.asarray(theirs, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"maps of {a.shape} and {b.shape}")
    if scaled:
        a, b = ((m - m.min()) / max(np.ptp(m), 1e-12) for m in (a, b))
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1]), float(np.abs(a - b).max() / np.abs(a).max())
