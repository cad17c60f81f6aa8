"""torch-cam: https://github.com/frgfm/torch-cam."""

from __future__ import annotations

from functools import partial

from . import torch_network
from .counterpart import PLAIN, TORCH, Array, Case, Counterpart, Job, Jobs

TITLE = "torch-cam"
REQUIREMENTS = (*TORCH, "torchcam==0.5.0")
COUNTERPARTS = {
    "GradCAM": Counterpart("grad-cam"),
    "GradCAMpp": Counterpart(
        "grad-cam++", note="it divides a copy and drops it: its alpha is g², not the paper's (equation 19)"
    ),
    "LayerCAM": Counterpart("layer-cam"),
    "ScoreCAM": Counterpart(
        "score-cam:score=logit:channel_softmax=true",
        note="it stretches masks to [0,1], then enlarges them; we the reverse",
    ),
}


def jobs(case: Case) -> Jobs:
    """See `counterpart.Adapter`."""
    return {PLAIN: partial(torch_network.plain, case)} | {name: partial(_job, case, name) for name in COUNTERPARTS}


def _job(case: Case, name: str) -> Job:
    import torch
    import torchcam.methods

    network, image = torch_network.load(case)
    cam = getattr(torchcam.methods, name)(network, case.layer)

    def run() -> Array:
        with torch.set_grad_enabled(name != "ScoreCAM"):
            logits = network(image)
        [raw] = cam(case.target, logits, normalized=False)
        result: Array = raw[0].numpy()
        return result

    return run
