"""What a runtime takes beside a node's tensors while it computes it: counted, as ONNX Runtime takes it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from xai_deploy.errors import UnsafeGraphError
from xai_deploy.format.guard import check_graph
from xai_deploy.format.guard.expansion import Expansion
from xai_deploy.format.guard.messages import parse

from .graphs import ints, model, n

_PEAK = """
import re, sys
from pathlib import Path
import numpy as np, onnxruntime as ort
options = ort.SessionOptions()
options.intra_op_num_threads = 1
options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
session = ort.InferenceSession(sys.stdin.buffer.read(), options, providers=["CPUExecutionProvider"])
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = peak()
session.run(None, {"x": np.random.default_rng(0).random((int(sys.argv[1]), 3, 64, 64), np.float32) * 200})
print(peak() - before)
"""
"""A graph on stdin, a batch -> the KiB that a run takes."""


def wide(nodes: list[onnx.NodeProto], constants: dict[str, Any], opset: int = 18) -> onnx.ModelProto:
    """A graph on images of 64 x 64."""
    made = model(nodes, constants, opset)
    for axis in (2, 3):
        made.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = 64
    return made


def transposed(k: int) -> onnx.ModelProto:
    node = n("ConvTranspose", "x w", pads=[k // 2] * 4)
    return wide([node], {"w": np.full((3, 4, k, k), 1e-3, np.float32)})


def integer(k: int) -> onnx.ModelProto:
    nodes = [
        n("Cast", "x", "u", to=onnx.TensorProto.UINT8),
        n("ConvInteger", "u w", "c", pads=[k // 2] * 4),
        n("Cast", "c", to=onnx.TensorProto.FLOAT),
    ]
    return wide(nodes, {"w": np.ones((1, 3, k, k), np.uint8)})


def deformed(k: int) -> onnx.ModelProto:
    nodes = [
        n("ReduceMean", "x a", "m", keepdims=1),
        n("Tile", "m r", "o"),
        n("DeformConv", "x w o", pads=[k // 2] * 4),
    ]
    constants = {"w": np.ones((1, 3, k, k), np.float32), "a": ints(1), "r": ints(1, 2 * k * k, 1, 1)}
    return wide(nodes, constants, 19)


def quantised(k: int) -> onnx.ModelProto:
    nodes = [
        n("QuantizeLinear", "x s z", "q"),
        n("QLinearConv", "q s z w s z s z", "c", pads=[k // 2] * 4),
        n("DequantizeLinear", "c s z"),
    ]
    constants = {"s": np.float32(1), "z": np.uint8(0), "w": np.ones((1, 3, k, k), np.uint8)}
    return wide(nodes, constants)


def attentive(rows: int, **attributes: Any) -> onnx.ModelProto:
    nodes = [
        n("Tile", "x r", "t"),
        n("Reshape", "t s", "v"),
        n("Slice", "v a b a", "q"),
        n("Attention", "q q q", q_num_heads=1, kv_num_heads=1, **attributes),
    ]
    return wide(nodes, {"s": ints(0, -1, 2), "a": ints(1), "b": ints(rows + 1), "r": ints(1, 4, 1, 1)}, 23)


def causal(rows: int) -> onnx.ModelProto:
    return attentive(rows, is_causal=1)


def products(k: int) -> onnx.ModelProto:
    """Three matrices, of which two have no letter in common: their product has four axes."""
    nodes = [
        n("Tile", "x r", "t"),
        n("Reshape", "t f", "v"),
        n("Slice", "v a b a", "u"),
        n("Reshape", "u s", "m"),
        n("Einsum", "m m m", equation="ai,bj,ij->ab"),
    ]
    constants = {"r": ints(1, 4, 1, 1), "f": ints(1, -1), "a": ints(1), "b": ints(k * k + 1), "s": ints(k, k)}
    return wide(nodes, constants)


def outer(k: int) -> onnx.ModelProto:
    nodes = [
        n("Tile", "x r", "t"),
        n("Reshape", "t f", "v"),
        n("Slice", "v a b a", "u"),
        n("Einsum", "u u", equation="ni,nj->nij"),
    ]
    return wide(nodes, {"r": ints(1, 4, 1, 1), "f": ints(0, -1), "a": ints(1), "b": ints(k + 1)})


def normalised(size: int) -> onnx.ModelProto:
    return wide([n("LRN", "x", size=size)], {})


CASES: dict[str, tuple[Callable[[int], onnx.ModelProto], int, int, int]] = {
    "ConvTranspose": (transposed, 31, 151, 4 * 31**2 * 64**2 * 4),
    "ConvInteger": (integer, 63, 351, 3 * 63**2 * 64**2),
    "DeformConv": (deformed, 31, 151, (3 * 4 + 32) * 31**2 * 64**2),
    "QLinearConv": (quantised, 63, 351, 3 * 63**2 * 64**2),
    "Attention": (attentive, 4096, 20000, 4096**2 * 4),
    "Attention with a mask": (causal, 4096, 12000, 2 * 4096**2 * 4),
    "Einsum of three": (products, 64, 120, 2 * 64**4 * 4),
    "Einsum": (outer, 2000, 10000, 2 * 2000**2 * 4),
}
"""Operator -> a graph by its size, a small and a large size, and the bytes of scratch of the small one for one image."""


def most(data: bytes, batch: int) -> int:
    """The most bytes that the guard counts."""
    return Expansion(parse(data), data, 3 * 64 * 64 * 4, {}).check(batch)[0]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process's memory is read from Linux")
@pytest.mark.parametrize("op", CASES)
def test_the_guard_counts_what_the_runtime_takes(op: str) -> None:
    make, small, _, scratch = CASES[op]
    data = make(small).SerializeToString()
    child = subprocess.run([sys.executable, "-c", _PEAK, "1"], input=data, capture_output=True, check=True, timeout=60)
    taken = int(child.stdout) << 10
    assert scratch <= most(data, 1)
    assert 0.8 * scratch < taken < 1.2 * most(data, 1) + (24 << 20)


@pytest.mark.parametrize("op", CASES)
def test_scratch_beyond_the_limit_is_refused(op: str) -> None:
    make, _, large, _ = CASES[op]
    with pytest.raises(
        UnsafeGraphError,
        match=rf"up to node .*\('{op.split(maxsplit=1)[0]}'\).* its tensors take \d+ MiB, more than the 1[01]\d\d MiB",
    ):
        check_graph(make(large).SerializeToString(), "x.onnx", 3 * 64 * 64 * 4)


def test_a_window_of_more_channels_than_there_are_is_refused() -> None:
    """Up to 2 C + 1, which takes as much as a few tensors; ONNX Runtime makes size - 1 channels of zeros."""
    check_graph(normalised(7).SerializeToString(), "x.onnx", 3 * 64 * 64 * 4)
    assert most(normalised(7).SerializeToString(), 1) >= (3 + 3 + 6) * 64 * 64 * 4
    with pytest.raises(UnsafeGraphError, match=r"LRN.* has a window of 9 channels for an input \[1, 3, 64, 64\]"):
        check_graph(normalised(9).SerializeToString(), "x.onnx", 3 * 64 * 64 * 4)
