"""Whether four coordinates are two corners, or a centre and an extent: seen on probe images. And which corner comes first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import onnx_ir as ir

from xai_deploy.format.rows import Grid

from ....graph.writing import TRANSLATED
from .detector import Floats

_TOP_FIRST = ("detection_boxes", "raw_detection_boxes")
"""The beginnings of names that TensorFlow's Object Detection API gives to its corners: top, left, bottom, right."""
_KERAS_YOLO = "yolonms_layer"
"""That of the layer in which Keras' YOLOv3 (ONNX' model zoo) suppresses boxes: top first, in pixels."""
_TFLITE = "TFLite_Detection_PostProcess"
"""That of TFLite's suppression. Converters to ONNX keep its boxes, top first. Our own reader (`sources.tflite.custom`) decodes them
itself, left first."""
_FOLLOWS = 0.5
"""So far at least a box moves if its cell moves by 1, and at most the inverse. Clipped to the image, boxes move less."""
_TENSORFLOW = ("tf", "tflite")
"""Readers of OpenVINO's whose files come from TensorFlow."""


def form_of(boxes: Floats) -> Literal["corners", "centre"] | None:
    """The form of boxes [images,rows,4]; None if it is neither, as offsets that are not decoded are.

    Corners are in order in every row. An extent is never negative.
    """
    if not boxes.size:
        return None
    first, second = boxes[..., :2], boxes[..., 2:]
    slack = 1e-4 * max(float(np.median(np.abs(boxes))), 1e-6)
    if (second >= first - slack).all():
        return "corners"
    return "centre" if (second >= -slack).all() else None


def form_on_grid(boxes: Floats, middle: tuple[float, float]) -> Literal["corners", "centre"]:
    """The form of boxes [images,rows,4] whose rows cover the image evenly, as the cells of YOLO do.

    The middles of such boxes average to the image's middle, and first corners lie before it. On noise some corners of YOLO26 are
    out of order: its distances are not bounded.

    Args:
        boxes: The boxes.
        middle: (x, y) of the image's middle, in the boxes' unit.
    """
    first, second = boxes[..., :2].reshape(-1, 2), boxes[..., 2:].reshape(-1, 2)
    if (second >= first).all(axis=1).mean() < 0.9:
        return "centre"
    as_centre, as_corners = (np.abs(each.mean(axis=0) - middle).sum() for each in (first, (first + second) / 2))
    return "corners" if as_corners < as_centre else "centre"


def form_of_cells(
    boxes: Floats, grids: Sequence[Grid], size: tuple[float, float]
) -> Literal["corners", "centre", "neither"] | None:
    """The form of boxes [images,rows,4] whose rows are the cells of grids: whether they lie where their cells do.

    From cell to cell the first two numbers of both forms move as far as the cells do, and of corners the last two, too. Those of a
    centre's extent stay, and so do distances to the sides, and offsets that are not decoded. Distances to objects as wide as the
    image grow on one side as they shrink on the other.

    Args:
        boxes: The boxes.
        grids: The grids of the levels, in the rows' order.
        size: (height, width) of the image, in the boxes' unit.

    Returns:
        None if there is no grid, or none with several rows and columns: nothing tells.
    """
    usual = np.median(boxes, axis=0)
    apart, moved, first = np.zeros(4), np.zeros(4), 0
    for grid in grids:
        y, x = np.meshgrid(
            *(np.arange(n) * side / n for n, side in zip(grid.shape[1:3], size, strict=True)), indexing="ij"
        )
        cells = np.stack([x, y, x, y], axis=-1)[None, :, :, None]
        own = usual[first : first + grid.count].reshape(*grid.shape, 4)
        cells = cells - cells.mean(axis=(1, 2), keepdims=True)
        apart += grid.outer * grid.inner * (cells * cells).sum(axis=(0, 1, 2, 3))
        moved += (cells * (own - own.mean(axis=(1, 2), keepdims=True))).sum(axis=(0, 1, 2, 3))
        first += grid.count
    if not apart.all():
        return None
    slopes = moved / apart  # of least squares: 1 for what moves as the cells do
    second = slopes[2:].mean()
    if not all(_FOLLOWS <= slope <= 1 / _FOLLOWS for slope in slopes[:2]) or second < -_FOLLOWS:
        return "neither"
    return "corners" if second >= slopes[:2].mean() / 2 else "centre"


def top_first_of_cells(boxes: Floats, grids: Sequence[Grid], size: tuple[float, float]) -> bool | None:
    """Whether corners are top, left, bottom, right: their numbers move as their cells do, see `form_of_cells`.

    Returns:
        None if nothing tells.
    """
    fits = [form_of_cells(own, grids, size) == "corners" for own in (boxes, boxes[..., [1, 0, 3, 2]])]
    return fits[1] if fits[0] != fits[1] else None


def top_first(name: str, model: ir.Model, fractions: bool) -> bool:
    """Whether corners are top, left, bottom, right, as TensorFlow's detectors give them, and not left, top, right, bottom.

    Without cells (`top_first_of_cells`) nothing in the numbers tells. The name does, if TensorFlow's Object Detection API gave it;
    and that the file comes from TensorFlow, if they are fractions, which that API gives and Keras' networks do not.
    """
    if name.startswith(_TFLITE):
        return model.producer_name != TRANSLATED
    read = model.producer_name == TRANSLATED and model.producer_version in _TENSORFLOW
    of_tensorflow = read or model.producer_name == "tf2onnx"
    return name.startswith((*_TOP_FIRST, _KERAS_YOLO)) or (fractions and of_tensorflow)
