"""Each network in a process with a limit on time and memory; what came out goes to a journal, one line of JSON for each."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from .worker import examine_in

PAUSE = 0.5
"""Seconds between two looks at a process."""
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["zoo.worker", "timm", "transformers.models.auto.modeling_auto"])
"""It imports once what each process needs, which took 4 s a process."""

Case = tuple[str, str]
"""A network's name and torch's exporter."""
EXPORTERS = ("dynamo", "torchscript")


def read(journal: Path) -> dict[Case, dict[str, Any]]:
    """The last result for each case in a journal. A last line that was cut off does not count."""
    results = {}
    for line in journal.read_text(encoding="utf-8").splitlines() if journal.exists() else ():
        try:
            result = json.loads(line)
        except ValueError:
            continue
        results[result["name"], result["exporter"]] = result
    return results


def run(cases: list[Case], journal: Path, seconds: float, gigabytes: float) -> Iterator[dict[str, Any]]:
    """Examine networks, one after the other.

    Args:
        cases: Names as `networks.names` gives them, and exporters.
        journal: The file to append to.
        seconds: Processor time for one case.
        gigabytes: Memory of its process.
    """
    # looking for the smallest network of a family takes long; the other exporter's run has told
    variants = {name: str(result["variant"]) for (name, _), result in read(journal).items() if "variant" in result}
    for case in cases:
        result = _one(case, variants.get(case[0], ""), seconds, gigabytes)
        variants |= {case[0]: str(result["variant"])} if "variant" in result else {}
        with open(journal, "a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")
        yield result


def _one(case: Case, variant: str, seconds: float, gigabytes: float) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="zoo-"))
    stopped, most = "", 0
    try:
        process = _SERVER.Process(target=examine_in, args=(*case, folder, variant))
        process.start()
        seen = psutil.Process(process.pid)
        while process.is_alive():
            time.sleep(PAUSE)
            try:
                most = max(most, seen.memory_info().rss)
                times = seen.cpu_times()
            except psutil.Error:
                break
            if times.user + times.system > seconds:
                stopped = f"stopped after {seconds:g} s of processor time"
            elif most > gigabytes * 1e9:
                stopped = f"stopped at {gigabytes:g} GB"
            if stopped:
                process.kill()
        process.join()
        try:
            result: dict[str, Any] = json.loads((folder / "result.json").read_text())
        except (OSError, ValueError):
            result = {"name": case[0], "exporter": case[1], "step": "starting"}
        if result["step"] != "done":
            last = (folder / "log").read_text(errors="replace").strip().splitlines()
            said = last[-1] if last else "nothing said"
            result["stopped"] = stopped or f"ended with status {process.exitcode}: {said}"[:300]
        return result | {"gigabytes": round(most / 1e9, 2)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
