"""Operators on integers and their QDQ form give the same codes, at most one step apart, on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from xai_exporters.errors import GraphError, VerificationError
from xai_exporters.passes.int8_input import to_codes, to_pixels
from xai_exporters.passes.qoperator import to_qdq
from xai_exporters.passes.unsaturated import without_saturation
from xai_exporters.sources.standard_form import in_standard_form

from tests.support.saturation import saturates
from xai_deploy import Explainer
from xai_deploy.format.bundle import Bundle

from .. import nets
from .. import onnx_nets as o
from ..checks import RUNNERS, Outputs, close, onnxruntime
from ..running import export_onnx

MICROSOFT = helper.make_opsetid("com.microsoft", 1)
IMAGES = np.random.default_rng(3).standard_normal((2, *nets.SHAPE)).astype(np.float32)


def exactly(model: onnx.ModelProto, feeds: Any) -> Outputs:
    """ONNX Runtime's outputs without its optimiser, and without sums that saturate on processors without VNNI."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    content = (without_saturation(model) or model).SerializeToString()
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def scale(b: o.Build, of: float = 0.05, zero: int = 3, dtype: Any = np.uint8) -> tuple[str, str]:
    return b.weight(np.float32(of)), b.weight(np.array(zero, dtype))


def codes(b: o.Build, dtype: Any = np.uint8, nhwc: bool = False) -> tuple[str, str, str]:
    """The image as codes, their scale and zero point."""
    s, z = scale(b, 0.03, 120 if dtype == np.uint8 else -4, dtype)
    x = b("Transpose", "image", perm=[0, 2, 3, 1]) if nhwc else "image"
    return b("QuantizeLinear", x, s, z), s, z


def weights(b: o.Build, shape: tuple[int, ...], channels: int = 0, dtype: Any = np.int8) -> tuple[str, str, str]:
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    w = b.weight(b.rng.integers(low, high + 1, shape).astype(dtype))
    if channels:
        s = b.rng.uniform(0.005, 0.02, channels).astype(np.float32)
        return w, b.weight(s), b.weight(np.zeros(channels, dtype))
    return w, *scale(b, 0.01, 2 if dtype == np.int8 else 130, dtype)


def conv(
    b: o.Build,
    per_channel: bool = False,
    last: bool = False,
    bias: bool = True,
    dtype: Any = np.uint8,
    one_zero: bool = False,
) -> str:
    domain = "com.microsoft" if last else ""
    further: dict[str, Any] = {"channels_last": 1} if last else {}
    given = [
        *codes(b, dtype, nhwc=last),
        *weights(b, (4, 3, 3, 3), 4 if per_channel else 0),
        *scale(b, 0.1, 100, dtype),
    ]
    if one_zero:
        given[5] = b.weight(np.array(0, np.int8))
    if bias:
        b.weights.append(onnx.numpy_helper.from_array(np.array([300, -500, 20, 0], np.int32), "bias"))
        given.append("bias")
    return b("QLinearConv", *given, pads=[1] * 4, strides=[2, 2], domain=domain, **further)


def flat(b: o.Build) -> tuple[str, str, str]:
    x, s, z = codes(b)
    return b("Flatten", b("Slice", x, b.weight([0, 0]), b.weight([4, 2]), b.weight([2, 3]))), s, z


def gemm(b: o.Build, floats: bool = False) -> str:
    x, s, z = flat(b)
    given = [x, s, z, *weights(b, (5, 24), 5)]
    b.weights.append(onnx.numpy_helper.from_array(np.arange(5, dtype=np.int32) * 900, "bias"))
    given += ["bias", *(() if floats else scale(b, 0.2, 110))]
    return b("QGemm", *given, transB=1, alpha=0.5, domain="com.microsoft")


def integer(b: o.Build, op: str) -> str:
    x, _, z = codes(b) if op == "ConvInteger" else flat(b)
    w, _, wz = weights(b, (4, 3, 3, 3)) if op == "ConvInteger" else weights(b, (24, 5))
    y = b("Cast", b(op, x, w, z, wz), to=TensorProto.FLOAT)
    return b("Mul", y, b.weight(np.float32(0.0003)))


def dynamic(b: o.Build, op: str) -> str:
    x, s, z = flat(b)
    w, ws, wz = weights(b, (24, 5), 5)
    b.weights.append(onnx.numpy_helper.from_array(np.arange(5, dtype=np.float32), "bias"))
    if op == "DynamicQuantizeMatMul":
        floats = b("DequantizeLinear", x, s, z)
        return b(op, floats, w, ws, wz, "bias", domain="com.microsoft")
    return b(op, x, w, s, ws, z, wz, "bias", domain="com.microsoft")


def contrib(b: o.Build, op: str, *inputs: str, **attributes: Any) -> str:
    return b(op, *inputs, domain="com.microsoft", **attributes)


def pool(b: o.Build, op: str, last: int, **attributes: Any) -> str:
    return contrib(b, op, *codes(b, nhwc=bool(last)), *scale(b, 0.02, 90), channels_last=last, **attributes)


def moved(b: o.Build) -> str:
    """MaxPool and Transpose on the codes themselves."""
    y = conv(b)
    return b("Transpose", b("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2]), perm=[0, 2, 3, 1])


CASES: dict[str, Callable[[o.Build], str]] = {
    "QLinearConv": conv,
    "QLinearConv per channel": lambda b: conv(b, per_channel=True),
    "QLinearConv without bias": lambda b: conv(b, bias=False),
    "QLinearConv of int8": lambda b: conv(b, dtype=np.int8),
    "QLinearConv per channel, one zero point": lambda b: conv(b, per_channel=True, one_zero=True),
    "QLinearConv, channels last": lambda b: conv(b, per_channel=True, last=True),
    "moved codes": moved,
    "NhwcMaxPool": lambda b: contrib(b, "NhwcMaxPool", conv(b, last=True), kernel_shape=[2, 2], strides=[2, 2]),
    "QLinearMatMul": lambda b: b("QLinearMatMul", *flat(b), *weights(b, (24, 5)), *scale(b, 0.2, 120)),
    "QLinearMatMul per column": lambda b: b("QLinearMatMul", *flat(b), *weights(b, (24, 5), 5), *scale(b, 0.2, 120)),
    "QGemm": gemm,
    "QGemm to floats": lambda b: gemm(b, floats=True),
    "QLinearAdd": lambda b: contrib(
        b, "QLinearAdd", *codes(b), *weights(b, (3, 1, 1), 0, np.uint8), *scale(b, 0.04, 99)
    ),
    "QLinearMul": lambda b: contrib(
        b, "QLinearMul", *codes(b), *weights(b, (3, 1, 1), 0, np.uint8), *scale(b, 0.04, 99)
    ),
    "QLinearSigmoid": lambda b: contrib(b, "QLinearSigmoid", *codes(b), *scale(b, 1 / 256, 0)),
    "QLinearLeakyRelu": lambda b: contrib(b, "QLinearLeakyRelu", *codes(b), *scale(b, 0.02, 40), alpha=0.3),
    "QLinearSoftmax": lambda b: contrib(b, "QLinearSoftmax", *flat(b), *scale(b, 1 / 256, 0), axis=1, opset=13),
    "QLinearAveragePool": lambda b: pool(b, "QLinearAveragePool", 0, kernel_shape=[3, 3], pads=[1] * 4),
    "QLinearAveragePool, channels last": lambda b: pool(
        b, "QLinearAveragePool", 1, kernel_shape=[2, 2], strides=[2, 2]
    ),
    "QLinearGlobalAveragePool": lambda b: pool(b, "QLinearGlobalAveragePool", 0),
    "QLinearGlobalAveragePool, channels last": lambda b: pool(b, "QLinearGlobalAveragePool", 1),
    "QLinearConcat": lambda b: contrib(
        b, "QLinearConcat", *scale(b, 0.05, 100), *codes(b), *codes(b, np.uint8), axis=1
    ),
    "ConvInteger": lambda b: integer(b, "ConvInteger"),
    "MatMulInteger": lambda b: integer(b, "MatMulInteger"),
    "MatMulIntegerToFloat": lambda b: dynamic(b, "MatMulIntegerToFloat"),
    "DynamicQuantizeMatMul": lambda b: dynamic(b, "DynamicQuantizeMatMul"),
}


def model_of(case: str, opset: int = 13) -> onnx.ModelProto:
    b = o.Build(opset)
    out = CASES[case](b)
    model = b.model(out, imports=[MICROSOFT])
    del model.graph.output[:]
    model.graph.output.append(onnx.ValueInfoProto(name=out))
    return model


@pytest.mark.parametrize("case", CASES)
def test_codes_stay(case: str) -> None:
    source = model_of(case)
    before = source.SerializeToString()
    got = to_qdq(source)
    assert got is not None
    assert source.SerializeToString() == before
    assert not any(n.domain or n.op_type.startswith("QLinear") for n in got.model.graph.node)
    [want] = exactly(source, {"image": IMAGES}).values()
    [result] = exactly(got.model, {"image": IMAGES}).values()
    assert (result.dtype, result.shape) == (want.dtype, want.shape)
    assert len(np.unique(want)) > 4  # not all saturated
    if want.dtype == np.float32:
        close(result, want, 1e-5)
    else:
        assert np.abs(result.astype(int) - want).max() <= 1
        ties = case.startswith(("QLinearAdd", "QLinearAveragePool"))  # many sums of codes lie between two codes
        assert (result != want).mean() < (0.25 if ties else 0.02)
    if got.beside is not None:
        pairs = exactly(got.beside, {"image": IMAGES})
        assert all(np.abs(pairs[a].astype(float) - pairs[b]).max() <= 1.001 for a, b in got.pairs)


@pytest.mark.parametrize("static", [True, False])
def test_attention(static: bool) -> None:
    """QAttention as `quantize_dynamic` writes it for optimised transformers: codes of a fixed range, and of each image's."""
    b = o.Build(13)
    x, s, z = flat(b)
    if not static:
        names = b("DequantizeLinear", x, s, z), "codes", "scale", "zero"
        b.nodes.append(helper.make_node("DynamicQuantizeLinear", [names[0]], list(names[1:])))
        x, s, z = names[1:]
    w, ws, wz = weights(b, (6, 18), 18)
    bias = b.weight(b.rng.standard_normal(18).astype(np.float32))
    tokens = b("Reshape", x, b.weight([-1, 4, 6]))
    out = contrib(b, "QAttention", tokens, w, bias, s, ws, "", z, wz, num_heads=2)
    model = b.model(out, imports=[MICROSOFT])
    if saturates():  # with weights of uint8 its kernel does not
        model = without_saturation(model) or model
    got = to_qdq(model)
    assert got is not None
    assert "QAttention" not in {node.op_type for node in got.model.graph.node}
    for image in IMAGES[:, None] if not static else [IMAGES]:  # the range of one image
        [want] = onnxruntime(model.SerializeToString(), {"image": image}).values()
        [result] = onnxruntime(got.model.SerializeToString(), {"image": image}).values()
        close(result, want, 1e-5)
        if got.beside is not None:
            pairs = onnxruntime(got.beside.SerializeToString(), {"image": image})
            assert all(np.abs(pairs[own].astype(float) - pairs[again]).max() <= 1.001 for own, again in got.pairs)


def test_networks_in_other_forms_are_left_alone() -> None:
    assert to_qdq(o.classifier()) is None
    assert to_qdq(o.quantised()) is None


def network(opset: int = 13) -> onnx.ModelProto:
    """Convolution, pooling and a linear layer on integers, as `quantize_static` writes them."""
    b = o.Build(opset)
    s, z = scale(b, 0.1, 100)
    y = b(
        "QLinearConv", *codes(b), *weights(b, (6, 3, 3, 3), 6 if opset > 12 else 0), s, z, pads=[1] * 4, strides=[2, 2]
    )
    if opset > 11:  # before that it takes floats alone
        y = b("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    gs, gz = scale(b, 0.05, 100)
    y = b("Flatten", contrib(b, "QLinearGlobalAveragePool", y, s, z, gs, gz, channels_last=0))
    ys, yz = scale(b, 0.02, 120)
    y = b("QLinearMatMul", y, gs, gz, *weights(b, (6, 5)), ys, yz)
    return b.model(b("DequantizeLinear", y, ys, yz, out="scores"), imports=[MICROSOFT])


@pytest.mark.parametrize("opset", [10, 11, 13, 17])
def test_export(opset: int, tmp_path: Path) -> None:
    source = network(opset)
    done = export_onnx(tmp_path, source)
    assert done.kind == "ONNX, integers' operators as QDQ"
    assert {"head", "tail", "gradient", "relevance"} <= set(done.manifest.graphs)
    want = exactly(source, {"image": IMAGES})["scores"]
    for backend in ("onnxruntime", "openvino"):
        assert np.abs(Explainer(done.path, backend).predict(IMAGES) - want).max() <= 0.0401  # two steps
    assert float(np.ptp(want)) > 0.2


def test_an_operator_that_computes_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison operator by operator finds a wrong replacement."""
    from xai_exporters.passes import qoperator

    monkeypatch.setitem(qoperator._PLAIN, "QLinearSigmoid", ("Tanh", 1))
    network = in_standard_form(model_of("QLinearSigmoid"), "ONNX")
    assert network.reference is not None
    with pytest.raises(VerificationError, match="computes something else than its standard form"):
        network.reference(IMAGES)


@pytest.mark.parametrize(("ceil", "stride"), [(1, 2), (1, 4), (0, 2)])
def test_averages_in_ceil_mode(ceil: int, stride: int) -> None:
    """ONNX Runtime's operator divides windows that reach beyond the padding by another number than AveragePool."""
    b = o.Build(17)
    x = pool(
        b,
        "QLinearAveragePool",
        0,
        kernel_shape=[4, 4],
        strides=[stride] * 2,
        pads=[1] * 4,
        ceil_mode=ceil,
        count_include_pad=1,
    )
    x = b("DequantizeLinear", x, *scale(b, 0.02, 90), out="scores")
    network = in_standard_form(b.model(x, imports=[MICROSOFT]), "ONNX")
    assert network.reference is not None
    if ceil and stride == 4:  # (16 + 2 - 4) / 4 is no whole number
        with pytest.raises(
            VerificationError, match=r"QLinearAveragePool gives .*ceil_mode.*; quantise in QDQ form \(QuantFormat.QDQ\)"
        ):
            network.reference(IMAGES)
    else:
        network.reference(IMAGES)


def test_a_file_that_onnxruntime_cannot_open() -> None:
    """quantize_static writes such files for some vision transformers: one tensor as codes of two types. The source is at fault."""
    model = model_of("QLinearSigmoid")
    [node] = [node for node in model.graph.node if node.op_type == "QLinearSigmoid"]
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(3, np.int32), "other"))
    node.input[4] = "other"
    network = in_standard_form(model, "ONNX")
    assert network.reference is not None
    with pytest.raises(GraphError, match=r"ONNX Runtime can't open the source: .*Type 'tensor\(int32\)'"):
        network.reference(IMAGES)


@pytest.mark.parametrize("behind", ["DequantizeLinear", "Transpose"])
def test_int8_input(behind: str, tmp_path: Path) -> None:
    b = o.Build(13)
    s, z = scale(b, 1 / 100, -7, np.int8)
    x = b("Transpose", "image", perm=[0, 1, 2, 3]) if behind == "Transpose" else "image"
    source = b.model(
        b.linear(b.pooled(b.features(b("DequantizeLinear", x, s, z))), out="scores"), dtype=TensorProto.INT8
    )
    pixels = np.random.default_rng(0).integers(0, 256, (3, *nets.SHAPE)).astype(np.uint8)
    changed = to_pixels(source)
    assert changed is not None
    want = onnxruntime(source.SerializeToString(), {"image": to_codes(pixels)})["scores"]
    close(onnxruntime(changed.SerializeToString(), {"image": pixels})["scores"], want, 1e-6)
    done = export_onnx(tmp_path, source)
    assert done.manifest.input.dtype == "uint8"
    assert done.kind == "ONNX, int8 input as uint8 pixels"
    bundle = Bundle.open(done.path)
    for run in RUNNERS:
        close(run(bundle.graph("tail"), run(bundle.graph("head"), {"image": pixels}))["logits"], want)


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_codes_of_normalised_images(kind: Any, tmp_path: Path) -> None:
    """If the request normalises, the file's own scale makes the codes; if it does not, the export says what they stand for."""
    b = o.Build(13)
    s, z = scale(b, 0.0187, -14 if kind == np.int8 else 114, kind)
    x = b("Relu", b.conv(b("DequantizeLinear", "image", s, z), 3, 6, strides=[2, 2]), name="layer")
    dtype = TensorProto.INT8 if kind == np.int8 else TensorProto.UINT8
    source = b.model(b.linear(b.pooled(x), out="scores"), dtype=dtype)
    done = export_onnx(tmp_path, source, split="layer_out", preprocess="imagenet", input_gradient=True)
    assert (done.manifest.input.dtype, done.kind) == ("float32", "ONNX, 8-bit input as floats")
    bundle = Bundle.open(done.path)
    limits = np.iinfo(kind)
    codes = np.clip(np.rint(IMAGES / np.float32(0.0187)) + (-14 if kind == np.int8 else 114), limits.min, limits.max)
    want = onnxruntime(source.SerializeToString(), {"image": codes.astype(kind)})["scores"]
    for run in RUNNERS:
        close(run(bundle.graph("tail"), run(bundle.graph("head"), {"image": IMAGES}))["logits"], want, 1e-4)
    done = export_onnx(tmp_path, source, split="layer_out", overwrite=True)
    assert done.manifest.input.dtype == "uint8"
    assert any("stands for numbers from -2.13 to 2.64" in note for note in done.notes)


def test_codes_of_pixels() -> None:
    assert to_codes(np.array([0, 127, 128, 255], np.uint8)).tolist() == [-128, -1, 0, 127]
    assert to_pixels(o.classifier()) is None
