"""A Softmax between codes gives ONNX's codes, whatever ONNX Runtime's optimiser makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from xai_deploy import Explainer

from .. import onnx_nets as o
from ..nets import SHAPE
from ..running import export_onnx


def network(axis: int, kind: Any) -> onnx.ModelProto:
    """Features, a Softmax of them between codes, and scores that tell its codes apart."""
    b = o.Build(19)
    middle = 128 if kind == np.uint8 else 0

    def rounded(x: str, scale: float, zero: int) -> str:
        s, z = b.weight(np.float32(scale)), b.weight(kind(zero))
        return b("DequantizeLinear", b("QuantizeLinear", x, s, z), s, z)

    x = rounded(b.features(rounded("image", 0.03, middle)), 0.013, middle)
    x = rounded(b("Softmax", x, axis=axis), 0.37 / 255 if axis != 1 else 0.7 / 255, middle - 128)
    return b.model(b.linear(b.pooled(b("Mul", x, b.weight(np.float32(200)))), out="scores"), ir_version=9)


@pytest.mark.parametrize(("axis", "kind"), [(1, np.uint8), (3, np.uint8), (3, np.int8)])
def test_codes_are_those_of_onnx(axis: int, kind: Any, tmp_path: Path) -> None:
    model = network(axis, kind)
    done = export_onnx(tmp_path, model, roles=("gradient",), split="layer_out")
    x = np.random.default_rng(1).standard_normal((3, *SHAPE)).astype(np.float32)
    [wanted] = ReferenceEvaluator(model).run(None, {"image": x})
    wanted = np.asarray(wanted)
    for backend in ("onnxruntime", "openvino"):
        np.testing.assert_allclose(Explainer(done.path, backend).predict(x), wanted, atol=1e-4 * np.abs(wanted).max())
