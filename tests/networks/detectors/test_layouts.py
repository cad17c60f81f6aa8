"""Every layout: which rows a detector's outputs hold, and maps and scores of one row against autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from xai_deploy import Box

from . import nets
from .conftest import MADE, Made

LAYERS = ("body.fine", "body.coarse")
SIGMOID = {"yolov8", "segments", "picodet", "detr-sigmoid"}


def shares_of(made: Made, rows: torch.Tensor) -> torch.Tensor:
    """Probabilities [N,classes,rows], the class that means "no object" left at 0."""
    count = rows.shape[1] - 4
    scores = rows[:, :count]
    if made.name in SIGMOID:
        return scores.sigmoid()
    if made.name in ("yolov5", "yolox"):
        return scores
    shares = scores.softmax(1)
    shares[:, 0 if made.name == "boxes-scores" else -1] = 0
    return shares


def corners_of(made: Made, boxes: torch.Tensor) -> torch.Tensor:
    """[N,4,rows] as left, top, right, bottom in pixels."""
    if made.name not in ("boxes-scores", "picodet"):
        boxes = torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)
    if made.name in ("boxes-scores", "detr", "detr-sigmoid"):
        boxes = boxes * torch.tensor([nets.SIZE[1], nets.SIZE[0]] * 2)[:, None]
    return boxes


@pytest.mark.parametrize("name", [name for name in MADE if name != "end-to-end"])
def test_the_best_row(name: str, made: Callable[[str], Made]) -> None:
    """The first detection is the row of the highest probability, with its box; its score is the logit."""
    own = made(name)
    with torch.no_grad():
        rows = own.network.rows(own.x)
    shares, boxes = shares_of(own, rows), corners_of(own, rows[:, -4:])
    best, index = shares.max(1)
    row = best.argmax(1)
    for explainer in own.explainers:
        assert explainer.network.kind == "rows"
        got = explainer.explain(own.images, "layer-cam" if len(explainer.bundle.manifest.levels) else "grad-cam")
        for i in range(3):
            first, r = got.detections[i][0], int(row[i])
            assert (first.row, first.index) == (r, int(index[i, r]))
            assert got.rows[i] == (r,)
            np.testing.assert_allclose(first.score, best[i, r], rtol=1e-4)
            np.testing.assert_allclose(first.box, boxes[i, :, r], rtol=1e-4, atol=1e-3)
            assert got.score is not None
            np.testing.assert_allclose(got.score[i], rows[i, int(index[i, r]), r], rtol=1e-3, atol=1e-4)


def gradients(own: Made, what: Callable[[torch.Tensor], torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """For each layer its activation and the gradient of a sum over images, [N,K,h,w]."""
    kept: list[torch.Tensor] = []
    hooks = [
        own.network.get_submodule(layer).register_forward_hook(lambda _m, _i, out: kept.append(out)) for layer in LAYERS
    ]
    try:
        with torch.enable_grad():
            score = what(own.x.requires_grad_()).sum()
            return list(zip(kept[:2], torch.autograd.grad(score, kept[:2], allow_unused=True), strict=True))
    finally:
        own.x.requires_grad_(False)
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("name", ["yolov8", "segments", "yolov5", "yolox", "boxes-scores", "picodet"])
@pytest.mark.parametrize("target", ["box 1", "box 0:left", "box 0:height", "box 0 vs box 1"])
def test_maps_of_a_row(name: str, target: str, made: Callable[[str], Made]) -> None:
    """HiResCAM at each level is g * A summed over the channels (ODAM's formula): autograd on the live network."""
    own = made(name)
    for explainer in own.explainers:
        assert [layer.shape[1:] for layer in explainer.bundle.manifest.layers] == [(8, 12), (4, 6)]
        for rows in (slice(1), slice(3)):
            got = explainer.explain(own.images[rows], "hires-cam", target)
            seen = explainer.explain(own.images[rows], "layer-cam", target)
            wanted = gradients(own, lambda x, got=got: _explained(own, x, got, target))  # type: ignore[misc]
            for level, (a, g) in enumerate(wanted):
                raw, layer = got.layers[level].raw, seen.layers[level].raw
                terms = (g * a).detach().numpy()[rows]
                hires, relu = terms.sum(1), np.maximum((g.relu() * a).detach().numpy()[rows].sum(1), 0)
                size = max(float(np.abs(terms).max()), 1e-6)  # a row of the fine level does not see the coarse one
                np.testing.assert_allclose(raw, np.maximum(hires, 0), atol=1e-4 * size)
                np.testing.assert_allclose(layer, relu, atol=1e-4 * size)
            assert any(one.raw.any() for one in got.layers)


def _explained(own: Made, x: torch.Tensor, got: Any, target: str) -> torch.Tensor:
    """The number explained, [n], of the rows that the product chose; images that it did not see give none."""
    rows: torch.Tensor = own.network.rows(x)
    count = len(got.rows)
    classes = rows.shape[1] - 4
    form = "corners" if own.name in ("boxes-scores", "picodet") else "centre"

    def one(i: int, row: int) -> torch.Tensor:
        if ":" not in target:
            found = next(d for d in got.detections[i] if d.row == row)
            return rows[i, found.index, row]
        box: torch.Tensor = rows[i, classes:, row]
        if target.endswith("left"):
            return box[0] if form == "corners" else box[0] - box[2] / 2
        return box[3] - box[1] if form == "corners" else box[3]

    signs = (1, -1)
    return torch.stack(
        [sum(sign * one(i, row) for sign, row in zip(signs, got.rows[i], strict=False)) for i in range(count)]  # type: ignore[misc]
    )


def test_rows_that_the_graph_chooses(made: Callable[[str], Made]) -> None:
    """End-to-end heads: score, box and class are those of the live network, and the gradient goes through TopK."""
    own = made("end-to-end")
    with torch.no_grad():
        best, boxes, index = own.network.chosen(own.x)
    for explainer in own.explainers:
        got = explainer.explain(own.images, "hires-cam", "box 2")
        for i in range(3):
            assert [one.index for one in got.detections[i]] == index[i].tolist()
            np.testing.assert_allclose([one.score for one in got.detections[i]], best[i], rtol=1e-4)
            np.testing.assert_allclose([one.box for one in got.detections[i]], boxes[i], rtol=1e-3, atol=1e-2)
            assert got.rows[i] == (2,)
        for level, (a, g) in enumerate(gradients(own, lambda x: own.network.chosen(x)[0][:, 2])):
            terms = (g * a).detach().numpy()
            np.testing.assert_allclose(
                got.layers[level].raw, np.maximum(terms.sum(1), 0), atol=1e-4 * np.abs(terms).max()
            )
        with pytest.raises(Exception, match=r"class 1#5: (none is among|this image has)"):
            explainer.explain(own.images, "hires-cam", Box(1, number=5))
