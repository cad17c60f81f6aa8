"""Zennit: https://github.com/chr5tphr/zennit."""

from __future__ import annotations

import sys
from functools import partial

from . import torch_network
from .counterpart import PLAIN, TORCH, Array, Case, Counterpart, Job, Jobs

TITLE = "Zennit"
REQUIREMENTS = (*TORCH, "zennit==1.0.0" if sys.version_info >= (3, 11, 11) else "zennit==0.5.1")  # what Python it takes
COUNTERPARTS = {
    "EpsilonPlus": Counterpart(
        "lrp:composite=epsilon-plus",
        note="it leaves BatchNorm's eps in the network after merging it: its forward pass differs",
    )
}


def jobs(case: Case) -> Jobs:
    """See `counterpart.Adapter`."""
    return {PLAIN: partial(torch_network.plain, case), "EpsilonPlus": partial(_epsilon_plus, case)}


def _epsilon_plus(case: Case) -> Job:
    import torch
    from zennit.attribution import Gradient
    from zennit.composites import EpsilonPlus
    from zennit.torchvision import ResNetCanonizer

    network, image = torch_network.load(case)
    method = Gradient(network, EpsilonPlus(canonizers=[ResNetCanonizer()]))
    method.__enter__()  # its hooks stay as long as the process
    at_target = torch.zeros(1, network.fc.out_features)
    at_target[0, case.target] = 1

    def run() -> Array:
        _, relevance = method(image, lambda output: output * at_target)
        total: Array = relevance[0].sum(0).numpy()
        return total

    return run
