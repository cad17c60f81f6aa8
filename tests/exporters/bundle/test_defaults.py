"""ONNX Runtime by default changes numbers of some quantised networks: bundles give ONNX's, and the export says who doesn't."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator
from xai_exporters.errors import VerificationError

from xai_deploy import Explainer

from .. import onnx_nets as o
from ..nets import CLASSES, SHAPE
from ..running import export_onnx

WARNED = "computes this quantised network wrongly as it opens files by default: its logits are off by"


def float_weights() -> onnx.ModelProto:
    """One weight is so large that the others round to 0 in 8 bits; and what follows is rounded twice."""
    b = o.Build(19)

    def rounded(x: str, scale: float, zero: int = 128) -> str:
        s, z = b.weight(np.float32(scale)), b.weight(np.uint8(zero))
        return b("DequantizeLinear", b("QuantizeLinear", x, s, z), s, z)

    weights = b.rng.standard_normal((o.CHANNELS, 3, 3, 3)).astype(np.float32)
    weights[0, 0] = 600
    x = b("Conv", rounded("image", 0.02), b.weight(weights), name="layer", pads=[1] * 4)
    x = rounded(rounded(x, 0.11), 0.173, 100)
    return b.model(b.linear(b.pooled(x), out="scores"), ir_version=9)


def coded_weights() -> onnx.ModelProto:
    """A MatMul whose weights have 8 bits, and inputs of very different sizes."""
    b = o.Build(19)
    x = b("Transpose", b.features(), perm=[0, 2, 3, 1])
    x = b("Mul", x, b.weight(np.array([300, 1, 1, 1, 1, 1], np.float32)))
    codes = b.rng.integers(-127, 128, (o.CHANNELS, 16)).astype(np.int8)
    codes[0] = 1
    scale, zero = (b.weight(np.full(16, value, kind)) for value, kind in ((0.01, np.float32), (0, np.int8)))
    x = b("Relu", b("MatMul", x, b("DequantizeLinear", b.weight(codes), scale, zero, axis=1)), name="tokens")
    x = b("ReduceMean", x, b.weight([1, 2]), keepdims=0)
    return b.model(b("MatMul", x, b.draw(16, CLASSES), out="scores"), ir_version=9)


def large_codes(shared: bool = False) -> onnx.ModelProto:
    """Sums of two products of uint8 and int8 leave 16 bits; `shared`: two layers read the same weights."""
    b = o.Build(19)

    def rounded(x: str, scale: float, zero: int) -> str:
        s, z = b.weight(np.float32(scale)), b.weight(np.uint8(zero))
        return b("DequantizeLinear", b("QuantizeLinear", x, s, z), s, z)

    def conv(x: str, weights: tuple[str, str, str], name: str = "") -> str:
        return b("Conv", x, b("DequantizeLinear", *weights), name=name, pads=[1] * 4)

    def codes(out: int, channels: int, scale: float) -> tuple[str, str, str]:
        w = np.where(b.rng.random((out, channels, 3, 3)) < 0.7, 1, -1) * b.rng.integers(100, 128, (out, channels, 3, 3))
        return b.weight(w.astype(np.int8)), b.weight(np.float32(scale)), b.weight(np.int8(0))

    same = codes(o.CHANNELS, o.CHANNELS, 2e-4)
    x = rounded(conv(rounded("image", 0.02, 20), codes(o.CHANNELS, 3, 1e-3)), 0.02, 20)
    x = rounded(conv(x, same), 0.02, 20)
    x = rounded(conv(x, same if shared else codes(o.CHANNELS, o.CHANNELS, 2e-4), "layer"), 0.02, 20)
    return b.model(b.linear(b.pooled(x), out="scores"), ir_version=9)


def shared_codes() -> onnx.ModelProto:
    return large_codes(shared=True)


@pytest.mark.parametrize("network", [float_weights, coded_weights, large_codes, shared_codes])
def test_numbers_are_those_of_onnx(
    network: Callable[[], onnx.ModelProto], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = network()
    done = export_onnx(tmp_path, model, roles=("gradient",))
    coded = network in (large_codes, shared_codes)
    x = np.random.default_rng(1).standard_normal((3, *SHAPE)).astype(np.float32) + np.float32(3 if coded else 0)
    [wanted] = ReferenceEvaluator(model).run(None, {"image": x})
    wanted = np.asarray(wanted)
    largest = np.abs(wanted).max()
    for backend in ("onnxruntime", "openvino"):
        near = 1e-3 if coded else 2e-5  # some codes fall to the other side
        np.testing.assert_allclose(Explainer(done.path, backend).predict(x), wanted, atol=near * largest)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    off = bool(np.abs(session.run(None, {"image": x})[0] - wanted).max() > 0.01 * largest)
    assert off or network is not float_weights  # of codes it depends on the version and the processor
    assert (f"ONNX Runtime {onnxruntime.__version__} {WARNED}" in caplog.text) == off
    assert ("open it with disabled_optimizers WeightBiasQuantization and DoubleQDQPairsRemover" in caplog.text) == off


def test_a_fused_graph_that_is_wrong_by_default(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match=r"by default, and is right with disabled_optimizers WeightBiasQ"):
        export_onnx(tmp_path, float_weights(), fuse=("grad-cam",))
