"""xai-evaluate of networks whose output is no classes: the figures, written out in NumPy on what the networks themselves give."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from xai_deploy import Explainer, Like, Region, read_image, write_image
from xai_deploy.cli.evaluate import main

from .conftest import COUNT
from .nets import SIZE

Floats = NDArray[Any]
STEPS = 4


def inputs() -> Floats:
    return np.stack([read_image(f"photos/{i}.png") for i in range(COUNT)]).transpose(0, 3, 1, 2).astype(np.float32)


def run(name: str, x: Floats) -> Floats:
    session = onnxruntime.InferenceSession(f"{name}.onnx", providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x.astype(np.float32)})[0], np.float64)


def evaluated(out: Path, *arguments: str) -> list[dict[str, float]]:
    """The figures of each image and network, in the order of the table."""
    assert main(["-q", "-o", str(out / "scores"), "-m", "grad-cam", *arguments]) == 0
    with (out / "scores" / "images.csv").open() as file:
        return [
            {k: float(v) for k, v in row.items() if k not in ("image", "network", "method") and v}
            for row in csv.DictReader(file)
            if not row["error"]
        ]


def by_hand(x: Floats, heat: Floats, p: Any) -> dict[str, float]:
    """Deletion (RISE: zeros in the place of the highest pixels, in steps), drop and increase of one image; p takes [3,H,W]."""
    order, size = np.argsort(-heat.ravel(), kind="stable"), heat.size
    curve = []
    for step in range(STEPS + 1):
        gone = np.zeros(size, bool)
        gone[order[: round(step * size / STEPS)]] = True
        curve.append(p(np.where(gone.reshape(heat.shape), 0, x)))
    before, after = p(x), p(x * heat)
    return {
        "deletion": float(np.mean([(a + b) / 2 for a, b in itertools.pairwise(curve)])),
        "average-drop": 100 * min(max(before - after, 0) / before, 1) if before > 0 else float("nan"),
        "average-increase": 100.0 * (after > before),
    }


def agree(rows: list[dict[str, float]], want: list[dict[str, float]]) -> None:
    for row, figures in zip(rows, want, strict=True):
        for name, value in figures.items():
            if np.isnan(value):
                assert name not in row
            else:
                assert row[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name


METRICS = ["--metrics", f"average-drop,average-increase,deletion:steps={STEPS}"]


def test_a_box_of_a_segmenter(here: Path, tmp_path: Path) -> None:
    """The class's mean probability in the box, of the image and of everything made of it."""
    rows = evaluated(tmp_path, "dense.xai", "photos", "-t", "2@8,4,10,12", *METRICS, "--metrics", "region")
    maps = Explainer("dense.xai").explain(
        [f"photos/{i}.png" for i in range(COUNT)], "grad-cam", Region(2, (8, 4, 10, 12))
    )
    box = np.zeros(SIZE, bool)
    box[4:16, 8:18] = True
    want = [
        by_hand(x, heat, lambda one: run("dense", one[None])[0, 2][box].mean())
        for x, heat in zip(inputs(), maps.heatmap, strict=True)
    ]
    agree(rows, want)
    for row, heat in zip(rows, maps.heatmap.astype(np.float64), strict=True):
        assert row["region-energy"] == pytest.approx(heat[box].sum() / heat.sum(), rel=1e-5)
        hot = heat > heat.mean() + heat.std()
        assert row["region-iou"] == pytest.approx((hot & box).sum() / (hot | box).sum())
    page = (tmp_path / "scores" / "report.html").read_text()
    assert (
        "explained: 2@8,4,10,12; p is the class&#39;s mean probability in the region" in page or "2@8,4,10,12" in page
    )


def test_predicted_regions_and_masks_of_classes(here: Path, tmp_path: Path) -> None:
    """The mask's grey value names the class; the region explained is where the network predicts its most frequent class."""
    (tmp_path / "masks").mkdir()
    y, rng = run("dense", inputs()), np.random.default_rng(1)
    predicted = y.argmax(1)
    truths = np.where(rng.random(predicted.shape) < 0.8, predicted, rng.integers(0, 5, predicted.shape))
    for i, truth in enumerate(truths):
        cv2.imwrite(str(tmp_path / "masks" / f"{i}.png"), truth.astype(np.uint8))
    masks = ["--masks", str(tmp_path / "masks"), "--masks-of", "class"]
    rows = evaluated(tmp_path, "dense.xai", "photos", *masks, "--metrics", "region-truth,segmentation")
    maps = Explainer("dense.xai").explain([f"photos/{i}.png" for i in range(COUNT)], "grad-cam")
    for row, own, truth, heat in zip(rows, predicted, truths, maps.heatmap.astype(np.float64), strict=True):
        best = np.bincount(own.ravel()).argmax()
        assert row["target"] == best
        region, mask, hot = own == best, truth == best, heat > heat.mean() + heat.std()
        assert row["region-truth"] == pytest.approx((region & mask).sum() / (region | mask).sum())
        assert row["segmentation"] == pytest.approx((hot & mask).sum() / (hot | mask).sum())


def test_an_image_without_the_class_is_skipped(here: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    pictures = [read_image("photos/0.png"), *(np.full((*SIZE, 3), grey, np.uint8) for grey in (0, 128, 255))]
    for i, picture in enumerate(pictures):
        write_image(tmp_path / "plain" / f"{i}.png", picture)
    x = np.stack(pictures).transpose(0, 3, 1, 2)
    there = (run("dense", x).argmax(1)[:, None] == np.arange(5)[:, None, None]).any(axis=(2, 3))
    [some, *_] = [c for c in range(5) if 0 < there[:, c].sum() < len(pictures)]
    rows = evaluated(tmp_path, "dense.xai", str(tmp_path / "plain"), "-t", str(some), "--metrics", "complexity")
    assert len(rows) == there[:, some].sum()
    skipped = json.loads((tmp_path / "scores" / "results.json").read_text())["skipped"]
    assert len(skipped) == len(pictures) - len(rows)
    assert f"the network predicts class {some} at no position" in skipped[0]["reason"]


def test_two_segmenters(here: Path, tmp_path: Path) -> None:
    """The second one's maps for what the first one explains."""
    rows = evaluated(tmp_path, "dense.xai", "dense-near.xai", "photos", "--metrics", "complexity")
    one, other = (run(name, inputs()).argmax(1) for name in ("dense", "dense-near"))
    compared = [row["same-prediction"] for row in rows if "same-prediction" in row]
    assert compared == pytest.approx([100 * (a == b).mean() for a, b in zip(one, other, strict=True)])
    explainer, photos = Explainer("dense.xai"), [f"photos/{i}.png" for i in range(COUNT)]
    first = explainer.explain(photos, "grad-cam")
    regions = [Region(int(c), predicted == c) for c, predicted in zip(first.target, one, strict=True)]
    second = Explainer("dense-near.xai").explain(photos, "grad-cam", regions)
    tops = [
        np.argsort(-maps.heatmap.reshape(COUNT, -1), kind="stable")[:, : -(-SIZE[0] * SIZE[1] // 10)]
        for maps in (first, second)
    ]
    want = [len(np.intersect1d(a, b)) / len(a) for a, b in zip(*tops, strict=True)]
    assert [row["top10-overlap"] for row in rows if "top10-overlap" in row] == pytest.approx(want)


def test_a_number_and_a_similarity(here: Path, tmp_path: Path) -> None:
    reference = run("embedding", inputs())[1] + run("embedding", inputs())[0]
    np.save(tmp_path / "mean.npy", reference)
    unit = reference / np.linalg.norm(reference)
    cases: tuple[tuple[str, list[str], Any, Any], ...] = (
        ("numbers", ["-t", "not #3"], "not #3", lambda one: -run("numbers", one[None])[0, 3]),
        ("numbers", ["-t", "#3"], "#3", lambda one: run("numbers", one[None])[0, 3]),
        (
            "embedding",
            ["--like", str(tmp_path / "mean.npy")],
            Like(reference),
            lambda one: run("embedding", one[None])[0] @ unit,
        ),
    )
    for number, (name, arguments, target, p) in enumerate(cases):
        out = tmp_path / str(number)
        out.mkdir()
        rows = evaluated(out, f"{name}.xai", "photos", *arguments, *METRICS)
        maps = Explainer(f"{name}.xai").explain([f"photos/{i}.png" for i in range(COUNT)], "grad-cam", target)
        agree(rows, [by_hand(x, heat, p) for x, heat in zip(inputs(), maps.heatmap, strict=True)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("embedding.xai photos", "the network gives an embedding: say what is explained, --like FILE"),
        ("numbers.xai photos", "numbers that are no classes: say which one is explained, -t '#3'"),
        ("numbers.xai photos -t #1 --metrics class-sensitivity", "class-sensitivity: the network gives no classes"),
        ("numbers.xai photos -t #1 --metrics region", "region: needs scores at each position, as segmentation has"),
        ("numbers.xai photos -t #1 --boxes-of class", "the network gives no classes; leave them out"),
        ("numbers.xai photos -t #1 --like photos/0.png", "give -t or --like"),
        ("dense.xai numbers.xai photos", "dense gives scores at each position, numbers numbers that are no classes"),
        ("dense.xai photos -t 1@all@all", "1@all"),
        ("dense.xai photos -t not@all", "no label"),
        ("dense.xai photos -t 1@all --metrics nothing", "nothing"),
    ],
)
def test_refusals(here: Path, tmp_path: Path, arguments: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments.split(), "-m", "grad-cam", "-o", str(tmp_path / "scores")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("target", ["not 1@all", "1@all vs 2"])
def test_one_class_in_one_region(here: Path, tmp_path: Path, target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dense.xai", "photos", "-t", target, "-o", str(tmp_path / "scores")]) == 2
    assert "a metric takes one class in one region" in capsys.readouterr().err
