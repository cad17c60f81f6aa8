"""Captum: https://captum.ai."""

from __future__ import annotations

from functools import partial

from . import torch_network
from .counterpart import PLAIN, TORCH, Array, Case, Counterpart, Job, Jobs

TITLE = "Captum"
REQUIREMENTS = (*TORCH, "captum==0.9.0")
COUNTERPARTS = {
    "LayerGradCam": Counterpart("grad-cam"),
    "IntegratedGradients": Counterpart("integrated-gradients"),
}


def jobs(case: Case) -> Jobs:
    """See `counterpart.Adapter`."""
    return {
        PLAIN: partial(torch_network.plain, case),
        "LayerGradCam": partial(_grad_cam, case),
        "IntegratedGradients": partial(_integrated_gradients, case),
    }


def _grad_cam(case: Case) -> Job:
    from captum.attr import LayerGradCam

    network, image = torch_network.load(case)
    method = LayerGradCam(network, network.get_submodule(case.layer))

    def run() -> Array:
        raw: Array = method.attribute(image, case.target, relu_attributions=True)[0, 0].detach().numpy()
        return raw

    return run


def _integrated_gradients(case: Case) -> Job:
    from captum.attr import IntegratedGradients

    network, image = torch_network.load(case)
    method = IntegratedGradients(network)

    def run() -> Array:
        raw = method.attribute(image, target=case.target, n_steps=case.steps, internal_batch_size=16)  # as ours
        total: Array = raw[0].sum(0).detach().numpy()
        return total

    return run
