"""What is explained in some images, settled once: to ask the same of other inputs made of them, or of another network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from .errors import TargetError
from .explainer import Explainer
from .forward import ForwardPass
from .in_regions import seen_by
from .matching import matched
from .preprocess import Prepared
from .regions import Regions
from .targets import Settled, Target, read_one
from .targets.seeds import Index

Array = NDArray[np.float32]
Size = tuple[int, int] | None


def settle(explainer: Explainer, images: Prepared, target: Target, sizes: Sequence[Size]) -> Settled:
    """The target with the predicted classes, the regions and the references of n images. The network runs once.

    Args:
        explainer: The network.
        images: What `Explainer.prepare` gave.
        target: As for `Explainer.explain`.
        sizes: (height, width) of each photo; regions are given in its pixels. None: in those of the network's input.

    Raises:
        TargetError: It is no target, or several; a region does not fit its image.
    """
    wanted = read_one(target, len(images.x), explainer.space)
    manifest, parts = explainer.bundle.manifest, []
    for rows, forward in explainer.passes(images):
        own = wanted.part(rows.start, rows.stop)
        where = None
        forward.sizes = sizes[rows.start : rows.stop]
        if manifest.scores.by_region:
            where = own.regions(seen_by(forward, manifest, forward.sizes))
        seed = own.seed(partial(_logits, _in(forward, where)))
        parts.append(Settled(seed, where, own.titles(seed, explainer.network.label, manifest.classes)))
    return Settled.join(parts)


def _in(forward: ForwardPass, where: Array | None) -> ForwardPass:
    """The same images, with their regions."""
    return forward if where is None else forward.of_regions(Regions.at(forward.opened.manifest, where))


def _logits(forward: ForwardPass) -> Array:
    return forward.logits


def settle_each(
    explainer: Explainer, images: Prepared, target: Target, sizes: Sequence[Size]
) -> list[Settled | TargetError]:
    """As `settle`, one target for each image; the error for an image that its region does not fit."""
    count = len(images.x)
    try:
        whole = settle(explainer, images, target, sizes)
        return [whole.rows(np.array([i])) for i in range(count)]
    except TargetError as error:
        if count == 1:
            return [error]
    alone = [(images.rows(slice(i, i + 1)), sizes[i : i + 1]) for i in range(count)]
    return [one for image, size in alone for one in settle_each(explainer, image, target, size)]


def rows_of(explainer: Explainer, images: Prepared) -> Array:
    """The rows of a detector, [n,entries,rows]."""
    return np.concatenate([forward.rows for _, forward in explainer.passes(images)])


def likeness(explainer: Explainer, images: Prepared, settled: Settled, explained: Array, image: Index) -> Array:
    """D-RISE's score of the detections explained, in other inputs made of their images: see `matching`. [n], 0 to 1.

    Args:
        explainer: A detector.
        images: The inputs.
        settled: For each input the row that is explained in its image.
        explained: The rows of the images themselves, [m,entries,rows].
        image: Of which of the m images each input is made, [n].
    """
    assert settled.where is not None  # the row
    parts = []
    for rows, forward in explainer.passes(images):
        best = matched(
            explained, forward.rows, image[rows], settled.where[rows], explainer.bundle.manifest, explainer.limits
        )
        parts.append(best[:, 0, 0])
    return np.concatenate(parts)


def scores(explainer: Explainer, images: Prepared, settled: Settled, probability: bool) -> Array:
    """The number explained, of other inputs: row i has the target of row i, [n].

    Args:
        explainer: The network.
        images: What `Explainer.prepare` gave, or inputs made of that.
        settled: What is explained in each.
        probability: The score of probabilities in place of that of the scores before them, if the network has any.
    """
    parts = []
    for rows, forward in explainer.passes(images):
        own = settled.rows(np.arange(rows.start, rows.stop))
        laid = _in(forward, own.where)
        shares = laid.shares if probability else None
        parts.append(own.seed.of(laid.logits) if shares is None else own.seed.of_probabilities(shares))
    return np.concatenate(parts)
