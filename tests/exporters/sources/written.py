"""Files of other frameworks, written without them by `scripts/fuzzing/formats`, as networks; and what they have to compute."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from xai_exporters import Request
from xai_exporters.errors import ExportError, SourceError
from xai_exporters.sources import TrainedNetwork, load_source

from xai_deploy.foundation import runtimes

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "scripts"))

from fuzzing.formats import Net, paddle, tensorflow, tflite, wire

__all__ = ["NET", "agree", "images", "paddle", "refusal", "tensorflow", "tflite", "wire"]

NET: Any = Net.drawn()


def images(count: int = 1) -> NDArray[np.float32]:
    """Images [N,7,9,3]."""
    return np.random.default_rng(1).normal(size=(count, NET.height, NET.width, 3)).astype(np.float32)


def agree(network: TrainedNetwork, x: NDArray[Any], want: NDArray[np.float64], tolerance: float = 1e-5) -> None:
    """Compare the graph on both runtimes, and the source's own run, with the formula in float64."""
    data = network.proto.SerializeToString()
    session = runtimes.onnxruntime().InferenceSession(data, providers=["CPUExecutionProvider"])
    [name] = [i.name for i in session.get_inputs()]
    ov = runtimes.openvino()
    compiled = ov.Core().compile_model(ov.Core().read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert network.reference is not None
    [reference] = network.reference(x).values()
    for got in (session.run(None, {name: x})[0], compiled([x])[0], reference):
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance)


def refusal(source: Path, error: type[ExportError] = SourceError, **options: Any) -> str:
    """The line that refuses a file."""
    with pytest.raises(error) as caught:
        load_source(Request(source, **options))
    text = str(caught.value)
    assert text.startswith(str(source))
    assert "\n" not in text
    return text
