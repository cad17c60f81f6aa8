"""OpenVINO, CPU, in float32 (its default may be less)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .adapter import Run, Tensors

TITLE = "OpenVINO"
REQUIREMENTS = ("openvino==2026.4.1",)


def version() -> str:
    """See `adapter.Adapter`."""
    import openvino as ov

    return str(ov.__version__).partition("-")[0]


def load(path: str, outputs: Sequence[str]) -> Run:
    """See `adapter.Adapter`."""
    import openvino as ov

    model = ov.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(inputs: Tensors) -> Tensors:
        results = model(inputs)
        return {name: np.array(results[name]) for name in outputs}

    return run
