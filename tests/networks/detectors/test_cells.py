"""Whether four numbers of a row are a box, and of which form: boxes lie where their cells do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from xai_exporters import Export
from xai_exporters.cut.scores.detectors.forms import form_of_cells
from xai_exporters.cut.scores.rows import find_detector
from xai_exporters.errors import GraphError, RequestError

from xai_deploy.format.rows import Grid

from . import nets
from .test_forms import as_corners, check_first, exported
from .test_objectness import graph_of


class Net(nets.Heads):
    """A detector whose rows are stated as what it finds: scores in [0,1] and boxes as left, top, right, bottom in pixels."""

    def seen(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[N,C,rows] and [N,4,rows]."""
        raise NotImplementedError


class Clipped(Net):
    """Corners, clipped to the image, from distances that are not bounded, as YOLO26's are: some are out of order."""

    def seen(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Net`."""
        scores, offsets = self.raw(x)
        cells, strides = nets.grid()
        away, middle = (3 * offsets + 1.2) * strides, (cells + 0.5) * strides
        corners = torch.cat([middle - away[:, :2], middle + away[:, 2:]], 1)
        sides = torch.tensor([nets.SIZE[1], nets.SIZE[0]] * 2)[:, None]
        return scores.sigmoid(), torch.minimum(corners.clamp(min=0), sides)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """See `Heads`."""
        scores, boxes = self.seen(x)
        return boxes.transpose(1, 2), scores.transpose(1, 2)


class Objects(nets.YoloV5, Net):
    """[N,rows,5+C] with corners, clipped or not."""

    def __init__(self, clipped: bool) -> None:
        super().__init__()
        self.clipped = clipped

    def corners(self, x: torch.Tensor) -> torch.Tensor:
        """[N,4,rows]."""
        corners = as_corners(nets.centred(self.raw(x)[1]))
        return corners.clamp(0, 64) if self.clipped else corners

    def seen(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Net`: objectness times probability."""
        shares = self.raw(x)[0].sigmoid()
        return shares[:, 1:] * shares[:, :1], self.corners(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See `Heads`."""
        scores = self.raw(x)[0]
        shares = scores[:, :1].sigmoid(), scores[:, 1:].sigmoid()
        return torch.cat([self.corners(x), *shares], 1).transpose(1, 2)


class Distances(nets.Heads):
    """Distances from the cell to the four sides, never negative: in pixels, or in units of the strides."""

    def __init__(self, pixels: bool, relu: bool) -> None:
        super().__init__()
        self.pixels, self.relu = pixels, relu

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """See `Heads`."""
        scores, offsets = self.raw(x)
        away = offsets.relu() if self.relu else offsets.exp()
        away = away * nets.grid()[1] if self.pixels else away
        return scores.transpose(1, 2).sigmoid(), away.transpose(1, 2)


def check(done: Export, network: Net, x: torch.Tensor) -> None:
    """The first detection is the live network's best row."""
    with torch.no_grad():
        check_first(done, x, *network.seen(x))


@pytest.mark.parametrize(
    ("made", "decoder"),
    [(Clipped, "boxes-scores"), (lambda: Objects(True), "yolov5"), (lambda: Objects(False), "yolov5")],
    ids=["clipped", "objectness, clipped", "objectness"],
)
def test_corners_read_as_such(made: Callable[[], Net], decoder: str, tmp_path: Path) -> None:
    """They were read as a centre and an extent, for none is negative."""
    torch.manual_seed(3)
    network = made()
    done, x = exported(network, tmp_path)
    rows = done.manifest.scores.rows
    assert rows is not None
    assert (rows.decoder, rows.form, rows.unit) == (decoder, "corners", "pixels")
    check(done, network, x)


@pytest.mark.parametrize("pixels", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_distances_are_no_boxes(pixels: bool, relu: bool, tmp_path: Path) -> None:
    """They were read as a centre and an extent."""
    torch.manual_seed(3)
    with pytest.raises(RequestError, match="choose one with --output"):
        exported(Distances(pixels, relu), tmp_path)
    with pytest.raises(GraphError, match=r"--decoder boxes-scores: the four numbers of a row of .* do not lie where"):
        find_detector(graph_of(Distances(pixels, relu)), "boxes-scores")


@pytest.mark.parametrize("form", ["corners", "centre", "neither", None])
def test_forms_of_cells(form: str | None) -> None:
    """Boxes drawn around their cells, of two levels and three anchors; distances to objects as wide as the image; one cell."""
    rng = np.random.default_rng(0)
    grids = (Grid(8, 12, 3, 1), Grid(4, 6, 1, 3)) if form is not None else (Grid(1, 1, 1, 3),)
    kept = []
    for grid in grids:
        o, y, x, i = (axis.reshape(-1) for axis in np.indices(grid.shape))
        cx, cy = (x + 0.5) * 96 / grid.width, (y + 0.5) * 64 / grid.height
        half = 4 + 3 * o + 2 * i + rng.random((5, grid.count))
        sides = {
            "corners": (cx - half, cy - half, cx + half, cy + half),
            "centre": (cx + 0 * half, cy + 0 * half, 2 * half, 2 * half),
            "neither": (cx + half, cy + half, 96 - cx + half, 64 - cy + half),
        }[form or "centre"]
        kept.append(np.stack(np.broadcast_arrays(*sides), axis=-1))
    boxes = np.concatenate(kept, axis=1)
    assert form_of_cells(boxes, grids, (64, 96)) == form
    assert form_of_cells(boxes / np.array([96, 64, 96, 64]), grids, (1, 1)) == form


def test_rows_without_cells_are_told(tmp_path: Path) -> None:
    """Nothing tells of queries that four numbers are a centre and an extent: the export says how it reads them."""
    torch.manual_seed(3)
    done, _ = exported(Queries(), tmp_path)
    assert any("are read as centre x, centre y, width, height, in fractions" in note for note in done.notes)


class Queries(nn.Module):
    """A DETR's queries with sigmoids in the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nets.Detr(nets.CLASSES)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Scores and boxes."""
        scores, boxes = self.body(x)
        return scores.sigmoid(), boxes
