"""The targets of dense scores: their regions laid on the images, and what they explain as entries of all regions' scores."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .dense_scores import own_output, predicted_by
from .explained_network import ExplainedNetwork
from .format.bundle import Manifest
from .forward import ForwardPass
from .regions import Regions
from .targets import CheckedTarget, Seed, Seen
from .targets.seeds import Array, Index

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Among:
    """A target whose regions are some of those of a forward pass.

    Attributes:
        target: The target.
        first: Its first entry among the entries of all regions.
        entries: How many are its own.
    """

    target: CheckedTarget
    first: int
    entries: int

    @property
    def classes(self) -> Index | None:
        """See `CheckedTarget.classes`."""
        return None

    @property
    def needs_logits(self) -> bool:
        """See `CheckedTarget.needs_logits`."""
        return self.target.needs_logits

    def part(self, start: int, stop: int) -> CheckedTarget:
        """See `CheckedTarget.part`."""
        return _Among(self.target.part(start, stop), self.first, self.entries)

    def seed(self, logits: Callable[[], Array]) -> Seed:
        """See `CheckedTarget.seed`."""
        own = self.target.seed(lambda: logits()[:, self.first : self.first + self.entries])
        return Seed(own.classes + self.first, own.weights, own.sign)

    def regions(self, seen: Seen) -> Array:
        """See `CheckedTarget.regions`."""
        return self.target.regions(seen)

    def titles(self, seed: Seed, label: Callable[[int], str], classes: int) -> tuple[str | None, ...]:
        """See `CheckedTarget.titles`."""
        return self.target.titles(seed, label, classes)


def in_regions(
    forward: ForwardPass,
    targets: Sequence[CheckedTarget],
    manifest: Manifest,
    sizes: Sequence[tuple[int, int] | None],
) -> tuple[ForwardPass, list[CheckedTarget]]:
    """The forward pass with the regions of all targets, and the targets among them.

    Args:
        forward: The images.
        targets: What is explained in them.
        manifest: The bundle's manifest.
        sizes: (height, width) of each image's photo; None for prepared inputs.

    Raises:
        TargetError: A region does not fit an image.
    """
    seen = seen_by(forward, manifest, sizes)
    regions, among, first = [], [], 0
    for target in targets:
        own = Regions.at(manifest, target.regions(seen))
        regions.append(own)
        among.append(_Among(target, first, own.entries))
        first += own.entries
    return forward.of_regions(Regions.join(regions)), list(among)


def seen_by(forward: ForwardPass, manifest: Manifest, sizes: Sequence[tuple[int, int] | None]) -> Seen:
    """What places are laid on; `sizes` as for `in_regions`."""
    return Seen(manifest.input, manifest.scores, sizes, lambda: predicted(forward, manifest), forward.detections)


def predicted(forward: ForwardPass, manifest: Manifest) -> Index:
    """The class that the network itself predicts at each position, see `predicted_by`."""
    return predicted_by(forward.outputs[own_output(manifest).tensor], manifest)


@dataclass(frozen=True, eq=False)
class Scored:
    """What one target explains: the seed over the classes, their logits [n,classes], for a region their mean probabilities, the
    number explained, [n], and of a detector the rows that it reads, [n,R]."""

    seed: Seed
    logits: Array
    shares: Array | None
    score: Array
    titles: tuple[str | None, ...]
    rows: Index | None = None

    @classmethod
    def of(cls, forward: ForwardPass, target: CheckedTarget, seed: Seed, network: ExplainedNetwork) -> Scored:
        """See the attributes."""
        titles, score = target.titles(seed, network.label, forward.classes), seed.of(forward.logits)
        if forward.opened.manifest.scores.normalised:
            _warn_of_own_references(seed, score)
        if not forward.opened.is_dense:
            return cls(seed, forward.logits, None, score, titles)
        first = int(seed.classes[0, 0]) // forward.classes * forward.classes  # the target's first region
        rows = None
        if forward.opened.manifest.scores.rows is not None and forward.regions.where is not None:
            regions = np.unique(seed.classes // forward.classes)
            rows = forward.regions.where[:, regions].argmax(axis=2)
        own = slice(first, first + forward.classes)
        shares = None if forward.shares is None else forward.shares[:, own]
        return cls(
            replace(seed, classes=seed.classes % forward.classes), forward.logits[:, own], shares, score, titles, rows
        )


def _warn_of_own_references(seed: Seed, score: Array) -> None:
    """At a cosine of 1 the slope is 0: what a gradient holds there is rounding. A contrast is not of length 1."""
    alone = np.abs(np.linalg.norm(seed.weights, axis=1) - 1) < 1e-3
    if same := int((alone & (np.abs(score) > 1 - 1e-6)).sum()):
        log.warning(
            "%d of %d images are the same as what they are compared with: a cosine of 1 has no slope, so maps of gradients and "
            "relevance show rounding alone; give another reference",
            same,
            len(score),
        )


def shares_of(scored: Sequence[Scored]) -> Array | None:
    """The mean probabilities of all chunks, [N,classes]; None if there are none."""
    known = [one.shares for one in scored if one.shares is not None]
    return np.concatenate(known) if known else None


def rows_of(scored: Sequence[Scored]) -> tuple[tuple[int, ...], ...]:
    """The rows of a detector that are explained in each image of all chunks, each once; none for other networks.

    An image with one region beside images with two repeats it.
    """
    return tuple(tuple(dict.fromkeys(map(int, image))) for one in scored if one.rows is not None for image in one.rows)
