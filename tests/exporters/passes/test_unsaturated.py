"""Operators on integers whose sums leave 16 bits: ONNX Runtime gives the formula's numbers on every processor."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from xai_exporters.passes.unsaturated import without_saturation

from .. import onnx_nets as o
from ..checks import onnxruntime

ROWS = np.random.default_rng(5).integers(220, 256, (3, 32)).astype(np.uint8)
ROWS[0, 0], ROWS[1, 1] = 255, 0  # so that the dynamic scale is 1, and its zero point 0
WEIGHTS = np.random.default_rng(6).integers(90, 128, (32, 4)).astype(np.int8) * np.array([1, -1, 1, -1], np.int8)
STEP = 5000.0
SUMS = ROWS.astype(np.int64) @ WEIGHTS.astype(np.int64)
SHIFTED = ROWS.astype(np.int64) @ (WEIGHTS.astype(np.int64) - 3)


def rounded(sums: Any) -> Any:
    return np.clip(np.rint(sums / STEP), -128, 127) + 128


def network(op: str, zeros: bool = True) -> onnx.ModelProto:
    """The operator on rows of codes; the weights' zero point is 3 if `zeros`, else left out."""
    b = o.Build(17)
    one, x_zero = b.weight(np.float32(1)), b.weight(np.uint8(0))
    w_zero = b.weight(np.int8(3)) if zeros else ""
    out = b.weight(np.float32(STEP)), b.weight(np.uint8(128))
    conv = "Conv" in op
    w = b.weight(np.ascontiguousarray(WEIGHTS.T)[:, :, None, None] if conv else WEIGHTS)
    x = b("Reshape", "image", b.weight([-1, 32, 1, 1])) if conv else "image"
    if op in ("QLinearConv", "QLinearMatMul"):
        y = b(op, x, one, x_zero, w, one, w_zero, *out)
    elif op == "QGemm":
        y = b(op, x, one, x_zero, w, one, w_zero, "", *out, domain="com.microsoft")
    elif op in ("ConvInteger", "MatMulInteger"):
        y = b(op, x, w, *((x_zero, w_zero) if zeros else ()))
    elif op == "MatMulIntegerToFloat":
        y = b(op, x, w, one, one, x_zero, w_zero, domain="com.microsoft")
    else:
        y = b(op, b("Cast", x, to=TensorProto.FLOAT), w, one, w_zero, domain="com.microsoft")
    y = b("Flatten", y)
    model = b.model(y, imports=[onnx.helper.make_opsetid("com.microsoft", 1)], dtype=TensorProto.UINT8)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 32
    del model.graph.input[0].type.tensor_type.shape.dim[2:], model.graph.output[:]
    model.graph.output.append(onnx.ValueInfoProto(name=y))
    return model


@pytest.mark.parametrize(
    ("op", "zeros"),
    [
        ("QLinearConv", True), ("QLinearMatMul", True), ("QGemm", True), ("ConvInteger", True), ("ConvInteger", False),
        ("MatMulInteger", True), ("MatMulInteger", False), ("MatMulIntegerToFloat", True),
        ("MatMulIntegerToFloat", False), ("DynamicQuantizeMatMul", True), ("DynamicQuantizeMatMul", False),
    ],
)  # fmt: skip
def test_sums_do_not_saturate(op: str, zeros: bool) -> None:
    source = network(op, zeros)
    before = source.SerializeToString()
    got = without_saturation(source)
    assert got is not None
    assert source.SerializeToString() == before
    [result] = onnxruntime(got.SerializeToString(), {"image": ROWS}).values()
    sums = SHIFTED if zeros else SUMS
    assert np.abs(sums).max() > 2**15
    np.testing.assert_allclose(result, rounded(sums) if op.startswith("Q") else sums, rtol=1e-6)
    assert np.ptp(result) > 100


def test_signed_inputs_and_networks_in_floats_stay() -> None:
    b = o.Build(17)
    x = b("QuantizeLinear", "image", b.weight(np.float32(0.02)), b.weight(np.int8(0)))
    y = b("ConvInteger", x, b.weight(np.ones((4, 3, 3, 3), np.int8)))
    assert without_saturation(b.model(b("Cast", y, to=TensorProto.FLOAT))) is None
    assert without_saturation(o.classifier()) is None
    assert without_saturation(o.quantised()) is None
