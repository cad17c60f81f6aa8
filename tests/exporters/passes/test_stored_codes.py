"""Weights that the file quantises itself: their codes against ONNX's own evaluator, and relevance alike on both runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator
from xai_exporters.passes.stored_codes import store_codes

from xai_deploy import Explainer

from .. import nets
from .. import onnx_nets as o
from ..checks import close
from ..running import export_onnx

IMAGES = np.random.default_rng(7).standard_normal((3, *nets.SHAPE)).astype(np.float32)


@pytest.mark.parametrize("kind", ["int8", "uint8", ""])
@pytest.mark.parametrize("axis", [None, 0, -1])
def test_codes(kind: str, axis: int | None) -> None:
    """Half-way cases, codes beyond the ends, a scale for all and one for each row or column; without a zero point in uint8."""
    b = o.Build()
    x = np.concatenate([np.arange(-24, 24) / 2, b.rng.standard_normal(12) * 300]).reshape(12, 5).astype(np.float32)
    many = () if axis is None else (x.shape[axis],)
    scale = b.weight(np.full(many, 0.5, np.float32) * 2.0 ** b.rng.integers(0, 3, many).astype(np.float32))
    zero = [b.weight(b.rng.integers(3, 60, many).astype(kind))] if kind else []
    more: dict[str, Any] = {} if axis is None else {"axis": axis}
    codes = b("QuantizeLinear", b.weight(x), scale, *zero, **more)
    wide = b("Cast", codes, to=onnx.TensorProto.FLOAT)
    model = b.model(b("Add", wide, b("ReduceMax", "image", keepdims=0)), shape=(1, 1, 1, 1))
    image = np.zeros((1, 1, 1, 1), np.float32)
    [want] = ReferenceEvaluator(model).run(None, {"image": image})
    changed = ir.serde.deserialize_model(model)
    assert store_codes(changed.graph)
    got = ir.serde.serialize_model(changed)
    assert "QuantizeLinear" not in {node.op_type for node in got.graph.node}
    np.testing.assert_array_equal(ReferenceEvaluator(got).run(None, {"image": image})[0], want)  # type: ignore[index]
    assert not store_codes(changed.graph)


def test_the_relevance_of_such_weights(tmp_path: Path) -> None:
    """MatMul and Conv, a scale for each channel; the head of the bundle computes no codes of weights."""
    b = o.Build()

    def stored(shape: tuple[int, ...], axis: int) -> str:
        scale = b.weight(b.rng.uniform(0.5, 1.5, shape[axis]).astype(np.float32) / 300)
        zero = b.weight(np.zeros(shape[axis], np.int8))
        weight = b.weight(b.rng.standard_normal(shape).astype(np.float32) * 0.3)
        return b("DequantizeLinear", b("QuantizeLinear", weight, scale, zero, axis=axis), scale, zero, axis=axis)

    def rounded(x: str) -> str:
        pair = b.weight(np.float32(0.05)), b.weight(np.uint8(128))
        return b("DequantizeLinear", b("QuantizeLinear", x, *pair), *pair)

    x = b("Relu", b("Conv", rounded("image"), stored((o.CHANNELS, 3, 3, 3), 0), pads=[1, 1, 1, 1]), name="cut")
    x = b("Relu", b("Conv", rounded(x), stored((8, o.CHANNELS, 1, 1), 0)))
    y = b("MatMul", rounded(b("Flatten", b("GlobalAveragePool", x))), stored((8, nets.CLASSES), 1), out="scores")
    model = b.model(y, imports=[helper.make_opsetid("", 18)])
    done = export_onnx(tmp_path, model, split="cut", pixel_relevance=True)
    stays = [n for n in onnx.load(done.path / "tail.onnx").graph.node if n.op_type == "QuantizeLinear"]
    assert len(stays) == 2
    first, second = (Explainer(done.path, backend) for backend in ("onnxruntime", "openvino"))
    for method in ("relevance-cam", "lrp"):
        got, want = second.explain(IMAGES, method).raw, first.explain(IMAGES, method).raw
        close(got / np.abs(want).max(), want / np.abs(want).max(), 1e-4)
