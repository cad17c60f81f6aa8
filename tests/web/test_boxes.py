"""The page of a detector: detections under node, and maps in headless Chromium, against the engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from xai_exporters import Request, export
from xai_exporters.deliver.web import write_site

from xai_deploy import Box, DetectionLimits, Explainer, write_image
from xai_deploy.detections import detect
from xai_deploy.format.bundle import Bundle, Explained, Input, Preprocess
from xai_deploy.format.rows import Rows

from ..exporters.running import both_ways
from ..networks.detectors import nets
from .test_outputs import page_of, raw

pytest.importorskip("playwright", reason="playwright, which drives the browser, is not installed")
from playwright.sync_api import Browser, expect

LABELS = ("car", "road", "sky")
Node = Callable[[str, Any], Any]

_LAYOUTS = {
    "yolov8": (Rows("yolov8", 5, "centre", "pixels"), "sigmoid", "letterbox"),
    "boxes-scores": (Rows("boxes-scores", 4, "corners", "fractions", background=0), "softmax", "stretch"),
    "end-to-end": (
        Rows("end-to-end", 1, "corners", "pixels", labelled=True, suppress=False),
        "independent",
        "letterbox",
    ),
    "yolov5": (Rows("yolov5", 3, "centre", "pixels", objectness=True), "independent", 30),
}


@pytest.mark.parametrize("name", _LAYOUTS)
def test_detections_are_the_engine_s(node: Node, name: str) -> None:
    """Rows that overlap, that lie outside, that are not finite, and whose scores are equal."""
    spec, activation, resize = _LAYOUTS[name]
    image = Input("x", "NCHW", 3, 24, 28, "float32", Preprocess(resize=resize))  # type: ignore[arg-type]
    rng = np.random.default_rng(7)
    scores = rng.normal(0, 2, (spec.classes, 60)) if activation != "independent" else rng.random((spec.classes, 60))
    side = np.array([28, 24, 28, 24]) if spec.unit == "pixels" else np.ones(4)
    first = rng.random((2, 60)) * 1.2 - 0.1
    extent = rng.random((2, 60)) * 0.6
    boxes = np.concatenate([first, first + extent if spec.form == "corners" else extent]) * side[:, None]
    boxes[:, 30:45] = boxes[:, 15:30] + 0.05 * side[:, None]  # near doubles
    scores[:, 33] = scores[:, 18]
    boxes[2, 7] = np.nan
    last = rng.integers(0, 3, (1, 60)) if spec.labelled else rng.random((int(spec.objectness), 60))
    rows = np.concatenate([scores, boxes, last]).astype(np.float32)
    manifest: Any = SimpleNamespace(
        scores=Explained("logits", "rows", rows.shape, rows=spec), activation=activation, input=image
    )
    explained = {**vars(spec), "scores": spec.classes, "activation": activation}
    seen = {"height": 24, "width": 28, "preprocess": {"resize": resize}}
    for score, overlap, most in ((0.25, 0.7, 300), (0.1, 0.3, 300), (0.0, 0.5, 4)):
        [wanted] = detect(rows[None], manifest, [(61, 50)], DetectionLimits(score, overlap, most))
        found = node(
            "detections.detect(input.rows.map((v) => v ?? NaN), input.explained, input.limits, input.photo, input.spec)",
            {
                "rows": [None if np.isnan(v) else float(v) for v in rows.ravel()],
                "explained": explained,
                "limits": {"score": score, "overlap": overlap, "most": most},
                "spec": seen,
                "photo": {"height": 61, "width": 50},
            },
        )
        assert [(one["row"], one["index"]) for one in found] == [(one.row, one.index) for one in wanted]
        assert len(wanted) > 3
        np.testing.assert_allclose([one["score"] for one in found], [one.score for one in wanted], rtol=0, atol=1e-6)
        np.testing.assert_allclose([one["box"] for one in found], [one.box for one in wanted], rtol=0, atol=1e-4)


def test_the_smallest_detection_is_pressed(node: Node) -> None:
    boxes = [[0, 0, 50, 50], [10, 10, 20, 20], [10, 10, 30, 30]]
    points = [[15, 15], [25, 25], [40, 5], [60, 5]]
    found = node(
        "input.points.map(([x, y]) => detections.detectionAt({ x, y }, input.boxes.map((box) => ({ box }))))",
        {"boxes": boxes, "points": points},
    )
    assert found == [1, 2, 0, None]


@pytest.fixture(scope="module")
def page(runtime: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A detector's page with a letterbox, its bundle, and a photo of another shape than the input."""
    folder = tmp_path_factory.mktemp("boxes")
    torch.manual_seed(4)
    network = nets.YoloV8().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2.5)  # its scores differ by more than rounding
    onnx.save(both_ways(network, False, (3, *nets.SIZE)), folder / "net.onnx")
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n")
    request = Request(
        folder / "net.onnx", output_path=folder / "net.xai", preprocess="unit", preprocess_fields={"resize": "letterbox"},
        labels=folder / "labels.txt", fuse=("layer-cam", "relevance-cam"), web=folder / "site",
    )  # fmt: skip
    done = export(request)
    photo = folder / "photo.png"
    coarse = np.random.default_rng(5).integers(0, 256, (15, 13, 3)).astype(np.uint8)
    write_image(photo, np.asarray(cv2.resize(coarse, (131, 150), interpolation=cv2.INTER_CUBIC), np.uint8))
    write_site(folder / "again", Bundle.open(done.path), runtime)
    return folder / "again", done.path, photo


def test_a_detection_is_pressed(browser: Browser, page: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """The best one, one that is pressed, one typed, two of them; the lowest probability; nothing found."""
    folder, bundle, photo = page
    limits = DetectionLimits(score=0.7)
    engine = Explainer(bundle, backend="onnxruntime", detections=limits)

    def agrees(found: dict[str, Any], number: int, method: str = "layer-cam") -> None:
        wanted = engine.explain(photo, method, Box(number=number))
        assert found["target"] == number
        assert found["about"]["detections"][number]["row"] == wanted.rows[0][0]
        largest = np.abs(wanted.raw).max()
        np.testing.assert_allclose(raw(found), wanted.raw[0], rtol=0, atol=1e-4 * largest)
        np.testing.assert_allclose(found["heatmap"]["data"], wanted.heatmap[0].ravel(), rtol=0, atol=1e-4)

    with page_of(browser, folder) as opened:
        shown = opened.page
        expect(shown.get_by_label("Lowest probability, in %")).to_have_value("25")
        shown.get_by_label("Lowest probability, in %").fill("70")
        shown.get_by_label("Choose a picture").set_input_files(photo)
        found = opened.last()
        agrees(found, 0)
        [wanted] = engine.explain(photo, "layer-cam").detections
        assert len(wanted) > 3
        assert found["about"]["detections"] == [
            {**one.as_json(LABELS[one.index]), "score": pytest.approx(one.score, abs=1e-5), "box": pytest.approx(one.box, abs=1e-2)}
            for one in wanted
        ]  # fmt: skip
        assert shown.locator(".panel-title").inner_text().startswith(f"layer-cam: box 0 ({LABELS[wanted[0].index]}), ")

        points = [_point_of(one.box, [o.box for o in wanted if o is not one]) for one in wanted]
        number, (x, y) = next((i, point) for i, point in enumerate(points) if i > 1 and point is not None)
        canvas = shown.locator("#canvas").bounding_box()
        assert canvas is not None
        scale = min(canvas["width"] / 131, canvas["height"] / 150)
        shown.mouse.move(canvas["x"] + x * scale, canvas["y"] + (canvas["height"] - 150 * scale) / 2 + y * scale)
        shown.mouse.down()  # it leaves the field of the probability, so that the picture is explained once more meanwhile
        found = opened.last(found["count"])
        agrees(found, 0)
        shown.mouse.up()
        found = opened.last(found["count"])
        agrees(found, number)
        before = opened.pixels()
        shown.get_by_label("Method", exact=True).select_option("relevance-cam")
        found = opened.last(found["count"])
        agrees(found, number, "relevance-cam")
        shown.get_by_label("Detection", exact=True).fill("box 1 (")
        shown.get_by_label("Detection", exact=True).press("Enter")
        found = opened.last(found["count"])
        agrees(found, 1, "relevance-cam")
        assert (opened.pixels() != before).any()
        shown.get_by_label("Compare with").select_option("another detection")
        shown.get_by_label("Other detection").fill("2")
        shown.get_by_label("Other detection").press("Enter")
        found = opened.last(found["count"] + 1)
        agrees({**found, **found["other"]}, 2, "relevance-cam")
        with shown.expect_download() as saving:
            shown.get_by_role("button", name="Save").click()
            shown.get_by_role("button", name="Raw map (JSON)").click()
        saving.value.save_as(tmp_path / "map.json")
        kept = json.loads((tmp_path / "map.json").read_bytes())
        assert kept["explained"] == found["about"]
        assert [one["target"] for one in kept["maps"]] == [1, 2, 1]

        shown.get_by_label("Lowest probability, in %").fill("99.9")
        shown.get_by_label("Lowest probability, in %").press("Enter")
        expect(shown.get_by_role("alert")).to_have_text(
            "The network finds nothing in this picture with a probability of 99.9 % or more. Lower it."
        )
        shown.get_by_label("Lowest probability, in %").fill("101")
        shown.get_by_label("Lowest probability, in %").press("Enter")
        expect(shown.get_by_role("alert")).to_have_text("The lowest probability is a number from 0 to 100.")


def _point_of(box: tuple[float, ...], others: list[tuple[float, ...]]) -> tuple[float, float] | None:
    """A point of the photo that lies in a box and in no smaller one; None if there is none."""
    left, top, right, bottom = box
    smaller = [o for o in others if (o[2] - o[0]) * (o[3] - o[1]) <= (right - left) * (bottom - top)]
    for x in np.linspace(max(left, 1), min(right, 130), 9)[1:-1]:
        for y in np.linspace(max(top, 1), min(bottom, 149), 9)[1:-1]:
            if not any(a <= x <= c and b <= y <= d for a, b, c, d in smaller):
                return float(x), float(y)
    return None
