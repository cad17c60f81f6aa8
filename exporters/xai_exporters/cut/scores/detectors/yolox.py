"""YOLOX without decoded boxes (its exporter's default): [N,rows,5+C], offsets in a grid of strides 8, 16 and 32, or 8 to 64.

Ge et al. 2021, arXiv:2107.08430; `YOLOXHead.decode_outputs`: centre = (offset + cell) * stride, size = exp(offset) * stride.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....graph.emit import Ops
from ....graph.layouts import sides
from .detector import Detector, Floats, Outputs, decoders, is_fraction
from .objectness import form_of_rows, has_objectness, may_hold_objectness, of_objectness
from .reading import entries

_STRIDES = ((8, 16, 32), (8, 16, 32, 64), (8, 16))


@decoders.register("yolox")
def yolox(given: Outputs) -> Detector | None:
    """See `Decoder`: as YOLOv5's, but some sizes are negative: they are logarithms."""
    image, whole = given.clean.graph.inputs[0], given.clean.image_shape
    height, width = (whole[side - 1] for side in sides(image, whole)[-2:])
    grids = [grid(height, width, strides) for strides in _STRIDES]
    for output in given.all:
        values = given.seen(output)
        fitting = [(cells, strides) for cells, strides in grids if len(values) and len(strides) == values.shape[1]]
        if not has_objectness(values) or (values[..., 2:4] >= 0).all() or not fitting:
            continue
        # boxes lie where their cells do: they are decoded. Offsets are none of YOLOv8's boxes, however the scores are put together
        form, named = (
            form_of_rows(given, output, is_fraction(values[..., :2])),
            given.names.count == given.shape(output)[1] - 4,
        )
        if form in ("corners", "centre") or named or (form is None and not may_hold_objectness(given, output)):
            continue
        cells, strides = fitting[0]

        def box(op: Ops, output: ir.Value = output, cells: Floats = cells, strides: Floats = strides) -> ir.Value:
            centre = op.Mul(op.Add(entries(op, output, 2, 0, 2), cells[None]), strides[None, None])
            size = op.Mul(op.Exp(entries(op, output, 2, 2, 4)), strides[None, None])
            both: ir.Value = op.Concat(centre, size, axis=1)
            return both

        return of_objectness(given, output, "yolox", box)
    return None


def grid(height: int, width: int, strides: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The cells of all levels, row by row: their column and row [2,rows], and their stride [rows], float32."""
    cells, sizes = [], []
    for stride in strides:
        y, x = np.meshgrid(np.arange(height // stride), np.arange(width // stride), indexing="ij")
        cells.append(np.stack([x.reshape(-1), y.reshape(-1)]))
        sizes.append(np.full(x.size, stride))
    return np.concatenate(cells, axis=1).astype(np.float32), np.concatenate(sizes).astype(np.float32)
