"""tinygrad on the CPU; it compiles with `clang`, which must be installed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import metadata

from .adapter import Run, Tensors

TITLE = "tinygrad"
REQUIREMENTS = ("tinygrad==0.14.0", "numpy")


def version() -> str:
    """See `adapter.Adapter`."""
    return metadata.version("tinygrad")


def load(path: str, outputs: Sequence[str]) -> Run:
    """See `adapter.Adapter`."""
    os.environ.setdefault("DEV", "CPU")  # otherwise the first device that it finds
    from tinygrad.nn.onnx import OnnxRunner

    opened: dict[int, OnnxRunner] = {}  # a runner keeps the batch of its first call

    def run(inputs: Tensors) -> Tensors:
        batch = len(next(iter(inputs.values())))
        if batch not in opened:
            opened[batch] = OnnxRunner(path)
        results = opened[batch](inputs)
        return {name: results[name].numpy() for name in outputs}

    return run
