"""Fused graphs as OpenVINO IR: the same numbers, the same bytes each time, and what Model API reads of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from xai_exporters import Request, export
from xai_exporters.deliver.openvino_ir import model_info, to_ir
from xai_exporters.errors import RequestError

from xai_deploy.format.bundle import Input, Preprocess

from ...support.compressed import compressed
from .. import onnx_nets as o
from ..nets import CLASSES
from ..running import HEAD_AND_TAIL

F32 = {"INFERENCE_PRECISION_HINT": "f32"}
LABELS = " ".join(f"class_{i}" for i in range(CLASSES))  # parted by white space: they may hold none


def fused(folder: Path, **options: Any) -> Path:
    onnx.save(o.classifier(), folder / "net.onnx")
    labels = folder / "labels.txt"
    labels.write_text("".join(f"class \t{i}\n" for i in range(CLASSES)))
    fields = {"scale": 1 / 255, "mean": (0.5, 0.25, 0.0), "std": (0.5, 0.25, 1.0), "resize": "stretch"}
    request = Request(
        folder / "net.onnx", fuse=("grad-cam",), format="openvino", labels=labels, preprocess_fields=fields, overwrite=True,
        output_path=folder / "net.xai", roles=HEAD_AND_TAIL, **options)  # fmt: skip
    return export(request).path


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("target", [-1, 2])
def test_same_as_onnx(tmp_path: Path, batch: int, target: int) -> None:
    path = fused(tmp_path)
    feeds = {
        "image": np.random.default_rng(0).standard_normal((batch, 3, 16, 20)).astype(np.float32),
        "target": np.full(batch, target, np.int64),
    }
    session = onnxruntime.InferenceSession(path / "fused-grad-cam.onnx")
    names = [output.name for output in session.get_outputs()]
    wanted = dict(zip(names, session.run(names, feeds), strict=True))
    core = openvino.Core()
    results = core.compile_model(core.read_model(path / "fused-grad-cam.xml"), "CPU", F32)(feeds)
    for name, value in wanted.items():
        np.testing.assert_allclose(results[name], value, rtol=0, atol=1e-4 * np.abs(value).max())


def test_twice_the_same_bytes(tmp_path: Path) -> None:
    first = {p.name: p.read_bytes() for p in fused(tmp_path).iterdir()}
    assert {"fused-grad-cam.xml", "fused-grad-cam.bin"} < set(first)
    assert {p.name: p.read_bytes() for p in fused(tmp_path).iterdir()} == first
    assert not any(str(tmp_path).encode() in data for data in first.values())


def test_what_model_api_reads(tmp_path: Path) -> None:
    """Pixels as OpenCV reads them, BGR 0-255: (p s - m) / d = (p - m/s) / (d/s)."""
    model = openvino.Core().read_model(fused(tmp_path, fixed_target=True) / "fused-grad-cam.xml")
    info = {key: value.astype(str) for key, value in model.get_rt_info("model_info").astype(dict).items()}
    numbers = {key: [float(v) for v in info.pop(key).split()] for key in ("mean_values", "scale_values")}
    np.testing.assert_allclose(numbers["mean_values"], [127.5, 63.75, 0], rtol=1e-12)
    np.testing.assert_allclose(numbers["scale_values"], [127.5, 63.75, 255], rtol=1e-12)
    assert info == {
        "model_type": "Classification", "labels": LABELS, "resize_type": "standard", "reverse_input_channels": "True"
    }  # fmt: skip
    [image] = model.inputs
    assert image.get_node().get_layout() == openvino.Layout("NCHW")
    assert "saliency_map" in model.outputs[-1].names


@pytest.mark.parametrize(("resize", "said"), [("stretch", "standard"), ((12, 12), "standard"), (12, "crop")])
def test_the_resize_nearest_to_ours(resize: Any, said: str) -> None:
    """Model API has no resize before a crop: "standard" keeps the form of a stretched image, "crop" that of the photo."""
    image = Input("x", "NCHW", 3, 8, 8, "float32", Preprocess(resize=resize))
    assert model_info(image, "Classification", (), False)["resize_type"] == said


def test_embedded_preprocessing_is_not_asked_for_twice(tmp_path: Path) -> None:
    model = openvino.Core().read_model(fused(tmp_path, embed_preprocess=True) / "fused-grad-cam.xml")
    info = {key: value.astype(str) for key, value in model.get_rt_info("model_info").astype(dict).items()}
    assert info == {"model_type": "Classification", "labels": LABELS}  # Model API hands images over as they are given
    assert model.inputs[0].get_node().get_layout() == openvino.Layout("NHWC")


@pytest.mark.parametrize(("how", "mode"), [("bicubic", "CUBIC"), ("nearest", "NEAREST"), ("bilinear", None)])
def test_model_api_is_told_the_interpolation(how: str, mode: str | None) -> None:
    """LINEAR is Model API's own; a bicubic bundle was resized by it."""
    image = Input("x", "NCHW", 3, 8, 8, "float32", Preprocess(interpolation=how))  # type: ignore[arg-type]
    assert model_info(image, "Classification", (), False).get("interpolation_mode") == mode


def test_without_openvino(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(RequestError, match="--format openvino needs OpenVINO: pip install openvino"):
        fused(tmp_path)
    assert not (tmp_path / "net.xai").exists()


def test_weights_in_8_bits_do_not_quantise_activations() -> None:
    """A file with such weights says that the layers' inputs stay floats; other files say nothing."""
    model, weight = compressed()
    image = Input("x", "NCHW", 64, 1, 1, "float32", Preprocess())
    xml, weights = to_ir(model, image, "Classification", (), embedded=False)
    core = openvino.Core()
    network = core.read_model(xml, weights)
    x = np.random.default_rng(1).standard_normal((2, 64, 1, 1)).astype(np.float32)
    [y] = core.compile_model(network, "CPU", F32)([x]).values()
    np.testing.assert_allclose(y, x[:, :, 0, 0] @ weight.T, rtol=0, atol=1e-6 * np.abs(y).max())


def test_networks_of_floats_have_no_runtime_options(tmp_path: Path) -> None:
    assert b"runtime_options" not in (fused(tmp_path) / "fused-grad-cam.xml").read_bytes()
