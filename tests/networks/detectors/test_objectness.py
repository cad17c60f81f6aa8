"""Rows of a box and numbers in [0,1]: whether the first of these is an objectness, or the probability of the first class."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import nn
from xai_exporters import Request
from xai_exporters.bundle.labels import named
from xai_exporters.cut.scores.detectors.detector import Names
from xai_exporters.cut.scores.rows import find_detector
from xai_exporters.errors import RequestError
from xai_exporters.passes.clean import CleanGraph, clean
from xai_exporters.sources import TrainedNetwork

from ...exporters.running import both_ways
from . import nets
from .test_forms import SIDES, as_corners, check_best, check_first, exported

Order = Literal["last", "each", "logits"]


class RowsFirst(nets.YoloV8):
    """YOLOv8 as TensorRT and RKNN take it, [N,rows,4+C].

    Args:
        order: What is transposed: all at last, box and scores each, or the scores before their Sigmoid.
    """

    def __init__(self, order: Order = "last") -> None:
        super().__init__()
        self.order = order

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See `Heads`."""
        scores, offsets = self.raw(x)
        boxes = nets.centred(offsets)
        if self.order == "last":
            return torch.cat([boxes, scores.sigmoid()], 1).transpose(1, 2)
        shares = scores.sigmoid().transpose(1, 2) if self.order == "each" else scores.transpose(1, 2).sigmoid()
        return torch.cat([boxes.transpose(1, 2), shares], 2)


class OwnLayer(nets.WithObjectness):
    """Objectness from a layer of its own, as YOLOX's; one Sigmoid of all, transposed at last."""

    scores = nets.CLASSES

    def __init__(self) -> None:
        super().__init__()
        self.sure = nn.ModuleList(nn.Conv2d(k, 1, 1) for k in (12, 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See `Heads`."""
        levels = zip(self.body(x), self.sure, self.score, self.box, strict=True)
        rows = torch.cat([torch.cat([c(m), a(m), b(m)], 1).flatten(2) for m, a, b, c in levels], 2)
        return torch.cat([nets.centred(rows[:, :4]), rows[:, 4:].sigmoid()], 1).transpose(1, 2)


def graph_of(network: nn.Module) -> CleanGraph:
    """The clean graph of a detector."""
    torch.manual_seed(5)
    return clean(both_ways(network.eval(), False, (3, *nets.SIZE)), None)


def test_rows_first(tmp_path: Path) -> None:
    """It was read as YOLOv5's, with class 0 as the objectness of the others: detections are those of the live network."""
    torch.manual_seed(3)
    network = RowsFirst()
    done, x = exported(network, tmp_path)
    rows = done.manifest.scores.rows
    assert rows is not None
    assert (rows.decoder, rows.classes, rows.objectness) == ("yolov8", nets.CLASSES, False)
    assert any("If the first of these is an objectness, name --decoder yolov5" in note for note in done.notes)
    check_best(done, network, x)


@pytest.mark.parametrize("order", ["each", "logits"])
def test_nothing_tells(order: Order) -> None:
    """Put together as rows it may be either; the names tell, or the user."""
    torch.manual_seed(3)
    graph = graph_of(RowsFirst(order))
    with pytest.raises(RequestError, match="may be read in 2 ways: yolov5, yolov8; choose one with --decoder"):
        find_detector(graph, "auto")
    for names, decoder in ((3, "yolov8"), (2, "yolov5")):
        found = find_detector(graph, "auto", Names(names))
        assert found is not None
        assert (found.rows.decoder, found.rows.classes, found.note) == (decoder, names, None)


@pytest.mark.parametrize("order", ["last", "each", "logits"])
def test_asked(order: Order) -> None:
    """The user's word counts, whatever the graph seems to be."""
    torch.manual_seed(3)
    graph = graph_of(RowsFirst(order))
    for decoder, classes in (("yolov8", 3), ("yolov5", 2)):
        found = find_detector(graph, decoder)
        assert found is not None
        assert (found.rows.decoder, found.rows.classes) == (decoder, classes)


@pytest.mark.parametrize("network", [OwnLayer, nets.YoloV5])
def test_an_objectness_of_its_own(network: type[nn.Module]) -> None:
    """Its layer, or its Sigmoid, gives one number."""
    torch.manual_seed(3)
    found = find_detector(graph_of(network()), "auto")
    assert found is not None
    assert (found.rows.decoder, found.rows.classes, found.rows.objectness) == ("yolov5", nets.CLASSES, True)


class Offsets(nets.YoloX):
    """YOLOX's rows with one Sigmoid of objectness and classes, from one layer."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See `Heads`."""
        scores, boxes = self.raw(x)
        return torch.cat([boxes, scores.sigmoid()], 1).transpose(1, 2)


def test_offsets_are_yoloxs() -> None:
    """YOLOv8 gives boxes, so rows of offsets hold an objectness, unless there are as many names as numbers after them."""
    torch.manual_seed(3)
    graph = graph_of(Offsets())
    found = find_detector(graph, "auto")
    assert found is not None
    assert (found.rows.decoder, found.rows.classes) == ("yolox", nets.CLASSES)
    assert find_detector(graph, "auto", Names(nets.CLASSES + 1)) is None


class EntriesFirst(nets.YoloV5):
    """[N,5+C,rows], the objectness with a Sigmoid of its own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See `Heads`."""
        scores, offsets = self.raw(x)
        return torch.cat([nets.centred(offsets), scores[:, :1].sigmoid(), scores[:, 1:].sigmoid()], 1)


def test_an_objectness_is_no_single_class() -> None:
    """It was read as YOLOv8's one class, and the probabilities as mask coefficients."""
    torch.manual_seed(3)
    assert find_detector(graph_of(EntriesFirst()), "auto") is None


class Beside(nets.YoloV5):
    """[N,rows,E] with other numbers beside a box, an objectness and classes: coefficients of masks or points after the classes
    (YOLOv5's segmentation, YOLOv7's poses), or points before them (YOLOv5-face).

    Args:
        others: The numbers, and whether they lie before the classes.
        levels: The rows are put together level by level, as those of these detectors.
    """

    def __init__(self, others: int, before: bool, levels: bool) -> None:
        super().__init__()
        self.before, self.levels = before, levels
        self.other = nn.ModuleList(nn.Conv2d(k, others, 1) for k in (12, 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See `Heads`."""
        scores, offsets = self.raw(x)
        other = torch.cat([net(m).flatten(2) for net, m in zip(self.other, self.body(x), strict=True)], 2) * 20
        sure, classes = scores[:, :1].sigmoid(), scores[:, 1:].sigmoid()
        parts = [nets.centred(offsets), sure, *((other, classes) if self.before else (classes, other))]
        if not self.levels:
            return torch.cat(parts, 1).transpose(1, 2)
        fine = scores.shape[2] - 24
        rows = [torch.cat([part[:, :, own] for part in parts], 1) for own in (slice(fine), slice(fine, None))]
        return torch.cat([one.transpose(1, 2).reshape(one.shape[0], -1, one.shape[1]) for one in rows], 1)


@pytest.mark.parametrize("levels", [False, True])
@pytest.mark.parametrize(("others", "before"), [(32, False), (10, True), (51, False)])
def test_other_numbers_beside_an_objectness(others: int, before: bool, levels: bool, tmp_path: Path) -> None:
    """The objectness was read as YOLOv8's one class, or the rows were refused."""
    torch.manual_seed(3)
    network = Beside(others, before, levels)
    done, x = exported(network, tmp_path)
    rows = done.manifest.scores.rows
    assert rows is not None
    assert (rows.decoder, rows.classes, rows.objectness) == ("yolov5", nets.CLASSES, True)
    assert any(f"of 3 classes; {others} other numbers of each row" in note for note in done.notes)
    with torch.no_grad():
        want = network.rows(x)
    check_first(done, x, want[:, : nets.CLASSES], as_corners(want[:, nets.CLASSES :]))


class Fractions(nets.YoloV5):
    """YOLOv5 as its TFLite files give it: fractions of the image's sides.

    Args:
        corners: As some exports do.
    """

    def __init__(self, corners: bool) -> None:
        super().__init__()
        self.corners = corners

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See `Heads`."""
        rows = super().forward(x)
        boxes = rows[..., :4].transpose(1, 2)
        boxes = (as_corners(boxes) if self.corners else boxes) / SIDES
        return torch.cat([boxes.transpose(1, 2), rows[..., 4:]], 2)


@pytest.mark.parametrize("corners", [False, True])
def test_fractions(corners: bool, tmp_path: Path) -> None:
    """They were refused."""
    torch.manual_seed(3)
    network = Fractions(corners)
    done, x = exported(network, tmp_path)
    rows = done.manifest.scores.rows
    assert rows is not None
    assert (rows.decoder, rows.classes, rows.unit) == ("yolov5", nets.CLASSES, "fractions")
    with torch.no_grad():
        want = network.rows(x)
    check_first(done, x, want[:, : nets.CLASSES], as_corners(want[:, nets.CLASSES :]))


def test_names_tell_an_objectness_beside_other_numbers() -> None:
    torch.manual_seed(3)
    graph = graph_of(Beside(32, False, True))
    assert find_detector(graph, "auto", Names(nets.CLASSES)) is not None
    assert find_detector(graph, "auto", Names(nets.CLASSES + 1)) is None


def test_lines_of_labels_are_names(tmp_path: Path) -> None:
    """They name "no object", too, so they do not tell a DETR's forms apart."""
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    request = Request(tmp_path / "net.onnx", labels=tmp_path / "labels.txt")
    assert named(request, TrainedNetwork.__new__(TrainedNetwork)) == Names(3, all=True)
