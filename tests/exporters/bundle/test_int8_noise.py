"""Networks of integers: the runtimes' rounding noise is measured and recorded, and an error above a step and it is found."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from xai_exporters.bundle import installed
from xai_exporters.bundle.beside import noise_images
from xai_exporters.bundle.verify import check_backward
from xai_exporters.errors import GraphError, VerificationError
from xai_exporters.pipeline import _MEASURED

from xai_deploy import Explainer
from xai_deploy.caveats import warn_of
from xai_deploy.errors import WrongResultError
from xai_deploy.faithful import NOISE, allowed, rounding, said

from .. import onnx_nets as o
from ..running import HEAD_AND_TAIL, export_onnx, left_behind

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 16, 20, 3)).astype(np.uint8)
WRONG = 1.05


def quantised() -> onnx.ModelProto:
    """Logits from 1 to 5 in steps of 0.02."""
    model = o.quantised("logits")
    bias = next(w for w in model.graph.initializer if w.name == model.graph.node[-4].input[2])
    bias.CopyFrom(onnx.numpy_helper.from_array(np.array([1, 2, 1.5, 1, 0.5], np.float32), bias.name))
    return model


def test_recorded(tmp_path: Path) -> None:
    """The noise is the largest difference of a runtime from ONNX's own evaluator on the images of the export, if it is a step."""
    model = quantised()
    done = export_onnx(tmp_path, model, roles=("gradient",))
    manifest = done.manifest
    noise, largest = map(float, manifest.extensions[NOISE].split())
    x = noise_images(manifest.input, _MEASURED)
    model.opset_import[0].version = 19  # the evaluator's first QuantizeLinear; it means the same there
    evaluator: Any = ReferenceEvaluator(model)
    want = (evaluator.run(None, {manifest.input.name: x})[0].astype(np.float64) - 128) * 0.02
    np.testing.assert_allclose(largest, np.abs(want).max(), rtol=1e-5)
    expected = 0.0
    for backend in ("onnxruntime", "openvino"):
        network = Explainer(done.path, backend)._network
        got = network.run("tail", network.run("head", {manifest.input.name: x}, ["activation"]), ["logits"])["logits"]
        expected = max(expected, float(np.abs(np.asarray(got) - want).max()))
    assert abs(noise - expected) <= 1e-5 + 0.02 * (noise > 0)


def test_a_noisy_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO that is 0.06 off in head and tail: that is the noise, and it is allowed 1.25 times beside the step."""
    honest = installed._openvino

    def opened(model: bytes, about: str) -> Any:
        function = honest(model, about)
        return lambda feeds: {n: v + 0.06 * (n == "logits") for n, v in function(feeds).items()}

    monkeypatch.setattr(installed, "_openvino", opened)
    manifest = export_onnx(tmp_path, quantised(), roles=("gradient",)).manifest
    noise, largest = map(float, manifest.extensions[NOISE].split())
    assert noise == pytest.approx(0.06, abs=1e-4)
    assert allowed(manifest, largest) == pytest.approx(0.02 + 1e-3 * largest + 1.25 * noise)
    assert allowed(manifest, 2 * largest) == pytest.approx(0.02 + 2e-3 * largest + 2.5 * noise)


@pytest.mark.parametrize(("opens", "batch"), [(True, "N"), (True, 1), (False, "N")])
def test_a_runtime_that_is_wrong_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opens: bool, batch: int | str, caplog: pytest.LogCaptureFixture
) -> None:
    """OpenVINO as it is with int8 ViTs: far off, or an error, unless it is opened as the backend opens it. This is said."""
    honest = installed._plain_openvino

    def opened(model: Any, about: str, fixed: bool) -> Any:
        if not opens:
            raise GraphError("no such shape")
        assert fixed == (batch == 1)
        function = honest(model, about, fixed)
        return lambda feeds: {n: v + 0.3 * (n == "logits") for n, v in function(feeds).items()}

    monkeypatch.setattr(installed, "_plain_openvino", opened)
    model = quantised()
    dim = model.graph.input[0].type.tensor_type.shape.dim[0]
    dim.CopyFrom(type(dim)(dim_value=1) if batch == 1 else type(dim)(dim_param="N"))
    done = export_onnx(tmp_path, model, roles=("gradient",))
    assert done.manifest.batch == "any"
    said = "computes this quantised network wrongly as it opens files by default: its logits are off by 0.3"
    assert (said if opens else "does not run this quantised network as it opens files by default") in caplog.text
    assert ("and open it with LP_TRANSFORMS_MODE NO and a batch of 1" in caplog.text) == opens
    assert Explainer(done.path, "openvino").predict(IMAGES).shape == (2, 5)


@pytest.mark.parametrize(("output", "by"), [("saliency_map", 0.3), ("saliency_map", 2.0), ("out", 2.0)])
def test_a_fused_graph_that_is_wrong_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, by: float
) -> None:
    """Programs open a fused graph by default: a map that moves by codes passes, another map is refused, as other scores are."""
    honest = installed._plain_openvino

    def opened(model: Any, about: str, fixed: bool) -> Any:
        function = honest(model, about, fixed)
        return lambda feeds: {n: v * (1 + by * (n == output)) for n, v in function(feeds).items()}

    monkeypatch.setattr(installed, "_plain_openvino", opened)
    if by < 0.5:
        assert (
            "fused-grad-cam"
            in export_onnx(tmp_path, o.quantised("logits"), fuse=("grad-cam",), roles=HEAD_AND_TAIL).manifest.graphs
        )
        return
    said = "its map differs by 200% from ONNX's" if output == "saliency_map" else "its logits differ"
    with pytest.raises(
        VerificationError, match=f"{said}.*, as programs open files by default, and is right with LP_TRANSF"
    ):
        export_onnx(tmp_path, o.quantised("logits"), fuse=("grad-cam",), roles=HEAD_AND_TAIL)


GAINS = np.array([0.8, -0.4, 0.2, 0.4, 0.0], np.float32)


def on_borders(gain: float, scale: float = 1.0) -> onnx.ModelProto:
    """Logits 1 + gain GAINS (mean of scale round(k / 2 / scale) - mean of k / 2), k the codes of the image's first channel: half of
    the values lie on the border between two codes, or just beside it."""
    b = o.Build(13)

    def coded(x: str, scale: float, zero: int = 0) -> str:
        s, z = b.weight(np.float32(scale)), b.weight(np.uint8(zero))
        return b("DequantizeLinear", b("QuantizeLinear", x, s, z), s, z)

    x = b("DequantizeLinear", "image", b.weight(np.float32(1)), b.weight(np.uint8(0)))
    half = np.zeros((o.CHANNELS, 3, 1, 1), np.float32)
    half[:, 0] = 0.5
    x = b("Relu", b("Conv", x, b.weight(half)))
    pooled = b.pooled(b("Sub", coded(x, scale), coded(x, 0.5)))
    weights = b.weight(np.tile(gain * GAINS / o.CHANNELS, (o.CHANNELS, 1)).astype(np.float32))
    logits = b("Gemm", pooled, weights, b.weight(np.ones(5, np.float32)))
    coded(logits, 0.01)
    return b.model(b.nodes[-1].output[0], dtype=o.UINT8, ranks={"out": (o.FLOAT, ("n", 5))})


def test_codes_near_a_border(tmp_path: Path) -> None:
    """Both runtimes agree on all images of the export, half of whose values lie beside a border: on other images they need not."""
    done = export_onnx(tmp_path, on_borders(0.1, 1 - 5e-7), roles=("gradient",))
    noise, largest = map(float, done.manifest.extensions[NOISE].split())
    k = noise_images(done.manifest.input, _MEASURED)[:, 0]
    other_side = 0.1 * 0.8 * np.mean(k % 2, axis=(1, 2)).max()
    assert noise == pytest.approx(other_side, abs=0.011)  # a step
    assert allowed(done.manifest, largest) == pytest.approx(0.01 + 1e-3 * largest + 1.25 * noise)


def cancelling() -> onnx.ModelProto:
    """Logits 2 sigmoid(h GAINS / 10), h the mean of round(k / 2) - round(k / 2 - 1.25), k the codes of the image's first channel.
    Half of the first term's values lie on the border between two codes."""
    b = o.Build(13)

    def coded(x: str, scale: float) -> str:
        s, z = b.weight(np.float32(scale)), b.weight(np.uint8(0))
        return b("DequantizeLinear", b("QuantizeLinear", x, s, z), s, z)

    x = b("DequantizeLinear", "image", b.weight(np.float32(1)), b.weight(np.uint8(0)))
    half, less = np.zeros((2, 3, 1, 1), np.float32), np.array([0, -1.25], np.float32)
    half[:, 0] = 0.5
    pooled = b.pooled(coded(b("Relu", b("Conv", x, b.weight(half), b.weight(less))), 1.0))
    h = b("Gemm", pooled, b.weight(np.outer([1, -1], GAINS / 10).astype(np.float32)))
    coded(b("Gemm", b("Sigmoid", h), b.weight(2 * np.eye(5, dtype=np.float32))), 0.01)
    return b.model(b.nodes[-1].output[0], dtype=o.UINT8, ranks={"out": (o.FLOAT, ("n", 5))})


def test_relevance_that_codes_decide(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The epsilon rule gives R_i = x_i w_i / h R: codes on a border move h by a fifth, and relevance with it, where logits move by
    a step. It is told, at export and when it is explained; the graph stays."""
    done = export_onnx(tmp_path, cancelling(), composite=("epsilon-plus",))
    k = noise_images(done.manifest.input, 3)[:, 0].astype(np.float64)

    def h_and_logit(scale: float) -> Any:
        first, second = (np.rint(np.maximum(k / 2 - less, 0) / s) for less, s in ((0, scale), (1.25, 1)))
        h = (first - second).mean(axis=(1, 2))
        return h, np.rint(200 / (1 + np.exp(-h * GAINS[0] / 10)))

    (h, y), shares = h_and_logit(1), []
    for moved_h, moved_y in map(h_and_logit, (1 + 1e-6, 1 - 1e-6)):
        shares.append(float(np.abs(h / moved_h * moved_y / y - 1).max()))
    assert min(shares) > 0.1
    told = rounding(done.manifest)
    assert [*told] == ["relevance-epsilon-plus"]  # z+ of the default composite does not divide by h
    assert min(abs(told["relevance-epsilon-plus"] - share) for share in shares) < 0.02
    assert "relevance-epsilon-plus" in done.manifest.graphs
    _, largest, *_ = map(float, done.manifest.extensions[NOISE].split())
    assert allowed(done.manifest, largest) < 0.06 * largest
    Explainer(done.path, "onnxruntime").explain(IMAGES, "relevance-cam", 0, composite="epsilon-plus")
    assert "maps of the relevance-epsilon-plus graph move by up to" in caplog.text


def off_by(monkeypatch: pytest.MonkeyPatch, by: float) -> None:
    """OpenVINO whose logits are off."""
    honest = installed._openvino

    def opened(model: bytes, about: str) -> Any:
        function = honest(model, about)
        return lambda feeds: {n: v + by * (n == "logits") for n, v in function(feeds).items()}

    monkeypatch.setattr(installed, "_openvino", opened)


def test_rounding_that_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """OpenVINO is off by 15 %, and so is the network itself if its scales are rounded otherwise: this is allowed, and said."""
    off_by(monkeypatch, 0.15)
    done = export_onnx(tmp_path, on_borders(1.0), roles=("gradient",))
    noise, largest, own = map(float, done.manifest.extensions[NOISE].split())
    k = noise_images(done.manifest.input, _MEASURED)[:, 0].astype(np.float64)

    def logits(scale: float) -> Any:
        means = (np.rint(k / 2 / scale) - k / 2).mean(axis=(1, 2))
        return np.rint((1 + GAINS * means[:, None]) * 100) / 100

    np.testing.assert_allclose(largest, np.abs(logits(1.0)).max(), atol=0.011)  # a step
    np.testing.assert_allclose(own, max(np.abs(logits(1 + e) - logits(1)).max() for e in (-1e-7, 1e-7)), atol=0.011)
    assert own > noise >= 0.14
    bound = (
        0.01 + 1e-3 * largest + 1.25 * own
    )  # what rounding does by itself is no error, if the runtimes differed by less
    assert allowed(done.manifest, largest) == pytest.approx(bound)
    assert bound <= min(2 * own, largest / 2)
    noisier = replace(done.manifest, extensions={NOISE: f"{1.1 * own} {largest} {own}"})
    assert allowed(noisier, largest) == pytest.approx(0.01 + 1e-3 * largest + 1.25 * 1.1 * own)
    said = (
        rf"rounding decides this network of integers: its logits move by 0\.2\d? .*, and the largest is {largest:.2g} "
    )
    assert re.search(said, caplog.text)
    caplog.clear()
    warn_of(Explainer(done.path, "onnxruntime"), "net.xai")
    assert re.search(f"net.xai: {said}", caplog.text)


@pytest.mark.parametrize(("gain", "by", "said"), [
    (0.01, 0.15, r"OpenVINO \S+ computes head and tail differently"),
    (1.0, 0.6, r"float32's rounding decides this network's logits .* if the image or a scale changes by 1e-7 of itself, and OpenV"),
])  # fmt: skip
def test_rounding_that_does_not_explain_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gain: float, by: float, said: str
) -> None:
    off_by(monkeypatch, by)
    with pytest.raises(VerificationError, match=said):
        export_onnx(tmp_path, on_borders(gain), roles=("gradient",))
    assert left_behind(tmp_path) == []


def test_an_error_of_5_percent_is_found_at_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = installed._openvino

    def opened(model: bytes, about: str) -> Any:
        function, factor = honest(model, about), WRONG if about == "the gradient graph" else 1
        return lambda feeds: {n: v * (factor if n == "logits" else 1) for n, v in function(feeds).items()}

    monkeypatch.setattr(installed, "_openvino", opened)
    with pytest.raises(VerificationError, match=r"gradient graph can't be used: OpenVINO 20\S+ computes it wrongly"):
        export_onnx(tmp_path, quantised(), roles=("gradient",))
    assert left_behind(tmp_path) == []


def test_an_error_of_5_percent_in_the_graph_itself(tmp_path: Path) -> None:
    """On ONNX Runtime without optimisations; half a step is none: a mean in another order takes a code over a border."""
    done = export_onnx(tmp_path, quantised(), roles=("gradient",))
    contents = {path.name: path.read_bytes() for path in done.path.iterdir()}
    images = noise_images(done.manifest.input, 3)
    assert check_backward(contents, done.manifest, images)[0] == {}
    model = onnx.load_model_from_string(contents["gradient.onnx"])
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["right" if name == "logits" else name for name in names]
    model.graph.node.append(onnx.helper.make_node("Mul", ["right", "factor"], ["logits"]))
    for factor in (1.002, WRONG):
        factor_of = onnx.numpy_helper.from_array(np.array(factor, np.float32), "factor")
        model.graph.initializer.append(factor_of)
        contents["gradient.onnx"] = model.SerializeToString()
        model.graph.initializer.pop()
        wrong = check_backward(contents, done.manifest, images)[0]
        assert (wrong == {}) == (factor < WRONG)
    assert "its logits differ from the tail's by" in wrong["gradient"]


class Lying:
    """A session whose logits are off by a factor."""

    def __init__(self, session: Any, factor: float) -> None:
        self.session, self.factor = session, factor

    def run(self, feeds: Mapping[str, Any], fetch: Sequence[str]) -> dict[str, Any]:
        results = self.session.run(feeds, fetch)
        return {n: np.asarray(v) * (self.factor if n == "logits" else 1) for n, v in results.items()}


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_an_error_of_5_percent_is_found_at_run_time(tmp_path: Path, backend: str) -> None:
    path = export_onnx(tmp_path, quantised(), roles=("gradient",)).path
    Explainer(path, backend).explain(IMAGES, "grad-cam")
    explainer = Explainer(path, backend)
    explainer._sessions.opened["gradient"] = Lying(explainer._sessions("gradient"), WRONG)
    with pytest.raises(WrongResultError, match=rf"{backend} \S+ computes the graph 'gradient' wrongly"):
        explainer.explain(IMAGES, "grad-cam")


def test_what_records_no_noise_has_the_old_bound(tmp_path: Path) -> None:
    """And no record makes it looser, but one that says what rounding alone does; and that one up to half of the largest."""
    manifest = export_onnx(tmp_path, quantised(), roles=("gradient",)).manifest
    for text in (None, "", "much", "nan 1", "-1 1", "1 0", "inf 1", said(1e9, 1), "1e9 1 nan", "1e9 1 -1"):
        told = {} if text is None else {NOISE: text}
        assert allowed(replace(manifest, extensions=told), 10) == 1
        assert allowed(replace(manifest, extensions=told, format=1, logits_step=0.0), 10) == 1
    assert allowed(replace(manifest, extensions={NOISE: said(1e9, 1, 1e9)}), 10) == 5
    assert allowed(replace(manifest, extensions={NOISE: said(0, 1)}), 10) == pytest.approx(0.03)
    assert allowed(replace(manifest, extensions={NOISE: said(0, 1)}), 10, "bf16") == 1
