"""TFLite's own suppression, TFLite_Detection_PostProcess: `tflite/custom.py`, `tflite/options.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flatbuffers import flexbuffers
from xai_exporters import Export, Request, export
from xai_exporters.errors import SourceError
from xai_exporters.sources import load_source
from xai_exporters.sources.openvino_ir import child
from xai_exporters.sources.tflite.options import numbers

from xai_deploy import Explainer
from xai_deploy.foundation import runtimes

from ..running import HEAD_AND_TAIL
from .written import tflite

SIZE = 8
RNG = np.random.default_rng(7)
ENCODE, CLASSIFY = (RNG.normal(size=(n, 1, 1, 3)).astype(np.float32) for n in (4, 3))
CELL = (np.arange(SIZE) + 0.5) / SIZE
ANCHORS = np.array([[y, x, 0.3, 0.2] for y in CELL for x in CELL], np.float32)
OPTIONS = {
    "max_detections": 10, "max_classes_per_detection": 1, "num_classes": 3, "nms_score_threshold": 0.1,
    "nms_iou_threshold": 0.6, "y_scale": 10.0, "x_scale": 9.0, "h_scale": 5.0, "w_scale": 4.0, "use_regular_nms": False,
}  # fmt: skip


def written(folder: Path, **options: Any) -> Path:
    path = folder / "ssd.tflite"
    path.write_bytes(tflite.detector(ENCODE, CLASSIFY, ANCHORS, {**OPTIONS, **options}, SIZE))
    return path


def decoded(x: Any, classes: int) -> tuple[Any, Any]:
    """Corners and scores of all boxes, as detection_postprocess.cc decodes them, in float64."""
    pixels = x.reshape(-1, 3).astype(np.float64)
    e, scores = pixels @ ENCODE[:, 0, 0].T, 1 / (1 + np.exp(-pixels @ CLASSIFY[:, 0, 0].T))
    y, x_, h, w = (ANCHORS[:, i].astype(np.float64) for i in range(4))
    cy, cx = e[:, 0] / 10 * h + y, e[:, 1] / 9 * w + x_
    half_h, half_w = 0.5 * np.exp(e[:, 2] / 5) * h, 0.5 * np.exp(e[:, 3] / 4) * w
    return np.stack([cx - half_w, cy - half_h, cx + half_w, cy + half_h], -1), scores[:, 3 - classes :]


@pytest.mark.parametrize("classes", [3, 2])
def test_decodes_as_tflite_does(classes: int, tmp_path: Path) -> None:
    """With one column more than classes, the first one is the background."""
    x = np.random.default_rng(1).normal(size=(1, SIZE, SIZE, 3)).astype(np.float32)
    network = load_source(Request(written(tmp_path, num_classes=classes)))
    session = runtimes.onnxruntime().InferenceSession(
        network.proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    assert network.reference is not None
    for got in (session.run(None, {"image": x}), network.reference(x).values()):
        for value, want in zip(got, decoded(x, classes), strict=True):
            np.testing.assert_allclose(value[0], want, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Export:
    folder = tmp_path_factory.mktemp("ssd")
    labels = {0: "ssd", 3: [{3: [{0: "boxes"}, {0: "kinds", 6: [{0: "names.txt", 2: tflite.i8(3)}]}]}]}
    data = tflite.detector(ENCODE, CLASSIFY, ANCHORS, OPTIONS, SIZE, tflite.flat(labels, b"M001"))
    (folder / "ssd.tflite").write_bytes(tflite.with_files(data, {"names.txt": "cat\ndog\nowl\n"}))
    request = Request(
        folder / "ssd.tflite",
        output_path=folder / "ssd.xai",
        preprocess="none",
        input_gradient=True,
        roles=HEAD_AND_TAIL,
    )
    return export(request)


def test_says_what_it_leaves_out(bundle: Export) -> None:
    assert Explainer(bundle.path).bundle.labels == ("cat", "dog", "owl")
    assert any("TFLite_Detection_PostProcess) is left out" in note for note in bundle.notes)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_explains_a_box(backend: str, bundle: Export) -> None:
    """The gradient of the best box's score: that of a logit, at its own pixel alone."""
    explainer = Explainer(bundle.path, backend)
    x = np.random.default_rng(1).normal(size=(1, SIZE, SIZE, 3)).astype(np.float32)
    result = explainer.explain(x, "gradient")
    _, scores = decoded(x, 3)
    row, kind = np.unravel_index(scores.argmax(), scores.shape)
    want = np.zeros((SIZE * SIZE,))
    want[row] = np.abs(CLASSIFY[kind, 0, 0]).max()
    got = result.raw[0].reshape(-1)
    assert got.argmax() == row
    boxes, _ = decoded(x, 3)
    np.testing.assert_allclose(result.detections[0][0].box, boxes[row] * SIZE, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(got / got.max(), want / want.max(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"y_scale": 0.0}, {"num_classes": 7}, {"num_classes": 1}, {"w_scale": float("nan")}, {"h_scale": "five"}],
)
def test_damaged_options(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="the options of TFLite_Detection_PostProcess are damaged"):
        child._read("tflite", str(written(tmp_path, **options)), "")


def test_numbers_in_flexbuffers() -> None:
    """Against flatbuffers' own reader, whose map has many widths and types."""
    value = {"a": 1, "bb": -300, "c": 1e-3, "d": True, "e": "text", "f": [1, 2], "g": 2**40, "long_key" * 5: 0.1}
    data = bytes(flexbuffers.Dumps(value))
    want = {key: float(entry) for key, entry in value.items() if isinstance(entry, int | float)}
    assert numbers(data) == pytest.approx(want)
    for length in range(len(data)):
        with pytest.raises(ValueError, match="its options"):
            numbers(data[:length] or b"")


def test_damaged_flexbuffers_give_a_line() -> None:
    data, rng, said = bytearray(flexbuffers.Dumps(OPTIONS)), np.random.default_rng(3), []
    for _ in range(2000):
        bad = bytearray(data)
        bad[rng.integers(len(bad))] = rng.integers(256)
        try:
            numbers(bytes(bad))
        except ValueError as error:
            said.append(str(error))
    assert said
    assert all(line.startswith("its options ") for line in said)
