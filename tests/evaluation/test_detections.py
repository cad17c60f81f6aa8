"""Detectors in an evaluation: D-RISE's score of masked images, energy in the box, and ground truth by class and box."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from xai_exporters import Request, export

from tests.project.desk import detector
from xai_deploy import DetectionLimits, Explainer, read_image
from xai_deploy.cli import evaluate as command
from xai_deploy.errors import NotApplicableError, OptionError, TargetError
from xai_deploy.evaluation import evaluate
from xai_deploy.preprocess import prepare

EVERY = DetectionLimits(score=0.0, overlap=1.0, most=64)
"""All rows: the best match is then a formula without a suppression."""
SIZE, PHOTO = 64, (64, 48)  # a letterbox of 8 columns on each side


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector of two classes, its bundle, and three photos."""
    folder = tmp_path_factory.mktemp("desk")
    onnx.save(detector(), folder / "net.onnx")
    export(Request(folder / "net.onnx", output_path=folder / "net.xai", roles=("gradient",)))
    (folder / "photos").mkdir()
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (*PHOTO, 3))
        cv2.imwrite(str(folder / "photos" / f"{i}.png"), pixels)
    return folder


def rows_of(desk: Path, x: NDArray[Any]) -> NDArray[Any]:
    """[n,6,64] of the source file."""
    result: NDArray[Any] = onnxruntime.InferenceSession(desk / "net.onnx").run(None, {"images": x})[0]
    return result


def inputs(desk: Path) -> NDArray[Any]:
    """The photos as the network gets them."""
    explainer = Explainer(desk / "net.xai")
    photos = [read_image(desk / "photos" / f"{i}.png") for i in range(3)]
    return np.stack([prepare(photo, explainer.bundle.manifest.input) for photo in photos])


def share(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Intersection over union of two boxes cx, cy, w, h."""
    low = np.maximum(one[:2] - one[2:] / 2, other[:2] - other[2:] / 2)
    high = np.minimum(one[:2] + one[2:] / 2, other[:2] + other[2:] / 2)
    inside = float(np.prod(np.maximum(high - low, 0)))
    return inside / float(np.prod(one[2:]) + np.prod(other[2:]) - inside)


def drise(explained: NDArray[Any], masked: NDArray[Any]) -> float:
    """max_j IoU(t, j) cos(p_t, p_j) over all rows j of a masked image [6,64] (Petsiuk et al. 2021, equations 2 to 4)."""
    p = explained[4:]
    return max(
        share(explained[:4], row[:4]) * float(p @ row[4:]) / float(np.linalg.norm(p) * np.linalg.norm(row[4:]))
        for row in masked.T
    )


def best_rows(rows: NDArray[Any]) -> list[int]:
    """The row of the highest probability in each image."""
    return [int(one[4:].max(axis=0).argmax()) for one in rows]


def test_deletion_by_the_formula(desk: Path, tmp_path: Path) -> None:
    """The curve in four steps, from 1 (the image itself) to the empty image, is D-RISE's score of the masked images."""
    results = evaluate(
        desk / "net.xai",
        desk / "photos",
        out=tmp_path / "out",
        methods=["grad-cam"],
        metrics=[("deletion", {"steps": 4}), "detection"],
        detections=EVERY,
    )
    x = inputs(desk)
    rows = rows_of(desk, x)
    e = Explainer(desk / "net.xai", detections=EVERY).explain(
        [str(desk / "photos" / f"{i}.png") for i in range(3)], "grad-cam"
    )
    for i, (line, row) in enumerate(zip(results.records, best_rows(rows), strict=True)):
        assert e.rows[i] == (row,)
        order = np.argsort(-e.heatmap[i].ravel(), kind="stable")
        curve = []
        for step in range(5):
            kept = np.ones(SIZE * SIZE, np.float32)
            kept[order[: step * SIZE * SIZE // 4]] = 0
            curve.append(drise(rows[i][:, row], rows_of(desk, x[i : i + 1] * kept.reshape(SIZE, SIZE))[0]))
        np.testing.assert_allclose(curve[0], 1, atol=1e-5)
        np.testing.assert_allclose(line["deletion"], np.trapezoid(curve, dx=0.25), atol=1e-4)
        cx, cy, w, h = rows[i][:4, row]
        at = np.arange(SIZE) + 0.5
        inside = (np.abs(at - cy) < h / 2)[:, None] & (np.abs(at - cx) < w / 2)
        np.testing.assert_allclose(line["detection-uniform"], inside.mean(), atol=1e-6)
        np.testing.assert_allclose(line["detection-energy"], e.heatmap[i][inside].sum() / e.heatmap[i].sum(), atol=1e-5)
        assert line["target"] == line["predicted"] == int(rows[i][4:, row].argmax())


def coco(desk: Path, boxes: Callable[[int, NDArray[Any], int], list[tuple[int, NDArray[Any]]]]) -> Path:
    """Annotations; `boxes` gives (class, box cx, cy, w, h in the network's input) of each image."""
    rows = rows_of(desk, inputs(desk))
    notes = []
    for i, row in enumerate(best_rows(rows)):
        for index, (cx, cy, w, h) in boxes(i, rows[i][:4, row], int(rows[i][4:, row].argmax())):
            left = cx - w / 2 - 8  # the letterbox
            notes.append({"image_id": i, "category_id": index, "bbox": [float(v) for v in (left, cy - h / 2, w, h)]})
    images = [{"id": i, "file_name": f"{i}.png", "height": PHOTO[0], "width": PHOTO[1]} for i in range(3)]
    names = [{"id": 0, "name": "car"}, {"id": 1, "name": "person"}]
    path = desk / "truth.json"
    path.write_text(json.dumps({"images": images, "annotations": notes, "categories": names}))
    return path


def test_truth_by_class_and_box(desk: Path, tmp_path: Path) -> None:
    """The box of the class that overlaps most counts; one of another class, or one that overlaps too little, does not."""

    def boxes(i: int, found: NDArray[Any], index: int) -> list[tuple[int, NDArray[Any]]]:
        near = np.array([0.5, 0, -1, -1])
        # inside the photo: the truth lies in it
        cx, cy, w, h = found + near
        low, high = (
            np.array([max(cx - w / 2, 8), max(cy - h / 2, 0)]),
            np.array([min(cx + w / 2, 56), min(cy + h / 2, 64)]),
        )
        right = np.concatenate([(low + high) / 2, high - low])
        small = np.concatenate([(low + high) / 2, (high - low) / 4])
        return [[(index, right), (index, small), (1 - index, right)], [(1 - index, right)], [(index, small)]][i]

    truth = coco(desk, boxes)
    results = evaluate(
        desk / "net.xai",
        desk / "photos",
        out=tmp_path / "out",
        methods=["grad-cam"],
        metrics=["energy-pointing"],
        boxes=truth,
        boxes_of="class",
        detections=EVERY,
    )
    first, *others = results.records
    assert [line["energy-pointing"] for line in others] == [None, None]
    x, y, w, h = json.loads(truth.read_text())["annotations"][0]["bbox"]
    at = np.arange(SIZE) + 0.5
    inside = ((y <= at) & (at < y + h))[:, None] & ((x + 8 <= at) & (at < x + 8 + w))
    heat = Explainer(desk / "net.xai", detections=EVERY).explain(str(desk / "photos" / "0.png"), "grad-cam").heatmap[0]
    np.testing.assert_allclose(first["energy-pointing"], heat[inside].sum() / heat.sum(), atol=1e-5)


def test_command(desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A class as target; photos in which nothing of the class is found are skipped and listed."""
    options = ["-m", "grad-cam", "--metrics", "detection", "--detect-score", "0", "-o", str(tmp_path / "out")]
    assert command.main([str(desk / "net.xai"), str(desk / "photos"), "-t", "box 0", *options]) == 0
    assert "explained: box 0; p is D-RISE's score" in capsys.readouterr().out
    assert command.main([str(desk / "net.xai"), str(desk / "photos"), "-t", "box 99", *options, "--overwrite"]) == 2
    assert "box 99: this image has" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("target", "metric", "error", "said"),
    [
        (
            "box 0:left",
            "deletion",
            TargetError,
            "target 'box 0:left': a metric takes one detection and the score of its class",
        ),
        ("box 0 vs box 1", "deletion", TargetError, "a metric takes one detection"),
        ("not box 0", "deletion", TargetError, "a metric takes one detection"),
        (
            None,
            "class-sensitivity",
            NotApplicableError,
            "class-sensitivity: a detection has one class; leave this metric out",
        ),
        (None, "region", OptionError, "region: needs scores at each position"),
    ],
)
def test_refused(
    target: str | None, metric: str, error: type[Exception], said: str, desk: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        evaluate(
            desk / "net.xai", desk / "photos", out=tmp_path / "o", methods=["grad-cam"], metrics=[metric], target=target
        )
