"""RISE: random masks, weighted by the network's score for the masked image (Petsiuk et al. 2018, arXiv:1806.07421)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .. import resample
from ..errors import OptionError
from ..format.bundle import Manifest
from .method import Array, Forward, Method, Score, Seed, methods, require_varying_score, score_explained, why_no_score


@methods.register("rise")
@dataclass(frozen=True)
class Rise(Method):
    """L = 1/(N p) * sum_i f(x * M_i)_c M_i (equation 6): the black-box reference, N full inferences for each image.

    A mask M_i starts as a grid of `cells` x `cells`, each 1 with probability p and else 0. The grid is enlarged bilinearly to
    (cells + 1) / cells of the image and cropped to it at a random offset, as in the authors' code. One thing differs: here
    the grid's edge is repeated outside its border, theirs is mirrored. x is the preprocessed input. All images get the same
    masks, streamed in batches of any size, for all targets at once.

    Attributes:
        masks: N; the paper uses 4000 to 8000.
        cells: Cells along each side of the grid.
        p: Probability that a cell is left visible, between 0 and 1.
        score: f: the network's own "probability" (softmax, sigmoid, or another output), its "logit", or the "softmax" of
            the logits, for any network.
        seed: Seed of the masks, 0 or more.

    Raises:
        OptionError: `masks` or `cells` below 1, `seed` below 0, or `p` not between 0 and 1.
    """

    masks: int = 4000
    cells: int = 8
    p: float = 0.5
    score: Score = "probability"
    seed: int = 0

    shows: ClassVar[str] = "random masks, weighted by the score of the image under each"
    passes: ClassVar[str] = "4000, 1 per mask"
    slow: ClassVar[bool] = True
    needs_layer: ClassVar[bool] = False
    roles: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        if self.masks < 1 or self.cells < 1 or self.seed < 0:
            raise OptionError("rise: masks and cells are at least 1, seed at least 0")
        if not 0 < self.p < 1:
            raise OptionError(f"rise: p is between 0 and 1, not {self.p}")

    def why_not(self, manifest: Manifest) -> str | None:
        """See `Method.why_not`."""
        return why_no_score(self.score, manifest)

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,H,W]; see `Method.maps`."""
        require_varying_score("rise", self.score, forward)
        count = len(forward.x)
        total = np.zeros((len(seeds), count, *forward.image_size))  # float64: thousands of terms are added up
        rng = np.random.default_rng(self.seed)
        starts = range(0, self.masks, forward.batch_size)
        for start in forward.progress(starts, len(starts), "batches of rise"):
            batch = range(start, min(start + forward.batch_size, self.masks))
            masks = np.stack([self._mask(rng, *forward.image_size) for _ in batch])
            for image in range(count):  # all images get the same masks, so these are drawn once per batch
                scores = forward.network(forward.masked_input(image, masks), np.full(len(masks), image), self.score)
                for t, seed in enumerate(seeds):
                    f = score_explained(self.score, seed.rows(np.array([image])), scores)
                    total[t, image] += np.tensordot(f, masks, 1)  # [b] . [b,H,W] -> [H,W], summed in float64
        # the expectation of a mask is p, hence the division
        return (total / (self.masks * self.p)).astype(np.float32)

    def _mask(self, rng: np.random.Generator, *size: int) -> Array:
        """The next mask, [H,W] in [0,1]; masks are drawn one by one, so they do not depend on the batch size."""
        sides = [-(-side // self.cells) for side in size]  # pixels of a cell along each axis, rounded up
        grid = (rng.random((self.cells,) * len(size)) < self.p).astype(np.float32)
        # Only the crop is computed. It fits at every offset: cells * side >= size, and the enlarged grid has `side` more pixels.
        corner = [int(rng.integers(side)) for side in sides]
        return resample.resize(grid, *((self.cells + 1) * side for side in sides), part=(*corner, *size))
