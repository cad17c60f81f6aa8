"""Exported detectors, each made once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from xai_exporters import Request, export

from xai_deploy import DetectionLimits, Explainer

from ...exporters.running import both_ways
from . import nets

ALL = DetectionLimits(score=0.0, overlap=0.6, most=40)
"""Random networks are sure of nothing."""

MADE: dict[str, Callable[[], nn.Module]] = {
    "yolov8": nets.YoloV8,
    "segments": nets.YoloSegments,
    "yolov5": nets.YoloV5,
    "yolox": nets.YoloX,
    "boxes-scores": nets.Ssd,
    "picodet": nets.Picodet,
    "end-to-end": nets.EndToEnd,
    "detr": nets.Detr,
    "detr-sigmoid": lambda: nets.Detr(nets.CLASSES),
}


@dataclass(frozen=True)
class Made:
    """A live detector, three inputs, its bundle, and an explainer for each runtime."""

    name: str
    network: Any
    x: torch.Tensor
    bundle: Path
    source: Path
    explainers: tuple[Explainer, ...]

    @property
    def images(self) -> NDArray[np.float32]:
        """The inputs for the product."""
        return np.asarray(self.x.float().numpy())


def make(name: str, folder: Path) -> Made:
    """Export a detector by torch's exporter."""
    torch.manual_seed(3)
    network = MADE[name]().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    x = torch.rand(3, 3, *nets.SIZE, generator=torch.Generator().manual_seed(2))
    source = folder / "net.onnx"
    onnx.save(both_ways(network, False, (3, *nets.SIZE)), source)
    decoder = "detr-sigmoid" if name == "detr-sigmoid" else "detr" if name == "detr" else "auto"
    done = export(
        Request(source, output_path=folder / "net.xai", preprocess="none", decoder=decoder, roles=("gradient",))
    )
    explainers = tuple(Explainer(done.path, backend, detections=ALL) for backend in ("onnxruntime", "openvino"))
    return Made(name, network.double(), x.double(), done.path, source, explainers)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """Name -> detector."""
    known: dict[str, Made] = {}

    def get(name: str) -> Made:
        if name not in known:
            known[name] = make(name, tmp_path_factory.mktemp(name))
        return known[name]

    return get
