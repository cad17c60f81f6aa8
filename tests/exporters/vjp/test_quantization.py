"""Quantised tensors, straight through: `quantization.py`. Rounding has no difference to measure; torch's fake
quantisation has the same gradient, written by others."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import helper
from xai_exporters.graph.writing import make_model, to_bytes
from xai_exporters.vjp.graph import gradient_graph

from .harness import RUNTIMES, Array, f32, gradient_model, graph_model, torch_gradient

LIMITS = {kind: np.iinfo(kind) for kind in (np.uint8, np.int8, np.uint16, np.int16)}


def network(scale: Array, zero: Array | None, axis: int = 1, shape: tuple[int, ...] = (3, 40)) -> onnx.ModelProto:
    """y = quantised(x)^2: what is behind is not constant, so that the codes' scale counts as well."""
    names = ["s"] if zero is None else ["s", "z"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", *names], ["q"], axis=axis),
        helper.make_node("DequantizeLinear", ["q", *names], ["d"], axis=axis),
        helper.make_node("Mul", ["d", "d"], ["y"]),
    ]
    constants = {"s": scale} if zero is None else {"s": scale, "z": zero}
    opset = 21 if zero is not None and zero.dtype.itemsize == 2 else 18
    return graph_model(nodes, {"x": ["N", *shape]}, constants, opset=opset)


def fake(x: torch.Tensor, scale: Array, zero: Array, kind: Any, axis: int = 1) -> torch.Tensor:
    """torch computes it in float32."""
    low, high = int(LIMITS[kind].min), int(LIMITS[kind].max)
    if scale.size == 1:
        y = torch.fake_quantize_per_tensor_affine(x.float(), float(scale.item()), int(zero.item()), low, high)
    else:
        y = torch.fake_quantize_per_channel_affine(
            x.float(), torch.from_numpy(scale), torch.from_numpy(zero.astype(np.int32)), axis, low, high
        )
    return y.double() ** 2


def draw(scale: Array, rng: np.random.Generator, width: float, zero: Array, kind: Any) -> Array:
    """Values at a tenth or more from where rounding changes, a third of them beyond the codes' range."""
    codes = rng.integers(int(width * LIMITS[kind].min - 50), int(width * LIMITS[kind].max + 50), (3, 3, 40))
    shape = (1, -1, 1)
    return ((codes + rng.uniform(-0.4, 0.4, codes.shape) - zero.reshape(shape)) * scale.reshape(shape)).astype(
        np.float32
    )


@pytest.mark.parametrize(
    "scale", [f32(0.1)[0], f32(0.25), f32(0.1, 0.2, 0.05)], ids=["scalar", "vector", "per-channel"]
)
@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16, np.int16])
def test_straight_through_where_nothing_saturates(scale: Array, kind: Any) -> None:
    scale = np.asarray(scale)
    zero = np.full(scale.shape, 100 if kind in (np.uint8, np.uint16) else -10, kind)
    model = gradient_model(network(scale, zero), "x")
    rng = np.random.default_rng(0)
    x = draw(scale, rng, 1.5, zero, kind)
    dy = rng.standard_normal(x.shape).astype(np.float32)
    _, wanted = torch_gradient(lambda v: fake(v, scale, zero, kind), [x], dy.astype(np.float64))
    assert 0.2 < (wanted == 0).mean() < 0.7
    for name, make in RUNTIMES.items():
        if name == "openvino" and np.dtype(kind).itemsize == 2:
            continue  # 16 bits: its plugin rounds the codes' range otherwise
        got = make(model, "dx")({"x": x, "dy": dy})
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max(), err_msg=name)


def test_channels_last() -> None:
    scale, zero = f32(0.1, 0.2, 0.05, 0.4), np.array([3, 0, 128, 255], np.uint8)
    model = gradient_model(network(scale, zero, axis=-1, shape=(5, 4)), "x")
    rng = np.random.default_rng(1)
    x, dy = ((rng.standard_normal((2, 5, 4)) * f).astype(np.float32) for f in (20, 1))
    _, wanted = torch_gradient(lambda v: fake(v, scale, zero, np.uint8, 2), [x], dy.astype(np.float64))
    got = RUNTIMES["onnxruntime"](model, "dx")({"x": x, "dy": dy})  # OpenVINO does not run the network itself
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())


def test_without_a_zero_point_codes_are_uint8() -> None:
    model = gradient_model(network(f32(0.5), None, shape=(4,)), "x")
    x, dy = f32([-3, 0.2, 10.1, 200]), f32([1, 2, 3, 4])
    for name, make in RUNTIMES.items():
        np.testing.assert_allclose(make(model, "dx")({"x": x, "dy": dy}), [[0, 0, 60, 0]], atol=1e-4, err_msg=name)


@pytest.mark.parametrize(("code", "inside"), [(-1, False), (0, True), (255, True), (256, False)])
def test_the_last_code_does_not_saturate(code: int, inside: bool) -> None:
    model = gradient_model(network(f32(0.5), np.array([0], np.uint8), shape=(1,)), "x")
    for name, make in RUNTIMES.items():
        got = make(model, "dx")({"x": f32([code / 2]), "dy": f32([1])})
        assert got.item() == (code if inside else 0), name


@pytest.mark.parametrize(("kind", "low", "high"), [(np.uint8, 0, 15), (np.int8, -8, 7), (np.int8, -2, 1)])
def test_fewer_bits_are_a_clip_of_codes(kind: Any, low: int, high: int) -> None:
    """QCDQ, as brevitas writes 4 and 2 bits: the least and the greatest code are inside, as torch's fake quantisation has it."""
    scale, zero = np.asarray(f32(0.5)[0]), np.array(0, kind)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("Clip", ["q", "low", "high"], ["c"]),
        helper.make_node("DequantizeLinear", ["c", "s", "z"], ["d"]),
        helper.make_node("Add", ["d", "one"], ["e"]),
        helper.make_node("Mul", ["e", "e"], ["y"]),
    ]
    limits = {"low": np.array(low, kind), "high": np.array(high, kind)}
    model = gradient_model(
        graph_model(nodes, {"x": ["N", 60]}, {"s": scale, "z": zero, "one": f32(0.3), **limits}), "x"
    )
    x = np.arange(-30, 30, dtype=np.float32)[None] * 0.4 + np.float32(0.03)
    dy = np.random.default_rng(2).standard_normal(x.shape).astype(np.float32)

    def narrow(v: torch.Tensor) -> torch.Tensor:
        return (torch.fake_quantize_per_tensor_affine(v.float(), 0.5, 0, low, high).double() + 0.3) ** 2

    _, wanted = torch_gradient(narrow, [x], dy.astype(np.float64))
    for name, make in RUNTIMES.items():
        got = make(model, "dx")({"x": x, "dy": dy})
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max(), err_msg=name)


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_resize_between_codes_gives_codes(kind: Any) -> None:
    """On integers ONNX casts the mean of codes, towards 0; a graph of floats has to, too. Nearest copies codes."""
    scale, zero = np.asarray(f32(0.5)[0]), np.array(7, kind)
    nodes = [
        helper.make_node("QuantizeLinear", ["activation", "s", "z"], ["q"]),
        helper.make_node("Resize", ["q", "", "", "sizes"], ["r"], mode="linear"),
        helper.make_node("DequantizeLinear", ["r", "s", "z"], ["d"]),
        helper.make_node("Flatten", ["d"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["logits"]),
    ]
    constants: dict[str, Array] = {
        "s": scale,
        "z": zero,
        "sizes": np.array([3, 1, 3, 9]),
        "w": np.eye(27, dtype=np.float32),
    }
    forward = graph_model(nodes, {"activation": [3, 1, 3, 5]}, constants, output="logits")
    forward.graph.output[0].CopyFrom(helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [3, 27]))
    graph = to_bytes(make_model(gradient_graph(ir.from_proto(forward).graph, 27)))
    x = np.random.default_rng(0).integers(-60, 60, (3, 1, 3, 5)).astype(np.float32) / 2
    codes = torch.from_numpy(x.astype(np.float64) * 2 + 7)
    codes = codes.clamp(int(LIMITS[kind].min), int(LIMITS[kind].max))
    means = torch.nn.functional.interpolate(codes, (3, 9), mode="bilinear", align_corners=False)
    clear = ((means - means.round()).abs() > 1e-3).numpy().reshape(3, 27)  # float32 may put a whole mean below itself
    assert clear.mean() > 0.3
    wanted = ((means.trunc().numpy() - 7) * 0.5).reshape(3, 27)
    feeds: dict[str, Array] = {"activation": x, "target": np.zeros(3, np.int64), "seed": np.zeros((3, 27), np.float32)}
    for name, make in RUNTIMES.items():
        got = make(onnx.load_model_from_string(graph), "logits")(feeds)
        np.testing.assert_allclose(got[clear], wanted[clear], atol=1e-5, err_msg=name)
