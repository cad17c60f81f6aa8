"""Runs one ONNX file on one runtime, inside that runtime's environment.

    python -m runtimes.worker RUNTIME FILE.onnx OUTPUTS CASES RESULTS

OUTPUTS are the names of the file's outputs, a list in JSON. CASES holds the inputs, one .safetensors file per case. RESULTS
gets one of the same name with the outputs, or a text CASE.error with the runtime's message; and a text `version`.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from .adapter import Run


def main() -> None:
    """See the module."""
    name, model, outputs, cases, results = sys.argv[1:]
    adapter: Any = importlib.import_module(f".{name}", __package__)
    Path(results, "version").write_text(adapter.version(), encoding="utf-8")
    run: Run | None = None  # opened once, for all batches
    for case in sorted(Path(cases).glob("*.safetensors")):
        inputs = load_file(case)
        try:
            run = run or adapter.load(model, json.loads(outputs))
            tensors = run(inputs)
        except Exception as error:
            Path(results, f"{case.stem}.error").write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
            continue
        save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, Path(results, case.name))


if __name__ == "__main__":
    main()
