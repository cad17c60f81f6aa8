"""Verification: parts that do not reproduce the source never become a bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from xai_exporters import Request, export
from xai_exporters.bundle.beside import noise_images
from xai_exporters.bundle.framework import relative_difference
from xai_exporters.cut.split import Parts
from xai_exporters.cut.split import split as real_split
from xai_exporters.errors import VerificationError
from xai_exporters.passes.clean import CleanGraph
from xai_exporters.passes.clean import clean as real_clean
from xai_exporters.roles.pixelwise import Linear
from xai_exporters.roles.pixelwise import find_linear as real_find_linear
from xai_exporters.sources import TrainedNetwork
from xai_exporters.sources import load_source as real_load_source

from xai_deploy.format.bundle import Input, Preprocess

from .. import nets
from .. import onnx_nets as o
from ..checks import source_reference
from ..running import HEAD_AND_TAIL, export_onnx, export_torch, left_behind, torch_request


def change_weight(cleaned: CleanGraph, factor: float) -> None:
    weight = next(v for v in cleaned.graph.initializers.values() if v.shape is not None and len(v.shape) == 4)
    assert weight.const_value is not None
    array = weight.const_value.numpy().copy()
    array[0, 0, 0, 0] += factor * np.abs(array).max()
    weight.const_value = ir.tensor(array, name=weight.name)


def swap_activation(cleaned: CleanGraph) -> None:
    for node in cleaned.graph:
        if node.op_type == "Relu":
            node.op_type = "Abs"


@pytest.mark.parametrize("damage", [lambda c: change_weight(c, 0.02), lambda c: change_weight(c, 1.0), swap_activation])
def test_a_pass_that_changes_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[CleanGraph], None]
) -> None:
    """One coefficient of 108, wrong by two percent of the largest, is enough."""

    def wrong(*arguments: Any) -> CleanGraph:
        cleaned = real_clean(*arguments)
        damage(cleaned)
        return cleaned

    monkeypatch.setattr("xai_exporters.pipeline.clean", wrong)
    with pytest.raises(VerificationError, match="head and tail differ from the source by"):
        export_onnx(tmp_path, o.classifier(), roles=HEAD_AND_TAIL)
    assert left_behind(tmp_path) == []


def test_a_side_tensor_mixed_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*arguments: Any) -> Parts:
        parts = real_split(*arguments)
        one, two = parts.tail.inputs[1:3]
        one.name, two.name = two.name, one.name
        return parts

    monkeypatch.setattr("xai_exporters.pipeline.split", wrong)
    b = o.Build()
    x = b("Relu", b.conv("image", 3, 4, strides=[2, 2]))
    y = b.conv(x, 4, 4)
    z = b.conv(x, 4, 4, name="layer")
    x = b("Relu", b.conv(b("Add", b("Mul", x, z), y), 4, o.CHANNELS))
    with pytest.raises(VerificationError, match="differ from the source"):
        export_onnx(tmp_path, b.model(b.linear(b.pooled(x), out="scores")), split="layer", roles=HEAD_AND_TAIL)
    assert left_behind(tmp_path) == []


def test_an_export_that_is_not_the_framework(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unfaithful(request: Request) -> TrainedNetwork:
        network = real_load_source(request)
        assert network.reference is not None
        truth = network.reference
        return replace(network, reference=lambda x, _=None: {k: v * 1.001 for k, v in truth(x).items()})

    monkeypatch.setattr("xai_exporters.pipeline.load_source", unfaithful)
    with pytest.raises(VerificationError, match=r"differs from the source framework's own output by 1\.0e-03"):
        export_torch(tmp_path, nets.randomise(nets.Plain()), roles=HEAD_AND_TAIL)
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize(("apart", "faithful"), [(1e-7, True), (1e-6, False)])
def test_an_output_of_sigmoids_near_0(
    apart: float, faithful: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime's Sigmoid is 0.6e-7 away from 8.3e-7, the Sigmoid of -14, which is 7 % of it."""

    def near(request: Request) -> TrainedNetwork:
        network = real_load_source(request)
        return replace(
            network, reference=lambda x, _=None: {"scores": np.full((len(x), 5), 1 / (1 + np.exp(14.0)) + apart)}
        )

    monkeypatch.setattr("xai_exporters.pipeline.load_source", near)
    b = o.Build()
    small = b("Mul", b.linear(b.pooled(b.features())), b.weight(np.array(1e-6, np.float32)))
    b("Sigmoid", b("Sub", small, b.weight(np.array(14, np.float32))), out="scores")
    if faithful:
        export_onnx(tmp_path, b.model("scores"), roles=HEAD_AND_TAIL)
    else:
        with pytest.raises(VerificationError, match="differs from the source framework's own output by"):
            export_onnx(tmp_path, b.model("scores"), roles=HEAD_AND_TAIL)


@pytest.mark.parametrize(("apart", "at_once"), [(0.05, True), (1.0, False)])
def test_sigmoids_near_0_of_three_images_at_once(apart: float, at_once: bool, tmp_path: Path) -> None:
    """The Sigmoid of -14 + 0.05 is 8.7e-8 from that of -14, a tenth of it; 1.4e-6 are more than rounding."""
    b = o.Build()
    features = b.features()
    small = b("Mul", b.linear(b.pooled(features)), b.weight(np.array(1e-6, np.float32)))
    further = b("Cast", b("Sub", b("Shape", features, start=0, end=1), b.weight(np.array([1]))), to=o.FLOAT)
    moved = b("Add", small, b("Mul", further, b.weight(np.array([apart / 2], np.float32))))  # 0 for one image
    b("Sigmoid", b("Sub", moved, b.weight(np.array(14, np.float32))), out="scores")
    done = export_onnx(tmp_path, b.model("scores"), roles=HEAD_AND_TAIL)
    assert (done.one_because is None) == at_once


@pytest.mark.parametrize(
    ("factor", "apart", "same", "said"),
    [
        (
            1.0,
            2e-4,
            False,
            r"by 2\.0e-04 in 'scores' \(at most 1e-04 is allowed\): the export to ONNX is not faithful; please report",
        ),
        (3e3, 2e-4, False, None),
        (3e3, 2e-4, True, r"by 2\.0e-04 in 'scores' \(at most 1e-04 is allowed\): the export to ONNX is not faithful"),
        (
            1e6,
            5e-2,
            False,
            r"float32's rounding decides it on images of noise; it is untrained, or gets other pixels .* \(--preprocess\)",
        ),
    ],
)
def test_a_network_that_magnifies_rounding(
    factor: float, apart: float, same: bool, said: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """sin(f x) moves by 1e-7 f if x moves by 1e-7 of itself; differences from another framework are judged by that, and those
    from the same runtime's own results are not."""
    b = o.Build()
    turned = b("Sin", b("Mul", "image", b.weight(np.float32(factor))))
    model = b.model(b.linear(b.pooled(b.features(turned)), out="scores"))
    truth = source_reference(model)

    def off(request: Request) -> TrainedNetwork:
        reference = lambda x, _=None: {name: value * (1 + apart) for name, value in truth(x).items()}  # noqa: E731
        return replace(real_load_source(request), reference=reference, same_runtime=same)

    monkeypatch.setattr("xai_exporters.pipeline.load_source", off)
    if said is None:
        export_onnx(tmp_path, model, roles=HEAD_AND_TAIL)
        assert "Rounding explains it: changes of the images by 1e-7 of themselves move it by" in caplog.text
    else:
        with pytest.raises(VerificationError, match=said):
            export_onnx(tmp_path, model, roles=HEAD_AND_TAIL)


def test_an_existing_bundle_survives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = export_onnx(tmp_path, o.classifier(), roles=HEAD_AND_TAIL)
    before = {p.name: p.read_bytes() for p in done.path.iterdir()}

    def wrong(*arguments: Any) -> CleanGraph:
        cleaned = real_clean(*arguments)
        swap_activation(cleaned)
        return cleaned

    monkeypatch.setattr("xai_exporters.pipeline.clean", wrong)
    with pytest.raises(VerificationError):
        export_onnx(tmp_path, o.classifier(), overwrite=True, roles=HEAD_AND_TAIL)
    assert {p.name: p.read_bytes() for p in done.path.iterdir()} == before
    assert left_behind(tmp_path) == ["net.xai"]


def test_a_pixelwise_tail_of_wrong_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*arguments: Any) -> Linear | None:
        linear = real_find_linear(*arguments)
        assert linear is not None
        assert linear.weight is not None
        weight = linear.weight.copy()
        weight[0, 0] += np.abs(weight).max() / 2
        return Linear(weight)

    monkeypatch.setattr("xai_exporters.roles.pixelwise_tail.find_linear", wrong)
    with pytest.raises(VerificationError, match="the pixelwise tail does not reproduce the logits"):
        export_onnx(tmp_path, o.classifier(), roles=("pixelwise-tail",))
    assert left_behind(tmp_path) == []


def test_a_network_that_gives_nan(tmp_path: Path) -> None:
    b = o.Build()
    x = b("Sqrt", b("Sub", b.linear(b.pooled(b.features())), b.weight(np.float32(1e6))), out="scores")
    with pytest.raises(
        VerificationError, match="'scores' holds NaN or infinity on noise images; is its training finished"
    ):
        export_onnx(tmp_path, b.model(x), roles=HEAD_AND_TAIL)
    net = nets.Plain()
    net.fc.bias.data[0] = float("inf")
    with pytest.raises(VerificationError, match="holds NaN or infinity"):
        export(torch_request(tmp_path, net, roles=HEAD_AND_TAIL))
    assert left_behind(tmp_path) == []


def test_an_output_of_another_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*arguments: Any) -> CleanGraph:
        cleaned = real_clean(*arguments)
        gemm = next(n for n in cleaned.graph if n.op_type == "Gemm")
        weight, bias = gemm.inputs[1:]
        for value, cut in ((weight, np.s_[:, :4]), (bias, np.s_[:4])):
            assert value is not None
            assert value.const_value is not None
            value.const_value = ir.tensor(np.ascontiguousarray(value.const_value.numpy()[cut]), name=value.name)
        for shapes in (cleaned.shapes.two, cleaned.shapes.three):
            shapes["scores"] = (shapes["scores"][0], 4)
        return cleaned

    monkeypatch.setattr("xai_exporters.pipeline.clean", wrong)
    with pytest.raises(VerificationError, match=r"'scores' has shape \(1, 4\), the source gives \(1, 5\)"):
        export_onnx(tmp_path, o.classifier(), roles=HEAD_AND_TAIL)


@pytest.mark.parametrize(("dtype", "layout"), [("float32", "NCHW"), ("uint8", "NHWC"), ("float16", "NHWC")])
def test_noise_images(dtype: Any, layout: Any) -> None:
    how = Preprocess(scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    if dtype == "uint8":
        how = Preprocess()
    x = noise_images(Input("x", layout, 3, 6, 8, dtype, how), 5)
    assert x.dtype.name == dtype
    assert x.shape == (5, *((3, 6, 8) if layout == "NCHW" else (6, 8, 3)))
    assert np.array_equal(x, noise_images(Input("x", layout, 3, 6, 8, dtype, how), 5))
    channels = x.transpose(0, 2, 3, 1) if layout == "NCHW" else x
    pixels = (channels.astype(np.float64) * np.array(how.std) + np.array(how.mean)) / how.scale
    assert np.abs(pixels - np.rint(pixels)).max() < (0.6 if dtype == "float16" else 1e-4)
    assert pixels.min() > -1
    assert pixels.max() < 256
    assert np.unique(np.rint(pixels)).size > 200


def test_a_vanishing_output(tmp_path: Path) -> None:
    """Scores that are all zero have no scale to compare with; they must still agree."""
    b = o.Build()
    x = b("Gemm", b.pooled(b.features()), b.weight(np.zeros((6, 5), np.float32)), out="scores")
    assert export_onnx(tmp_path, b.model(x), roles=HEAD_AND_TAIL).verified.source == 0


def test_nan_differs_from_a_number() -> None:
    assert relative_difference(np.array([np.nan, 1.0]), np.array([1.0, 1.0]), "scores") == np.inf
    assert relative_difference(np.array([np.nan]), np.array([0.0]), "scores") == np.inf
