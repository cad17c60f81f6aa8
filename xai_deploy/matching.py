"""How well detections of a masked image match those that are explained: D-RISE's score.

Petsiuk et al., CVPR 2021, arXiv:2006.03204, equation 3: s(d, M) = max over the detections j of the masked image of
IoU(box_d, box_j) * cos(P_d, P_j), where P holds the probabilities of a detection's classes. The objectness of a row is a factor of
its probabilities where there is one. (The cosine does not see it; such rows are left out below the lowest score instead.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .detections import Array, DetectionLimits, classes_of, corners, kept_rows, overlaps, scores_of
from .format.manifest import Manifest
from .format.rows import Rows


def row_shares(entries: Array, manifest: Manifest) -> Array:
    """Scores of rows [n,R,entries] with probabilities in place of the classes' scores; coordinates stay."""
    spec = manifest.scores.rows
    assert spec is not None  # only detectors have rows
    shares = scores_of(np.moveaxis(entries, 1, 2), manifest)
    return np.concatenate([shares, entries[..., spec.classes :]], axis=2)


def matched(
    explained: Array, masked: Array, image: NDArray[np.int64], where: Array, manifest: Manifest, limits: DetectionLimits
) -> Array:
    """For each masked input and each region the score of the best match, [b,R,entries].

    Args:
        explained: [n,entries,rows], the rows of the images that are explained.
        masked: [b,entries,rows], those of masked inputs.
        image: The image of which each masked input is made, [b].
        where: [b,R,rows], the row that each region picks.
        manifest: The bundle's manifest.
        limits: Which rows are detections.

    Returns:
        The match as the score of each class. Coordinates are those of the same row.
    """
    spec = manifest.scores.rows
    assert spec is not None
    picked = where.argmax(axis=2)  # [b,R]
    result = np.take_along_axis(masked, picked[:, None], axis=2).transpose(0, 2, 1).copy()
    given, own = _Read.of(explained, spec, manifest), _Read.of(masked, spec, manifest)
    for b in range(len(masked)):
        kept = kept_rows(own.score[b], own.index[b], own.boxes[b], spec, limits)
        for r, row in enumerate(picked[b]):
            box, shares = given.boxes[image[b], row], given.shares[image[b], row]
            alike = (
                _cosines(shares, own.shares[b, kept])
                if not spec.labelled
                else (own.index[b, kept] == given.index[image[b], row])
            )
            best = (overlaps(box, own.boxes[b, kept]) * alike).max(initial=0.0)
            result[b, r, : spec.classes] = best
    return np.asarray(result, np.float32)


class _Read:
    """Rows, read: probabilities [n,R,C], boxes [n,R,4], the best class of each and its probability [n,R]."""

    def __init__(self, shares: Array, boxes: Array, index: NDArray[np.int64]) -> None:
        self.shares, self.boxes, self.index, self.score = shares, boxes, index, shares.max(axis=2)

    @classmethod
    def of(cls, rows: Array, spec: Rows, manifest: Manifest) -> _Read:
        shares, labels = scores_of(rows, manifest), classes_of(rows, spec)
        return cls(shares, corners(rows, spec, manifest.input), shares.argmax(axis=2) if labels is None else labels)


def _cosines(one: Array, others: Array) -> Array:
    """The cosine of [C] with each of [k,C]; 0 for a vector of zeros."""
    sizes = np.linalg.norm(one) * np.linalg.norm(others, axis=1)
    return np.asarray(np.divide(others @ one, sizes, out=np.zeros_like(sizes), where=sizes > 0), np.float32)
