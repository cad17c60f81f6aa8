"""Forms of boxes that files give instead of the usual one of their kind: what is drawn is the network's own box."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from xai_exporters import Export, Request, export
from xai_exporters.cut.scores.listed import rows_before
from xai_exporters.errors import GraphError, RequestError
from xai_exporters.passes.clean import clean

from xai_deploy import Explainer

from ...exporters.running import HEAD_AND_TAIL, both_ways
from . import nets
from .conftest import ALL
from .suppressing import Writer

BACKENDS = ("onnxruntime", "openvino")
SIDES = torch.tensor([nets.SIZE[1], nets.SIZE[0]] * 2)[:, None]


def as_corners(boxes: torch.Tensor) -> torch.Tensor:
    """[N,4,rows]: cx, cy, w, h as left, top, right, bottom."""
    return torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)


class Yolo(nets.YoloV8):
    """[N,4+C,rows] with corners, as Ultralytics writes it before a suppression, or with fractions, as in its TFLite files."""

    def __init__(self, corners: bool, fractions: bool) -> None:
        super().__init__()
        self.corners, self.fractions = corners, fractions

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores, offsets = self.raw(x)
        boxes = nets.centred(offsets)
        boxes = as_corners(boxes) if self.corners else boxes
        return torch.cat([boxes / SIDES if self.fractions else boxes, scores.sigmoid()], 1)


class Again(nets.YoloV8):
    """[N,4+C,rows] whose boxes were cut out, made corners or fractions, and put before the scores again."""

    def __init__(self, corners: bool, fractions: bool) -> None:
        super().__init__()
        self.corners, self.fractions = corners, fractions

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        whole = super().forward(x)
        boxes = as_corners(whole[:, :4]) if self.corners else whole[:, :4]
        return torch.cat([boxes / SIDES if self.fractions else boxes, whole[:, 4:]], 1)


class Levels(nets.Heads):
    """Boxes (corners in pixels) and probabilities of each level as outputs of their own."""

    def forward(self, x: torch.Tensor) -> Any:
        scores, offsets = (value.transpose(1, 2) for value in self.raw(x))
        boxes = as_corners(nets.centred(offsets.transpose(1, 2))).transpose(1, 2)
        fine = boxes.shape[1] - 24
        return boxes[:, :fine], scores[:, :fine].sigmoid(), boxes[:, fine:], scores[:, fine:].sigmoid()


class YoloV4(nets.YoloV5):
    """Corners in fractions [N,rows,1,4], and objectness times probability [N,rows,C], as Tianxiaomo's pytorch-YOLOv4 gives them."""

    def forward(self, x: torch.Tensor) -> Any:
        """See `Heads`."""
        boxes = as_corners(nets.centred(self.raw(x)[1])) / SIDES
        return boxes.transpose(1, 2).unsqueeze(2), self.rows(x)[:, : nets.CLASSES].transpose(1, 2)


class OneLevelOffsets(Levels):
    """The coarse level's boxes are not decoded."""

    def forward(self, x: torch.Tensor) -> Any:
        """See `Heads`."""
        fine, own, _, others = super().forward(x)
        return fine, own, self.raw(x)[1].transpose(1, 2)[:, fine.shape[1] :], others


def exported(network: torch.nn.Module, folder: Path, **options: Any) -> tuple[Export, torch.Tensor]:
    """The export of a network with random weights, and three images."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    x = torch.rand(3, 3, *nets.SIZE, generator=torch.Generator().manual_seed(2))
    onnx.save(both_ways(network.eval(), False, (3, *nets.SIZE)), folder / "net.onnx")
    request = Request(
        folder / "net.onnx", output_path=folder / "net.xai", preprocess="none", roles=HEAD_AND_TAIL, **options
    )
    return export(request), x


def check_best(done: Export, network: nets.Heads, x: torch.Tensor) -> None:
    """The first detection is the row of the highest probability of all levels; its box and probability are the formula's."""
    with torch.no_grad():
        scores, offsets = network.raw(x)
        check_first(done, x, scores.sigmoid(), as_corners(nets.centred(offsets)))


def check_first(done: Export, x: torch.Tensor, scores: torch.Tensor, boxes: torch.Tensor) -> None:
    """The first detection is the row of the best score, with its box: scores [N,C,rows], boxes [N,4,rows] as corners in pixels."""
    best, index = scores.max(1)
    row = best.argmax(1)
    for backend in BACKENDS:
        found = Explainer(done.path, backend, detections=ALL).explain(x.numpy(), "reciprocam").detections
        for i in range(3):
            first, r = found[i][0], int(row[i])
            assert (first.row, first.index) == (r, int(index[i, r]))
            np.testing.assert_allclose(first.score, best[i, r], rtol=1e-4)
            np.testing.assert_allclose(first.box, boxes[i, :, r], rtol=1e-4, atol=1e-3)


def test_yolov4(tmp_path: Path) -> None:
    """Its boxes have an axis of one; they were none, and the export asked for --output."""
    torch.manual_seed(3)
    network = YoloV4()
    done, x = exported(network, tmp_path)
    with torch.no_grad():
        rows = network.rows(x)
    check_first(done, x, rows[:, : nets.CLASSES], as_corners(rows[:, nets.CLASSES :]))


def test_no_level_is_left_out(tmp_path: Path) -> None:
    """The detections of a level whose boxes have another form were lost without a word."""
    torch.manual_seed(3)
    with pytest.raises(RequestError, match=r"several outputs; choose one with --output: .*those of no detector"):
        exported(OneLevelOffsets(), tmp_path)
    with pytest.raises(
        GraphError, match=r"--decoder boxes-scores: the outputs .* seem to be a further level, in another form"
    ):
        exported(OneLevelOffsets(), tmp_path, decoder="boxes-scores")


@pytest.mark.parametrize("fractions", [False, True])
@pytest.mark.parametrize("corners", [False, True])
def test_yolo(tmp_path: Path, corners: bool, fractions: bool) -> None:
    """Corners were read as a centre and an extent, fractions as RT-DETR's, without suppression."""
    torch.manual_seed(3)
    network = Yolo(corners, fractions)
    done, x = exported(network, tmp_path)
    rows = done.manifest.scores.rows
    assert rows is not None
    assert (rows.decoder, rows.suppress) == ("yolov8", True)
    assert (rows.form, rows.unit) == ("corners" if corners else "centre", "fractions" if fractions else "pixels")
    check_best(done, network, x)


@pytest.mark.parametrize(("corners", "fractions"), [(True, False), (False, True), (True, True)])
def test_boxes_cut_out_and_put_back(tmp_path: Path, corners: bool, fractions: bool) -> None:
    """It was refused: the scores are a part of another tensor."""
    torch.manual_seed(3)
    network = Again(corners, fractions)
    done, x = exported(network, tmp_path)
    rows = done.manifest.scores.rows
    assert rows is not None
    assert (rows.decoder, rows.classes) == ("yolov8", nets.CLASSES)
    assert (rows.form, rows.unit) == ("corners" if corners else "centre", "fractions" if fractions else "pixels")
    check_best(done, network, x)


def test_levels(tmp_path: Path) -> None:
    """Only the first level was read: objects of the others were never found."""
    torch.manual_seed(3)
    network = Levels()
    done, x = exported(network, tmp_path)
    assert done.manifest.scores.shape == (nets.CLASSES + 4, 96 + 24)
    assert not any("tells the order" in note for note in done.notes)  # the cells do
    check_best(done, network, x)


class Softmaxed(nets.Detr):
    """DETR with its Softmax in the graph; the last class means "no object"."""

    def forward(self, x: torch.Tensor) -> Any:
        logits, boxes = super().forward(x)
        return logits.softmax(2), boxes


@pytest.mark.parametrize("scores", [4, 6])
def test_a_softmax_behind_a_detr(tmp_path: Path, scores: int) -> None:
    """It was read as an SSD, whose class 0 means "no object"; the numbers do not tell."""
    with pytest.raises(RequestError, match=r"may be read in 2 ways: boxes-scores, detr; choose one with --decoder"):
        exported(Softmaxed(scores), tmp_path)
    torch.manual_seed(3)
    network = Softmaxed(scores)
    done, x = exported(network, tmp_path, decoder="detr")
    rows = done.manifest.scores.rows
    assert rows is not None
    assert (rows.background, rows.suppress) == (scores - 1, False)
    with torch.no_grad():
        shares = network(x)[0]
    for backend in BACKENDS:
        found = Explainer(done.path, backend, detections=ALL).explain(x.numpy(), "reciprocam").detections
        for i in range(3):
            np.testing.assert_allclose(found[i][0].score, shares[i, :, :-1].max(), rtol=1e-4)


@pytest.mark.parametrize("anchors", [False, True])
def test_distances_are_no_boxes(made: Callable[[str], Any], anchors: bool) -> None:
    """What constants for each row turn into boxes before a suppression is not named as what it chooses from."""
    model = onnx.load(made("yolov8").source)
    to = Writer(model)
    node, number = to.node, to.number
    rows = node("Squeeze", node("Transpose", model.graph.output[0].name, perm=[0, 2, 1]), number([0]))
    boxes = node("Slice", rows, number([0]), number([4]), number([1]))
    if anchors:
        boxes = node("Add", boxes, number(np.ones((120, 4), np.float32)))
    best = node("ReduceMax", node("Slice", rows, number([4]), number([7]), number([1])), number([1]), keepdims=0)
    sure = node("Squeeze", node("NonZero", node("Greater", best, number(np.float32(0.1)))), number([0]))
    boxes, best = (node("Gather", value, sure) for value in (boxes, best))
    given = node("Unsqueeze", boxes, number([0])), node("Unsqueeze", best, number([0, 1]))
    chosen = node("NonMaxSuppression", *given, number([100]), number(np.array([0.5], np.float32)))
    del model.graph.output[:]
    to.output("chosen", chosen, ["n", 3], onnx.TensorProto.INT64)
    assert len(rows_before(clean(model, None))) == (0 if anchors else 1)
