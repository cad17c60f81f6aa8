"""Suppression inside the graph: lists of boxes, and a table with empty rows, against greedy suppression of the live network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from xai_exporters import Request, export
from xai_exporters.bundle.compared_scores import compare_scores, lists_apart
from xai_exporters.cut.scores.listed import find_listed
from xai_exporters.errors import ExportError, VerificationError
from xai_exporters.passes.clean import clean

from xai_deploy import DetectionLimits, Explainer
from xai_deploy.cli.explain import main as explain
from xai_deploy.errors import NotApplicableError, TargetError
from xai_deploy.format.bundle import LOGITS
from xai_deploy.format.rows import Rows
from xai_deploy.images import encode_image
from xai_deploy.methods.rise import Rise
from xai_deploy.methods.sets import default_method
from xai_deploy.records import records

from . import nets
from .conftest import Made
from .suppressing import LOWEST, TABLES, Writer, with_suppression
from .test_drise import detections, overlap

LIMITS = DetectionLimits(score=0.0)
RESIZED = {"lists": "stretch", "table": "letterbox"}
"""How photos are brought to the network's size in the bundle of each form."""


@pytest.fixture(scope="module", params=["lists", "table"])
def inside(
    request: pytest.FixtureRequest, made: Callable[[str], Made], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """Explainers of a form, one for each runtime."""
    folder = tmp_path_factory.mktemp(request.param)
    onnx.save(with_suppression(made("yolov8").source, request.param), folder / "net.onnx")
    fields = {"resize": RESIZED[request.param]}
    request_ = Request(folder / "net.onnx", output_path=folder / "net.xai", preprocess="unit", preprocess_fields=fields)
    path = export(request_).path
    return tuple(Explainer(path, backend, detections=LIMITS) for backend in ("onnxruntime", "openvino"))


def live(own: Made, x: Any) -> list[tuple[Any, float, int]]:
    """Box, probability and class of each detection above the threshold, the best one first."""
    found = [(box, float(shares.max()), int(shares.argmax())) for box, _, shares in detections(own, x, 300)]
    return [one for one in found if one[1] > LOWEST]


def test_what_is_found(inside: Any, made: Callable[[str], Made]) -> None:
    own = made("yolov8")
    for explainer in inside:
        rows = explainer.bundle.manifest.scores.rows
        assert (rows.decoder, rows.unit, rows.form) == ("nms-inside", "pixels", "corners")
        got = explainer.explain(own.images, "rise", "box 0", masks=2)
        for image, x in zip(got.detections, own.images, strict=True):
            wanted = live(own, x)
            assert 2 < len(wanted) < 60
            assert [one.index for one in image] == [index for _, _, index in wanted]
            np.testing.assert_allclose([one.box for one in image], [box for box, _, _ in wanted], rtol=1e-4, atol=1e-3)
            np.testing.assert_allclose([one.score for one in image], [share for _, share, _ in wanted], rtol=1e-4)


def brought(pixels: Any, resize: str) -> tuple[Any, Any, Any]:
    """The network's input [3,64,96] from pixels [h,w,3]; what corners lose, and are then divided by, to be the photo's."""
    h, w = pixels.shape[:2]
    there = np.array([nets.SIZE[0] / h, nets.SIZE[1] / w])
    gain = there if resize == "stretch" else np.full(2, there.min())
    size = [round(gain[0] * h), round(gain[1] * w)]
    grown = F.interpolate(torch.from_numpy(pixels).double().permute(2, 0, 1)[None], size, mode="bilinear")[0] / 255
    top, left = (round((whole - part) / 2 - 0.1) for whole, part in zip(nets.SIZE, size, strict=True))
    x = torch.full((3, *nets.SIZE), 114 / 255, dtype=torch.float64)
    x[:, top : top + size[0], left : left + size[1]] = grown
    return x.numpy(), np.array([left, top] * 2), np.array([gain[1], gain[0]] * 2)


def test_photos_of_other_shapes(inside: Any, made: Callable[[str], Made], tmp_path: Path) -> None:
    """On the command line boxes are in the pixels of the photo, whatever its sides, in results and in records."""
    bundle = inside[0].bundle
    photos = []
    for name, size in (("wide", (48, 90)), ("tall", (60, 40))):
        photos.append(np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8))
        (tmp_path / f"{name}.png").write_bytes(encode_image(photos[-1]))
    options = [
        "-m",
        "rise:masks=2",
        "--detect-score",
        "0",
        "-o",
        str(tmp_path / "out"),
        "--records",
        str(tmp_path / "r"),
    ]
    assert explain([str(bundle.path), str(tmp_path / "wide.png"), str(tmp_path / "tall.png"), *options]) == 0
    seen = json.loads((tmp_path / "out" / "results.json").read_text())["images"]
    kept = [record for _, record in records(tmp_path / "r")]
    for pixels, image, record in zip(photos, seen, kept, strict=True):
        x, offset, scale = brought(pixels, str(bundle.manifest.input.preprocess.resize))
        box, score, index = live(made("yolov8"), x)[0]
        first = image["prediction"][0]
        assert first["class"] == index
        np.testing.assert_allclose(first["score"], score, atol=2e-3)
        np.testing.assert_allclose(first["box"], (np.asarray(box) - offset) / scale, atol=0.5)
        assert record.prediction[0].box == pytest.approx(first["box"], abs=1e-3)
    assert (
        default_method(bundle.manifest) == "rise"
    )  # Recipro-CAM, which other bundles without gradients take, is refused


def test_rise(inside: Any, made: Callable[[str], Made]) -> None:
    """D-RISE: a row states one class, so the best overlap with a detection of this class."""
    own, masks = made("yolov8"), 12
    x = 20 * own.images[1]  # so that boxes depend on the masks
    rng = np.random.default_rng(Rise().seed)
    drawn = np.stack([Rise()._mask(rng, *nets.SIZE) for _ in range(masks)])
    box, _, index = live(own, x)[0]
    seen = [live(own, x * mask) for mask in drawn]
    scores = np.array([max((overlap(box, b, 0) for b, _, i in one if i == index), default=0.0) for one in seen])
    assert scores.std() > 0.01
    wanted = np.tensordot(scores, drawn.astype(np.float64), 1) / masks / 0.5
    for explainer in inside:
        raw = explainer.explain(x[None], "rise", "box 0", masks=masks).raw[0]
        np.testing.assert_allclose(raw, wanted, rtol=1e-4)


def test_what_can_not_be_had(inside: Any, made: Callable[[str], Made]) -> None:
    explainer, x = inside[0], made("yolov8").images[:1]
    for method in ("layer-cam", "lrp", "integrated-gradients"):
        with pytest.raises(
            NotApplicableError, match=f"{method}: .*no gradient passes the suppression inside the graph"
        ):
            explainer.explain(x, method)
    with pytest.raises(NotApplicableError, match=r"chooses its rows anew in each run \(suppression\)"):
        explainer.explain(x, "reciprocam")
    with pytest.raises(TargetError, match="box 0, left: the network's own suppression gives other rows in each run"):
        explainer.explain(x, "rise", "box 0:left")
    assert explainer.explain(x, "score-cam", "@10,10,30,30").raw.any()


def test_thresholds_hide_nothing(made: Callable[[str], Made], tmp_path: Path) -> None:
    """The form of the list is seen although no probe image has a box above the threshold; an image without one says so."""
    onnx.save(with_suppression(made("yolov8").source, "table", 0.9999), tmp_path / "net.onnx")
    path = export(Request(tmp_path / "net.onnx", output_path=tmp_path / "net.xai", preprocess="none")).path
    with pytest.raises(Exception, match="the network finds nothing in this image"):
        Explainer(path).explain(made("yolov8").images[:1], "rise", masks=2)


def test_not_such_a_list(made: Callable[[str], Made], tmp_path: Path) -> None:
    def refused(said: str, source: Path, **options: Any) -> None:
        with pytest.raises(ExportError, match=said):
            export(Request(source, output_path=tmp_path / "x.xai", preprocess="none", **options))

    refused("--decoder nms-inside: no output is computed from", made("yolov8").source, decoder="nms-inside")
    model = with_suppression(made("yolov8").source, "lists")
    del model.graph.output[1:]
    onnx.save(model, tmp_path / "net.onnx")
    refused(
        r"NonMaxSuppression is inside the graph, and the outputs \(boxes .*hold no known list", tmp_path / "net.onnx"
    )
    onnx.save(with_suppression(made("yolov8").source, "table"), tmp_path / "net.onnx")
    refused("no gradient passes the suppression", tmp_path / "net.onnx", roles=("gradient",))
    large = with_suppression(made("yolov8").source, "mmdetection")
    writer = Writer(large)
    tiled = writer.node("Tile", "dets", writer.number([1, 10**5, 10**3]))
    large.graph.output[0].name = writer.node("Slice", tiled, *(writer.number(n) for n in ([0], [5], [2])))
    onnx.save(large, tmp_path / "net.onnx")
    refused(
        "any memory or time: .*export the detector up to its boxes and scores, .*fewer proposals", tmp_path / "net.onnx"
    )


@pytest.mark.parametrize("form", [*TABLES, "tensorflow", "batch"])
def test_forms(form: str, made: Callable[[str], Made]) -> None:
    """The rows that the head gives are the live network's boxes, whatever the columns' order and the names of outputs."""
    own = made("yolov8")
    model = with_suppression(own.source, form)
    listed = find_listed(clean(model, None, "one"))
    assert (listed.unit, listed.top_first) == (
        "fractions" if form in ("detection-output", "tensorflow") else "pixels",
        form in ("tensorflow", "efficientdet"),
    )
    output = listed.add_head(model)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    scale = np.array([*nets.SIZE[::-1]] * 2) if listed.unit == "fractions" else 1
    for x in own.images:
        rows = session.run([output], {session.get_inputs()[0].name: x[None]})[0][0]
        wanted = live(own, x)
        found = rows[rows[:, 4] > 0]
        assert [int(row[5]) for row in found] == [index + (form == "tensorflow") for _, _, index in wanted]
        np.testing.assert_allclose(found[:, :4] * scale, [box for box, _, _ in wanted], rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(found[:, 4], [share for _, share, _ in wanted], rtol=1e-4)


def test_the_order_of_a_list_is_no_difference(caplog: pytest.LogCaptureFixture) -> None:
    """Of two lists [1,n,6] (score, corners, class)."""
    rows = Rows("nms-inside", 1, "corners", "pixels", labelled=True, suppress=False)
    manifest: Any = SimpleNamespace(scores=SimpleNamespace(rows=rows), logits_step=0.0, format=2, extensions={})
    manifest.input = manifest.target = SimpleNamespace(dtype="float32")
    rng = np.random.default_rng(0)
    want = np.concatenate([rng.random((1, 40, 1)), 90 * rng.random((1, 40, 4)), rng.integers(0, 3, (1, 40, 1))], axis=2)
    got = want[:, rng.permutation(40)]
    assert lists_apart(got, want, manifest) == 0
    for column, by in ((0, 0.01), (2, 1.0), (5, 1.0)):
        moved = got.copy()
        moved[0, :10, column] += by
        assert lists_apart(moved, want, manifest) == pytest.approx(0.25)
        with pytest.raises(VerificationError, match="A finds other boxes than B: 25 % of the boxes that either finds"):
            compare_scores("A", {LOGITS: moved}, "B", want, manifest, lambda: 0.01)
        compare_scores("A", {LOGITS: moved}, "B", want, manifest, lambda: 0.1)  # rounding alone does as much
    want[..., 0], moved[..., 0] = (
        1 / 21,
        1 / 21,
    )  # random weights: which boxes stay is up to rounding
    assert lists_apart(moved, want, manifest) == pytest.approx(0.25)
    compare_scores("A", {LOGITS: moved}, "B", want, manifest, lambda: 0.0)
    assert "not verified that A finds the same ones as B (25 %" in caplog.text
    got[0, 0] = np.nan
    assert lists_apart(got, want, manifest) == 1
