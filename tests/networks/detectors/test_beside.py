"""Outputs beside boxes and scores, of as many rows: an objectness, a second score, each row's class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from xai_exporters.cut.scores.detectors.detector import UNNAMED
from xai_exporters.cut.scores.rows import find_detector
from xai_exporters.errors import RequestError
from xai_exporters.passes.clean import clean

from xai_deploy import Explainer
from xai_deploy.format.rows import Grid

from ...exporters.running import both_ways
from . import nets
from .conftest import ALL
from .test_cells import Net, check
from .test_forms import BACKENDS, as_corners, exported

LEVELS = (Grid(8, 12), Grid(4, 6))


class Parts(nets.YoloV5, Net):
    """YOLOv5's rows in three outputs: boxes, objectness [N,rows,1], probabilities.

    Args:
        order: The outputs' order.
        apart: They are not cut out of the rows.
    """

    def __init__(self, order: tuple[int, ...] = (0, 1, 2), apart: bool = False) -> None:
        super().__init__()
        self.order, self.apart = order, apart

    def seen(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Net`."""
        shares, boxes = (value.sigmoid() if i == 0 else value for i, value in enumerate(self.raw(x)))
        return shares[:, 1:] * shares[:, :1], as_corners(nets.centred(boxes))

    def forward(self, x: torch.Tensor) -> Any:
        """See `Heads`."""
        scores, boxes = self.raw(x)
        rows = super().forward(x)
        parts = [rows[..., :4], rows[..., 4:5], rows[..., 5:]]
        if self.apart:
            own = [nets.centred(boxes), scores[:, :1].sigmoid(), scores[:, 1:].sigmoid()]
            parts = [part.transpose(1, 2) for part in own]
        return tuple(parts[i] for i in self.order)


class Best(nets.YoloV8, Net):
    """Boxes, the best probability of each row [N,rows,1], and its class or all probabilities."""

    def __init__(self, labels: bool, order: tuple[int, ...] = (0, 1, 2)) -> None:
        super().__init__()
        self.labels, self.order = labels, order

    def seen(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Net`."""
        scores, boxes = self.raw(x)
        return scores.sigmoid(), as_corners(nets.centred(boxes))

    def forward(self, x: torch.Tensor) -> Any:
        """See `Heads`."""
        scores, boxes = self.seen(x)
        best, index = scores.transpose(1, 2).max(2, keepdim=True)
        third = index.float() if self.labels else scores.transpose(1, 2)
        parts = boxes.transpose(1, 2), best, third
        return tuple(parts[i] for i in self.order)


class BestAlone(Best):
    """Without the class."""

    def forward(self, x: torch.Tensor) -> Any:
        """See `Heads`."""
        return super().forward(x)[:2]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (0, 2, 1)])
def test_objectness_times_probability(order: tuple[int, ...], tmp_path: Path) -> None:
    """One of the two was taken, by the order of the outputs."""
    torch.manual_seed(3)
    network = Parts(order)
    done, x = exported(network, tmp_path)
    rows = done.manifest.scores.rows
    assert rows is not None
    assert (rows.classes, rows.objectness, rows.background, rows.grids) == (nets.CLASSES, True, None, LEVELS)
    assert any("as YOLO's are" in note for note in done.notes)
    check(done, network, x)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (0, 2, 1)])
def test_a_second_score(order: tuple[int, ...]) -> None:
    """What makes one score of two is not known: FCOS takes a product, or its root."""
    torch.manual_seed(3)
    model = both_ways(Parts(order, apart=True).eval(), False, (3, *nets.SIZE))
    graph = clean(model, None)
    with pytest.raises(RequestError, match=r"may all be scores of the boxes .*--decoder boxes-scores --output NAME"):
        find_detector(graph, "auto")
    for place, classes in ((1, 1), (2, nets.CLASSES)):
        name = model.graph.output[order.index(place)].name
        found = find_detector(graph, "boxes-scores", UNNAMED, name)
        assert found is not None
        assert (found.outputs[0].name, found.rows.classes, found.rows.objectness) == (name, classes, False)


def test_a_name_tells() -> None:
    """An output named "obj" is the objectness."""
    torch.manual_seed(3)
    model = both_ways(Parts(apart=True).eval(), False, (3, *nets.SIZE))
    old = model.graph.output[1].name
    for node in model.graph.node:
        node.output[:] = ["obj" if name == old else name for name in node.output]
    model.graph.output[1].name = "obj"
    found = find_detector(clean(model, None), "auto")
    assert found is not None
    assert (found.rows.classes, found.rows.objectness) == (nets.CLASSES, True)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (0, 2, 1)])
def test_the_best_beside_all(order: tuple[int, ...], tmp_path: Path) -> None:
    """The best probability of each row adds nothing to all of them."""
    torch.manual_seed(3)
    network = Best(False, order)
    done, x = exported(network, tmp_path)
    assert done.manifest.scores.rows is not None
    assert (done.manifest.scores.rows.classes, done.manifest.scores.rows.objectness) == (nets.CLASSES, False)
    check(done, network, x)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_classes_in_numbers(order: tuple[int, ...], tmp_path: Path) -> None:
    """DeepStream's: the export ended in an error of NumPy's, and else each row would have been of class 0."""
    torch.manual_seed(3)
    network = Best(True, order)
    done, x = exported(network, tmp_path)
    assert done.manifest.scores.rows is not None
    assert done.manifest.scores.rows.labelled
    assert any("are read as the classes of the rows" in note for note in done.notes)
    check(done, network, x)


def test_the_best_alone(tmp_path: Path) -> None:
    """A score reduced over the classes lies in the cell of its row; the export ended in an error of NumPy's."""
    torch.manual_seed(3)
    network = BestAlone(False)
    done, x = exported(network, tmp_path)
    assert done.manifest.scores.rows is not None
    assert (done.manifest.scores.rows.classes, done.manifest.scores.rows.grids) == (1, LEVELS)
    with torch.no_grad():
        scores, boxes = network.seen(x)
    best, row = scores.amax(1).max(1)
    for backend in BACKENDS:
        found = Explainer(done.path, backend, detections=ALL).explain(x.numpy(), "reciprocam").detections
        for i in range(3):
            assert found[i][0].row == int(row[i])
            np.testing.assert_allclose(found[i][0].score, best[i], rtol=1e-4)
            np.testing.assert_allclose(found[i][0].box, boxes[i, :, int(row[i])], rtol=1e-4, atol=1e-3)
