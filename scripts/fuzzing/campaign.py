"""Hands inputs to worker processes, kills those that hang, and counts the outcomes."""

from __future__ import annotations

import hashlib
import json
import os
import random
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .target import FAULTS, Outcome, load, mutated

LIMIT = 20.0  # seconds for one input
ALLOWED = 2 << 30  # bytes for one input
_START = 300.0  # seconds for a worker to get ready
_RENEWED = 5000  # inputs after which a worker is replaced: runtimes keep a little of every graph
_SCRIPTS = Path(__file__).resolve().parents[1]


class Worker:
    """One worker process; it is started again after it has died.

    Args:
        target: The target's name.
        folder: Where targets keep files that they make once.
    """

    def __init__(self, target: str, folder: str) -> None:
        self._target, self._folder = target, folder
        self._process: subprocess.Popen[bytes] | None = None
        self._runs = 0

    def run(self, data: bytes) -> Outcome:
        """The outcome of one input."""
        if self._process is None or self._runs >= _RENEWED:
            self.close()
            self._process = self._start()
        self._runs += 1
        started = time.perf_counter()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(struct.pack("<Q", len(data)) + data)
            self._process.stdin.flush()
        except BrokenPipeError:
            return self._died(started)
        line = self._line(LIMIT)
        if line is None:
            self.close()
            return Outcome("hang", f"more than {LIMIT:.0f} s", LIMIT)
        if not line:
            return self._died(started)
        outcome = Outcome(**json.loads(line))
        if outcome.kind == "memory":  # the peak of its memory stays
            self.close()
        return outcome

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
        self._process, self._runs = None, 0

    def _start(self) -> subprocess.Popen[bytes]:
        environment = os.environ | {"XAI_FUZZ_FOLDER": self._folder, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "fuzzing.worker", self._target, str(ALLOWED)]
        self._process = subprocess.Popen(
            command,
            cwd=_SCRIPTS,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        if not self._line(_START):
            raise RuntimeError(f"the worker of {self._target} did not start: {' '.join(command)} in {_SCRIPTS}")
        return self._process

    def _line(self, seconds: float) -> bytes | None:
        """The next line; empty if the process has died, None if the time is over."""
        assert self._process is not None
        assert self._process.stdout is not None
        end, line = time.monotonic() + seconds, b""
        while not line.endswith(b"\n"):
            if not select.select([self._process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
                return None
            part = os.read(self._process.stdout.fileno(), 1 << 16)
            if not part:
                return b""
            line += part
        return line

    def _died(self, started: float) -> Outcome:
        assert self._process is not None
        status = self._process.wait()
        self.close()
        name = signal.Signals(-status).name if status < 0 else f"status {status}"
        return Outcome("crash", name, time.perf_counter() - started)


@dataclass
class Campaign:
    """The outcomes of a target's inputs."""

    target: str
    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    slowest: float = 0.0

    @property
    def faults(self) -> int:
        """How many inputs showed a fault."""
        return sum(self.counts[kind] for kind in FAULTS)

    def line(self) -> str:
        """The counts."""
        kinds = ", ".join(f"{kind} {self.counts[kind]}" for kind in ("accepted", "refused", *FAULTS))
        return f"{self.target}: {self.counts.total()} inputs in {self.seconds:.0f} s: {kinds}; slowest {self.slowest:.1f} s"


def run(name: str, runs: int, seconds: float, seed: int, workers: int, save: Path) -> Campaign:
    """Fuzz one target: its seeds, then mutations of them.

    Args:
        name: The target.
        runs: How many inputs.
        seconds: Stop after this time.
        seed: Seed of the mutations: input i is the same for the same seed.
        workers: Number of processes.
        save: Folder for inputs that show faults.
    """
    done, lock, started = Campaign(name), threading.Lock(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="xai-fuzz-") as folder:
        os.environ["XAI_FUZZ_FOLDER"] = folder
        target = load(name)
        corpus: list[bytes] = target.seeds()
        numbers = iter(range(runs))

        def work() -> None:
            worker = Worker(name, folder)
            try:
                while time.monotonic() - started < seconds:
                    with lock:
                        number = next(numbers, None)
                    if number is None:
                        return
                    data = _input(target, corpus, name, seed, number)
                    outcome = _twice(worker, data)
                    with lock:
                        _count(done, outcome, data, save)
            finally:
                worker.close()

        threads = [threading.Thread(target=work) for _ in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        del os.environ["XAI_FUZZ_FOLDER"]
    done.seconds = time.monotonic() - started
    return done


def try_one(name: str, data: bytes) -> Outcome:
    """The outcome of one input in a fresh worker."""
    with tempfile.TemporaryDirectory(prefix="xai-fuzz-") as folder:
        worker = Worker(name, folder)
        try:
            return worker.run(data)
        finally:
            worker.close()


def _twice(worker: Worker, data: bytes) -> Outcome:
    """The outcome of an input. If it kills the worker, a fresh worker tries it again, because an earlier input or a busy machine
    may have been the reason."""
    outcome = worker.run(data)
    if outcome.kind not in ("crash", "hang"):
        return outcome
    again = worker.run(data)
    if outcome.kind == "crash" and not again.fault:
        return Outcome("crash", f"{outcome.detail}, not repeated", outcome.seconds)
    return again


def _input(target: Any, corpus: list[bytes], name: str, seed: int, number: int) -> bytes:
    if number < len(corpus):
        return corpus[number]
    return mutated(target, corpus, random.Random(f"{seed} {name} {number}"))


def _count(done: Campaign, outcome: Outcome, data: bytes, save: Path) -> None:
    done.counts[outcome.kind] += 1
    done.slowest = max(done.slowest, outcome.seconds)
    if outcome.fault:
        save.mkdir(parents=True, exist_ok=True)
        file = save / f"{done.target}-{outcome.kind}-{hashlib.sha256(data).hexdigest()[:12]}"
        file.write_bytes(data)
        print(f"{file}: {outcome.detail.strip()}", file=sys.stderr, flush=True)
