"""Quantisers without a zero point: codes of each type against ONNX Runtime on the file, their range against its formula."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto
from xai_exporters.bundle.measuring import coded_range
from xai_exporters.passes.stated_zeros import state_zero_points

from xai_deploy.format.bundle import Bundle

from .. import nets
from .. import onnx_nets as o
from ..checks import RUNNERS, close, onnxruntime
from ..running import export_onnx
from .test_one_at_a_time import feeds_of

IMAGES = np.random.default_rng(3).standard_normal((3, *nets.SHAPE)).astype(np.float32)
KINDS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767), "int4": (-8, 7), "": (0, 255)}


def network(kind: str) -> onnx.ModelProto:
    """Activations, a weight with one scale and one with a scale for each channel; every zero point is left out."""
    b = o.Build(21)
    states: dict[str, Any] = {"output_dtype": TensorProto.DataType.Value(kind.upper())} if kind else {}

    def pair(x: str, scale: Any, **axis: Any) -> str:
        s = b.weight(scale.astype(np.float32))
        return b("DequantizeLinear", b("QuantizeLinear", x, s, **states, **axis), s, **axis)

    step = 6 / (KINDS[kind][1] + 1)
    own = b.rng.uniform(0.5, 1.5, 6)
    weight = pair(b.weight(b.rng.standard_normal((6, 3, 3, 3)).astype(np.float32) * 0.3), step * 0.2 * own, axis=0)
    x = b("Conv", pair("image", np.float32(step)), weight, pads=[1] * 4)
    x = b("Relu", pair(x, np.float32(step * 2)), name="layer")
    x = b("Flatten", b("GlobalAveragePool", x))
    matrix = pair(b.weight(b.rng.standard_normal((6, 5)).astype(np.float32) * 0.3), np.float32(step * 0.2))
    return b.model(b("MatMul", x, matrix, out="scores"), ir_version=10)


@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_are_the_files(kind: str, tmp_path: Path) -> None:
    """Scores at the head and tail, and the gradient at the image: 0 where the quantiser of the image saturates."""
    model = network(kind)
    done = export_onnx(tmp_path, model, split="layer_out", roles=("gradient",), input_gradient=True)
    bundle = Bundle.open(done.path)
    want = onnxruntime(model.SerializeToString(), {"image": IMAGES})["scores"]
    low, high = KINDS[kind]
    step = 6 / (high + 1)
    codes = np.round(IMAGES / np.float32(step))
    for run in RUNNERS:
        between = run(bundle.graph("head"), {"image": IMAGES})
        got = run(bundle.graph("input-gradient"), feeds_of(bundle, "input-gradient", IMAGES, between))
        scores = next(value for value in got.values() if value.shape == want.shape)
        close(scores, want, 0.05)
        gradient = next(value for value in got.values() if value.shape == IMAGES.shape)
        assert not gradient[(codes < low) | (codes > high)].any()
        assert (gradient[(codes > low) & (codes < high)] != 0).mean() > 0.9


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", ""])
def test_the_range(kind: str) -> None:
    stated = state_zero_points(network(kind))
    assert stated is not None
    low, high = KINDS[kind]
    step = float(np.float32(6 / (high + 1)))
    assert coded_range(ir.serde.deserialize_model(stated).graph.inputs[0]) == pytest.approx((low * step, high * step))
    assert state_zero_points(stated) is None
