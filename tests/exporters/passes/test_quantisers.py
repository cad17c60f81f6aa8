"""QONNX's and Quark's quantisers as standard operators: against their definitions, written out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper
from xai_exporters.errors import GraphError
from xai_exporters.passes.quantisers import foreign_quantisers, to_standard_quantisers

from xai_deploy.format.bundle import GRADIENT, Bundle

from .. import nets
from .. import onnx_nets as o
from ..checks import RUNNERS, Array, close, onnxruntime
from ..running import HEAD_AND_TAIL, export_onnx
from .test_one_at_a_time import feeds_of

QONNX = "qonnx.custom_op.general"
IMAGES = np.random.default_rng(3).standard_normal((2, *nets.SHAPE)).astype(np.float32)
# on the border between two codes, or beyond the last one
IMAGES[:, :, :4] = np.random.default_rng(4).integers(-20, 20, (2, 3, 4, nets.SHAPE[2])) * np.float32(0.125)
ROUNDINGS: dict[str, Callable[[Array], Array]] = {
    "ROUND": np.round,
    "HALF_EVEN": np.round,
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "UP": lambda v: np.sign(v) * np.ceil(np.abs(v)),
    "DOWN": np.fix,
    "ROUND_TO_ZERO": np.fix,
    "HALF_UP": lambda v: np.sign(v) * np.floor(np.abs(v) + 0.5),
    "HALF_DOWN": lambda v: np.sign(v) * np.ceil(np.abs(v) - 0.5),
}


def quant(x: Array, s: Any, z: Any, bits: int, signed: bool, narrow: bool, mode: str) -> tuple[Array, Array]:
    """y, and where a value is inside the range."""
    v = x / s + z
    if bits == 1 and signed:
        return (np.where(v >= 0, 1, -1) - z) * s, np.ones(x.shape, bool)
    low = -(2 ** (bits - 1)) + narrow if signed else 0
    high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1 - narrow
    return (ROUNDINGS[mode](np.clip(v, low, high)) - z) * s, (v > low) & (v < high)


def around(op: str, *parameters: Any, domain: str = QONNX, weight: Any = None, **attributes: Any) -> onnx.ModelProto:
    """The image, or a weight, quantised."""
    b = o.Build(18)
    x = "image" if weight is None else b.weight(weight)
    given = [b.weight(np.asarray(p, np.float32)) for p in parameters]
    y = b(op, x, *given, domain=domain, **attributes)
    y = y if weight is None else b("Mul", "image", y)
    model = b.model(y, imports=[helper.make_opsetid(domain, 1)])
    del model.graph.output[:]
    model.graph.output.append(onnx.ValueInfoProto(name=y))
    return model


def standard(model: onnx.ModelProto) -> onnx.ModelProto:
    before = model.SerializeToString()
    assert foreign_quantisers(model)
    done = to_standard_quantisers(model)
    assert model.SerializeToString() == before
    assert not any(node.domain for node in done.graph.node)
    return done


SCALES = np.array([0.125, 0.0625, 0.25], np.float32).reshape(3, 1, 1)
CASES = [
    (0.125, 0.0, 8, True, False, "ROUND"),
    (0.125, 0.0, 8, True, True, "HALF_EVEN"),
    (0.125, 0.0, 4, True, False, "ROUND"),
    (0.125, 0.0, 3, False, True, "ROUND"),
    (0.125, 3.0, 4, True, False, "ROUND"),
    (0.125, 7.0, 4, False, False, "ROUND"),
    (0.1, 0.25, 4, True, False, "ROUND"),
    (0.125, 0.0, 1, True, False, "ROUND"),
    (0.125, 0.0, 1, False, False, "ROUND"),
    (0.125, 0.0, 12, True, False, "ROUND"),
    (SCALES, 0.0, 4, True, True, "ROUND"),
    (SCALES, 1.0, 8, True, True, "FLOOR"),
    *((0.25, 0.0, 4, True, False, mode) for mode in ROUNDINGS),
    (0.25, 1.0, 4, True, False, "HALF_UP"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: " ".join(str(np.size(p) if np.ndim(p) else p) for p in c))
def test_quant(case: Any) -> None:
    s, z, bits, signed, narrow, mode = case
    domain = "onnx.brevitas" if mode == "FLOOR" else QONNX  # its older name
    attributes = {"signed": int(signed), "narrow": int(narrow), "rounding_mode": mode}
    model = standard(around("Quant", s, z, bits, domain=domain, **attributes))
    want, _ = quant(IMAGES, np.float32(s), np.float32(z), bits, signed, narrow, mode)
    for run in RUNNERS:
        [got] = run(model.SerializeToString(), {"image": IMAGES}).values()
        np.testing.assert_allclose(got, want, atol=1e-6, err_msg=run.__name__)
    assert len(np.unique(want)) > 1


@pytest.mark.parametrize(("bits", "zero"), [(4, 0.0), (4, 2.0), (8, 0.0), (16, 0.0), (1, 0.0)])
@pytest.mark.parametrize("scale", [0.001, SCALES / 16, np.array([[[[0.1]], [[0.2]], [[0.3]]]])])
def test_weights(bits: int, zero: float, scale: Any) -> None:
    """A weight is stored in codes of 8 bits if they fit."""
    w = np.random.default_rng(5).standard_normal((1, 3, 1, 1)).astype(np.float32)
    model = standard(around("Quant", scale, zero, bits, weight=w, signed=1, narrow=0, rounding_mode="ROUND"))
    assert all(node.op_type in ("DequantizeLinear", "Mul") for node in model.graph.node)
    assert (len(model.graph.node) == 1) == (bits == 16 and np.min(scale) < 0.01)
    want, _ = quant(w, np.float32(scale), np.float32(zero), bits, True, False, "ROUND")
    [got] = onnxruntime(model.SerializeToString(), {"image": IMAGES}).values()
    np.testing.assert_allclose(got, IMAGES * want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale", [0.5, SCALES])
def test_bipolar(scale: Any) -> None:
    images = IMAGES.copy()
    images[:, :, :2] = [[0.0], [-0.0]]
    want = np.where(images >= 0, 1, -1) * np.float32(scale)
    model = standard(around("BipolarQuant", scale))
    for run in RUNNERS:
        [got] = run(model.SerializeToString(), {"image": images}).values()
        np.testing.assert_allclose(got, want, rtol=1e-6)
    w = np.array([[[[0.0]], [[-2.0]], [[3.0]]]], np.float32)
    [got] = onnxruntime(
        standard(around("BipolarQuant", scale, weight=w)).SerializeToString(), {"image": IMAGES}
    ).values()
    np.testing.assert_allclose(got, IMAGES * np.where(w >= 0, 1, -1) * np.float32(scale), rtol=1e-6)


@pytest.mark.parametrize("mode", ["FLOOR", "ROUND", "CEIL", "DOWN"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("zero", [0.0, 4.0])
def test_trunc(mode: str, version: int, zero: float) -> None:
    s, bits_in, bits_out, s_out = np.float32(0.125), 8, 6, np.float32(0.5)
    v = np.round(IMAGES / s + np.float32(zero)) / 4
    if version == 1:
        want = (ROUNDINGS[mode](v) - np.float32(zero)) * s
        model = around("Trunc", s, zero, bits_in, bits_out, rounding_mode=mode)
    else:
        want = (ROUNDINGS[mode](np.clip(v, -32, 31)) - np.float32(zero / 4)) * s_out
        model = around("Trunc", s, zero, bits_in, s_out, bits_out, rounding_mode=mode, signed=1, narrow=0)
    for run in RUNNERS:
        [got] = run(standard(model).SerializeToString(), {"image": IMAGES}).values()
        np.testing.assert_allclose(got, want, atol=1e-6)


def network(mode: str = "ROUND", zero: float = 0.0) -> onnx.ModelProto:
    """As brevitas exports QONNX: weights and activations of 4 and 8 bits, a bias of 16."""
    b = o.Build(13)

    def quantised(x: str, s: float, bits: int, signed: int = 1, z: float = 0.0, **more: Any) -> str:
        given = [b.weight(np.float32(p)) for p in (s, z, bits)]
        return b("Quant", x, *given, domain=QONNX, signed=signed, narrow=signed, rounding_mode=mode, **more)

    x = quantised("image", 0.02, 8, z=zero)
    x = b(
        "Conv", x, quantised(b.draw(6, 3, 3, 3), 0.05, 4), quantised(b.draw(6), 0.001, 16), pads=[1] * 4, strides=[2, 2]
    )
    x = quantised(b("Relu", x), 0.05, 4, signed=0, name="layer")
    x = b("MatMul", b.pooled(x), quantised(b.draw(6, 5), 0.05, 4))
    return b.model(b("Add", x, b.draw(5), out="scores"), imports=[helper.make_opsetid(QONNX, 1)])


@pytest.mark.parametrize(("mode", "zero"), [("ROUND", 0.0), ("FLOOR", 3.0)])
def test_export(mode: str, zero: float, tmp_path: Path) -> None:
    done = export_onnx(
        tmp_path, network(mode, zero), split="layer_out", roles=("gradient", "relevance"), input_gradient=True
    )
    assert done.kind == "ONNX, quantisers as standard operators"
    assert any("does not compute Quant on a processor" in note for note in done.notes)
    bundle = Bundle.open(done.path)
    assert not done.dead
    for run in RUNNERS:
        between = run(bundle.graph("head"), {"image": IMAGES[:1]})
        codes = between["activation"] / 0.05
        np.testing.assert_allclose(codes, np.round(codes), atol=1e-4)
        assert codes.max() <= 15.001
        for role in ("gradient", "input-gradient", "relevance"):
            got = run(bundle.graph(role), feeds_of(bundle, role, IMAGES[:1], between))
            close(got["logits"], run(bundle.graph("tail"), between)["logits"], 0.02)  # the runtimes' int8 rounds
            assert all(np.isfinite(value).all() and value.any() for value in got.values())


@pytest.mark.parametrize("mode", ["ROUND", "FLOOR", "HALF_UP"])
@pytest.mark.parametrize("zero", [0.0, 1.0])
def test_straight_through(mode: str, zero: float, tmp_path: Path) -> None:
    """The gradient is that of the clipping."""
    b = o.Build(18)
    given = [b.weight(np.float32(p)) for p in (0.25, zero, 4)]
    x = b("Quant", "image", *given, domain=QONNX, signed=1, narrow=0, rounding_mode=mode)
    y = b("Mul", x, x)  # its gradient is 2 y inside the range
    model = b.model(
        b("MatMul", b("Flatten", b("GlobalAveragePool", y)), b.weight(np.eye(3, 5, dtype=np.float32)), out="scores"),
        imports=[helper.make_opsetid(QONNX, 1)],
    )
    done = export_onnx(tmp_path, model, split=y, input_gradient=True, roles=HEAD_AND_TAIL)
    bundle = Bundle.open(done.path)
    images = np.where(np.abs(IMAGES / 0.25 % 0.5 - 0.25) > 0.2, IMAGES + np.float32(0.02), IMAGES)[:1]
    rounded, inside = quant(images, np.float32(0.25), np.float32(zero), 4, True, False, mode)
    want = np.zeros_like(images)
    want[:, 2] = (2 * rounded * inside)[:, 2] / (nets.SHAPE[1] * nets.SHAPE[2])
    for run in RUNNERS:
        between = run(bundle.graph("head"), {"image": images})
        got = run(bundle.graph("input-gradient"), feeds_of(bundle, "input-gradient", images, between))[GRADIENT]
        wrong = np.abs(got - want) > 1e-5
        # the last code's half step may count as inside
        assert wrong.mean() < 0.05
        assert not (wrong & inside & (np.abs(images) < 1.5)).any()


def quark(kind: Any, axis: bool) -> onnx.ModelProto:
    b = o.Build(18)
    scale = np.array([0.1, 0.02, 0.3], np.float32) if axis else np.float32(0.02)
    zero = np.full(np.shape(scale), 3 if np.dtype(kind).kind in "iu" else 0, kind)
    s, z = b.weight(scale), "zero"
    b.weights.append(onnx.numpy_helper.from_array(zero, z))
    more: dict[str, Any] = {"axis": 1} if axis else {}
    q = b("ExtendedQuantizeLinear", "image", s, z, domain="com.amd.quark", **more)
    y = b("ExtendedDequantizeLinear", q, s, z, domain="com.amd.quark", **more)
    model = b.model(y, imports=[helper.make_opsetid("com.amd.quark", 1)])
    del model.graph.output[:]
    model.graph.output.append(onnx.ValueInfoProto(name=y))
    return model


@pytest.mark.parametrize("axis", [True, False])
@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_quark(kind: Any, axis: bool) -> None:
    [got] = onnxruntime(standard(quark(kind, axis)).SerializeToString(), {"image": IMAGES}).values()
    scale = np.array([0.1, 0.02, 0.3], np.float32).reshape(3, 1, 1) if axis else np.float32(0.02)
    limits = np.iinfo(kind)
    want = (np.clip(np.round(IMAGES / scale) + 3, limits.min, limits.max) - 3) * scale
    np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16])
def test_quarks_half_precision(kind: Any) -> None:
    want = (IMAGES / np.float32(0.02)).astype(kind).astype(np.float32) * np.float32(0.02)
    [got] = onnxruntime(standard(quark(kind, False)).SerializeToString(), {"image": IMAGES}).values()
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (around("Quant", 0.1, 0.0, 4, rounding_mode="STOCHASTIC"), "its rounding mode 'STOCHASTIC' has no definition"),
        (around("Quant", 0.1, 0.0, [4, 8], rounding_mode="ROUND"), "its bit width is not one constant number"),
        (quark(np.int32, False), "its codes are int32, for which ONNX has no QuantizeLinear"),
    ],
)
def test_refusals(model: onnx.ModelProto, reason: str) -> None:
    with pytest.raises(GraphError, match=reason):
        to_standard_quantisers(model)
