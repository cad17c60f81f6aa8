"""Poolings in ceil mode: shape inference gets the size that the runtime gives, and the result stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from xai_exporters.passes.clean import clean

from ..checks import close, onnxruntime, open_vino
from .test_clipped_pooling import pooling

IMAGES = np.random.default_rng(0).standard_normal((2, 2, 5, 6)).astype(np.float32)
LEFT_OUT: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [3, 2], "ceil_mode": 1, "pads": [1, 0, 0, 0]}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "a window in the padding": (
        "MaxPool",
        {"kernel_shape": [2, 2], "strides": [3, 5], "ceil_mode": 1, "pads": [0, 1, 1, 1]},
    ),
    "a window behind the input": ("MaxPool", {**LEFT_OUT, "strides": [3, 3]}),
    "VALID": ("MaxPool", {"kernel_shape": [2, 1], "strides": [5, 3], "ceil_mode": 1, "auto_pad": "VALID"}),
    "dilated": (
        "MaxPool",
        {"kernel_shape": [2, 2], "strides": [3, 4], "dilations": [2, 1], "ceil_mode": 1, "pads": [1, 1, 1, 1]},
    ),
    "a mean": ("AveragePool", {**LEFT_OUT, "strides": [3, 3]}),
    "a mean beyond the end": (
        "AveragePool",
        {"kernel_shape": [3, 2], "strides": [2, 3], "ceil_mode": 1, "pads": [0, 1, 1, 1]},
    ),
    "a mean that counts": (
        "AveragePool",
        {**LEFT_OUT, "strides": [3, 3], "pads": [1, 0, 1, 0], "count_include_pad": 1},
    ),
    "norm": ("LpPool", {"kernel_shape": [2, 2], "strides": [3, 3], "ceil_mode": 1, "auto_pad": "SAME_LOWER"}),
}


@pytest.mark.parametrize("name", CASES)
def test_size(name: str) -> None:
    op, attributes = CASES[name]
    source = pooling(op, 18, attributes)
    want = onnxruntime(source.SerializeToString(), {"image": IMAGES})["y"]
    graph = clean(source, None).graph
    again = ir.to_proto(ir.Model(graph, ir_version=10))
    inferred = onnx.shape_inference.infer_shapes(again, strict_mode=True).graph.output[0].type.tensor_type.shape
    assert [d.dim_value for d in inferred.dim][1:] == list(want.shape[1:])
    close(onnxruntime(again.SerializeToString(), {"image": IMAGES})["y"], want)
    if op == "MaxPool":  # OpenVINO has no LpPool for a symbolic batch
        close(open_vino(again.SerializeToString(), {"image": IMAGES})["y"], want)
