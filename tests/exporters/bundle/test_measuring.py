"""The images that graphs are measured on, and what coarse rounding decides on them: `measuring.py`, `draws.py`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from xai_exporters.bundle.beside import possible_inputs
from xai_exporters.bundle.draws import moved_by_epsilon
from xai_exporters.bundle.installed import exactly
from xai_exporters.bundle.measuring import coded_range, measuring_images, sets_of
from xai_exporters.bundle.patterned import shares_on_patterns
from xai_exporters.bundle.rounding import Rounding

from xai_deploy import Explainer
from xai_deploy.faithful import HALF, rounding
from xai_deploy.format.bundle import Input, Preprocess

from .. import onnx_nets as o
from ..nets import SHAPE
from ..running import export_onnx

GAINS = np.array([0.8, -0.4, 0.2, 0.4, 0.0], np.float32)


def quantiser(b: o.Build, x: str, scale: float, zero: int, kind: Any = np.uint8) -> str:
    return b("QuantizeLinear", x, b.weight(np.float32(scale)), b.weight(kind(zero)))


def in_codes(scale: float = 0.02) -> onnx.ModelProto:
    """Logits 2 sigmoid(h GAINS / 10), h the mean of round(k / 2) - round(k / 2 - 1.25), k the codes from 0 to 254 of the image's
    first channel. Half of the first term's values lie on the border between two codes; that of the greatest code does not."""
    b = o.Build(13)

    def coded(x: str, scale: float) -> str:
        s, z = b.weight(np.float32(scale)), b.weight(np.uint8(0))
        return b("DequantizeLinear", b("QuantizeLinear", x, s, z), s, z)

    codes = quantiser(b, "image", scale, 1)
    x = b("DequantizeLinear", codes, b.weight(np.float32(1)), b.weight(np.uint8(1)))
    half, less = np.zeros((2, 3, 1, 1), np.float32), np.array([0, -1.25], np.float32)
    half[:, 0] = 0.5
    pooled = b.pooled(coded(b("Relu", b("Conv", x, b.weight(half), b.weight(less))), 1.0))
    h = b("Gemm", pooled, b.weight(np.outer([1, -1], GAINS / 10).astype(np.float32)))
    coded(b("Gemm", b("Sigmoid", h), b.weight(2 * np.eye(5, dtype=np.float32))), 0.01)
    return b.model(b.nodes[-1].output[0], ranks={"out": (o.FLOAT, ("n", 5))})


def test_noise_that_saturates_hides_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Pixels up to 255 for a network that tells numbers from -0.02 to 5.08 apart: all would be the greatest code, whose half lies
    on no border. Within the range h moves by about a quarter of the positions, of about 1.25."""
    done = export_onnx(tmp_path, in_codes(), composite=("epsilon-plus",), roles=("relevance",))
    k = np.random.default_rng(3).integers(0, 255, (12, 320))
    h, moved_h = ((np.rint(k / 2 * (1 + e)) - np.rint(np.maximum(k / 2 - 1.25, 0))).mean(1) for e in (0, 1e-7))
    moved = np.abs(h / moved_h - 1).max()
    share = rounding(done.manifest)["relevance-epsilon-plus"]
    assert 0.5 * moved < share < 2 * moved
    assert (
        "gives values from 0 to 255, and this quantised network tells those from -0.02 to 5.08 apart: 98 % of"
        in caplog.text
    )
    caplog.clear()
    Explainer(done.path, "onnxruntime").explain(
        np.ones((1, *SHAPE), np.float32), "relevance-cam", 0, composite="epsilon-plus"
    )
    assert "maps of the relevance-epsilon-plus graph move by up to" in caplog.text
    assert "if a few codes on a border fall to their other side" in caplog.text


def test_noise_within_the_range_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    export_onnx(tmp_path, in_codes(1.0), roles=("gradient",))
    assert "saturate" not in caplog.text


def several(b: o.Build, kind: str) -> str:
    """A first operator on the image, and a convolution."""
    if kind == "two quantisers":
        x = b(
            "Add", *(b("DequantizeLinear", quantiser(b, "image", s, 0), b.weight(np.float32(1))) for s in (0.01, 0.02))
        )
    elif kind == "channels":
        s, z = b.weight(np.full(3, 0.01, np.float32)), b.weight(np.zeros(3, np.uint8))
        x = b("DequantizeLinear", b("QuantizeLinear", "image", s, z, axis=1), s, z, axis=1)
    else:
        moved = b("Transpose", "image", perm=[0, 2, 3, 1]) if kind == "transposed" else "image"
        codes = quantiser(b, moved, 0.01, -28, np.int8)
        x = b("DequantizeLinear", codes, b.weight(np.float32(0.01)), b.weight(np.int8(-28)))
        x = b("Transpose", x, perm=[0, 3, 1, 2]) if kind == "transposed" else x
        x = b("Add", x, "image") if kind == "also as it is" else x
    return b("Conv", x, b.draw(2, 3, 1, 1))


@pytest.mark.parametrize(("kind", "bounds"), [
    ("one", (-1.0, 1.55)), ("transposed", (-1.0, 1.55)), ("two quantisers", (0.0, 5.1)),
    ("also as it is", None), ("channels", None),
])  # fmt: skip
def test_range(kind: str, bounds: tuple[float, float] | None) -> None:
    b = o.Build(13)
    graph = ir.from_proto(b.model(several(b, kind), ranks={b.nodes[-1].output[0]: (o.FLOAT, ("n", 2, 16, 20))})).graph
    assert coded_range(graph.inputs[0]) == (None if bounds is None else pytest.approx(bounds))


def test_images_within_the_range(tmp_path: Path) -> None:
    spec = export_onnx(tmp_path, in_codes(), roles=("gradient",)).manifest.input
    images = measuring_images(ir.from_proto(in_codes()).graph, spec, 5)
    assert images.shape == (5, *spec.image_shape)
    assert images.dtype == np.float32
    assert -0.02 <= images.min() < 0.1
    assert 5.0 < images.max() <= 5.08


def in_half(gains: tuple[float, float], biases: tuple[float, float]) -> onnx.ModelProto:
    """Logits 2 sigmoid(h GAINS), h the mean of p - q at 20 positions in float16; both are a gain times the image's first channel,
    and a bias."""
    b = o.Build(18)
    kernel = np.zeros((2, 3, 1, 1), np.float16)
    kernel[:, 0, 0, 0] = gains
    x = b("Cast", "image", to=onnx.TensorProto.FLOAT16)
    x = b("Relu", b("Conv", x, b.weight(kernel), b.weight(np.array(biases, np.float16)), strides=[4, 4]))
    h = b("Gemm", b.pooled(x), b.weight(np.outer([1, -1], GAINS).astype(np.float16)))
    y = b("Gemm", b("Sigmoid", h), b.weight(2 * np.eye(5, dtype=np.float16)))
    return b.model(b("Cast", y, to=onnx.TensorProto.FLOAT))


@pytest.mark.parametrize(("less", "decided"), [(0.0625, True), (100.0, False)])
def test_what_half_precision_decides(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, less: float, decided: bool
) -> None:
    """The epsilon rule divides by h, a sixteenth: one rounding of numbers near 100 moves it by a third."""
    done = export_onnx(tmp_path, in_half((0.5, 0.5), (0, -less)), composite=("epsilon-plus",), roles=("relevance",))
    assert (rounding(done.manifest).get("relevance-epsilon-plus", 0.0) >= 0.1) == decided
    Explainer(done.path, "onnxruntime").explain(
        np.full((1, *SHAPE), 100, np.float32), "relevance-cam", 0, composite="epsilon-plus"
    )
    said = "maps of the relevance-epsilon-plus graph are decided by rounding in half precision to"
    assert (said in caplog.text) == decided


@pytest.mark.parametrize(("stated", "decided"), [({}, True), ({"scale": 2.0}, False)])
def test_values_as_they_are_may_be_normalised_images(tmp_path: Path, stated: dict[str, float], decided: bool) -> None:
    """The epsilon rule divides by h = k / 2 + 100 - 100. One rounding of 100 is a thousandth of it for pixels, a half below 2.5."""
    model = in_half((0.5, 0), (100, 100))
    done = export_onnx(
        tmp_path, model, composite=("epsilon-plus",), roles=("relevance",), preprocess="none", preprocess_fields=stated
    )
    assert (rounding(done.manifest).get("relevance-epsilon-plus", 0.0) >= 0.1) == decided
    graph = ir.from_proto(model).graph
    sets = sets_of(graph, done.manifest.input, measuring_images(graph, done.manifest.input, 12), 3)
    assert [one.shape for one in sets] == [(3, *SHAPE)] * 4
    assert all((np.abs(one).max() < 2.5) == decided for one in sets[2:])
    assert all(np.array_equal(one, np.rint(one)) for one in sets[: 2 if decided else 4])


@pytest.mark.parametrize(("stated", "decided"), [({}, True), ({"scale": 2.0}, False)])
def test_patterns_may_be_normalised_images(tmp_path: Path, stated: dict[str, float], decided: bool) -> None:
    model = in_half((0.5, 0), (100, 100))
    options = {"composite": ("epsilon-plus",), "roles": ("head", "tail", "relevance"), "preprocess_fields": stated}
    done = export_onnx(tmp_path, model, preprocess="none", **options)
    contents = {graph.file: done.path / graph.file for graph in done.manifest.graphs.values()}
    shares = shares_on_patterns(contents, done.manifest, exactly)
    assert (shares.get("relevance-epsilon-plus", 0.0) >= 0.1) == decided


@pytest.mark.parametrize(("dtype", "stated", "count"), [
    ("float32", {}, 2), ("float16", {}, 2), ("float32", {"mean": (0.0, 0.0, 1.0)}, 1), ("float32", {"std": (1.0, 1.0, 2.0)}, 1),
    ("uint8", {}, 1),
])  # fmt: skip
def test_possible_inputs(dtype: Any, stated: dict[str, Any], count: int) -> None:
    found = possible_inputs(Input("image", "NCHW", 3, 8, 8, dtype, Preprocess(**stated)))
    assert len(found) == count
    assert found[0].preprocess == Preprocess(**stated)
    for other in found[1:]:  # black and white become -2 and 2.44
        assert np.allclose(other.preprocess.ends(), np.outer([-2, 2.444], np.ones(3)), atol=1e-3)


def test_a_stated_range_stays(tmp_path: Path) -> None:
    spec = export_onnx(tmp_path, in_codes(), roles=("gradient",)).manifest.input
    graph = ir.from_proto(in_codes()).graph
    images = measuring_images(graph, spec, 4)
    assert np.array_equal(np.concatenate(sets_of(graph, spec, images, 1)), images)


def test_moved_by_epsilon() -> None:
    for kind, epsilon in ((np.float16, 2.0**-10), (np.float32, 2.0**-23)):
        x = np.full(20000, 1.5, kind)
        relative = (moved_by_epsilon(x, 0).astype(np.float64) / 1.5 - 1) / epsilon
        assert 0.9 < relative.std() < 1.1
    whole = np.arange(3)
    assert moved_by_epsilon(whole, 0) is whole


@pytest.mark.parametrize(("step", "extensions"), [(0.1, {}), (0.0, {HALF: "yes"})])
def test_draws_end_with_the_first_that_is_told(step: float, extensions: dict[str, str]) -> None:
    """The largest of the draws counts."""
    drawn: list[float] = []

    def draws(role: str, run: Any) -> Any:
        for share in (0.01, 0.05, 0.3, 0.7):
            drawn.append(share)
            yield {"relevance": np.array([[2.0, 1.0]])}, {"relevance": np.array([[2.0, 1.0 + 2 * share]])}

    manifest: Any = SimpleNamespace(
        logits_step=step, extensions=extensions, graphs={"relevance": SimpleNamespace(propagated="relevance")}
    )
    feeds = {"activation": np.ones((1, 2)), "target": np.array([-1])}
    measures = Rounding(manifest, draws)
    ran = {"relevance": np.array([[2.0, 1.0]]), "logits": np.zeros((1, 2))}
    measures.add("relevance", ran, feeds, lambda: lambda feeds: ran)
    assert measures.shares() == {"relevance": pytest.approx(0.3)}
    assert drawn == [0.01, 0.05, 0.3]
