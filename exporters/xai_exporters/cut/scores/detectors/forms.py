"""Whether four coordinates are two corners, or a centre and an extent: seen on probe images. And which corner comes first."""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx_ir as ir

from ....graph.writing import TRANSLATED
from .detector import Floats

_TOP_FIRST = ("detection_boxes", "raw_detection_boxes")
"""The beginnings of the names that TensorFlow's Object Detection API gives to its corners: top, left, bottom, right."""
_TFLITE = "TFLite_Detection_PostProcess"
"""So is this name, but where our own reader of TFLite files gave the boxes (`sources.tflite.custom`): left, top, right, bottom."""


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


def top_first(name: str, model: ir.Model, fractions: bool) -> bool:
    """Whether corners are top, left, bottom, right, as TensorFlow's detectors give them, and not left, top, right, bottom.

    Nothing in the numbers tells. The name does, if TensorFlow's Object Detection API gave it; and that tf2onnx wrote the file, if
    they are fractions, which that API gives and Keras' networks do not.
    """
    if name.startswith(_TFLITE):
        return model.producer_name != TRANSLATED
    return name.startswith(_TOP_FIRST) or (fractions and model.producer_name == "tf2onnx")
