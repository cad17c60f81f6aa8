"""D-RISE's score of masked inputs, against the paper's formula in loops; and detections against loops."""

from __future__ import annotations

import math
import time
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from xai_deploy.detections import DetectionLimits, detect, overlaps
from xai_deploy.faithful import how_wrong
from xai_deploy.format.bundle import Input
from xai_deploy.format.image_input import Preprocess
from xai_deploy.format.manifest import Explained
from xai_deploy.format.rows import Rows
from xai_deploy.matching import matched

CLASSES, ROWS = 3, 40
SPEC = Input("x", "NCHW", 3, 60, 80, "float32", Preprocess())


def manifest(background: int | None = None, objectness: bool = False) -> Any:
    rows = Rows("yolov8", CLASSES, "centre", "pixels", background, objectness=objectness)
    scores = Explained("logits", "rows", (rows.entries, ROWS), rows=rows)
    return SimpleNamespace(scores=scores, activation="sigmoid", input=SPEC)


def draw(count: int, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 2, (count, CLASSES, ROWS))
    boxes = np.concatenate([rng.uniform(10, 50, (count, 2, ROWS)), rng.uniform(5, 30, (count, 2, ROWS))], 1)
    return np.concatenate([scores, boxes], 1).astype(np.float32)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def corners(row: Any) -> tuple[float, float, float, float]:
    cx, cy, w, h = map(float, row[CLASSES : CLASSES + 4])
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2


def with_objectness(rows: Any, seed: int) -> Any:
    """Rows [n,CLASSES+5,ROWS] that end with an objectness."""
    return np.concatenate([rows, np.random.default_rng(seed).random((len(rows), 1, ROWS))], 1, dtype=np.float32)


def iou(a: Any, b: Any) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    inside = width * height
    return float(inside / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside))


def found(rows: Any, limits: DetectionLimits) -> list[tuple[int, int, float]]:
    """Greedy suppression within each class, in loops: (row, class, score), the best first."""
    every = []
    for r in range(ROWS):
        shares = [sigmoid(v) for v in rows[:CLASSES, r]]
        index = max(range(CLASSES), key=shares.__getitem__)
        if shares[index] >= limits.score:
            every.append((r, index, shares[index]))
    every.sort(key=lambda one: -one[2])
    kept: list[tuple[int, int, float]] = []
    for one in every:
        if all(
            one[1] != other[1] or iou(corners(rows[:, one[0]]), corners(rows[:, other[0]])) <= limits.overlap
            for other in kept
        ):
            kept.append(one)
    return kept[: limits.most]


@pytest.mark.parametrize("limits", [DetectionLimits(), DetectionLimits(0.6, 0.2), DetectionLimits(0.0, 0.5, 7)])
def test_detections(limits: DetectionLimits) -> None:
    rows = draw(3, 0)
    got = detect(rows, manifest(), [None] * 3, limits)
    for i in range(3):
        wanted = found(rows[i], limits)
        assert [(one.row, one.index) for one in got[i]] == [(r, c) for r, c, _ in wanted]
        np.testing.assert_allclose([one.score for one in got[i]], [s for _, _, s in wanted], rtol=1e-5)
        np.testing.assert_allclose(
            [one.box for one in got[i]], [corners(rows[i, :, r]) for r, _, _ in wanted], rtol=1e-5
        )


@pytest.mark.parametrize("objectness", [False, True])
def test_the_score_of_a_masked_input(objectness: bool) -> None:
    """Section 3.2: the largest IoU times cosine of the probabilities times objectness over the detections of the masked input."""
    limits = DetectionLimits(0.7, 0.5)
    explained, masked, image = draw(2, 1), draw(5, 2), np.array([0, 1, 1, 0, 1])
    if objectness:
        explained, masked = with_objectness(explained, 3), with_objectness(masked, 4)
    picked = np.array([[3, 8], [5, 11]])
    where = np.zeros((5, 2, ROWS), np.float32)
    for b in range(5):
        for r in range(2):
            where[b, r, picked[image[b], r]] = 1
    got = matched(explained, masked, image, where, manifest(objectness=objectness), limits)
    assert got.shape == (5, 2, CLASSES + 4 + objectness)
    for b in range(5):
        for r in range(2):
            own = explained[image[b], :, picked[image[b], r]]
            p = np.array([sigmoid(v) for v in own[:CLASSES]])
            best = 0.0
            for row, _, _ in found(masked[b], limits):
                q = np.array([sigmoid(v) for v in masked[b, :CLASSES, row]])
                cosine = float(p @ q / np.linalg.norm(p) / np.linalg.norm(q))
                o = float(masked[b, -1, row]) if objectness else 1.0
                best = max(best, iou(corners(own), corners(masked[b, :, row])) * cosine * o)
            np.testing.assert_allclose(got[b, r, :CLASSES], best, rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(got[b, r, CLASSES:], masked[b, CLASSES:, picked[image[b], r]])


def test_the_background_is_never_found() -> None:
    rows = draw(1, 3)
    rows[:, 1] = 9
    got = detect(rows, manifest(background=1), [None], DetectionLimits(0.0, 1.0))[0]
    assert got
    assert {one.index for one in got} == {0, 2}


def test_scores_are_not_held_to_the_size_of_coordinates() -> None:
    """A score that is off by a hundredth is wrong, whatever the size of the photo; a row's own class is no number to compare."""
    own = manifest()
    own.logits_step, own.format, own.extensions = 0.0, 2, {}
    own.target = SimpleNamespace(dtype="float32")
    want = draw(2, 4).transpose(0, 2, 1)[:, :3] * np.array([1.0] * CLASSES + [40.0] * 4, np.float32)
    assert how_wrong(want, want, own) is None
    off = want.copy()
    off[1, 2, 0] += 0.05
    assert "its scores differ from those of head and tail by 0.05 " in str(how_wrong(off, want, own))
    assert "its scores differ" in str(how_wrong(off.reshape(2, -1), want.reshape(2, -1), own))
    moved = want.copy()
    moved[0, 0, CLASSES] += 9
    assert "its coordinates differ" in str(how_wrong(moved, want, own))


def test_objectness_is_held_to_its_own_size() -> None:
    own = manifest(objectness=True)
    own.logits_step, own.format, own.extensions = 0.0, 2, {}
    own.target = SimpleNamespace(dtype="float32")
    want = with_objectness(draw(1, 4), 5).transpose(0, 2, 1)[0]
    assert how_wrong(want, want, own) is None
    off = want.copy()
    off[3, -1] += 0.05
    assert "its objectness values differ from those of head and tail by 0.05 " in str(how_wrong(off, want, own))


def test_a_row_ends_with_one_thing() -> None:
    both = Rows("yolov5", 1, "centre", "pixels", labelled=True, objectness=True)
    assert both.fault(7, ROWS) == "a row ends with its class or with its objectness, not with both"
    assert Rows("yolov5", CLASSES, "centre", "pixels", objectness=True).fault(CLASSES + 5, ROWS) is None
    assert "do not make" in str(Rows("yolov5", CLASSES, "centre", "pixels", objectness=True).fault(CLASSES + 4, ROWS))


def test_many_boxes_that_lie_apart() -> None:
    """60,000 boxes of one class took OpenCV over a minute, since it compares each with all that it keeps: now a block at a time."""
    rng, count = np.random.default_rng(0), 60_000
    place = 10.0 * np.stack(np.unravel_index(np.arange(count), (250, 240)))
    scores = rng.permutation(np.linspace(-2, 2, count))[None]
    rows = np.concatenate([scores, place, np.full((2, count), 8.0)])[None].astype(np.float32)
    own = manifest()
    own.scores = Explained("logits", "rows", (5, count), rows=Rows("yolov8", 1, "centre", "pixels"))
    start = time.process_time()
    for most in (300, 2500):  # within the first block, and within the third
        got = detect(rows, own, [None], DetectionLimits(0.0, 0.5, most))[0]
        assert [one.row for one in got] == np.argsort(-rows[0, 0], kind="stable")[:most].tolist()
    assert time.process_time() - start < 5


def test_blocks_see_what_earlier_ones_kept() -> None:
    """3000 boxes on 40 places, several blocks: of each place the best one stays."""
    rng, count = np.random.default_rng(1), 3000
    at = rng.integers(0, 40, count)
    rows = np.concatenate([rng.normal(0, 2, (1, count)), [20.0 * at, 0 * at], np.full((2, count), 8.0)])[None]
    own = manifest()
    own.scores = Explained("logits", "rows", (5, count), rows=Rows("yolov8", 1, "centre", "pixels"))
    got = detect(rows.astype(np.float32), own, [None], DetectionLimits(0.0, 0.5))[0]
    best = [max(np.flatnonzero(at == place), key=lambda row: rows[0, 0, row]) for place in range(40)]
    assert sorted(one.row for one in got) == sorted(best)


def test_boxes_beyond_float32_s_areas() -> None:
    huge = np.array([[0, 0, 1e30, 1e30], [0, 0, 5e29, 1e30], [0, 0, 9, 9]], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(overlaps(huge[0], huge), [1, 0.5, 0], rtol=1e-6, atol=1e-30)
