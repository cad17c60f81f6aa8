"""Tails of global average pooling and at most one linear layer, in every spelling; and tails that only look like it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from .. import nets
from .. import onnx_nets as o
from ..checks import Array, check_bundle, check_pixelwise, source_reference
from ..running import export_onnx

K, C = o.CHANNELS, nets.CLASSES
Tail = Callable[[o.Build, str], str]
POOLS: dict[str, Tail] = {
    "GlobalAveragePool, Flatten": lambda b, x: b.pooled(x),
    "GlobalAveragePool, Reshape": lambda b, x: b("Reshape", b("GlobalAveragePool", x), b.weight([0, -1])),
    "GlobalAveragePool, Squeeze": lambda b, x: b("Squeeze", b("GlobalAveragePool", x), b.weight([2, 3])),
    "AveragePool, Flatten": lambda b, x: b("Flatten", b("AveragePool", x, kernel_shape=[8, 10], strides=[8, 10])),
    "ReduceMean": lambda b, x: b("ReduceMean", x, b.weight([2, 3]), keepdims=0),
    "ReduceMean of negative axes": lambda b, x: b("ReduceMean", x, b.weight([-1, -2]), keepdims=0),
    "ReduceMean kept, Flatten": lambda b, x: b("Flatten", b("ReduceMean", x, b.weight([2, 3]), keepdims=1)),
    "NHWC": lambda b, x: b("ReduceMean", b("Transpose", x, perm=[0, 2, 3, 1]), b.weight([1, 2]), keepdims=0),
}
LINEARS: dict[str, Tail] = {
    "Gemm": lambda b, x: b.linear(x),
    "Gemm, transposed, scaled": lambda b, x: b("Gemm", x, b.draw(C, K), b.draw(C), transB=1, alpha=0.5),
    "Gemm without bias": lambda b, x: b("Gemm", x, b.draw(K, C)),
    "MatMul": lambda b, x: b("MatMul", x, b.draw(K, C)),
    "MatMul, Add": lambda b, x: b("Add", b("MatMul", x, b.draw(K, C)), b.draw(C)),
    "Add of the bias first": lambda b, x: b("Add", b.draw(C), b("MatMul", x, b.draw(K, C))),
    "one number, a bias for each class": lambda b, x: b("Add", b("MatMul", x, b.draw(K, 1)), b.draw(C)),
    "one number by Gemm, a bias for each class": lambda b, x: b("Add", b("Gemm", x, b.draw(K, 1)), b.draw(1, C)),
    "none": lambda b, x: x,
}


def network(pool: Tail, linear: Tail) -> onnx.ModelProto:
    b = o.Build()
    x = linear(b, pool(b, b.features()))
    return b.model(b("Softmax", x, out="scores"))


def weight_of(model: onnx.ModelProto) -> Array | None:
    """[K,C] of the one linear layer, read from the source."""
    arrays = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in model.graph.node:
        attributes = {a.name: a for a in node.attribute}
        if node.op_type in ("Gemm", "MatMul"):
            w = arrays[node.input[1]]
            w = w.T if "transB" in attributes else w
            w = np.broadcast_to(w, (len(w), C))  # a bias for each class widens one number to all
            return np.asarray(w * (attributes["alpha"].f if "alpha" in attributes else 1))
        if node.op_type == "Conv" and arrays[node.input[1]].shape[2:] == (1, 1):
            return np.asarray(arrays[node.input[1]][:, :, 0, 0].T)
    return None


def check(folder: Path, model: onnx.ModelProto, **options: Any) -> None:
    done = export_onnx(folder, model, **options)
    assert "pixelwise-tail" in done.manifest.graphs
    check_pixelwise(check_bundle(done.path, source_reference(model)), weight_of(model))


@pytest.mark.parametrize("pool", POOLS)
def test_pooling(tmp_path: Path, pool: str) -> None:
    check(tmp_path, network(POOLS[pool], LINEARS["Gemm"]))


@pytest.mark.parametrize("linear", LINEARS)
def test_linear_layer(tmp_path: Path, linear: str) -> None:
    check(tmp_path, network(POOLS["GlobalAveragePool, Flatten"], LINEARS[linear]))


def test_linear_layer_as_convolution(tmp_path: Path) -> None:
    b = o.Build()
    x = b("Flatten", b.conv(b("GlobalAveragePool", b.features()), K, C, 1), out="scores")
    check(tmp_path, b.model(x))


def test_activation_of_channels_last(tmp_path: Path) -> None:
    """The tail turns the activation back to [N,h,w,K] before it pools."""
    b = o.Build()
    x = b("Relu", b("LayerNormalization", b("Transpose", b.features(), perm=[0, 2, 3, 1]), b.draw(K)), name="tokens")
    x = b("ReduceMean", x, b.weight([1, 2]), keepdims=0)
    check(tmp_path, b.model(b.linear(x, out="scores")), split="tokens")


def test_tf_squeeze_after_matmul(tmp_path: Path) -> None:
    b = o.Build()
    x = b("ReduceMean", b("Transpose", b.features(), perm=[0, 2, 3, 1]), b.weight([1, 2]), keepdims=1)
    x = b("Squeeze", b("Add", b("MatMul", x, b.draw(K, C)), b.draw(C)), b.weight([1, 2]), out="scores")
    check(tmp_path, b.model(x))


def per_channel(b: o.Build, size: int) -> str:
    return b.weight(b.rng.standard_normal(size).astype(np.float32))


def average(b: o.Build, x: str, **attributes: Any) -> str:
    """One position is left, and the mean is not that of all."""
    return b("AveragePool", x, **{"kernel_shape": [8, 10], "strides": [8, 10], **attributes})


def linear_of(b: o.Build, x: str, inputs: int) -> str:
    return b("Gemm", b("Flatten", x), b.draw(inputs, C), b.draw(C))


OTHERS: dict[str, Tail] = {
    "bias before the linear layer": lambda b, x: b.linear(b("Add", b.pooled(x), per_channel(b, K))),
    "scale before the linear layer": lambda b, x: b.linear(b("Mul", b.pooled(x), per_channel(b, K))),
    "scale behind the linear layer": lambda b, x: b("Mul", b.linear(b.pooled(x)), per_channel(b, C)),
    "two linear layers": lambda b, x: b("Gemm", b.linear(b.pooled(x)), b.draw(C, 4)),
    "ReLU behind the pooling": lambda b, x: b.linear(b("Relu", b.pooled(x))),
    "max pooling": lambda b, x: b.linear(b("Flatten", b("GlobalMaxPool", x))),
    "padded pooling": lambda b, x: linear_of(b, average(b, x, pads=[1, 1, 0, 0]), K),
    "smaller kernel": lambda b, x: linear_of(b, average(b, x, kernel_shape=[7, 10]), K),
    "pooling padded by itself": lambda b, x: linear_of(b, average(b, x, auto_pad="SAME_UPPER", strides=[9, 11]), K),
    "mean over one axis": lambda b, x: linear_of(b, b("ReduceMean", x, b.weight([2]), keepdims=0), K * 10),
    "mean over all axes but the batch": lambda b, x: b(
        "Gemm", b("Flatten", b("ReduceMean", x, b.weight([1, 2, 3]), keepdims=1)), b.draw(1, C)
    ),
    "no pooling": lambda b, x: linear_of(b, x, K * 80),
    "pooled twice over": lambda b, x: b.linear(b("Add", b.pooled(x), b("Flatten", b("GlobalMaxPool", x)))),
    "square of the pooled": lambda b, x: b("Sqrt", b("Abs", b.pooled(x))),
}


@pytest.mark.parametrize("what", OTHERS)
def test_other_tails(tmp_path: Path, what: str) -> None:
    b = o.Build()
    x = OTHERS[what](b, b.features())
    model = b.model(x)
    done = export_onnx(tmp_path, model, split="layer")
    assert "pixelwise-tail" not in done.manifest.graphs
    check_bundle(done.path, source_reference(model))


def test_quantised_tail(tmp_path: Path) -> None:
    assert "pixelwise-tail" not in export_onnx(tmp_path, o.quantised()).manifest.graphs


def test_tail_with_a_side_tensor(tmp_path: Path) -> None:
    done = export_onnx(tmp_path, o.residual(), split="layer1.0.conv2")
    assert done.manifest.side
    assert "pixelwise-tail" not in done.manifest.graphs


def test_roles_leave_it_out(tmp_path: Path) -> None:
    done = export_onnx(tmp_path, o.classifier(), roles=("head", "tail"))
    assert list(done.manifest.graphs) == ["head", "tail"]
    assert sorted(p.name for p in done.path.iterdir()) == ["head.onnx", "manifest.json", "tail.onnx"]
    done = export_onnx(tmp_path, o.classifier(), roles=("pixelwise-tail",), overwrite=True)
    assert list(done.manifest.graphs) == ["head", "tail", "pixelwise-tail"]
