"""The maps of pytorch-grad-cam, the reference that most people have, before its own resizing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

PEERS: dict[str, tuple[str, dict[str, Any]]] = {
    "grad-cam": ("GradCAM", {}),
    "grad-cam++": ("GradCAMPlusPlus", {"eps": 1e-6}),
    "xgrad-cam": ("XGradCAM", {"eps": 1e-7}),
    "hires-cam": ("HiResCAM", {}),
    "layer-cam": ("LayerCAM", {}),
    "eigen-cam": ("EigenCAM", {"centred": True}),
    "eigen-grad-cam": ("EigenGradCAM", {"centred": True}),
}
"""Our method -> its class there, and our options that make the formula the same."""


def peer_map(
    method: str, network: torch.nn.Module, layer: str, x: Tensor, targets: Sequence[Callable[[Tensor], Tensor]]
) -> NDArray[Any]:
    """The map [N,h,w] of a method for images x and a target function for each."""
    peer = pytest.importorskip("pytorch_grad_cam")
    with getattr(peer, PEERS[method][0])(model=network, target_layers=[network.get_submodule(layer)]) as cam:
        raw: list[Any] = []
        weighted = cam.get_cam_image

        def keep(*arguments: Any, **named: Any) -> Any:
            image = weighted(*arguments, **named)
            if method.startswith("eigen"):  # the sign of a singular vector is free; ours is this one
                values = arguments[3] if method == "eigen-cam" else arguments[3] * arguments[4]
                image = image * np.sign((image * values.sum(1)).sum((1, 2), keepdims=True))
            raw.append(np.maximum(image, 0))  # as its compute_cam_per_layer does next
            return image

        cam.get_cam_image = keep
        cam(input_tensor=x, targets=list(targets))
    [maps] = raw
    return np.asarray(maps)
