"""D-RISE of a small detector, against what Microsoft's vision-explanation-methods and XAITK-saliency compute, written down here.

`scripts/check_drise` runs the packages themselves. Both get the masks of the method `rise` and the detections of the live network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from xai_deploy.methods.rise import Rise

from . import nets
from .conftest import ALL, Made

MASKS = 24
Floats = NDArray[Any]


def overlap(a: Floats, b: Floats, more: float) -> float:
    """Intersection over union of two boxes; XAITK counts the last pixel in (`more` = 1)."""
    width = max(min(a[2], b[2]) - max(a[0], b[0]) + more, 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]) + more, 0)
    areas = [(one[2] - one[0] + more) * (one[3] - one[1] + more) for one in (a, b)]
    return float(width * height / (sum(areas) - width * height))


def detections(own: Made, x: Floats, most: int = ALL.most) -> list[tuple[Floats, float, Floats]]:
    """Box, objectness and probabilities of each detection of an input [3,H,W], the best one first: the live network, greedy
    suppression."""
    with torch.no_grad():
        inputs = torch.from_numpy(x[None]).double()
        rows = own.network.rows(inputs)[0].numpy().T
        objectness = own.network.objectness(inputs)[0].numpy() if own.name != "yolov8" else np.ones(len(rows))
    scores, centre, half = rows[:, : nets.CLASSES], rows[:, -4:-2], rows[:, -2:] / 2
    shares = 1 / (1 + np.exp(-scores)) if own.name == "yolov8" else scores
    boxes = np.concatenate([centre - half, centre + half], 1)
    kept: list[int] = []
    for r in np.argsort(-shares.max(1)):
        alike = (k for k in kept if shares[k].argmax() == shares[r].argmax())
        if all(overlap(boxes[k], boxes[r], 0) <= ALL.overlap for k in alike):
            kept.append(int(r))
    return [(boxes[r], float(objectness[r]), shares[r]) for r in kept[:most]]


def cosine(a: Floats, b: Floats) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize(("name", "image"), [("yolov8", 0), ("yolov8", 1), ("yolov5", 0), ("yolox", 1)])
def test_the_peers_maps(name: str, image: int, made: Callable[[str], Made]) -> None:
    own = made(name)
    x = 20 * own.images[image]  # so that boxes depend on the masks
    rng = np.random.default_rng(Rise().seed)
    masks = np.stack([Rise()._mask(rng, *nets.SIZE) for _ in range(MASKS)]).astype(np.float64)
    box, _, shares = detections(own, x)[0]  # its own objectness is one factor of the whole map
    seen = [detections(own, x * np.float32(mask)) for mask in masks]

    def scores(more: float) -> Floats:
        return np.array([max(overlap(box, b, more) * cosine(shares, p) * o for b, o, p in one) for one in seen])

    edge, pixel = scores(0), scores(1)
    assert edge.std() > 0.01  # the masks do matter
    weighted = np.tensordot(edge, masks, 1)
    microsoft = weighted - edge.mean() * masks.sum(0)  # compute_affinity_matrix, saliency_fusion
    xaitk = np.tensordot(pixel, masks, 1) / masks.sum(0)  # DRISEScoring.generate, weight_regions_by_scalar
    for explainer in own.explainers:
        raw = np.float64(explainer.explain(x[None], "rise", "box 0", masks=MASKS).raw[0])
        np.testing.assert_allclose(raw, weighted / MASKS / 0.5, rtol=1e-5)
        without = raw * MASKS * 0.5 - edge.mean() * masks.sum(0)
        np.testing.assert_allclose(ranged(without), ranged(microsoft), atol=1e-3)
        ratio = raw * MASKS * 0.5 / masks.sum(0)
        if name != "yolox":  # boxes of 3 pixels, where those of the others have 10 to 60
            np.testing.assert_allclose(ratio / ratio.max(), xaitk / xaitk.max(), atol=1e-2)
        np.testing.assert_allclose(ratio, weighted / masks.sum(0), rtol=1e-3)


def ranged(one: Floats) -> Floats:
    return np.asarray((one - one.min()) / (one.max() - one.min()))


def test_the_tolerance(made: Callable[[str], Made]) -> None:
    """Masks are drawn until the stated error is small enough: fewer than asked for, and the map is that of so many masks."""
    own = made("yolov8")
    x = 20 * own.images[:1]
    options: dict[str, Any] = {"masks": 768, "estimate": "regression"}
    for explainer in own.explainers:
        e = explainer.explain(x, "rise", "box 0", tolerance=0.25, **options)
        [passes], [error] = e.diagnostics["passes"], e.diagnostics["relative_error"]
        assert passes % 64 == 0
        assert 256 < passes < 768
        assert error <= 0.25
        same = explainer.explain(x, "rise", "box 0", **{**options, "masks": int(passes)})
        np.testing.assert_allclose(e.raw, same.raw, rtol=1e-4)
        looked = int(passes / 1.25) // 64 * 64  # a quarter more masks at a time
        before = explainer.explain(x, "rise", "box 0", **{**options, "masks": looked})
        assert before.diagnostics["relative_error"][0] > 0.25
