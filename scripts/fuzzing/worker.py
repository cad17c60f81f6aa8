"""A worker process, `python -m fuzzing.worker TARGET BYTES`: runs the target on each input that it reads.

When it is ready it writes a line of JSON. It reads inputs from stdin: the length in 8 bytes, then the bytes. For each it writes
a line {"kind": ..., "detail": ..., "seconds": ...}. An input may take BYTES of memory. The worker looks at its peak after each
input, and the system bounds its address space to twice as much.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import struct
import sys
import time
import traceback
from typing import Any, BinaryIO

from xai_deploy.errors import XaiError

from .target import Outcome, load

_OUT_OF_MEMORY = ("bad_alloc", "failed to allocate", "cannot allocate", "memoryerror", "bad allocation")


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    target, allowed = load(sys.argv[1]), int(sys.argv[2])
    for seed in target.seeds()[:3]:  # what is imported and allocated once is no input's fault
        _run(target, seed)
    baseline = _peak()
    size = _address_space() + 2 * allowed
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers.write(json.dumps({"ready": True}) + "\n")
    while (data := _read(sys.stdin.buffer)) is not None:
        started = time.perf_counter()
        kind, detail = _run(target, data)
        if _peak() > baseline + allowed:
            kind, detail = "memory", f"{(_peak() - baseline) >> 20} MiB; {detail}"
        outcome = {"kind": kind, "detail": detail, "seconds": time.perf_counter() - started}
        answers.write(json.dumps(outcome) + "\n")


def _run(target: Any, data: bytes) -> tuple[str, str]:
    try:
        target.one(data)
    except MemoryError:
        return "memory", traceback.format_exc(limit=-3)
    except XaiError as error:
        detail = f"{type(error).__name__}: {error}"
        return ("memory" if any(word in detail.lower() for word in _OUT_OF_MEMORY) else "refused"), detail
    except Exception:
        return "uncaught", traceback.format_exc(limit=-4)
    return Outcome("accepted").kind, ""


def _read(stream: BinaryIO) -> bytes | None:
    head = stream.read(8)
    return stream.read(struct.unpack("<Q", head)[0]) if len(head) == 8 else None


def _peak() -> int:
    """The most memory that this process ever had, in bytes. Linux's `ru_maxrss` would count the process that started it."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS: bytes


def _address_space() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:  # not Linux: the look after each input has to do
        return 1 << 60


if __name__ == "__main__":
    main()
