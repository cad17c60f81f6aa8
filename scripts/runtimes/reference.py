"""ONNX's reference evaluator: the specification in numpy, slow."""

from __future__ import annotations

from collections.abc import Sequence

from .adapter import Run, Tensors

TITLE = "ONNX reference"
REQUIREMENTS = ("onnx==1.23.2",)


def version() -> str:
    """See `adapter.Adapter`."""
    import onnx

    return f"of onnx {onnx.__version__}"


def load(path: str, outputs: Sequence[str]) -> Run:
    """See `adapter.Adapter`."""
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(path)

    def run(inputs: Tensors) -> Tensors:
        return dict(zip(outputs, evaluator.run(list(outputs), inputs), strict=True))

    return run
