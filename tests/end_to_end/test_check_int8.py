"""xai-check on quantised networks: a good one passes; one with a wrong scale on one layer, whose predictions are still right,
is found by its maps."""

from __future__ import annotations

import importlib.util
import json
import logging
import sys
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from xai_exporters import Request, export

from xai_deploy import write_image
from xai_deploy.cli.check import main

COUNT = 40


def damage(model: onnx.ModelProto, conv: int, factor: float) -> onnx.ModelProto:
    """The network with the weights' scale of Conv number `conv` multiplied, as a converter's mistake would."""
    damaged = onnx.ModelProto()
    damaged.CopyFrom(model)
    makers = {output: node for node in damaged.graph.node for output in node.output}
    dequantize = makers[[node for node in damaged.graph.node if node.op_type == "Conv"][conv].input[1]]
    while dequantize.op_type != "DequantizeLinear":
        dequantize = makers[dequantize.input[0]]
    (scale,) = (tensor for tensor in damaged.graph.initializer if tensor.name == dequantize.input[1])
    wrong = numpy_helper.to_array(scale) * np.float32(factor)
    scale.CopyFrom(numpy_helper.from_array(wrong, scale.name))
    return damaged


def deploy(model: onnx.ModelProto, path: Path, **preprocess: Any) -> None:
    onnx.save(model, path.with_suffix(".onnx"))
    source = path.with_suffix(".onnx")
    export(Request(source, output_path=path, preprocess_fields=preprocess, roles=("gradient", "relevance")))


def check(status: int, *arguments: object) -> dict[str, dict[str, Any]]:
    """Run xai-check; the report's figures by name."""
    report = Path(str(arguments[1])).with_suffix(".json")
    assert main([*map(str, arguments), "--json", str(report), "-q"]) == status
    found = json.loads(report.read_text())
    assert found["passed"] is (status == 0)
    return {figure["name"]: figure for figure in found["figures"]}


def only_the_maps_tell(figures: dict[str, dict[str, Any]]) -> None:
    """What looks at the predictions alone would let the network pass."""
    for name in ("top-1 agreement", "probability difference"):
        assert figures[name]["passed"], name


@pytest.fixture(scope="module")
def model(root: Path) -> Path:
    return root / "models" / "clutter_digits"


@pytest.fixture(scope="module")
def data(model: Path) -> Iterator[ModuleType]:
    """The module that draws the network's pictures."""
    spec = importlib.util.spec_from_file_location("clutter_digits_data", model / "data.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["clutter_digits_data"] = importlib.util.module_from_spec(spec)  # its dataclasses look there
    spec.loader.exec_module(module)
    yield module
    del sys.modules["clutter_digits_data"]


def quantise(source: Path, path: Path, batches: list[NDArray[np.float32]], leave: list[str]) -> onnx.ModelProto:
    """Static QDQ quantisation, uint8 activations and int8 weights, as ONNX Runtime's own tool does it by default."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter(batches)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"image": batch}

    logging.disable(logging.WARNING)  # it advises to simplify the graph first
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quantize_static(
                source,
                path,
                Reader(),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=leave,
            )
    finally:
        logging.disable(logging.NOTSET)
    return onnx.load(path)


@pytest.fixture(scope="module")
def digits(model: Path, data: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `photos`; `float.xai` and quantised, good and damaged: all of it, and with a classifier left in float."""
    folder = tmp_path_factory.mktemp("digits")
    preprocess = tomllib.loads((model / "export.toml").read_text())["preprocess"]
    (folder / "photos").mkdir()
    for i, sample in enumerate(data.samples("test", COUNT)):
        write_image(folder / "photos" / f"{i:02}.png", sample.image)
    calibration = [
        ((sample.image.transpose(2, 0, 1)[None] * np.float32(1 / 255) - 0.5) / 0.25).astype(np.float32)
        for sample in data.samples("val", 32)
    ]
    source = model / "clutter_digits.onnx"
    deploy(onnx.load(source), folder / "float.xai", **preprocess)
    classifier = next(node.name for node in onnx.load(source).graph.node if node.op_type == "Gemm")
    for kind, leave, factor in (("int8", [], 1.5), ("int8-float-logits", [classifier], 2.0)):
        quantised = quantise(source, folder / f"{kind}-quantised.onnx", calibration, leave)
        deploy(quantised, folder / f"{kind}.xai", **preprocess)
        deploy(damage(quantised, 7, factor), folder / f"{kind}-damaged.xai", **preprocess)
    return folder


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_good_int8_network_passes(digits: Path, backend: str) -> None:
    for kind in ("int8", "int8-float-logits"):
        figures = check(0, digits / "float.xai", digits / f"{kind}.xai", digits / "photos", "-b", backend)
        assert figures["top-1 agreement"]["value"] == 1
        assert figures["grad-cam: rank correlation"]["value"] > 0.98


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_wrong_scale_is_found_by_the_maps(digits: Path, backend: str) -> None:
    """The wrong scale drives logits out of the range that was calibrated: the largest stays the largest, clipped, and what it
    rests on is lost."""
    figures = check(1, digits / "float.xai", digits / "int8-damaged.xai", digits / "photos", "-b", backend)
    only_the_maps_tell(figures)
    assert figures["top-1 agreement"]["value"] > 0.95
    assert not figures["grad-cam: rank correlation"]["passed"]
    assert figures["grad-cam: rank correlation"]["value"] < 0.8


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_limits_near_to_what_a_good_network_reaches_find_more(digits: Path, backend: str) -> None:
    """Nothing clips here: the maps of small pictures of one thing only move a little, within the limits set for everyone."""
    strict = ["--min-correlation", "0.98", "--min-overlap", "0.97", "-b", backend]
    photos = digits / "photos"
    good = check(0, digits / "float.xai", digits / "int8-float-logits.xai", photos, *strict)
    damaged = check(1, digits / "float.xai", digits / "int8-float-logits-damaged.xai", photos, *strict)
    only_the_maps_tell(damaged)
    assert damaged["top-1 agreement"]["value"] > 0.95
    for name, figure in damaged.items():
        if "correlation" in name:
            assert good[name]["value"] - figure["value"] > 0.01


def test_mobilenet(shared_data: Path, tmp_path: Path) -> None:
    """Google's own int8 network against its float twin, on photographs, with a recording for a reference."""
    weights = shared_data / "weights"
    photos = sorted((shared_data / "images" / "imagenet_samples").glob("*.JPEG"))[::8]
    plain = Request(
        weights / "mobilenet_v2_1.0_224_fp32_nchw_logits.onnx",
        output_path=tmp_path / "float.xai",
        preprocess="tf",
        preprocess_fields={"resize": 256},
        roles=("gradient",),
    )
    export(plain)
    quantised = onnx.load(weights / "mobilenet_v2_1.0_224_int8qdq_tf2onnx.onnx")
    deploy(quantised, tmp_path / "good.xai", resize=256)
    deploy(damage(quantised, 48, 1.5), tmp_path / "damaged.xai", resize=256)
    recording = tmp_path / "reference.npz"
    command = ["--record", recording, tmp_path / "float.xai", *photos, "-m", "reciprocam,grad-cam", "-q"]
    assert main([*map(str, command)]) == 0
    good = check(0, recording, tmp_path / "good.xai", *photos)
    damaged = check(1, recording, tmp_path / "damaged.xai", *photos)
    assert damaged["top-1 agreement"]["value"] == 1
    for method in ("reciprocam", "grad-cam"):
        name = f"{method}: top 10 % overlap"
        print(f"{name}: good {good[name]['value']:.3f}, damaged {damaged[name]['value']:.3f}")  # noqa: T201 - for documents
        assert not damaged[name]["passed"]
        assert good[name]["value"] - damaged[name]["value"] > 0.2
