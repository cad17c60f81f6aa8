"""A map lies where the network looks: what moves in the image moves as far in the map, whatever the sizes.

The layer's cells are 4 x 4 pixels each and see nothing else, so a bright spot has one right place.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from xai_exporters import Request, export

from xai_deploy import Explainer, Region

from ...exporters.running import both_ways
from .nets import fused

CELL, EVERYWHERE = 4, "all"


class Cells(nn.Module):
    """Mean brightness of cells, as scores at each pixel or as one number."""

    def __init__(self, dense: bool) -> None:
        super().__init__()
        self.layer, self.dense = nn.Conv2d(3, 2, CELL, CELL), dense
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor([1.0, 2.0])[:, None, None, None] / (3 * CELL**2))
            torch.nn.init.zeros_(self.layer.bias) if self.layer.bias is not None else None

    def forward(self, x: Tensor) -> Tensor:
        cells = torch.relu(self.layer(x))
        if not self.dense:
            return cells.mean((2, 3))
        return functional.interpolate(cells, size=tuple(x.shape[2:]), mode="nearest")


def spot(size: tuple[int, int], row: int, column: int) -> NDArray[np.uint8]:
    """A black photo with one bright cell."""
    photo = np.zeros((*size, 3), np.uint8)
    photo[CELL * row : CELL * (row + 1), CELL * column : CELL * (column + 1)] = 255
    return photo


def centre(heatmap: NDArray[Any]) -> NDArray[np.float64]:
    """Where a map's weight lies, (y, x) in pixels from the upper left corner."""
    places = np.indices(heatmap.shape) + 0.5
    return np.asarray((places * heatmap).sum(axis=(1, 2)) / heatmap.sum())


def exported(size: tuple[int, int], dense: bool, folder: Path) -> Path:
    onnx.save(both_ways(Cells(dense).eval(), False, (3, *size)), folder / "net.onnx")
    more: dict[str, Any] = {} if dense else {"task": "numbers"}
    fields = {"resize": "stretch"}
    request = Request(
        folder / "net.onnx", output_path=folder / "net.xai", preprocess="unit", preprocess_fields=fields, fuse=("hires-cam",),
        map_size="input", split="auto", **more, roles=("gradient",))  # fmt: skip
    return export(request).path


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("size", [(40, 64), (43, 66)])
def test_a_spot(size: tuple[int, int], dense: bool, tmp_path: Path) -> None:
    """Cells that fill the input lie exactly where they are; a rest of the input beyond the last cell stretches them over it."""
    path, (rows, columns) = exported(size, dense, tmp_path), (side // CELL for side in size)
    rest = max(side - CELL * count for side, count in zip(size, (rows, columns), strict=True))
    for backend in ("onnxruntime", "openvino"):
        explainer = Explainer(path, backend)
        for row, column in ((1, 1), (5, 9), (rows - 2, columns - 2)):
            photo = spot(size, row, column)
            target: Any = Region(0, EVERYWHERE) if dense else "#0"
            heat = explainer.explain(photo, "hires-cam", target).heatmap[0]
            feeds = {explainer.bundle.manifest.input.name: photo.transpose(2, 0, 1)[None].astype(np.float32) / 255}
            feeds |= {"target": np.array([0])} | ({"where": np.ones((1, *size), np.float32)} if dense else {})
            there = np.array([row, column]) * CELL + CELL / 2
            for one in (heat, fused(path / "fused-hires-cam.onnx", feeds, backend)[0]):
                assert one.shape == size
                shift = centre(one) - there
                if rest == 0:
                    np.testing.assert_allclose(shift, 0, atol=0.02)
                else:  # by as much of the rest as lies before the spot
                    share = there / (np.array([rows, columns]) * CELL)
                    np.testing.assert_allclose(shift, share * (np.array(size) % CELL), atol=0.1)


def test_a_photo_between_grey_borders(tmp_path: Path) -> None:
    """A letterbox moves the photo in the input, and the picture of the map moves it back."""
    folder, size = tmp_path, (40, 64)
    onnx.save(both_ways(Cells(True).eval(), False, (3, *size)), folder / "net.onnx")
    request = Request(
        folder / "net.onnx",
        output_path=folder / "net.xai",
        preprocess="unit",
        preprocess_fields={"resize": "letterbox"},
        roles=("gradient",),
    )
    explainer = Explainer(export(request).path)
    photo = np.zeros((80, 80, 3), np.uint8)
    photo[16:24, 48:56] = (
        255  # one cell of the input, which shows the photo at half its size and 12 pixels further right
    )
    box = Region(0, (40, 8, 24, 24))
    heat = explainer.explain(photo, "hires-cam", box).heatmap[0]
    np.testing.assert_allclose(centre(heat), [10, 12 + 26], atol=0.02)
