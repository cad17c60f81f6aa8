"""The network for peers that take torch modules."""

from __future__ import annotations

from typing import Any

from .counterpart import Case, Job


def load(case: Case) -> tuple[Any, Any]:
    """A copy of the network without hooks, and the image as a tensor [1,3,H,W]."""
    import torch
    import torchvision

    torch.set_num_threads(case.threads)
    network = torchvision.models.get_model(case.arch, weights=None)
    network.load_state_dict(torch.load(case.path("weights.pt"), mmap=True), assign=True)
    return network.eval(), torch.from_numpy(case.image)


def plain(case: Case) -> Job:
    """One forward pass without gradients."""
    import torch

    network, image = load(case)

    def run() -> Any:
        with torch.no_grad():
            return network(image).numpy()

    return run
