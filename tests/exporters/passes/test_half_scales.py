"""Quantised networks with scales in float16: against ONNX Runtime on the file, and torch's straight-through gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional as F
from xai_exporters.passes.half_scales import widen_scales

from xai_deploy.format.bundle import Bundle

from .. import nets
from ..checks import RUNNERS, Array, close, onnxruntime
from ..running import export_onnx
from .test_codes import MICROSOFT, Codes
from .test_one_at_a_time import feeds_of

IMAGES = np.random.default_rng(3).standard_normal((3, *nets.SHAPE)).astype(np.float16)


def network(kind: str, opset: int = 21) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """Activations and a convolution's weight in int8, then a weight of the kind; and the weights as numbers."""
    b = Codes(opset)

    def half(array: Any) -> str:
        name = f"half{len(b.weights)}"
        b.weights.append(numpy_helper.from_array(np.asarray(array).astype(np.float16), name))
        return name

    def pair(x: str, scale: float) -> str:
        s, z = half(scale), b.typed(np.array(3), "int8")
        return b("DequantizeLinear", b("QuantizeLinear", x, s, z), s, z)

    codes, scales = b.rng.integers(-128, 128, (6, 3, 3, 3)), b.rng.uniform(0.5, 1.5, 6) / 400
    first = b("DequantizeLinear", b.typed(codes, "int8"), half(scales), b.typed(np.zeros(6), "int8"), axis=0)
    x = b("Relu", b("Conv", pair("image", 0.03), first, pads=[1] * 4), name="layer")
    x = b("Flatten", b("GlobalAveragePool", pair(x, 0.05)))
    values: dict[str, Array] = {"first": codes * scales.astype(np.float16).astype(np.float64)[:, None, None, None]}
    if kind == "MatMulNBits":
        packed, s = b.rng.integers(0, 256, (5, 1, 8)), (b.rng.uniform(0.5, 1.5, 5) / 4).astype(np.float16)
        each = np.stack([packed & 15, packed >> 4], -1).reshape(5, 16)[:, :6]
        values["last"] = ((each - 8) * s[:, None].astype(np.float64)).T
        y = b(
            "MatMulNBits", x, b.typed(packed, "uint8"), half(s), domain="com.microsoft", K=6, N=5, bits=4, block_size=16
        )
    else:
        codes = b.rng.integers(-8, 8, (6, 5))
        s = (b.rng.uniform(0.5, 1.5, (2, 5) if kind == "blocks" else (5,)) / 4).astype(np.float16)
        more: dict[str, Any] = {"axis": 0, "block_size": 3} if kind == "blocks" else {"axis": 1}
        y = b("MatMul", x, b("DequantizeLinear", b.typed(codes, "int4"), half(s), **more))
        values["last"] = codes * (np.repeat(s, 3, axis=0) if kind == "blocks" else s).astype(np.float64)
    model = b.model(b("Identity", y, out="scores"), ir_version=10, imports=[MICROSOFT])
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return model, values


@pytest.mark.parametrize("kind", ["columns", "blocks", "MatMulNBits"])
def test_scores_and_gradient(kind: str, tmp_path: Path) -> None:
    model, weights = network(kind)
    want = onnxruntime(model.SerializeToString(), {"image": IMAGES})["scores"]
    done = export_onnx(tmp_path, model, split="layer_out", roles=("gradient",), input_gradient=True)
    bundle = Bundle.open(done.path)

    def rounded(x: torch.Tensor, scale: float) -> torch.Tensor:
        s = float(np.float16(scale))
        inside = torch.clamp(x, (-128 - 3) * s, (127 - 3) * s)
        return inside + (torch.clamp(torch.round(x / s) + 3, -128, 127) * s - 3 * s - inside).detach()

    image = torch.tensor(IMAGES.astype(np.float64), requires_grad=True)
    x = F.relu(F.conv2d(rounded(image, 0.03), torch.tensor(weights["first"]), padding=1))
    scores = rounded(x, 0.05).mean((2, 3)) @ torch.tensor(weights["last"])
    scores[:, 2].sum().backward()  # type: ignore[no-untyped-call]
    assert image.grad is not None
    for run in RUNNERS:
        between = run(bundle.graph("head"), {"image": IMAGES})
        feeds = feeds_of(bundle, "input-gradient", IMAGES, between) | {"target": np.full(3, 2)}
        got = run(bundle.graph("input-gradient"), feeds)
        close(next(value for value in got.values() if value.shape == want.shape), want, 0.02)
        close(next(value for value in got.values() if value.shape == IMAGES.shape), image.grad.numpy(), 0.02)
        close(want, scores.detach().numpy(), 0.02)


def test_the_node_keeps_its_numbers() -> None:
    """One pair of nodes alone: the bits are ONNX Runtime's."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], axis=1),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], axis=1),
    ]
    rng = np.random.default_rng(0)
    tensors: dict[str, Array] = {
        "s": rng.uniform(0.01, 0.05, 4).astype(np.float16),
        "z": rng.integers(-9, 9, 4).astype(np.int8),
    }
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, [64, 4]) for name in "xy"]
    graph = helper.make_graph(
        nodes, "g", ports[:1], ports[1:], [numpy_helper.from_array(a, n) for n, a in tensors.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    changed = widen_scales(model)
    assert changed is not None
    x = {"x": (rng.standard_normal((64, 4)) * 3).astype(np.float16)}
    got, want = (onnxruntime(one.SerializeToString(), x)["y"] for one in (changed, model))
    np.testing.assert_array_equal(got, want)
    assert widen_scales(changed) is None
