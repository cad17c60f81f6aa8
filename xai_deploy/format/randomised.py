"""What a bundle's manifest says of weights that were randomised on purpose.

The sanity check of Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018: a map that explains what a network has
learned changes when its layers are randomised, from the logits down. Such a bundle explains nothing, and says so.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Randomised:
    """A step of the cascade.

    Attributes:
        step: Which one, from 1.
        of: How many there are; in the last one all layers that carry weights are randomised.
        seed: Of the random numbers.
        layers: The layers' names, from the logits to the input.
        trained: `Manifest.network` of the bundle with the trained weights; empty where that is not known.
    """

    step: int
    of: int
    seed: int
    layers: tuple[str, ...]
    trained: str = ""

    def fault(self) -> str | None:
        """What the types alone do not say: what is wrong, if anything."""
        if not 1 <= self.step <= self.of:
            return f"step {self.step} of {self.of} is no step"
        if self.seed < 0:
            return f"the seed {self.seed} is negative"
        if len(self.layers) < self.step:
            return f"{len(self.layers)} randomised layers in step {self.step}; each step has one more at least"
        return None
