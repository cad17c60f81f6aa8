"""A peer in its own process: `python -m peers.worker ADAPTER FOLDER JOB,JOB...`, in the peer's environment.

When it is ready it writes a line of JSON to stdout, {"versions": {package: version}, "failed": {job: reason}}. Then it answers
each line on stdin with one: {"run": JOB} with {"seconds": S} or {"error": reason}; {"save": JOB, "to": FILE} by writing the
job's last result. Between two lines it does nothing.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from importlib.metadata import version
from typing import Any

import numpy as np

from .counterpart import Array, Case, Job


def main() -> None:
    adapter, folder, wanted = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the peer prints goes elsewhere
    case = Case.load(folder)
    if hasattr(os, "sched_setaffinity"):  # some peers take no number of threads, but all count the processors they have
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: case.threads])
    module: Any = importlib.import_module(f".{adapter}", __package__)
    clock = time.process_time if case.clock == "processor" else time.perf_counter
    ready: dict[str, Job] = {}
    failed: dict[str, str] = {}
    makers = module.jobs(case)
    for name in wanted.split(","):
        try:
            ready[name] = makers[name]()
        except Exception as error:
            failed[name] = reason(error)
    names = [requirement.partition("==")[0] for requirement in module.REQUIREMENTS]
    answers.write(json.dumps({"versions": {name: version(name) for name in names}, "failed": failed}) + "\n")
    results: dict[str, Array] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "save" in request:
            np.save(request["to"], results[request["save"]])
            answer: dict[str, object] = {}
        else:
            name = request["run"]
            started = clock()
            try:
                results[name] = ready[name]()
                answer = {"seconds": clock() - started}
            except Exception as error:
                answer = {"error": reason(error)}
        answers.write(json.dumps(answer) + "\n")


def reason(error: Exception) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


if __name__ == "__main__":
    main()
