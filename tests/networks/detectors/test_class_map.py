"""`class-map`: a class's probability in the cells of the levels, against the formula on the live network."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from xai_exporters import Request, export

from tests.exporters.running import both_ways
from xai_deploy import Explainer, write_image
from xai_deploy.cli import explain
from xai_deploy.errors import ManifestError, NotApplicableError
from xai_deploy.format.bundle import parse_manifest

from . import nets
from .conftest import ALL, Made

Get = Callable[[str], Made]
ANCHORS = 2


class Anchored(nn.Module):
    """SSD's head: for each cell two anchors; three levels, the last of one cell.

    Args:
        order: The axes of [N,A,C,h,w] as rows: each cell's anchors together (SSD, RetinaNet), or each anchor's cells (YOLOv5).
    """

    def __init__(self, order: tuple[int, ...]) -> None:
        super().__init__()
        self.body, self.order = nets.Pyramid(), order
        self.score = nn.ModuleList(nn.Conv2d(k, ANCHORS * nets.CLASSES, 1) for k in (12, 16, 16))
        self.box = nn.ModuleList(nn.Conv2d(k, ANCHORS * 4, 1) for k in (12, 16, 16))

    def maps(self, x: Tensor, heads: nn.ModuleList, entries: int) -> list[Tensor]:
        """[N,A,entries,h,w] of each level."""
        fine, coarse = self.body(x)
        levels = [fine, coarse, coarse.mean((2, 3), keepdim=True)]
        return [h(m).unflatten(1, (ANCHORS, entries)) for h, m in zip(heads, levels, strict=True)]

    def forward(self, x: Tensor) -> Any:
        """Probabilities [N,rows,C], and boxes [N,rows,4] as corners in fractions."""
        scores, boxes = (
            torch.cat([m.permute(self.order).flatten(1, 3) for m in self.maps(x, heads, size)], 1)
            for heads, size in ((self.score, nets.CLASSES), (self.box, 4))
        )
        centre, half = boxes[..., :2].sigmoid(), boxes[..., 2:].sigmoid() / 2
        return scores.softmax(2), torch.cat([centre - half, centre + half], 2)


def formula(levels: list[Tensor]) -> Tensor:
    """Probabilities [N,A,C,h,w] of levels -> their class maps [N,C,h,w] on the first level's cells."""
    size = levels[0].shape[3:]
    best = [F.interpolate(one.amax(1), size, mode="bilinear", align_corners=False) for one in levels]
    return torch.stack(best).amax(0)


def live(own: Made) -> Tensor:
    """The class maps of one of the detectors in `conftest`, from its branches' own maps."""
    with torch.no_grad():
        scores = [net(m)[:, None] for net, m in zip(own.network.score, own.network.body(own.x), strict=True)]
    if own.name in ("yolov5", "yolox"):
        return formula([one[:, :, 1:].sigmoid() * one[:, :, :1].sigmoid() for one in scores])
    return formula([one.softmax(2) if own.name == "boxes-scores" else one.sigmoid() for one in scores])


@pytest.mark.parametrize("name", ["yolov8", "segments", "yolov5", "yolox", "boxes-scores", "picodet"])
def test_formula(name: str, made: Get) -> None:
    own = made(name)
    wanted = live(own)
    for explainer in own.explainers:
        for rows in (slice(1), slice(3)):
            e = explainer.explain(own.images[rows], "class-map", "box 0")
            each = [wanted[i, found[0].index].numpy() for i, found in enumerate(e.detections)]
            np.testing.assert_allclose(e.raw, np.stack(each), atol=1e-5)
            e = explainer.explain(own.images[rows], "class-map", "box 1 vs box 0")
            assert e.signed == (True,) * len(each)
            pairs = [
                wanted[i, found[1].index] - wanted[i, found[0].index] for i, found in enumerate(e.detections)
            ]  # one class: zeros
            np.testing.assert_allclose(e.raw, torch.stack(pairs), atol=2e-5)
    against = own.explainers[0].explain(own.images, "class-map", "not box 0")
    np.testing.assert_array_equal(against.raw, -own.explainers[0].explain(own.images, "class-map", "box 0").raw)


@pytest.mark.parametrize(("order", "grid"), [((0, 3, 4, 1, 2), (1, 2)), ((0, 1, 3, 4, 2), (2, 1))], ids=["ssd", "yolo"])
def test_anchors(order: tuple[int, ...], grid: tuple[int, int], tmp_path: Path) -> None:
    """The best anchor of a cell, in both orders; a level of one cell speaks for the whole image."""
    torch.manual_seed(1)
    network, x = Anchored(order).eval(), torch.rand(3, 3, *nets.SIZE)
    onnx.save(both_ways(network, False, (3, *nets.SIZE)), tmp_path / "net.onnx")
    path = export(Request(tmp_path / "net.onnx", output_path=tmp_path / "net.xai", preprocess="none")).path
    with torch.no_grad():
        wanted = formula([one.softmax(2) for one in network.maps(x, network.score, nets.CLASSES)])
    for backend in ("onnxruntime", "openvino"):
        explainer = Explainer(path, backend, detections=ALL)
        rows = explainer.bundle.manifest.scores.rows
        assert rows is not None
        assert [(g.height, g.width, g.outer, g.inner) for g in rows.grids] == [
            (8, 12, *grid), (4, 6, *grid), (1, 1, 1, 2)
        ]  # fmt: skip
        e = explainer.explain(x.numpy(), "class-map", "1")
        np.testing.assert_allclose(e.raw, wanted[:, 1], atol=1e-5)


@pytest.mark.parametrize("name", ["end-to-end", "detr"])
def test_rows_that_are_no_cells(name: str, made: Get) -> None:
    [explainer, _] = made(name).explainers
    with pytest.raises(NotApplicableError, match=rf"class-map: the rows of this detector \({name}\) are no cells"):
        explainer.explain(made(name).images, "class-map", "box 0")
    assert "class-map" not in explainer.methods()
    assert "class-map" in made("yolov8").explainers[0].methods()


def test_a_side_has_no_map(made: Get) -> None:
    with pytest.raises(
        NotApplicableError, match="class-map: it shows where a class is seen; a side of a box has no such map"
    ):
        made("yolov8").explainers[0].explain(made("yolov8").images, "class-map", "box 0:left")


def test_a_set_leaves_it_out_for_a_side(made: Get, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(tmp_path / "a.png", np.random.default_rng(0).integers(0, 255, (50, 70, 3)).astype(np.uint8))
    files = [str(made("yolov8").bundle), str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--no-report"]
    assert explain.main([*files, "--detect-score", "0", "-m", "fast", "-t", "box 0:left"]) == 0
    assert "left out are class-map (a side of a box has no such map)" in capsys.readouterr().err
    [image] = json.loads((tmp_path / "out" / "results.json").read_text())["images"]
    drawn = {one["method"] for one in image["explanations"]}
    assert "layer-cam" in drawn
    assert "class-map" not in drawn


@pytest.mark.parametrize(
    ("grid", "said"),
    [({"height": 9}, "the cells of its grids are not its 120 rows"), ({"inner": 0}, "a grid without a cell")],
)
def test_a_manifest_that_contradicts_itself(grid: dict[str, int], said: str, made: Get) -> None:
    manifest = made("yolov8").explainers[0].bundle.manifest
    rows = manifest.scores.rows
    assert rows is not None
    wrong = replace(rows, grids=(replace(rows.grids[0], **grid), *rows.grids[1:]))
    explained = (replace(manifest.scores, rows=wrong),)
    with pytest.raises(ManifestError, match=f"explained: rows: {said}"):
        parse_manifest(replace(manifest, explained=explained).to_bytes())
