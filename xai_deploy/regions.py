"""Regions of dense scores: a segmentation network as a classifier of regions.

The tail of a bundle with dense scores [N,C,H,W] takes the weights of R regions for each image and gives the score of each class in
each region, sum_p where[r,p] y[c,p]. So the pair (region r, class c) is entry r * C + c of the scores that methods and seeds see,
and everything that is defined for classes is defined for regions. A classifier has no regions: its entries are its classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .format.graphs import WHERE
from .format.manifest import Manifest
from .targets.seeds import Array, Index, Seed


@dataclass(frozen=True, eq=False)
class Regions:
    """The regions of n images.

    Attributes:
        classes: C.
        where: [n,R,H,W] float32, each region's weights; None for a network without regions.
        compared: How many of the classes are classes: the coordinates of a detector's row follow them. None: all.
    """

    classes: int
    where: Array | None = None
    compared: int | None = None

    @classmethod
    def whole(cls, manifest: Manifest, images: int) -> Regions:
        """For each image one region, all positions of which weigh the same; no region if the network has none."""
        scores = manifest.scores
        if not scores.by_region:
            return cls(manifest.classes)
        places = scores.shape[1:]
        return cls.at(manifest, np.full((images, 1, *places), 1 / math.prod(places), np.float32))

    @classmethod
    def at(cls, manifest: Manifest, where: Array) -> Regions:
        """Regions of these weights, [n,R,H,W]."""
        rows = manifest.scores.rows
        return cls(manifest.classes, where, None if rows is None else rows.classes)

    @classmethod
    def join(cls, several: list[Regions]) -> Regions:
        """All regions of the same images, one after the other."""
        where = [one.where for one in several if one.where is not None]
        return cls(several[0].classes, np.concatenate(where, axis=1) if where else None, several[0].compared)

    @property
    def count(self) -> int:
        """R; 1 without regions."""
        return 1 if self.where is None else self.where.shape[1]

    @property
    def entries(self) -> int:
        """R * C."""
        return self.count * self.classes

    def rows(self, image: Index) -> Regions:
        """The regions of a batch whose row i is made of image `image[i]`."""
        return self if self.where is None else Regions(self.classes, self.where[image], self.compared)

    def feeds(self) -> dict[str, Array]:
        """What the graphs take beside the activation or the image."""
        return {} if self.where is None else {WHERE: self.where}

    def of_rows(self, rows: Array) -> Array:
        """The scores [n,R,C] of a detector's rows [n,C,rows] in the regions."""
        assert self.where is not None  # a row of a detector is a region
        return np.asarray(np.matmul(self.where, rows.swapaxes(1, 2)), np.float32)

    def flat(self, scores: NDArray[np.floating]) -> NDArray[np.floating]:
        """Scores of the graphs, [n,R,C] or [n,C], as entries [n,R*C]."""
        return scores.reshape(len(scores), -1) if self.where is not None else scores

    def unflat(self, entries: Array) -> Array:
        """Entries [n,R*C] as scores of regions [n,R,C]."""
        return entries.reshape(len(entries), self.count, self.classes)

    def shaped(self, weights: Array) -> Array:
        """Weights of the entries [n,R*C] in the shape of the graphs' input `seed`."""
        return weights if self.where is None else self.unflat(weights)

    def weights(self, seed: Seed, offset: Array | float = 0.0) -> Array:
        """The weight of each entry, [n,R*C].

        Args:
            seed: What is explained.
            offset: Added to all classes of the regions that the seed weighs; one for each image, [n], or one for all.
        """
        weights = seed.dense(self.entries)
        by_region = self.unflat(weights)
        weighed = (by_region != 0).any(axis=2, keepdims=True) if self.where is not None else np.ones((1, 1, 1), bool)
        added = np.broadcast_to(np.asarray(offset, np.float32), (len(weights),)).reshape(-1, 1, 1) * weighed
        if self.compared is not None:
            added = added * (np.arange(self.classes) < self.compared)
        total: Array = (by_region + added).astype(np.float32).reshape(weights.shape)
        return total
