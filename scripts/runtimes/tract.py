"""tract, which is written in Rust, through its Python package."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata

from .adapter import Run, Tensors

TITLE = "tract"
REQUIREMENTS = ("tract==0.23.9", "numpy")


def version() -> str:
    """See `adapter.Adapter`."""
    return metadata.version("tract")


def load(path: str, outputs: Sequence[str]) -> Run:
    """See `adapter.Adapter`."""
    import tract

    model = tract.onnx().load(path)
    names = [model.input_name(i) for i in range(model.input_count())]
    runnable = model.into_model().into_runnable()

    def run(inputs: Tensors) -> Tensors:
        results = runnable.run([inputs[name] for name in names])
        return dict(zip(outputs, (result.to_numpy() for result in results), strict=True))

    return run
