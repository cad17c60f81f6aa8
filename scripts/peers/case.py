"""The network, the image and the bundle that all packages explain. Needs torch, torchvision and the exporters."""

from __future__ import annotations

import argparse
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from .counterpart import Case

SAMPLE = Path(__file__).resolve().parents[2] / "models" / "clutter_digits" / "samples" / "03_three.png"
SIDE = 224


def make(folder: Path, arch: str, layer: str, options: argparse.Namespace) -> Case:
    """Write a case's files; the target is the class that the network predicts."""
    import torch
    import torchvision
    from xai_exporters import Request, export

    torch.manual_seed(0)
    image = torch.from_numpy(_image())
    network: Any = torchvision.models.get_model(arch, weights=None).eval()
    _randomise(network, image)
    with torch.no_grad():
        target = int(network(image).argmax())
    case = Case(str(folder), arch, layer, target, options.threads, options.masks, options.steps, options.clock)
    np.save(case.path("image.npy"), image.numpy())
    torch.save(network.state_dict(), case.path("weights.pt"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (image,), case.path("net.onnx"), dynamo=True, opset_version=18, verbose=False, external_data=False,
            input_names=["image"], output_names=["output"], dynamic_shapes=({0: torch.export.Dim("N")},),
        )  # fmt: skip
    named = Path(shutil.copy(case.path("weights.pt"), folder / f"{arch}.pt"))  # the name gives the architecture
    export(
        Request(
            named,
            layer,
            folder / "net.xai",
            input_shape=(3, SIDE, SIDE),
            input_gradient=True,
            composite=("epsilon-plus",),
            pixel_relevance=True,
        )
    )
    case.save()
    return case


def _image() -> np.ndarray[Any, np.dtype[np.float32]]:
    """The sample, enlarged and standardised as for ImageNet, [1,3,H,W]."""
    import cv2

    from xai_deploy import read_image

    pixels = cv2.resize(read_image(SAMPLE), (SIDE, SIDE), interpolation=cv2.INTER_LINEAR).astype(np.float32) / 255
    standard = (pixels - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    return np.ascontiguousarray(standard.transpose(2, 0, 1)[None], dtype=np.float32)


def _randomise(network: Any, image: Any) -> None:
    """BatchNorms as a trained network's, some scales negative; logits that spread over a few units, not hundreds."""
    import torch

    norms: list[Any] = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for module in norms:
            module.weight.uniform_(0.5, 1.5)
            module.weight[::5] *= -1
            module.bias.uniform_(-0.3, 0.3)
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.5, 1.5)
        factor = 2 / network(image).std()
        network.fc.weight.mul_(factor)
        network.fc.bias.mul_(factor)
