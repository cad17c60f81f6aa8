"""Runs a row on a runtime, and compares the results."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from xai_deploy.format.bundle import SALIENCY

from .adapter import Array, Tensors
from .environments import Runtime
from .rows import Row


@dataclass(frozen=True)
class Cell:
    """How a runtime did on a file.

    Attributes:
        difference: The largest difference.
        tolerance: The largest that is allowed.
        failed: Why there is no difference; empty if there is one.
        version: The runtime's version, if it got that far.
    """

    difference: float = 0.0
    tolerance: float = 0.0
    failed: str = ""
    version: str = ""

    @property
    def wrong(self) -> bool:
        """Whether the runtime gave a wrong result."""
        return not self.failed and self.difference > self.tolerance


def run(runtime: Runtime, row: Row, limit: float) -> Cell:
    """Run all cases of a row, within `limit` seconds."""
    if runtime.missing:
        return Cell(failed=f"not installed: {runtime.missing}")
    with tempfile.TemporaryDirectory() as results:
        places = (str(row.file), json.dumps(row.names), str(row.cases), results)
        environment = {**os.environ, "PYTHONPATH": str(runtime.folder)}
        try:
            ran = subprocess.run(
                (*runtime.command, *places),
                cwd=runtime.folder,
                env=environment,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Cell(failed=f"it takes more than {limit:.0f} s")
        file = Path(results, "version")
        version = file.read_text(encoding="utf-8") if file.exists() else ""
        if ran.returncode:
            return Cell(failed=_ending(ran.returncode, ran.stderr), version=version)
        return compare(row, Path(results), max(runtime.tolerance, row.tolerance, row.moves), version)


def compare(row: Row, results: Path, tolerance: float, version: str = "") -> Cell:
    """The largest difference over all cases, of the map and of the other outputs."""
    worst = 0.0
    for case, plain in row.outputs.items():
        error = results / f"{case}.error"
        if error.exists():
            return Cell(failed=f"{case}: {shortened(error.read_text(encoding='utf-8'))}", version=version)
        outputs = load_file(results / f"{case}.safetensors")
        try:
            in_map = of_map(_get(outputs, SALIENCY, row.maps[case][0]), row.maps[case])
            in_outputs = [of_output(_get(outputs, name, value), value) for name, value in plain.items()]
        except ValueError as wrong:
            return Cell(failed=f"{case}: {wrong}", version=version)
        worst = max(worst, in_map, *in_outputs)
    return Cell(worst, tolerance, version=version)


def of_map(maps: Array, expected: Sequence[Array]) -> float:
    """The largest difference of maps [N,h,w] in [0,1] from the engine's, for each image from the nearer one of its
    backends; for maps in 0-255, beyond the half step of rounding."""
    steps = 255 if maps.dtype == np.uint8 else 1
    distances = [np.abs(maps - steps * one.astype(np.float64)).max(axis=(1, 2)) for one in expected]
    largest = float(np.min(distances, axis=0).max())
    return largest if steps == 1 else max(0.0, largest - 0.5) / steps


def of_output(output: Array, expected: Array) -> float:
    """The largest difference of an output, in parts of its largest magnitude."""
    return float(np.abs(output.astype(np.float64) - expected).max() / np.abs(expected).max())


def _get(outputs: Tensors, name: str, like: Array) -> Array:
    """An output. Raises ValueError if it is missing, has another shape, or holds NaN or infinity."""
    if name not in outputs:
        raise ValueError(f"no output {name!r}")
    if outputs[name].shape != like.shape:
        raise ValueError(f"{name!r} has shape {list(outputs[name].shape)}, not {list(like.shape)}")
    if not np.isfinite(outputs[name]).all():
        raise ValueError(f"{name!r} holds NaN or infinity")
    return outputs[name]


def shortened(message: str, length: int = 200) -> str:
    """A runtime's message in one line without paths and terminal colours."""
    line = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", message).split())
    line = re.sub(r"(?<!\w)/\S*/", ".../", line).replace("|", "/")
    return line if len(line) <= length else f"{line[: length - 3]}..."


def _ending(code: int, stderr: str) -> str:
    """Why a worker stopped."""
    if code < 0:
        return f"ended by signal {-code}"
    lines = [line for line in stderr.splitlines() if line.strip()] or ["no reason given"]
    return shortened(lines[-1])
