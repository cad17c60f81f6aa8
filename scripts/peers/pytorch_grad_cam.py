"""pytorch-grad-cam: https://github.com/jacobgil/pytorch-grad-cam."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from . import torch_network
from .counterpart import PLAIN, TORCH, Array, Case, Counterpart, Job, Jobs

TITLE = "pytorch-grad-cam"
REQUIREMENTS = (*TORCH, "grad-cam==1.5.7")
COUNTERPARTS = {
    "GradCAM": Counterpart("grad-cam"),
    "GradCAMPlusPlus": Counterpart("grad-cam++:eps=1e-6"),
    "LayerCAM": Counterpart("layer-cam"),
    "ScoreCAM": Counterpart(
        "score-cam:score=logit:channel_softmax=true", note="its masks are resized with aligned corners, ours not"
    ),
}


def jobs(case: Case) -> Jobs:
    """See `counterpart.Adapter`."""
    return {PLAIN: partial(torch_network.plain, case)} | {name: partial(_job, case, name) for name in COUNTERPARTS}


def _job(case: Case, name: str) -> Job:
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    network, image = torch_network.load(case)
    cam = getattr(pytorch_grad_cam, name)(model=network, target_layers=[network.get_submodule(case.layer)])
    raw: list[Array] = []
    weighted = cam.get_cam_image

    def keep(*arguments: Any, **named: Any) -> Any:
        raw[:] = weighted(*arguments, **named)
        return np.stack(raw)

    cam.get_cam_image = keep

    def run() -> Array:
        cam(input_tensor=image, targets=[ClassifierOutputTarget(case.target)])
        return np.maximum(raw[0], 0)  # what it does next, before it resizes

    return run
