"""Weights that were randomised on purpose: how a manifest records them, and how such bundles are named.

The sanity check of Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018: a map that explains what a network has
learned changes when its layers are randomised, from the logits down. Such a bundle explains nothing, and says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SANITY = "sanity"
"""The extension of a manifest with what an export's sanity check measured: "grad-cam 0.12, reciprocam 0.05; 12 images"."""


@dataclass(frozen=True)
class Randomised:
    """A step of the cascade. Each step randomises the layers of the step before and at least one more.

    Attributes:
        step: Which one, from 1.
        of: How many steps there are; in the last one all layers that carry weights are randomised.
        seed: The seed of the random numbers.
        layers: The layers' names, from the logits to the input.
        trained: `Manifest.network` of the bundle with the trained weights; empty if that is not known.
    """

    step: int
    of: int
    seed: int
    layers: tuple[str, ...]
    trained: str = ""

    def fault(self) -> str | None:
        """A fault in the values that their types do not show; None if there is none."""
        if not 1 <= self.step <= self.of:
            return f"step {self.step} of {self.of} does not exist"
        if self.seed < 0:
            return f"the seed {self.seed} is negative"
        if len(self.layers) < self.step:
            return f"{len(self.layers)} randomised layers in step {self.step}; each step must have at least one more"
        return None


def name_of_step(bundle: str, step: int, of: int) -> str:
    """The name of a step's bundle, beside the trained network's: "net.randomised-2-of-3.xai" for "net.xai"."""
    return f"{bundle.removesuffix('.xai')}.randomised-{step}-of-{of}.xai"


def step_of_name(bundle: str, name: str) -> tuple[int, int] | None:
    """The inverse of `name_of_step`: (step, of) if `name` is a step of the trained network `bundle`, else None."""
    stem = re.escape(bundle.removesuffix(".xai"))
    match = re.fullmatch(rf"{stem}\.randomised-([1-9][0-9]*)-of-([1-9][0-9]*)\.xai", name)
    return (int(match[1]), int(match[2])) if match else None
