"""RISE: random masks, weighted by what the network makes of the image under them (Petsiuk et al. 2018, arXiv:1806.07421)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from .. import resample
from ..errors import OptionError
from .base import Array, Forward, Method, Seed, methods, require_varying_score, scored


@methods.register("rise")
@dataclass(frozen=True)
class Rise(Method):
    """L = 1/(N p) * sum_i f(x * M_i)_c M_i (equation 6): the black-box reference, N full inferences for each image.

    A mask M_i is a grid of `cells` x `cells` that are 1 with probability p, enlarged bilinearly to (cells + 1) / cells of
    the image and cut to it at a random place, as in the authors' code, but that the grid's edge is repeated beyond its border,
    theirs mirrored; x is the preprocessed input. All images get the same masks, streamed in batches of any size, for all
    targets at once.

    Attributes:
        masks: N; the paper has 4000 to 8000.
        cells: Along each side of the grid.
        p: Probability that a cell is left visible, between 0 and 1.
        score: f: the network's own "probability" (softmax, sigmoid, or what else its output is), its "logit", or the
            "softmax" of the logits whatever the network is.
        seed: Of the masks.

    Raises:
        OptionError: No mask, no cell, or no probability.
    """

    masks: int = 4000
    cells: int = 8
    p: float = 0.5
    score: Literal["probability", "logit", "softmax"] = "probability"
    seed: int = 0

    slow: ClassVar[bool] = True
    roles: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        if self.masks < 1 or self.cells < 1 or self.seed < 0:
            raise OptionError("rise: masks and cells are at least 1, seed at least 0")
        if not 0 < self.p < 1:
            raise OptionError(f"rise: p is between 0 and 1, not {self.p}")

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,H,W]; see `Method.maps`."""
        require_varying_score("rise", self.score, forward)
        count = len(forward.x)
        total = np.zeros((len(seeds), count, *forward.image_size))
        rng = np.random.default_rng(self.seed)
        starts = range(0, self.masks, forward.batch_size)
        for start in forward.progress(starts, len(starts), "rise"):
            batch = range(start, min(start + forward.batch_size, self.masks))
            masks = np.stack([self._mask(rng, *forward.image_size) for _ in batch])
            for image in range(count):
                logits = forward.network(forward.masked_input(image, masks))
                scores = scored(self.score, logits, forward)
                for t, seed in enumerate(seeds):
                    total[t, image] += np.tensordot(seed.rows(np.array([image])).of(scores), masks, 1)
        return (total / (self.masks * self.p)).astype(np.float32)

    def _mask(self, rng: np.random.Generator, height: int, width: int) -> Array:
        """The next mask, [H,W] in [0,1]; drawn one by one, so that they do not depend on the size of a batch."""
        down, across = -(-height // self.cells), -(-width // self.cells)  # pixels of a cell, rounded up
        grid = (rng.random((self.cells, self.cells)) < self.p).astype(np.float32)
        corner = int(rng.integers(down)), int(rng.integers(across))
        return resample.resize(grid, (self.cells + 1) * down, (self.cells + 1) * across, part=(*corner, height, width))
