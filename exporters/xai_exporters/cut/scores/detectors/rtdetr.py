"""RT-DETR as Ultralytics exported it at first: [N,300,4+C], of each row cx, cy, w, h in fractions, then C sigmoids."""

from __future__ import annotations

from .detector import Detector, Outputs, decoders
from .yolov8 import box_and_sigmoid


@decoders.register("rtdetr")
def rtdetr(given: Outputs) -> Detector | None:
    """See `Decoder`: as YOLOv8's, in fractions. Each object has one row, so nothing is suppressed."""
    return box_and_sigmoid(given, "rtdetr")
