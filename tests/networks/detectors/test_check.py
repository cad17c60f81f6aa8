"""xai-check of detectors: each figure against loops, SciPy and what the networks themselves give."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from scipy.stats import spearmanr  # type: ignore[import-untyped]
from xai_exporters import Request, export

from xai_deploy import Box, DetectionLimits, Explainer, read_image
from xai_deploy.agreement.boxes import Boxes, average_precisions, mean_overlap, paired
from xai_deploy.agreement.compare import Limits, compare, explain, judge
from xai_deploy.cli.check import main
from xai_deploy.detections import Detection

from ...exporters.running import both_ways
from . import nets
from .conftest import Made

Get = Callable[[str], Made]
COUNT = 3
SCORE = 0.64  # from which a row of these random networks counts


def one(index: int, score: float, *box: float) -> Detection:
    return Detection(0, index, score, box)  # type: ignore[arg-type]


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inside = max(width, 0) * max(height, 0)
    return inside / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside)


def precision_in_loops(images: Sequence[Boxes], index: int) -> float:
    """COCO's AP50-95, each point by itself: the largest precision of all lengths of the list that reach a recall."""
    total = 0.0
    for step in range(10):
        threshold, listed, wanted = 0.5 + 0.05 * step, [], 0
        for image in images:
            truth = [t for t in image.reference if t.index == index]
            wanted += len(truth)
            for found in image.deployed:
                if found.index != index:
                    continue
                best = max(truth, key=lambda t: iou(found.box, t.box), default=None)
                hit = best is not None and iou(found.box, best.box) >= threshold
                if hit and best is not None:
                    truth.remove(best)
                listed.append((found.score, hit))
        listed.sort(key=lambda pair: -pair[0])
        points = [(sum(h for _, h in listed[:k]), k) for k in range(1, len(listed) + 1)]
        for recall in np.linspace(0, 1, 101):
            total += max((right / k for right, k in points if right / wanted >= recall), default=0.0)
    return total / 1010


def test_average_precision_by_hand() -> None:
    """Two objects; found: one of them, nothing, the other: precisions 1, 1/2, 2/3."""
    a, b = one(1, 0.9, 0, 0, 10, 10), one(1, 0.8, 20, 0, 30, 10)
    wrong, later = one(1, 0.7, 50, 50, 60, 60), one(1, 0.6, 20, 0, 30, 10)
    assert average_precisions([Boxes((a, b), (a, wrong, later), (0, 0))]) == {1: pytest.approx((51 + 50 * 2 / 3) / 101)}
    assert average_precisions([Boxes((a, b), (a, b), (0, 0))]) == {1: 1.0}
    assert average_precisions([Boxes((a, one(2, 0.5, 0, 0, 9, 9)), (), (0, -1))]) == {1: 0.0, 2: 0.0}
    assert average_precisions([Boxes((), (a,), (-1, -1))]) == {}  # no such object: not counted
    near = one(1, 0.5, 0, 0, 10, 7.2)  # an overlap of 0.72 passes 0.5, 0.55, 0.6, 0.65, 0.7
    assert average_precisions([Boxes((a,), (near,), (0, 0))]) == {1: pytest.approx(0.5)}


def test_average_precision_in_loops() -> None:
    rng, images = np.random.default_rng(0), []
    for _ in range(12):
        corner, size = rng.uniform(0, 60, (6, 2)), rng.uniform(8, 20, (6, 2))
        truth = [one(int(rng.integers(2)), 0.9, *c, *(c + s)) for c, s in zip(corner, size, strict=True)]
        moved = [one(t.index, float(rng.random()), *(np.array(t.box) + rng.normal(0, 1.2, 4))) for t in truth[:-1]]
        moved += [one(int(rng.integers(2)), float(rng.random()), *c, *(c + 9)) for c in rng.uniform(0, 60, (3, 2))]
        images.append(Boxes(tuple(truth), tuple(sorted(moved, key=lambda d: -d.score)), (0, 0)))
    got = average_precisions(images)
    assert got == {c: pytest.approx(precision_in_loops(images, c), abs=1e-6) for c in (0, 1)}
    assert 0.1 < got[0] < 0.9


def test_pairs() -> None:
    """The largest overlap first; each box once; only boxes of one class, from one half on."""
    a, b, other = one(0, 0.9, 0, 0, 10, 10), one(0, 0.8, 0, 2, 10, 12), one(1, 0.7, 40, 0, 50, 10)
    x, y, z = one(0, 0.9, 0, 1.5, 10, 11.5), one(0, 0.5, 0, -2, 10, 8), one(0, 0.4, 40, 0, 50, 10)
    got = paired([a, b, other], [x, y, z])
    assert {i: j for i, (j, _) in got.items()} == {1: 0, 0: 1}
    assert [share for _, share in got.values()] == pytest.approx([9.5 / 10.5, 8 / 12])
    assert paired([a], [one(0, 0.9, 0, 5.1, 10, 15.1)]) == {}
    want = (9.5 / 10.5 + 8 / 12) / 4  # a, b, the other class and z, which has no counterpart
    assert mean_overlap(Boxes((a, b, other), (x, y, z), (0, 0))) == pytest.approx(want)
    assert mean_overlap(Boxes((), (), (-1, -1))) == 1
    assert mean_overlap(Boxes((), (x,), (-1, -1))) == 0


@pytest.fixture(scope="module")
def here(made: Get, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`near.xai`, whose weights differ a little from those of `made("yolov8")`; three photos of other sizes; a small classifier."""
    folder = tmp_path_factory.mktemp("check")
    torch.manual_seed(3)
    network = nets.YoloV8().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5).add_(0.003 * torch.randn_like(parameter))
    onnx.save(both_ways(network, False, (3, *nets.SIZE)), folder / "near.onnx")
    export(Request(folder / "near.onnx", output_path=folder / "near.xai", preprocess="none", roles=("gradient",)))
    (folder / "photos").mkdir()
    rng = np.random.default_rng(1)
    for i in range(COUNT):
        noise = cv2.GaussianBlur(rng.random((90 + 20 * i, 150, 3)), (0, 0), 4)
        cv2.imwrite(str(folder / f"photos/{i}.png"), (40 * (noise - noise.min()) / np.ptp(noise)).astype(np.uint8))
    return folder


def figures(*arguments: str, status: tuple[int, ...] = (0, 1)) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The figures by name, and the report; a page is written, too."""
    given = ["-q", "--json", "r.json", "--report", "r.html", "--detect-score", str(SCORE), *arguments]
    assert main(given) in status
    report = json.loads(Path("r.json").read_text())
    return {figure["name"]: figure for figure in report["figures"]}, report


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_the_figures(made: Get, here: Path, monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    monkeypatch.chdir(here)
    net = str(made("yolov8").bundle)
    got, report = figures(net, "near.xai", "photos", "-m", "layer-cam", "--reference-backend", backend, "-b", backend)
    explainers = [Explainer(path, backend, detections=DetectionLimits(SCORE)) for path in (net, "near.xai")]
    images, correlations, differences = [], [], []
    for i in range(COUNT):
        photo = read_image(f"photos/{i}.png")
        first = explainers[0].explain(photo, "layer-cam")
        best, second = first.detections[0][0], explainers[1].explain(photo, "layer-cam").detections[0]
        images.append(Boxes(first.detections[0], second, (0, 0)))
        mate = max((d for d in second if d.index == best.index), key=lambda d: iou(d.box, best.box))
        assert iou(mate.box, best.box) > 0.5
        left, top, right, bottom = mate.box
        same = Box(best.index, near=(left, top, right - left, bottom - top))
        other = explainers[1].explain(photo, "layer-cam", same)
        correlations.append(spearmanr(first.heatmap.ravel(), other.heatmap.ravel()).statistic)
        differences.append(abs(best.score - mate.score))
    assert got["layer-cam: rank correlation"]["value"] == pytest.approx(np.mean(correlations), abs=1e-4)
    assert 0.2 < np.mean(correlations) < 0.9999
    assert got["probability difference"]["value"] == pytest.approx(np.mean(differences), abs=1e-5)
    classes = {d.index for image in images for d in image.reference}
    want = np.mean([precision_in_loops(images, c) for c in classes])
    assert got["average precision"]["value"] == pytest.approx(want, abs=1e-4)
    assert 0.05 < want < 1
    assert got["box found"]["value"] == 1
    assert got["prediction IoU"]["value"] == pytest.approx(np.mean([mean_overlap(image) for image in images]), abs=1e-4)
    assert [len(entry["boxes"]["reference"]) for entry in report["images"]] == [
        len(image.reference) for image in images
    ]
    page = Path("r.html").read_text()
    assert "Both networks explain the same box" in page
    assert "AP50-95" in page


def test_a_network_agrees_with_itself(made: Get, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(here)
    net = str(made("yolov8").bundle)
    assert main(["--detect-score", str(SCORE), net, net, "photos", "-t", "box 1"]) == 0
    printed = capsys.readouterr().out
    assert ["average", "precision", "1.000", "0.750"] in [line.split() for line in printed.splitlines()]
    assert "layer-cam: rank correlation" in printed  # the default
    assert "reciprocam" not in printed
    assert "average precision by class: class" in printed
    assert "the networks agree" in printed


def test_in_python(made: Get, here: Path) -> None:
    """The calls of examples/int8_against_float32.py; a box that the other network does not find agrees in nothing."""
    explainers = [
        Explainer(path, detections=DetectionLimits(SCORE, most=most))
        for path, most in ((made("yolov8").bundle, 40), (here / "near.xai", 40), (here / "near.xai", 1))
    ]
    photos = [read_image(here / f"photos/{i}.png") for i in range(COUNT)]
    methods: dict[str, tuple[str, dict[str, object]]] = {"layer-cam": ("layer-cam", {})}
    last = Box(number=2)
    reference = explain(explainers[0], photos, methods, last)
    assert reference.boxes is not None
    figures = []
    for explainer in explainers[1:]:
        deployed = explain(explainer, photos, methods, reference.wanted)
        pairs = compare(["a", "b", "c"], reference, deployed)
        figures.append({figure.name: figure.value for figure in judge(pairs, Limits())})
    assert figures[0]["box found"] > 0
    assert figures[0]["layer-cam: rank correlation"] > 0
    assert figures[1]["box found"] == figures[1]["layer-cam: rank correlation"] == 0
    whole = np.mean([found[2].score for found in reference.boxes.detections])
    assert figures[1]["probability difference"] == pytest.approx(whole)


def test_a_recording_gives_the_same_figures(
    made: Get, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(here)
    net = str(made("yolov8").bundle)
    direct, _ = figures(net, "near.xai", "photos", "-m", "layer-cam")
    limits = ["--detect-score", str(SCORE)]
    assert main(["--record", "r.npz", "--overwrite", net, "photos", "-m", "layer-cam", *limits]) == 0
    recorded, _ = figures("r.npz", "near.xai", "photos", "-m", "layer-cam")
    assert recorded == direct
    capsys.readouterr()
    assert main(["r.npz", "near.xai", "photos"]) == 2
    wanted = f"the recording was made with --detect-score {SCORE:g} --detect-overlap 0.7; give the same here"
    assert wanted in capsys.readouterr().err
    arrays = dict(np.load("r.npz"))
    boxes, chosen = arrays["boxes"], arrays["chosen"]
    for change in ({"chosen": chosen + 99}, {"boxes": boxes * np.nan}, {"boxes": boxes[:, :7]}, {"boxes": -boxes}):
        np.savez("bad.npz", **{**arrays, **change})
        assert main(["bad.npz", "near.xai", "photos", *limits]) == 2
        assert "bad.npz: its parts do not fit together; record again" in capsys.readouterr().err


def test_what_is_refused(made: Get, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(here)
    net = str(made("yolov8").bundle)

    def refused(*arguments: str) -> str:
        assert main([net, *arguments, "photos"]) == 2
        return str(capsys.readouterr().err.strip().splitlines()[-1])

    assert "takes one detection and the score of its class" in refused("near.xai", "-t", "box 0:left")
    assert "takes one detection and the score of its class" in refused("near.xai", "-t", "not box 0")
    assert "takes one detection and the score of its class" in refused("near.xai", "-t", "box 0 vs box 1")
    assert refused("near.xai", "--detect-score", "1").endswith(
        "the reference finds no such detection in any of 3 images; lower the score from which a row counts (--detect-score), "
        "or explain another one (-t)"
    )
    assert "the reference has 3 classes, the deployed network 4; they can't be compared" in refused(
        str(made("detr").bundle), "--detect-score", "0"
    )
