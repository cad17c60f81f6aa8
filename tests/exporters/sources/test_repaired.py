"""Files as NNCF's `compress_weights` writes them, which no runtime takes: `repaired.py`."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from xai_exporters.request import Request
from xai_exporters.sources import load_source

from ..checks import Array, close, onnxruntime


def convolution(shape: tuple[int, ...], axis: int, zeros: bool) -> tuple[onnx.ModelProto, Array]:
    """A convolution whose scales have one axis too many or too few of length 1; and its weight."""
    rng = np.random.default_rng(0)
    codes, count = rng.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8), (4, 3)[axis]
    scale, zero = rng.random(count).astype(np.float32) / 50, rng.integers(-3, 4, count).astype(np.int8)
    names = ["codes", "scale", "zero"][: 3 if zeros else 2]
    arrays: list[Array] = [codes, scale.reshape(shape), zero.reshape(shape)]
    weights = [numpy_helper.from_array(array, name) for array, name in zip(arrays, names, strict=False)]
    nodes = [
        helper.make_node("DequantizeLinear", names, ["weight"], axis=axis, name="dequantise"),
        helper.make_node("Conv", ["image", "weight"], ["map"], name="conv"),
        helper.make_node("GlobalAveragePool", ["map"], ["mean"], name="mean"),
        helper.make_node("Flatten", ["mean"], ["scores"], name="flat"),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 8, 8])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 4])
    graph = helper.make_graph(nodes, "net", [image], [scores], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    spread = [count if i == axis else 1 for i in range(4)]
    return model, (codes.astype(np.float64) - (zero.reshape(spread) if zeros else 0)) * scale.reshape(spread)


@pytest.mark.parametrize(("shape", "axis"), [((4, 1, 1), 0), ((4, 1, 1, 1), 0), ((1, 3, 1, 1), 1), ((4,), 0)])
@pytest.mark.parametrize("zeros", [False, True])
def test_scales_of_a_weights_shape(tmp_path: Path, shape: tuple[int, ...], axis: int, zeros: bool) -> None:
    model, weight = convolution(shape, axis, zeros)
    onnx.save(model, tmp_path / "net.onnx")
    source = load_source(Request(tmp_path / "net.onnx")).proto
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), (3, 3), (2, 3))
    [got] = onnxruntime(source.SerializeToString(), {"image": x}).values()
    close(got, np.einsum("nchwij,ocij->nohw", windows, weight).mean((2, 3)))


def test_a_quantiser_without_import(tmp_path: Path) -> None:
    """brevitas' first exports, as in QONNX' model zoo: Quant of 3 bits, (round(clip(x / s, -4, 3))) s."""
    model, weight = convolution((4,), 0, False)
    for name, value in (("scale_3", 0.05), ("zero_3", 0.0), ("bits_3", 3.0)):
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
    inputs = ["scores", "scale_3", "zero_3", "bits_3"]
    model.graph.node.append(
        helper.make_node(
            "Quant", inputs, ["codes_3"], "quant", None, "onnx.brevitas", signed=1, narrow=0, rounding_mode="ROUND"
        )
    )
    model.graph.output[0].name = "codes_3"
    onnx.save(model, tmp_path / "net.onnx")
    source = load_source(Request(tmp_path / "net.onnx")).proto
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), (3, 3), (2, 3))
    scores = np.einsum("nchwij,ocij->nohw", windows, weight).mean((2, 3))
    [got] = onnxruntime(source.SerializeToString(), {"image": x}).values()
    close(got, np.round(np.clip(scores / 0.05, -4, 3)) * 0.05)


def test_a_domain_without_import(tmp_path: Path) -> None:
    model, _ = convolution((4,), 0, False)
    node = helper.make_node("QuickGelu", ["scores"], ["gelu"], domain="com.microsoft", alpha=1.0, name="gelu")
    model.graph.node.append(node)
    model.graph.output[0].name = "gelu"
    onnx.save(model, tmp_path / "net.onnx")
    source = load_source(Request(tmp_path / "net.onnx")).proto
    x = np.ones((1, 3, 8, 8), np.float32)
    [got] = onnxruntime(source.SerializeToString(), {"image": x}).values()
    del model.graph.node[-1]
    model.graph.output[0].name = "scores"
    [scores] = onnxruntime(model.SerializeToString(), {"image": x}).values()
    close(got, scores / (1 + np.exp(-scores.astype(np.float64))))


@pytest.mark.parametrize(("opset", "kind"), [(13, np.float32), (17, np.float32), (17, np.float16)])
def test_gelu_by_erfc(tmp_path: Path, opset: int, kind: type) -> None:
    """As tf2onnx writes Keras' gelu: x erfc(-x / sqrt(2)) / 2."""
    nodes = [
        helper.make_node("Mul", ["image", "by"], ["scaled"]),
        helper.make_node("Erfc", ["scaled"], ["erfc"], name="erfc"),
        helper.make_node("Mul", ["image", "erfc"], ["twice"]),
        helper.make_node("GlobalAveragePool", ["twice"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["scores"]),
    ]
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    image = helper.make_tensor_value_info("image", element, ["N", 3, 8, 8])
    scores = helper.make_tensor_value_info("scores", element, ["N", 3])
    by = numpy_helper.from_array(np.array(-math.sqrt(0.5), kind), "by")
    graph = helper.make_graph(nodes, "net", [image], [scores], [by])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), tmp_path / "net.onnx"
    )
    source = load_source(Request(tmp_path / "net.onnx")).proto
    x: Array = (np.random.default_rng(1).standard_normal((2, 3, 8, 8)) * 3).astype(kind)
    [got] = onnxruntime(source.SerializeToString(), {"image": x}).values()
    wanted = (x.astype(np.float64) * np.vectorize(math.erfc)(-x.astype(np.float64) / math.sqrt(2))).mean((2, 3))
    np.testing.assert_allclose(got, wanted, rtol=1e-6 if kind is np.float32 else 3e-3, atol=0)
