"""The driver's end of `worker`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .counterpart import Array

SCRIPTS = Path(__file__).resolve().parents[1]


class WorkerError(Exception):
    """A worker did not do what it was asked; the message is one line, without paths."""


class Worker:
    """A running worker.

    Attributes:
        versions: Package -> version.
        failed: Job -> why it can't be run.
    """

    def __init__(self, python: Path, adapter: str, folder: str, jobs: Sequence[str], threads: int) -> None:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONHOME"} | {
            "PYTHONPATH": str(SCRIPTS),
            "OMP_NUM_THREADS": str(threads),
            "CUDA_VISIBLE_DEVICES": "",
        }
        self._folder = folder
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - as long as the worker
        self._process = subprocess.Popen(
            [str(python), "-m", "peers.worker", adapter, folder, ",".join(jobs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
            cwd=folder,
        )
        greeting = self._answer()
        self.versions: dict[str, str] = greeting["versions"]
        self.failed: dict[str, str] = {job: _without_paths(why) for job, why in greeting["failed"].items()}

    def run(self, job: str) -> float:
        """Run a job once; seconds.

        Raises:
            WorkerError: It failed.
        """
        return float(self._ask({"run": job})["seconds"])

    def result(self, job: str) -> Array:
        """The last result of the job."""
        path = Path(self._folder) / "result.npy"
        self._ask({"save": job, "to": str(path)})
        result: Array = np.load(path)
        return result

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def _ask(self, request: dict[str, str]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        if "error" in answer:
            raise WorkerError(_without_paths(answer["error"]))
        return answer

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            last = [text for text in self._log.read().splitlines() if text.strip()][-1:]
            raise WorkerError(_without_paths("".join(last) or "ended without a message")[:200])
        answer: dict[str, Any] = json.loads(line)
        return answer


def _without_paths(text: str) -> str:
    return re.sub(r"\S*/\S*", "...", text)
