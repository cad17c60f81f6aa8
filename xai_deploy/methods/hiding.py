"""What LIME and the SHAP family share: the score of one image with some of its segments hidden."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..baselines import Baseline, empty, segment_means
from ..errors import OptionError
from .method import Array, Forward, Index, Score, Seed
from .scores_seen import ScoresSeen
from .segments import check_segments, segments
from .ticking import ticking
from .tolerance import check_tolerance, warn_of_tolerance

log = logging.getLogger(__name__)

Hidden = Baseline | Literal["segment"]
"""What replaces a hidden segment: see `baselines.Baseline`; "segment" is the segment's own mean colour."""
STEP = 64  # samples between two looks at a tolerance; fixed, so that no map depends on the batch size
Numbers = NDArray[np.float64]
Shown = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Hiding:
    """One image of a chunk, cut into segments.

    Attributes:
        forward: The chunk.
        image: The image's index in it.
        labels: The segment of each pixel, 0, 1, 2, ..., [H,W].
        behind: What hidden segments show, an input [...].
        seen: Which score of the network counts, of which targets.
    """

    forward: Forward
    image: int
    labels: Index
    behind: NDArray[Any]
    seen: ScoresSeen

    @property
    def count(self) -> int:
        """M, the number of segments."""
        return int(self.labels.max()) + 1

    @property
    def sizes(self) -> NDArray[np.int64]:
        """The pixels of each segment, [M]."""
        return np.bincount(self.labels.ravel())

    @property
    def which(self) -> str:
        """For a progress bar, which image of several it is."""
        images = len(self.forward.x)
        return f", image {self.image + 1} of {images}" if images > 1 else ""

    def scores(self, shown: Shown, tick: Callable[[int], None] = lambda count: None) -> Numbers:
        """The scores explained, [T,r], of the image with the segments of each row of [r,M] shown and the others hidden.

        Args:
            shown: Which segments are visible.
            tick: Is told how many rows are done.
        """
        found = []
        for start in range(0, len(shown), self.forward.batch_size):
            rows = shown[start : start + self.forward.batch_size]
            found.append(self._batch(rows))
            tick(len(rows))
        return np.concatenate(found, axis=1)

    def _batch(self, shown: Shown) -> Numbers:
        masks: Array = shown.astype(np.float32)[:, self.labels]  # [b,H,W]
        x = self.forward.masked_input(self.image, masks, self.behind[None])
        scores = self.forward.network(x, np.full(len(masks), self.image), self.seen.score)
        return self.seen.of_all(self.image, scores).astype(np.float64)


def hidings(
    name: str, forward: Forward, seeds: Sequence[Seed], written: str, baseline: Hidden, score: Score
) -> Iterator[Hiding]:
    """Each image of a chunk, cut into the segments that `written` describes."""
    seen = ScoresSeen(name, score, seeds, len(forward.x))
    for i, labels in enumerate(segments(name, written, forward)):
        x = forward.x[i]
        behind = segment_means(x, forward.spec, labels) if baseline == "segment" else empty(x, forward.spec, baseline)
        yield Hiding(forward, i, labels, behind, seen)


@dataclass(frozen=True, eq=False)
class Valued:
    """The values of an image's segments.

    Attributes:
        values: [T,M].
        said: What is reported of them, name -> [T].
        passes: How many images were seen.
    """

    values: Numbers
    said: Mapping[str, Numbers]
    passes: Numbers


def painted(
    forward: Forward, images: Iterator[Hiding], values: Callable[[Hiding], Valued], shared: bool = False
) -> Array:
    """Maps [T,n,H,W] of a value per segment; what is said of them is reported.

    Args:
        forward: The chunk.
        images: Its images.
        values: Gives the values of an image's segments.
        shared: Divide each segment's value among its pixels.
    """
    maps, notes = [], []
    for one in images:
        found = values(one)
        own = found.values / one.sizes if shared else found.values
        maps.append(own[:, one.labels].astype(np.float32))
        notes.append({**found.said, "passes": found.passes})
    one.seen.tell(forward)
    for name in notes[0]:
        forward.report(name, np.stack([note[name] for note in notes], axis=1))
    return np.stack(maps, axis=1)


def drawn(
    name: str,
    image: Hiding,
    rows: Shown,
    least: int,
    tolerance: float | None,
    fit: Callable[[Shown, Numbers], tuple[Numbers, Numbers]],
    beside: int = 0,
) -> Valued:
    """The values of an image's segments from sets that are drawn at random: of all, or of so many as a tolerance needs.

    Args:
        name: The method.
        image: The image.
        rows: Sets of segments [r,M], in the order in which they are seen.
        least: The fewest of which values can be made.
        tolerance: The standard error at which a target's values are settled, as a share of their root mean square; None: see all.
        fit: Sets [r,M] and their scores [T,r] -> values and standard errors [T,M].
        beside: How many images were seen beside these.
    """
    targets = image.seen.targets
    values, errors = np.zeros((targets, image.count)), np.zeros(targets)
    passes, waiting = np.zeros(targets), np.ones(targets, bool)
    scores = np.zeros((targets, 0))
    ends = [len(rows)] if tolerance is None else [*range(-(-least // STEP) * STEP, len(rows), STEP), len(rows)]
    with ticking(image.forward, len(rows), f"samples of {name}{image.which}") as tick:
        for end in ends:
            seen = scores.shape[1]
            scores = np.concatenate([scores, image.scores(rows[seen:end], tick)], axis=1)
            own, theirs = fit(rows[:end], scores)
            error = root_mean_square(theirs)
            values[waiting], errors[waiting], passes[waiting] = own[waiting], error[waiting], end + beside
            if tolerance is not None:
                waiting &= error > tolerance * root_mean_square(own)
            if not waiting.any():
                break
    size = root_mean_square(values)
    if (errors > size / 2).any():
        log.warning("%s: chance makes more than half of the values; give more samples, or fewer segments", name)
    relative = errors / np.maximum(size, 1e-60)  # below all that float32 holds
    warn_of_tolerance(name, tolerance, relative, "samples")
    return Valued(values, {"standard_error": errors, "relative_error": relative}, passes)


def check_hiding(
    name: str, written: str, samples: int, least: int, seed: int = 0, tolerance: float | None = None
) -> None:
    """Refuse options that describe nothing.

    Raises:
        OptionError: The segments are described otherwise, there are fewer samples than `least`, the seed is negative, or the
            tolerance is not above 0.
    """
    check_segments(name, written)
    check_tolerance(name, tolerance)
    if samples < least:
        raise OptionError(f"{name}: samples are at least {least}, not {samples}")
    if seed < 0:
        raise OptionError(f"{name}: seed is 0 or more, not {seed}")


def root_mean_square(values: Numbers) -> Numbers:
    """Over the segments, [T,M] -> [T]."""
    return np.asarray(np.sqrt((values**2).mean(axis=-1)), np.float64)
