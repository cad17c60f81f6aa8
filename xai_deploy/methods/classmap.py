"""Class maps of detectors and segmenters: where the network itself sees a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .. import resample
from ..dense_scores import why_no_places
from ..detections import why_no_cells
from ..errors import NotApplicableError
from ..format.bundle import Manifest
from .method import Array, Forward, Method, Seed, methods


@methods.register("class-map")
@dataclass(frozen=True)
class ClassMap(Method):
    """M(y,x) = max_l up(max_a p_c[l,a])(y,x): the probability of class c at level l, anchor a, in the cell of (y,x).

    Coarse levels are resized to the finest one (bilinear, half-pixel centres). The map belongs to the class: all boxes of one class
    have the same one. A contrast is the difference of two classes' maps. Of a segmenter M(y,x) = p_c(y,x), its own output: all
    regions of one class have the same map.

    OpenVINO XAI's DetClassProbabilityMap takes the mean over the levels, at the size of the middle one, where this takes the
    maximum: a class is mostly seen at one level, whose size fits the object.
    """

    shows: ClassVar[str] = "a detector's or segmenter's probability at each place"
    plainly: ClassVar[str] = "A place is bright if the network itself gives the class a high probability there."
    passes: ClassVar[str] = "1"
    needs_layer: ClassVar[bool] = False
    of_sides: ClassVar[bool] = False
    roles: ClassVar[Mapping[str, str]] = {}

    def why_not(self, manifest: Manifest) -> str | None:
        """See `Method.why_not`."""
        return why_no_places(manifest) if manifest.scores.kind == "dense" else why_no_cells(manifest)

    def signed(self, contrast: bool) -> bool:
        """See `Method.signed`."""
        return contrast

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,h,w] at the finest level's cells, or at the size of the segmenter's output; see `Method.maps`.

        Raises:
            NotApplicableError: A detector's rows are no cells, a side of a box is explained, or a segmenter's output holds codes.
        """
        levels = [
            scores.max(axis=2) for scores in forward.cell_scores()
        ]  # [n,classes,h,w] each; of volumes [n,classes,d,h,w]
        return np.stack([_weighted(levels, seed, forward.classes) for seed in seeds])


def _weighted(levels: Sequence[Array], seed: Seed, entries: int) -> Array:
    """The weighted sum of classes' maps, [n,h,w] or [n,d,h,w]; a term of the seed is an entry of a row."""
    images, size = np.arange(len(seed.classes)), max(one.shape[2:] for one in levels)
    total = np.zeros((len(images), *size), np.float32)
    for index, weights in zip(seed.classes.T % entries, seed.weights.T, strict=True):
        if (index >= levels[0].shape[1])[weights != 0].any():
            raise NotApplicableError("class-map: it shows where a class is seen; a side of a box has no such map")
        known = np.where(weights != 0, index, 0)  # a term that only fills up may be any entry
        own = [resample.resize(one[images, known], *size) for one in levels]
        total += weights.reshape(-1, *(1,) * len(size)) * np.max(own, axis=0)
    return total
