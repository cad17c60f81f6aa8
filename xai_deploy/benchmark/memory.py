"""The peak memory of a job, measured in a process of its own: a process's peak never falls, so it can measure one job only."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

from ..errors import XaiError
from .jobs import Bench, Job, Settings

_CHILD = """
import json, sys
path, job, settings = json.loads(sys.argv[1])
sys.path[:] = path  # whatever made the parent find its modules
from xai_deploy.benchmark import memory
memory.main(job, settings)
"""
_RUNS = 2  # the second run finds the memory that the first has left in the runtime's arena


def peak_memory(job: Job, settings: Settings) -> int:
    """The peak memory, in bytes, of a process that opens what the job needs and runs the job twice.

    It is the resident set size in host memory, including the interpreter and the runtime, without a device's memory.

    Raises:
        XaiError: The process failed.
    """
    arguments = json.dumps([sys.path, dataclasses.asdict(job), dataclasses.asdict(settings)])
    done = subprocess.run([sys.executable, "-c", _CHILD, arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise XaiError(f"the process that measures memory failed: {lines[-1]}")
    return int(done.stdout.split()[-1])  # the last word: a runtime may print before it


def main(job: dict[str, object], settings: dict[str, object]) -> None:
    """Run the job and print the peak; this is the whole work of the child process."""
    options = job.pop("options")
    one = Job(**job, options=tuple((name, value) for name, value in options))  # type: ignore[arg-type,attr-defined]
    call = Bench(one.backend, Settings(**settings)).call(one)  # type: ignore[arg-type]
    for _ in range(_RUNS):
        call()
    sys.stdout.write(f"{own_peak()}\n")


def own_peak() -> int | None:
    """The peak of this process's resident memory in bytes; None if the system does not report it."""
    try:
        # Linux: a child starts as a copy of its parent, so `getrusage` would give the parent's memory if that is larger.
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes on macOS, KiB elsewhere
