"""FakeQuantize, and compressed weights: `rules/quantisation.py`, `constants.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from xai_exporters import Request
from xai_exporters.errors import GraphError, SourceError
from xai_exporters.graph.reading import STRAIGHT
from xai_exporters.sources import load_source
from xai_exporters.sources.openvino_ir.compressed import require_same
from xai_exporters.sources.openvino_ir.quantised import _where_unequal
from xai_exporters.sources.openvino_ir.translate import translate

from ...vjp.harness import RUNTIMES, gradient_model
from .running import Build, agree, c, f32, o, ov, saved

X = np.random.default_rng(2).normal(size=(3, 3, 5, 7)).astype(np.float32)


def fake(low: Any, high: Any, out_low: Any, out_high: Any, levels: int = 256, shape: tuple[int, ...] = ()) -> Build:
    ranges = [c(np.array(v, np.float32).reshape(shape)) for v in (low, high, out_low, out_high)]
    return lambda x: o.fake_quantize(x, *ranges, levels)


STEPS = [-1.28, -0.64, -2.56], [1.27, 0.635, 2.54]
CASES = {
    "int8": fake(-1.28, 1.27, -1.28, 1.27),
    "uint8": fake(0, 2.55, 0, 2.55),
    "narrow": fake(-1.27, 1.27, -1.27, 1.27, 255),
    "0 is not on the grid": fake(0.13, 2.5, 0.13, 2.5),
    "another range": fake(-1.28, 1.27, -12.8, 12.7),
    "16 levels": fake(-1, 1, -1, 1, 16),
    "2 levels": fake(-1, 1, -1, 1, 2),
    "per channel": fake(*STEPS, *STEPS, 256, (1, 3, 1, 1)),
}


@pytest.mark.parametrize("name", CASES)
def test_fake_quantize(name: str, tmp_path: Path) -> None:
    model = agree(saved(tmp_path, CASES[name], 3), X)
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in model.graph.node}


SEVERAL = np.linspace(0.6, 2.5, 21).reshape(1, 3, 1, 7)
"""Ends of ranges that differ along two dimensions, which QuantizeLinear's can't."""
SIXTEEN: dict[str, Any] = {  # low, high, y = (y - low) slope + out_low, levels
    "int16, as TFLite's int16x8": (-32768e-4, 32767e-4, 1.0, -32768e-4, 65536),
    "narrow": (-32767e-4, 32767e-4, 1.0, -32767e-4, 65535),
    "uint16, 0 is not on the grid": (0.13, 2.5, 1.0, 0.13, 65536),
    "another range": (-1.28, 1.27, 10.0, -12.8, 65536),
    "per channel": (*(np.reshape(end, (1, 3, 1, 1)) for end in STEPS), 1.0, np.reshape(STEPS[0], (1, 3, 1, 1)), 4096),
    "256, per channel and column": (-SEVERAL, 0.9 * SEVERAL, 1.0, -SEVERAL, 256),
    "255, per channel and column, 0 on the grid": (-SEVERAL, SEVERAL, 1.0, -SEVERAL, 255),
}


@pytest.mark.parametrize("name", SIXTEEN)
def test_written_in_floats(name: str, tmp_path: Path) -> None:
    """Against the definition, because OpenVINO drops 65536 levels. Gradients pass the rounding, and stop where the range ends."""
    low, high, slope, out_low, levels = SIXTEEN[name]
    ends = [np.asarray(v, np.float32) for v in (low, high, out_low, out_low + (np.asarray(high) - low) * slope)]
    x = X * np.float32(2)
    path = saved(tmp_path, lambda x: o.fake_quantize(x, *map(c, ends), levels), 3)
    model = ir.to_proto(translate(ov.Core().read_model(path), 1 << 30))
    [marked] = [node for node in model.graph.node if node.op_type == "Round"]
    assert STRAIGHT in {entry.key for entry in marked.metadata_props}
    step = (np.asarray(high, np.float64) - low) / (levels - 1)
    want = np.round((np.clip(x.astype(np.float64), low, high) - low) / step) * step * slope + out_low
    [image], [y] = model.graph.input, model.graph.output
    for run in RUNTIMES.values():
        got = run(model, y.name)({image.name: x})
        assert (
            apart := np.abs(got - want) / (step * slope)
        ).max() < 1.01  # a middle between two codes may go to either
        assert (apart > 0.01).mean() < 0.02
    dy = np.random.default_rng(5).standard_normal(x.shape).astype(np.float32)
    got = RUNTIMES["onnxruntime"](gradient_model(model, image.name), "dx")({image.name: x, "dy": dy})
    inside = (low < x) & (high > x)
    assert 0.2 < inside.mean() < 1
    np.testing.assert_allclose(got, dy * inside * slope, rtol=1e-5)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (fake(-1, 1, -1, 1, 65537), "has 65537 levels; codes of up to 16 bits have 65536"),
    ],
)  # fmt: skip
def test_refused(build: Build, message: str, tmp_path: Path) -> None:
    model = ov.Core().read_model(saved(tmp_path, build, 3))
    with pytest.raises(GraphError, match=rf"\(FakeQuantize\): {message}"):
        translate(model, 1 << 30)


def compressed(shape: tuple[int, ...], zero: int | None, groups: bool = False, kind: Any = np.int8) -> Build:
    """Weights as NNCF compresses them: Constant -> Convert [-> Subtract] -> Multiply."""
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 100, shape).astype(kind)
    scale = rng.random((shape[0], *(1,) * (len(shape) - 1))).astype(np.float32)

    def build(x: Any) -> Any:
        weights = o.convert(c(codes), "f32")
        if zero is not None:
            weights = o.subtract(weights, f32(zero))
        weights = o.multiply(weights, c(scale))
        conv = o.group_convolution if groups else o.convolution
        return conv(x, weights, [1, 1], [0, 0], [0, 0], [1, 1])

    return build


@pytest.mark.parametrize(
    "build",
    [
        compressed((4, 3, 3, 2), None),
        compressed((4, 3, 3, 2), 7),
        compressed((4, 3, 3, 2), 7, kind=np.uint8),
        compressed((3, 2, 1, 3, 2), 5, groups=True),
    ],
)
def test_int8_weights_stay_int8(build: Build, tmp_path: Path) -> None:
    model = agree(saved(tmp_path, build, 3), X)
    [conv] = [node for node in model.graph.node if node.op_type == "Conv"]
    [weights] = [node for node in model.graph.node if node.output[0] == conv.input[1]]
    assert weights.op_type == "DequantizeLinear"
    codes = next(tensor for tensor in model.graph.initializer if tensor.name == weights.input[0])
    assert codes.data_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)


def test_a_zero_point_between_codes_gives_floats(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        codes = c(np.arange(72).reshape(4, 3, 3, 2).astype(np.int8))
        weights = o.multiply(o.subtract(o.convert(codes, "f32"), f32(1.5)), f32(0.1))
        return o.convolution(x, weights, [1, 1], [0, 0], [0, 0], [1, 1])

    model = agree(saved(tmp_path, build, 3), X)
    assert "DequantizeLinear" not in {node.op_type for node in model.graph.node}


def test_half_precision_weights(tmp_path: Path) -> None:
    weights = c(np.random.default_rng(4).normal(size=(4, 3, 3, 3)).astype(np.float32))
    path = saved(tmp_path, lambda x: o.convolution(x, weights, [1, 1], [0, 0], [0, 0], [1, 1]), 3, half=True)
    assert (tmp_path / "net.bin").stat().st_size < 4 * 108
    model = agree(path, X)
    assert [tensor.data_type for tensor in model.graph.initializer] == [onnx.TensorProto.FLOAT]


def test_a_network_in_half_precision_becomes_float32(tmp_path: Path) -> None:
    half = c(np.random.default_rng(4).normal(size=(4, 3, 3, 3)).astype(np.float16))
    build = lambda x: o.convert(o.convolution(o.convert(x, "f16"), half, [1, 1], [0, 0], [0, 0], [1, 1]), "f32")  # noqa: E731
    model = agree(saved(tmp_path, build, 3), X)
    assert next(iter(model.graph.node)).op_type == "Conv"


@pytest.mark.parametrize(("kind", "zero"), [(np.uint8, 0), (np.uint8, 37), (np.int8, -3)])
def test_quantised_in_onnx(kind: Any, zero: int, tmp_path: Path) -> None:
    """OpenVINO reads QuantizeLinear as FakeQuantize and Convert, and DequantizeLinear as Convert, Subtract and Multiply."""
    helper = onnx.helper
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    values = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["N", 3, 5, 7]) for n in "xy"]
    weights = [onnx.numpy_helper.from_array(np.array(v), n) for v, n in ((np.float32(0.02), "s"), (kind(zero), "z"))]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], weights)
    source = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(source, tmp_path / "net.onnx")
    ov.save_model(ov.convert_model(tmp_path / "net.onnx"), tmp_path / "net.xml", compress_to_fp16=False)
    model = agree(tmp_path / "net.xml", X)
    assert [node.op_type for node in model.graph.node if node.output[0] == "y" or node.op_type == "QuantizeLinear"][
        -1
    ] == "DequantizeLinear"


def test_one_of_several_outputs_is_constant_first(tmp_path: Path) -> None:
    """Weights of groups, whose shape OpenVINO's reader of ONNX takes from theirs: what reads the second output comes first."""
    weights = c(np.random.default_rng(3).standard_normal((3, 1, 3, 2)).astype(np.float32))

    def build(x: Any) -> Any:
        ends = o.variadic_split(o.shape_of(weights), c(0), c([1, 3]))
        shape = o.concat([c([3]), ends.output(1), c([1])], 0)  # [3,1,3,2,1]
        last = o.reshape(weights, o.concat([c([3, 1]), o.gather(shape, c([1, 2, 3]), c(0))], 0), special_zero=False)
        return o.group_convolution(x, last, [1, 1], [0, 0], [0, 0], [1, 1])

    agree(saved(tmp_path, build, 3), X)


@pytest.mark.parametrize(
    ("got", "want", "near"),
    [
        ([np.inf, 1.0], [np.inf, 1.0], True),
        ([np.nan, -np.inf], [np.nan, -np.inf], True),
        ([np.inf, 1.0], [-np.inf, 1.0], False),
        ([3e38, 1.0], [np.inf, 1.0], False),
        ([np.nan, 1.0], [2.0, 1.0], False),
        ([1.0, 2.0], [1.0, 2.5], False),
    ],
)
def test_numbers_that_overflow_alike(got: list[float], want: list[float], near: bool) -> None:
    """Without its rounding, a detector's exp may overflow in both runs; that was told as a difference."""
    assert (_where_unequal(np.array(got), np.array(want)) <= 0.1) == near


def grouped_codes(folder: Path, group: int) -> tuple[Path, Any]:
    """scores = W mean(x) with weights of 4 bits, `group` columns with one scale: (codes - zero) scale; the IR and W."""
    random = np.random.default_rng(4)
    codes, zero = random.integers(0, 16, (8, 2, group)), random.integers(0, 16, (8, 2, 1))
    scales = random.uniform(0.01, 0.03, (8, 2, 1)).astype(np.float16)
    x = o.parameter([1, 2 * group, 5, 7], np.float32, name="x")
    given = [o.convert(o.constant(array, dtype=ov.Type.u4), "f16") for array in (codes, zero)]
    weights = o.reshape(o.multiply(o.subtract(*given), o.constant(scales)), c(np.array([8, -1])), False)
    scores = o.matmul(o.reduce_mean(x, c(np.array([2, 3])), False), o.convert(weights, "f32"), False, True)
    ov.save_model(ov.Model([scores], [x], "net"), folder / "net.xml", compress_to_fp16=False)
    return folder / "net.xml", ((codes - zero) * scales.astype(np.float64)).reshape(8, -1)


@pytest.mark.parametrize("group", [24, 32, 40, 48, 56, 64, 96])
def test_weights_that_openvino_takes_wrongly(group: int, tmp_path: Path) -> None:
    """Where its own result is not the formula's, its kernel is blamed; the translation is right everywhere."""
    path, matrix = grouped_codes(tmp_path, group)
    x = np.random.default_rng(5).random((1, 2 * group, 5, 7)).astype(np.float32)
    want = x.astype(np.float64).mean((2, 3)) @ matrix.T
    options = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
    [got] = ov.Core().compile_model(path, "CPU", options)(x).values()
    network = load_source(Request(path))
    assert network.reference is not None
    if np.abs(got - want).max() > 0.01 * np.abs(want).max():
        with pytest.raises(SourceError, match=r"net\.xml: OpenVINO computes it wrongly: .* groups of 32, 64 or 128"):
            network.reference(x)
    else:
        [reference] = network.reference(x).values()
        np.testing.assert_allclose(reference, want, rtol=0, atol=2e-3 * np.abs(want).max())
    translated = ort.InferenceSession(network.proto.SerializeToString(), providers=["CPUExecutionProvider"])
    [ours] = translated.run(None, {translated.get_inputs()[0].name: x})
    np.testing.assert_allclose(ours, want, rtol=0, atol=2e-3 * np.abs(want).max())


def test_what_is_chosen_is_not_compared() -> None:
    """A list of another length, whole numbers, and an output that is right beside one that a choice moves."""
    scores, rows = np.ones((1, 4), np.float32), np.ones((3, 6), np.float32)
    require_same([rows, np.zeros(3, np.int64)], [np.ones((2, 6), np.float32), np.ones(3, np.int64)])
    require_same([scores, rows], [scores, 2 * rows])
    for wrong in (1.05 * scores, np.full((1, 4), np.nan, np.float32)):
        with pytest.raises(SourceError, match="OpenVINO computes it wrongly"):
            require_same([wrong, np.zeros(3, np.int64)], [scores, np.ones(3, np.int64)])
