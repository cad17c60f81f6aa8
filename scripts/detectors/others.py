"""torchvision's detectors at full size, up to the suppression, and small ones of transformers; all of random weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import onnx
import torch
from torchvision.models import detection

from tests.exporters.running import both_ways
from tests.networks.detectors import nets, test_transformers, vision
from xai_deploy import Explanation

from .live import Explained, differentiate, fold_norms, nearest, take_statistics

SIZE, CLASSES = (320, 320), 90
PLAIN: dict[str, Any] = {
    **{"weights": None, "weights_backbone": None, "min_size": SIZE[0], "max_size": SIZE[1], "size_divisible": 1},
    **{"image_mean": [0.0] * 3, "image_std": [1.0] * 3},
}
"""torchvision's own preprocessing leaves the images as they are."""


class Regions(vision.Regions):
    """The second stage on proposals of every level."""

    def anchors_of(self, x: torch.Tensor) -> torch.Tensor:
        """See `vision.Raw`: the proposals."""
        return torch.tensor(
            [[20.0, 20, 60, 90], [100, 30, 240, 160], [10, 40, 310, 300], [0, 0, 320, 320], [200, 9, 290, 280]]
        )


FULL: dict[str, tuple[Callable[[], Any], type[vision.Raw]]] = {
    "ssdlite320-mobilenet-v3": (
        lambda: detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None),
        vision.Softmax,
    ),
    "retinanet-resnet50-fpn": (lambda: detection.retinanet_resnet50_fpn(**PLAIN), vision.Raw),
    "fcos-resnet50-fpn": (lambda: detection.fcos_resnet50_fpn(**PLAIN), vision.Fcos),
    "fasterrcnn-resnet50-fpn:proposals": (lambda: detection.fasterrcnn_resnet50_fpn(**PLAIN), vision.Proposals),
    "fasterrcnn-resnet50-fpn:regions": (lambda: detection.fasterrcnn_resnet50_fpn(**PLAIN), Regions),
}
"""Name -> how it is made, and the part of it that is explained."""


class Torchvision:
    """One of torchvision's detectors."""

    def __init__(self, name: str) -> None:
        with mock.patch.object(nets, "SIZE", SIZE), mock.patch.object(nets, "CLASSES", CLASSES), vision.interpreted():
            with mock.patch.dict(vision.MADE, FULL):
                self.narrow = vision.made(name)
            take_statistics(self.narrow, self.narrow.raw, SIZE[0])
            fold_norms(self.narrow)

    def write(self, folder: Path) -> tuple[Path, dict[str, Any]]:
        """See `Live`."""
        with mock.patch.object(nets, "SIZE", SIZE), mock.patch.object(nets, "CLASSES", CLASSES), vision.interpreted():
            onnx.save(vision.written(self.narrow), folder / "net.onnx")
        self.wide = copy.deepcopy(self.narrow).double()
        return folder / "net.onnx", {"preprocess": "none"}

    def images(self, count: int) -> torch.Tensor:
        """See `Live`."""
        return torch.rand(count, 3, *SIZE, generator=torch.Generator().manual_seed(1))

    def explained(self, x: torch.Tensor, got: Explanation, wide: bool) -> Explained:
        """See `Live`."""
        network, x = (self.wide, x.double()) if wide else (self.narrow, x)
        maps: list[torch.Tensor] = []

        def keep(_module: Any, _given: Any, y: Any) -> None:
            maps.extend(y.values() if isinstance(y, dict) else [y])

        hooks = [network.get_submodule(name).register_forward_hook(keep) for name in network.taps]
        with mock.patch.object(nets, "SIZE", SIZE), mock.patch.object(nets, "CLASSES", CLASSES), vision.interpreted():
            scores, _ = network.raw(x)
        for hook in hooks:
            hook.remove()
        found = got.detections[0][0]
        value = scores[0, found.row, found.index]
        by_size = {tuple(one.shape[2:]): one for one in maps}
        own = [by_size[layer.raw.shape[1:]] for layer in got.layers or [got]]
        return differentiate(value, own, float(value))


class Transformers:
    """A small detector of transformers'."""

    def __init__(self, name: str) -> None:
        _, self.decoder, self.modules = test_transformers.NETS[name]
        self.narrow = test_transformers.built(name)

    def write(self, folder: Path) -> tuple[Path, dict[str, Any]]:
        """See `Live`."""
        onnx.save(both_ways(self.narrow, False, (3, *nets.SIZE)), folder / "net.onnx")
        self.wide = copy.deepcopy(self.narrow).double()
        return folder / "net.onnx", {"preprocess": "none", "decoder": self.decoder}

    def images(self, count: int) -> torch.Tensor:
        """See `Live`."""
        return torch.rand(count, 3, *nets.SIZE, generator=torch.Generator().manual_seed(1))

    def explained(self, x: torch.Tensor, got: Explanation, wide: bool) -> Explained:
        """See `Live`. The query is looked for by its box, for rounding orders queries."""
        network, x = (self.wide, x.double()) if wide else (self.narrow, x)
        kept: list[torch.Tensor] = []
        hooks = [
            network.network.get_submodule(name).register_forward_hook(lambda _m, _i, out: kept.append(out))
            for name in self.modules
        ]
        # transformers cuts gradients off between its layers in use, too; what is deployed is one function
        with mock.patch.object(torch.Tensor, "detach", lambda self: self):
            logits, boxes = network(x.clone().requires_grad_())  # its backbone is frozen
        for hook in hooks:
            hook.remove()
        (height, width), found = nets.SIZE, got.detections[0][0]
        left, top, right, bottom = found.box
        box = torch.tensor([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top])
        row = nearest((boxes[0].detach() * torch.tensor([width, height, width, height]) - box).abs().amax(1))
        value = logits[0, row, found.index]
        made = differentiate(value, kept, float(value))
        if made.levels[0][0].ndim == 2:  # tokens [T,K] of a grid of strides 32
            h, w = (got.layers or [got])[0].raw.shape[1:]
            made.levels[:] = [(a.T.reshape(-1, h, w), g.T.reshape(-1, h, w)) for a, g in made.levels]
        return made
