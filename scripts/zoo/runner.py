"""Each network in a process with a limit on time and memory; what came out goes to a journal, one line of JSON for each."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import measuring

from .cases import Case
from .worker import examine_in

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["zoo.worker", "timm", "transformers.models.auto.modeling_auto"])
"""It imports once what each process needs, which took 4 s a process."""


def read(journal: Path) -> dict[Case, dict[str, Any]]:
    """The last result for each case in a journal."""
    return measuring.read(journal, lambda result: (result["name"], result["exporter"]))


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
        yield measuring.keep(journal, result)


def _one(case: Case, variant: str, seconds: float, gigabytes: float) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="zoo-"))
    try:
        process = _SERVER.Process(target=examine_in, args=(*case, folder, variant))
        process.start()
        assert process.pid is not None
        stopped, most = measuring.watch(process.pid, process.is_alive, seconds, gigabytes)
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
