"""Partition SHAP: Owen values over a hierarchy of segments (Lundberg's shap.PartitionExplainer; Owen 1977)."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

import numpy as np

from ..format.bundle import Manifest
from .hiding import Hidden, Hiding, Numbers, Shown, Valued, check_hiding, hidings, painted
from .method import (
    Array,
    Forward,
    Index,
    Method,
    Score,
    Seed,
    methods,
    require_varying_score,
    why_no_score,
)
from .segments import centres
from .tolerance import warn_of_tolerance

_WAVE = 8  # groups split at a time; fixed, so that no map depends on the batch size


@methods.register("partition-shap")
@dataclass(frozen=True)
class PartitionShap(Method):
    """Owen values: the score's change is shared out to halves of the image, each half's share to its own halves, and so on.

    A group G of segments beside a context S that is shown takes f(S + G) - f(S). Its halves L and R share that by Shapley's values
    of two: L takes the mean of f(S + L) - f(S) and f(S + L + R) - f(S + R), each split further in its own context. The groups are
    halved along their longer side, so those of a grid are rectangles. The group with the largest share is split first. When the
    samples are used up, the groups that are left divide their share evenly among their segments. Nothing is random.

    The map holds a segment's value divided among its pixels, so its sum is f(1) - f(0). Nothing is drawn at random, so there is no
    standard error; `unsplit`, reported with the map, is the part of the shares' magnitude that groups of several segments hold at
    the end: 0 if the values are those of the definition. That takes about 2/3 M^2 samples for M segments.

    Attributes:
        segments: "grid:N" (N x N cells), "slic:N" (about N superpixels; extra `segments`), or a file of labels (.npy, .png).
        samples: Images seen besides the whole one and the baseline, for each target.
        baseline: What a hidden segment shows, see `hiding.Hidden`.
        score: f: the network's own "probability" (softmax, sigmoid, or another output), its "logit", or the "softmax" of
            the logits, for any network.
        tolerance: Split groups until `unsplit` is at most this; `samples` are the most.

    Raises:
        OptionError: Segments that are described otherwise, fewer than 2 samples, or a tolerance that is not above 0.
    """

    segments: str = "grid:14"
    samples: int = 500
    baseline: Hidden = "mean"
    score: Score = "probability"
    tolerance: float | None = None

    shows: ClassVar[str] = "segments, each with its Owen value"
    plainly: ClassVar[str] = (
        "A part is bright if showing it raises the score, on average over orders that keep neighbours together."
    )
    passes: ClassVar[str] = "502, 1 per sample"
    slow: ClassVar[bool] = True
    needs_layer: ClassVar[bool] = False
    roles: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        check_hiding("partition-shap", self.segments, self.samples, 2, tolerance=self.tolerance)

    def signed(self, contrast: bool) -> bool:
        """See `Method.signed`."""
        return True

    def why_not(self, manifest: Manifest) -> str | None:
        """See `Method.why_not`."""
        return why_no_score(self.score, manifest)

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,H,W]; see `Method.maps`."""
        require_varying_score("partition-shap", self.score, forward)
        images = hidings("partition-shap", forward, seeds, self.segments, self.baseline, self.score)
        return painted(forward, images, self._values, shared=True)

    def _values(self, image: Hiding) -> Valued:
        """The Owen values [T,M]; what is said of them is the part that was not split."""
        place, known, whole = centres(image.labels), _Scores(image), np.arange(image.count)
        shared = [self._shared(_Group(whole, place), known, t) for t in range(image.seen.targets)]
        values, unsplit, passes = zip(*shared, strict=True)
        warn_of_tolerance("partition-shap", self.tolerance, np.array(unsplit), "samples")
        return Valued(np.stack(values), {"unsplit": np.array(unsplit)}, np.array(passes, np.float64))

    def _shared(self, whole: _Group, known: _Scores, target: int) -> tuple[Numbers, float, int]:
        """Its value [M] of each segment, the part that was not split, and the images seen, of one target."""
        count = len(whole.members)
        none, every = np.zeros(count, bool), np.ones(count, bool)
        f0, f1 = known.of(np.stack([none, every]))[:, target]
        values, used, order = np.zeros(count), 0, itertools.count()
        waiting: list[_Entry] = [(-abs(f1 - f0), next(order), whole, none, f0, f1, 1.0)]
        label = f"waves of partition-shap, image {known.image.image + 1}, target {target + 1}"
        waves = range(self.samples // 2 + 1)  # at most; most of them split `_WAVE` groups
        for _ in known.image.forward.progress(waves, -(-self.samples // (2 * _WAVE)) + 2, label):
            wave: list[_Entry] = []
            while waiting and len(wave) < min(_WAVE, (self.samples - used) // 2):
                entry = heapq.heappop(waiting)
                if len(entry[2].members) == 1:
                    values[entry[2].members] += (entry[5] - entry[4]) * entry[6]
                else:
                    wave.append(entry)
            if not wave or (self.tolerance is not None and _unsplit(values, waiting + wave) <= self.tolerance):
                waiting += wave
                break
            used += 2 * len(wave)
            sets = [entry[3] | half.shows(count) for entry in wave for half in entry[2].halves]
            scores = known.of(np.stack(sets))[:, target].reshape(-1, 2)
            for (_, _, group, context, low, high, weight), (one, other) in zip(wave, scores, strict=True):
                (a, b), half = group.halves, weight / 2
                for part, beside, without, with_it in (
                    (a, context, low, one),
                    (b, context, low, other),
                    (a, context | b.shows(count), other, high),
                    (b, context | a.shows(count), one, high),
                ):
                    magnitude = abs(with_it - without) * half
                    heapq.heappush(waiting, (-magnitude, next(order), part, beside, without, with_it, half))
        unsplit = _unsplit(values, waiting)
        for _, _, group, _, low, high, weight in waiting:
            values[group.members] += (high - low) * weight / len(group.members)
        return values, unsplit, used + 2


@dataclass(frozen=True, eq=False)
class _Group:
    """Segments that are hidden and shown together.

    Attributes:
        members: Their labels.
        place: The centre of every segment, [M,axes].
    """

    members: Index
    place: Numbers
    _halves: list[_Group] = field(default_factory=list)

    @property
    def halves(self) -> list[_Group]:
        """Two groups, split across the longer side at the gap between two positions that is nearest to the middle."""
        if not self._halves:
            own = self.place[self.members]
            axis = int(np.ptp(own, axis=0).argmax())
            order = np.lexsort((*own.T, own[:, axis]))
            line = own[order, axis]
            gaps = np.flatnonzero(np.diff(line) > 1e-9) + 1
            if len(gaps) == 0:  # all centres coincide, as of rings
                gaps = np.arange(1, len(line))
            cut = gaps[np.abs(2 * gaps - len(line)).argmin()]
            parts = self.members[order[:cut]], self.members[order[cut:]]
            self._halves.extend(_Group(part, self.place) for part in parts)
        return self._halves

    def shows(self, count: int) -> Shown:
        """Which of all segments it holds, [M]."""
        shown = np.zeros(count, bool)
        shown[self.members] = True
        return shown


_Entry: TypeAlias = tuple[float, int, _Group, Shown, float, float, float]
"""(-magnitude of the share, order of entry, group, context, score without the group, score with it, weight)"""


def _unsplit(values: Numbers, waiting: Sequence[_Entry]) -> float:
    """The part of the shares' magnitude that groups of several segments hold."""
    shares = [(abs(entry[0]), len(entry[2].members) > 1) for entry in waiting]
    every = float(np.abs(values).sum()) + sum(share for share, _ in shares)
    return sum(share for share, several in shares if several) / every if every else 0.0


class _Scores:
    """The scores of one image, each set of segments seen once for all targets."""

    def __init__(self, image: Hiding) -> None:
        self.image = image
        self._known: dict[bytes, Numbers] = {}

    def of(self, shown: Shown) -> Numbers:
        """The scores [r,T] of sets of segments [r,M]."""
        keys = [np.packbits(row).tobytes() for row in shown]
        new = list({key: i for i, key in enumerate(keys) if key not in self._known}.values())
        if new:
            self._known.update(zip([keys[i] for i in new], self.image.scores(shown[new]).T, strict=True))
        return np.stack([self._known[key] for key in keys])
