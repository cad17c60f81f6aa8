"""The trained networks of the pages on real photographs: their files in XAI_TEST_DATA, and where they are cut."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from xai_exporters import Request, list_layers
from xai_exporters.request import Preset

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("XAI_TEST_DATA", ROOT.parent / "shared" / "data"))


@dataclass(frozen=True)
class Net:
    """A network: its file, preprocessing, and how far its classes are shifted against ImageNet's."""

    title: str
    file: str
    preprocess: Preset
    offset: int

    @property
    def path(self) -> Path:
        """The network's file."""
        return DATA / "weights" / self.file


MOBILENET_V2 = Net("MobileNetV2", "mobilenet_v2_1.0_224_fp32_nchw_logits.onnx", "tf", 1)
MOBILENET_V1 = Net("MobileNetV1 0.25 (Keras)", "mobilenet_v1_0.25_224_keras_tf2onnx.onnx", "tf", 0)
SQUEEZENET = Net("SqueezeNet 1.0", "squeezenet1_0_deepcompressed.onnx", "imagenet", 0)


def stages(net: Net) -> list[tuple[str, tuple[int, ...]]]:
    """The last cut without side tensors at each resolution, shallow to deep, and the last one's own."""
    by_size: dict[int, tuple[str, tuple[int, ...]]] = {}
    for cut in list_layers(Request(net.path)):
        if not cut.sides and cut.after > 0.001 and cut.shape[1] >= 7:
            by_size[cut.shape[1]] = (cut.tensor, cut.shape)
    return [by_size[size] for size in sorted(by_size, reverse=True) if size <= 56]
