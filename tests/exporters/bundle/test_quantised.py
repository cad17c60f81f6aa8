"""Quantised networks as `quantize_static` writes them: every graph's logits are the source's, on both runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from xai_deploy import Explainer
from xai_deploy.format.bundle import SALIENCY

from .. import nets
from .. import onnx_nets as o
from ..running import export_onnx

NETWORKS = ("plain", "residual", "depthwise", "unrectified")
FUSED = ("gradient", "lrp", "grad-cam", "score-cam", "reciprocam")


class Noise(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        self.left = [{"image": rng.standard_normal((1, *nets.SHAPE)).astype(np.float32)} for _ in range(4)]

    def get_next(self) -> Any:
        return self.left.pop() if self.left else None


def network(kind: str, opset: int = 19) -> onnx.ModelProto:
    b = o.Build(opset)
    if kind == "plain":
        x = b.features()
    elif kind == "residual":
        x = b("Relu", b.conv("image", 3, o.CHANNELS, strides=[2, 2]))
        y = b.conv(b("Relu", b.conv(x, o.CHANNELS, o.CHANNELS)), o.CHANNELS, o.CHANNELS)
        x = b("MaxPool", b("Relu", b("Add", x, y), name="layer"), kernel_shape=[2, 2], strides=[2, 2])
    elif kind == "depthwise":
        six = b.weight(np.float32(0)), b.weight(np.float32(6))
        x = b("Clip", b.conv("image", 3, o.CHANNELS, strides=[2, 2]), *six)
        own = b.draw(o.CHANNELS, 1, 3, 3)
        y = b("Clip", b("Conv", x, own, pads=[1] * 4, group=o.CHANNELS), *six)
        x = b("Add", x, b.conv(y, o.CHANNELS, o.CHANNELS, 1), name="layer")
    else:
        x = b.conv("image", 3, 4, strides=[2, 2])
        x = b("Relu", b.conv(b.conv(x, 4, o.CHANNELS), o.CHANNELS, o.CHANNELS), name="layer")
    return b.model(b.linear(b.pooled(x), out="scores"))


def quantise(model: onnx.ModelProto, folder: Path, per_channel: bool, activations: Any) -> onnx.ModelProto:
    """With weights of 7 bits: of 8, ONNX Runtime's defaults saturate on processors without VNNI, and fused graphs are refused."""
    onnx.save(model, folder / "float.onnx")
    quantize_static(
        folder / "float.onnx", folder / "int8.onnx", Noise(), quant_format=QuantFormat.QDQ, per_channel=per_channel,
        activation_type=activations, weight_type=QuantType.QInt8, reduce_range=True,
    )  # fmt: skip
    return onnx.load(folder / "int8.onnx")


@pytest.mark.parametrize("kind", NETWORKS)
def test_logits_of_every_graph(tmp_path: Path, kind: str) -> None:
    per_channel = kind in ("residual", "unrectified")
    model = quantise(network(kind), tmp_path, per_channel, QuantType.QInt8 if per_channel else QuantType.QUInt8)
    done = export_onnx(tmp_path, model, input_gradient=True, pixel_relevance=True, fuse=FUSED)
    x = np.random.default_rng(3).standard_normal((3, *nets.SHAPE)).astype(np.float32)
    evaluator: Any = ReferenceEvaluator(model)
    want = evaluator.run(None, {"image": x})[0]
    step = 1 / 64 * np.abs(want).max()  # of the last quantisation; a code that is rounded the other way is one off
    backs = [role for role, graph in done.manifest.graphs.items() if graph.propagated]
    maps: dict[str, list[Any]] = {}
    for backend in ("onnxruntime", "openvino"):
        explainer = Explainer(done.path, backend=backend)
        between = explainer._network.run("head", {"image": x}, ["activation"])
        seeds: Any = {"target": np.full(3, -1, np.int64), "seed": np.zeros((3, nets.CLASSES), np.float32)}
        for role in [*backs, *(f"fused-{name}" for name in FUSED)]:
            fused = role not in backs
            start = between if done.manifest.graphs[role].start == "activation" else {"image": x}
            names = ("scores", SALIENCY) if fused else ("logits", role.rpartition("-")[2])
            got = explainer._network.run(role, {**start, **seeds}, names)
            assert np.abs(np.asarray(got[names[0]]) - want).max() <= step, (role, backend)
            maps.setdefault(role, []).append(np.asarray(got[names[1]]))
    for role, (one, other) in maps.items():
        assert np.abs(one).max() > 0
        if "relevance" not in role and "lrp" not in role:  # a code that differs moves a denominator near 0
            assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.98, role
