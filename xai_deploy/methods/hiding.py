"""What LIME and the SHAP family share: the score of one image with some of its segments hidden."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..baselines import Baseline, empty, segment_means
from ..errors import OptionError
from .method import Array, Forward, Index, Score, Seed, score_explained
from .segments import check_segments, segments

log = logging.getLogger(__name__)

Hidden = Baseline | Literal["segment"]
"""What replaces a hidden segment: see `baselines.Baseline`; "segment" is the segment's own mean colour."""
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
        score: Which score of the network counts.
        seeds: What is explained in this image, T seeds of one row.
    """

    forward: Forward
    image: int
    labels: Index
    behind: NDArray[Any]
    score: Score
    seeds: Sequence[Seed]

    @property
    def count(self) -> int:
        """M, the number of segments."""
        return int(self.labels.max()) + 1

    @property
    def sizes(self) -> NDArray[np.int64]:
        """The pixels of each segment, [M]."""
        return np.bincount(self.labels.ravel())

    def scores(self, shown: Shown, label: str = "") -> Numbers:
        """The scores explained, [T,r], of the image with the segments of each row of [r,M] shown and the others hidden.

        Args:
            shown: Which segments are visible.
            label: The name of a progress bar; none if it is empty.
        """
        size = self.forward.batch_size
        starts: Iterator[int] | range = range(0, len(shown), size)
        if label:
            images = len(self.forward.x)
            which = f", image {self.image + 1} of {images}" if images > 1 else ""
            starts = self.forward.progress(starts, len(range(0, len(shown), size)), f"batches of {label}{which}")
        return np.concatenate([self._batch(shown[start : start + size]) for start in starts], axis=1)

    def _batch(self, shown: Shown) -> Numbers:
        masks: Array = shown.astype(np.float32)[:, self.labels]  # [b,H,W]
        x = self.forward.masked_input(self.image, masks, self.behind[None])
        scores = self.forward.network(x, np.full(len(masks), self.image), self.score)
        return np.stack([score_explained(self.score, seed, scores) for seed in self.seeds]).astype(np.float64)


def hidings(
    name: str, forward: Forward, seeds: Sequence[Seed], written: str, baseline: Hidden, score: Score
) -> Iterator[Hiding]:
    """Each image of a chunk, cut into the segments that `written` describes."""
    for i, labels in enumerate(segments(name, written, forward)):
        x = forward.x[i]
        behind = segment_means(x, forward.spec, labels) if baseline == "segment" else empty(x, forward.spec, baseline)
        yield Hiding(forward, i, labels, behind, score, [seed.rows(np.array([i])) for seed in seeds])


def painted(
    forward: Forward,
    images: Iterator[Hiding],
    values: Callable[[Hiding], tuple[Numbers, Numbers]],
    diagnostic: str,
    shared: bool = False,
) -> Array:
    """Maps [T,n,H,W] of a value per segment; what is said of them is reported.

    Args:
        forward: The chunk.
        images: Its images.
        values: Gives the values [T,M] of an image's segments, and a number [T] that is reported.
        diagnostic: The name of that number.
        shared: Divide each segment's value among its pixels.
    """
    maps, notes = [], []
    for one in images:
        own, note = values(one)
        own = own / one.sizes if shared else own
        maps.append(own[:, one.labels].astype(np.float32))
        notes.append(note)
    forward.report(diagnostic, np.stack(notes, axis=1))
    return np.stack(maps, axis=1)


def check_hiding(name: str, written: str, samples: int, least: int, seed: int = 0) -> None:
    """Refuse options that describe nothing.

    Raises:
        OptionError: The segments are described otherwise, there are fewer samples than `least`, or the seed is negative.
    """
    check_segments(name, written)
    if samples < least:
        raise OptionError(f"{name}: samples are at least {least}, not {samples}")
    if seed < 0:
        raise OptionError(f"{name}: seed is 0 or more, not {seed}")


def mean_error(name: str, values: Numbers, errors: Numbers) -> Numbers:
    """The root mean square [T] of the standard errors of segments' values, [T,M] each; a warning if it is above half of theirs."""
    error, size = (np.asarray(np.sqrt((one**2).mean(axis=-1))) for one in (errors, values))
    if (error > size / 2).any():
        log.warning("%s: chance makes more than half of the values; give more samples, or fewer segments", name)
    return error
