"""ONNX Runtime, CPU, from PyPI."""

from __future__ import annotations

from collections.abc import Sequence

from .adapter import Run, Tensors

TITLE = "onnxruntime"
REQUIREMENTS = ("onnxruntime==1.31.1",)


def version() -> str:
    """See `adapter.Adapter`."""
    import onnxruntime as ort

    return str(ort.__version__)


def load(path: str, outputs: Sequence[str]) -> Run:
    """See `adapter.Adapter`."""
    import onnxruntime as ort

    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(inputs: Tensors) -> Tensors:
        return dict(zip(outputs, session.run(list(outputs), inputs), strict=True))

    return run
