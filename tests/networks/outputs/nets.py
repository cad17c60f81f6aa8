"""Small networks with outputs of other kinds, and what autograd gives for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ...exporters.nets import randomise
from ...exporters.running import both_ways

SIZE = (24, 32)
CLASSES = 5
Score = Callable[[Tensor], Tensor]


class UNet(nn.Module):
    """An encoder, a decoder with one skip connection, scores at each pixel; the end may be a softmax, a sigmoid or an argmax."""

    def __init__(self, up: str, end: str = "", classes: int = CLASSES) -> None:
        super().__init__()
        self.first, self.down = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, 2, 1)
        self.middle = nn.Conv2d(8, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 6, 2, 2) if up == "transposed" else nn.Conv2d(8, 6, 1)
        self.last, self.scores = nn.Conv2d(12, 6, 3, padding=1), nn.Conv2d(6, classes, 1)
        self.bilinear, self.end = up == "bilinear", end

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The activation at the layer, and the skip connection."""
        fine = torch.relu(self.first(x))
        return torch.relu(self.middle(torch.relu(self.down(fine)))), fine

    def dense(self, activation: Tensor, fine: Tensor) -> Tensor:
        """The scores [N,C,H,W]."""
        up = self.up(activation)
        if self.bilinear:
            up = functional.interpolate(up, scale_factor=2, mode="bilinear", align_corners=False)
        return Tensor(self.scores(torch.relu(self.last(torch.cat([up, fine], 1)))))

    def forward(self, x: Tensor) -> Tensor:
        """The output as deployed."""
        y = self.dense(*self.features(x))
        match self.end:
            case "softmax":
                return y.softmax(1)
            case "sigmoid":
                return y.sigmoid()
            case "argmax":
                return y.argmax(1)
            case "last":
                return y.permute(0, 2, 3, 1)
        return y


class Embedding(nn.Module):
    """Two convolutions, pooling, numbers [N,6]; of length 1 on request."""

    def __init__(self, unit: bool = False) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 8, 3, padding=1)
        self.last, self.unit = nn.Linear(8, 6), unit

    def features(self, x: Tensor) -> Tensor:
        """The activation at the layer."""
        return torch.relu(self.second(torch.relu(self.first(x))))

    def numbers(self, activation: Tensor) -> Tensor:
        """The numbers before their length is made 1."""
        return Tensor(self.last(activation.mean((2, 3))))

    def forward(self, x: Tensor) -> Tensor:
        """The output as deployed."""
        y = self.numbers(self.features(x))
        return functional.normalize(y, dim=1) if self.unit else y


def saved(network: nn.Module, file: Path) -> Path:
    """The network as an ONNX file with a symbolic batch."""
    onnx.save(both_ways(randomise(network, 3), False, (3, *SIZE)), file)
    return file


def images(count: int) -> NDArray[np.float32]:
    """Prepared inputs, [count,3,H,W]."""
    return np.random.default_rng(5).random((count, 3, *SIZE), dtype=np.float32)


def grad_cam(activation: Tensor, score: Score) -> tuple[NDArray[Any], NDArray[Any]]:
    """Grad-CAM [N,h,w] (Selvaraju et al., equations 1 and 2) by autograd, and the number explained [N].

    Args:
        activation: [N,K,h,w].
        score: Gives that number of each image for an activation.
    """
    at = activation.detach().requires_grad_()
    numbers = score(at)
    [gradient] = torch.autograd.grad(numbers.sum(), at)
    maps = torch.relu((gradient.mean((2, 3), keepdim=True) * at).sum(1))
    return maps.detach().numpy(), numbers.detach().numpy()


def fused(model: Path, feeds: dict[str, NDArray[Any]], backend: str = "onnxruntime") -> NDArray[np.float32]:
    """The map of a fused graph."""
    if backend == "openvino":
        compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return np.asarray(compiled(feeds)["saliency_map"])
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(["saliency_map"], feeds)[0]
    return result


def stretched(maps: NDArray[Any]) -> NDArray[Any]:
    """Each map from 0 to 1."""
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    return np.asarray((maps - low) / np.maximum(high - low, np.finfo(np.float32).tiny))
