"""How well detections of a masked image match those that are explained: D-RISE's score.

Petsiuk et al., CVPR 2021, arXiv:2006.03204, section 3.2: s(d, M) = max over the detections j of the masked image of
IoU(box_d, box_j) * cos(P_d, P_j) * O_j. P holds the probabilities of a detection's classes. O_j is its objectness, and left out for
detectors that compute none. (Our P holds it as a factor, too, which no cosine sees.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .detections import Array, DetectionLimits, classes_of, corners, found, overlaps, scores_of
from .format.manifest import Manifest


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
    given = explained[image[:, None], :, picked].swapaxes(1, 2)  # [b,entries,R]
    shares, boxes, labels = scores_of(given, manifest), corners(given, spec, manifest.input), classes_of(given, spec)
    for b, own in enumerate(found(masked, manifest, limits)):
        for r in range(picked.shape[1]):
            alike = _cosines(shares[b, r], own.shares) if labels is None else own.index == labels[b, r]
            result[b, r, : spec.classes] = (overlaps(boxes[b, r], own.boxes) * alike * own.objectness).max(initial=0.0)
    return np.asarray(result, np.float32)


def _cosines(one: Array, others: Array) -> Array:
    """The cosine of [C] with each of [k,C]; 0 for a vector of zeros."""
    sizes = np.linalg.norm(one) * np.linalg.norm(others, axis=1)
    return np.asarray(np.divide(others @ one, sizes, out=np.zeros_like(sizes), where=sizes > 0), np.float32)
