"""The peak memory of a job, in a process of its own: a peak never falls, so that one process has only one."""

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
_RUNS = 2  # the second finds what the first has left in the runtime's arena


def peak_memory(job: Job, settings: Settings) -> int:
    """The largest part of the memory, in bytes, that a process holds while it opens what the job needs and runs it twice.

    This is the host's memory (resident set size), interpreter and runtime included; that of a device is not in it.

    Raises:
        XaiError: The process failed.
    """
    arguments = json.dumps([sys.path, dataclasses.asdict(job), dataclasses.asdict(settings)])
    done = subprocess.run([sys.executable, "-c", _CHILD, arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise XaiError(f"the process that measures memory failed: {lines[-1]}")
    return int(done.stdout.split()[-1])


def main(job: dict[str, object], settings: dict[str, object]) -> None:
    """The process: run the job, print the peak."""
    options = job.pop("options")
    one = Job(**job, options=tuple((name, value) for name, value in options))  # type: ignore[arg-type,attr-defined]
    call = Bench(one.backend, Settings(**settings)).call(one)  # type: ignore[arg-type]
    for _ in range(_RUNS):
        call()
    sys.stdout.write(f"{own_peak()}\n")


def own_peak() -> int | None:
    """The peak of this process's resident memory in bytes; None where the system does not tell."""
    try:
        # Linux: `getrusage` would give the parent's memory where that is larger, a child starting as its copy
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
