"""Poolings in ceil mode: shape inference gets the size that the runtime gives, and the result stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch.nn import functional as F
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


COUNTED: dict[str, tuple[int, int, int]] = {
    f"{k} {s} {p}": (k, s, p) for k, s, p in [(3, 2, 1), (4, 3, 2), (5, 2, 1), (4, 2, 1)]
}


@pytest.mark.parametrize("name", COUNTED)
@pytest.mark.parametrize("size", [(7, 8), (8, 9), (10, 7)])
def test_padding_that_counts_beside_what_ceil_mode_adds(name: str, size: tuple[int, int]) -> None:
    """torch counts the padding, and not what lies behind it; OpenVINO counted both."""
    kernel, stride, pad = COUNTED[name]
    images = np.random.default_rng(1).standard_normal((2, 2, *size)).astype(np.float32)
    attributes = {
        "kernel_shape": [kernel] * 2,
        "strides": [stride] * 2,
        "pads": [pad] * 4,
        "ceil_mode": 1,
        "count_include_pad": 1,
    }
    source = pooling("AveragePool", 18, attributes)
    for dim, n in zip(source.graph.input[0].type.tensor_type.shape.dim[2:], size, strict=True):
        dim.dim_value = n
    graph = clean(source, None).graph
    again = ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString()
    want = -F.avg_pool2d(torch.from_numpy(images), kernel, stride, pad, ceil_mode=True).numpy()
    for run in (onnxruntime, open_vino):
        close(run(again, {"image": images})["y"], want)
