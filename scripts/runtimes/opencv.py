"""OpenCV's DNN module, of the `headless` wheel."""

from __future__ import annotations

from collections.abc import Sequence

from .adapter import Run, Tensors

TITLE = "OpenCV DNN"
REQUIREMENTS = ("opencv-python-headless==5.0.0.93",)


def version() -> str:
    """See `adapter.Adapter`."""
    import cv2

    return str(cv2.__version__)


def load(path: str, outputs: Sequence[str]) -> Run:
    """See `adapter.Adapter`."""
    import cv2

    net = cv2.dnn.readNetFromONNX(path)

    def run(inputs: Tensors) -> Tensors:
        for name, value in inputs.items():
            net.setInput(value, name)
        return dict(zip(outputs, net.forward(list(outputs)), strict=True))

    return run
