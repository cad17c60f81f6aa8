"""ReciproCAM in a network of integers: a map that is flat because scores are rounded is not called uniform, and vice versa."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from xai_deploy import Explainer
from xai_deploy.constant_maps import BELOW_STEP, UNIFORM

from .. import nets
from .. import onnx_nets as o
from ..running import export_onnx

IMAGES = np.random.default_rng(0).standard_normal((2, *nets.SHAPE)).astype(np.float32)
BACKENDS = ("onnxruntime", "openvino")


def network(step: float, alike: bool = False, bias: bool = True, inner: bool = False) -> onnx.ModelProto:
    """Convolutions, pooling, Gemm; the logits in steps (0: floats).

    Args:
        step: Of the logits.
        alike: Only a channel that is the same everywhere counts.
        bias: Without one the score of a single position is rounded to 0.
        inner: The pooled features are quantised, the logits are floats.
    """
    b = o.Build()

    def coded(x: str, step: float) -> str:
        scale, zero = b.weight(np.float32(step)), b.weight(np.int8(0))
        return b("DequantizeLinear", b("QuantizeLinear", x, scale, zero), scale, zero) if step else x

    x = coded(b.features(), 0.02 if step else 0)
    weight = b.rng.standard_normal((o.CHANNELS, nets.CLASSES)).astype(np.float32)
    constant = np.full((1, o.CHANNELS, 1, 1), 0.01, np.float32)
    if alike:
        keep = np.ones((1, o.CHANNELS, 1, 1), np.float32)
        keep[0, 0] = 0
        constant[0, 0] = 1
        x, weight[1:] = b("Mul", x, b.weight(keep)), 0
    x = coded(b.pooled(b("Add", x, b.weight(constant), name="cut")), step if inner else 0)
    offset = b.weight(np.arange(nets.CLASSES, dtype=np.float32) * 3 * bias)
    y = coded(b("Gemm", x, b.weight(weight), offset), 0 if inner else step)
    return b.model(b("Identity", y, out="scores"))


@pytest.mark.parametrize("case", ["bias", "no bias", "no gradient", "inner", "gaussian", "probability"])
def test_below_the_step(tmp_path: Path, case: str) -> None:
    """The same network in floats has a map that varies, by less than the step."""
    step = 0.25
    roles = ("tail",) if case == "no gradient" else ("tail", "gradient")
    options = {"gaussian": {"mask": "gaussian"}, "probability": {"score": "probability"}}.get(case, {})
    floats = export_onnx(tmp_path, network(0, bias=case != "no bias"), split="cut", roles=roles)
    model = network(step, bias=case != "no bias", inner=case == "inner")
    done = export_onnx(tmp_path, model, split="cut", roles=roles, output_path=tmp_path / "coded.xai")
    for backend in BACKENDS:
        varying = Explainer(floats.path, backend).explain(IMAGES, "reciprocam", 1, **options)
        assert varying.constant == (None, None)
        assert 0 < np.ptp(varying.raw, axis=(1, 2)).max() < step
        found = Explainer(done.path, backend).explain(IMAGES, "reciprocam", 1, **options)
        assert not np.ptp(found.raw, axis=(1, 2)).any()
        assert found.constant == (BELOW_STEP, BELOW_STEP)


@pytest.mark.parametrize("roles", [("tail",), ("tail", "gradient")])
def test_truly_uniform(tmp_path: Path, roles: tuple[str, ...]) -> None:
    """Each position adds w_c / (h w), whatever stands there; the activation varies in channels that do not count."""
    done = export_onnx(tmp_path, network(0.1, alike=True), split="cut", roles=roles)
    for backend in BACKENDS:
        found = Explainer(done.path, backend).explain(IMAGES, "reciprocam", 1)
        assert not np.ptp(found.raw, axis=(1, 2)).any()
        assert found.constant == (UNIFORM, UNIFORM)
