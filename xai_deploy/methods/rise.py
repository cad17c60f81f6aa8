"""RISE: random masks, weighted by the network's score for the masked image (Petsiuk et al. 2018, arXiv:1806.07421)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import ClassVar, Literal

import numpy as np

from .. import resample
from ..errors import OptionError
from ..format.bundle import Manifest
from .balanced_grids import balanced
from .mask_regression import Drawn, Model
from .method import (
    Array,
    Forward,
    Method,
    Score,
    Seed,
    methods,
    require_varying_score,
    why_no_score,
)
from .rise_masks import Enlarged, Numbers
from .scores_seen import ScoresSeen
from .tolerance import check_tolerance, warn_of_tolerance

_STEP = 64  # masks between two looks at the tolerance; fixed, so that no map depends on the batch size
_LEAST = 256  # before a regression's error is believed
_LATER = 1.25  # times as many masks between two looks at a regression, which costs more than a mean


@methods.register("rise")
@dataclass(frozen=True)
class Rise(Method):
    """L = 1/(N p) * sum_i f(x * M_i)_c M_i (equation 6): the black-box reference, N full inferences for each image.

    A mask M_i starts as a grid of `cells` x `cells`, each 1 with probability p and else 0. The grid is enlarged bilinearly to
    (cells + 1) / cells of the image and cropped to it at a random offset, as in the authors' code. One thing differs: here
    the grid's edge is repeated outside its border, theirs is mirrored. x is the preprocessed input. All images get the same
    masks, streamed in batches of any size, for all targets at once; the first masks of a seed do not depend on their number.

    The explanation's diagnostics hold the `passes` and the `relative_error`: the map's standard error over other draws of masks, as
    root mean square over the pixels, as a share of the standard deviation of the map over its pixels (without its mean, which no
    picture shows). That of a regression is the standard error of what the model leaves, times a caution, see `mask_regression`.

    Attributes:
        masks: N; the paper uses 4000 to 8000. With `tolerance`, the most.
        cells: Cells along each side of the grid.
        p: Probability that a cell is left visible, between 0 and 1.
        score: f: the network's own "probability" (softmax, sigmoid, or another output), its "logit", or the "softmax" of
            the logits, for any network.
        seed: Seed of the masks, 0 or more.
        estimate: "mean": equation 6. "regression" tends to the same map with about a third of the masks, see `mask_regression`.
        draw: "independent" masks, as in the paper, or "balanced" ones: each mask is as likely as before, but they come in pairs
            of opposite grids, from Hadamard matrices, see `balanced_grids`. About half as many are as good. It needs p = 0.5.
        tolerance: Draw masks until the relative error is at most this, 64 at a time, or for a regression from 256 on a quarter more
            at a time; each map gets as many as it needs.

    Raises:
        OptionError: `masks` or `cells` below 1, `seed` below 0, `p` not between 0 and 1 (or not 0.5 for balanced masks), or a
            tolerance that is not above 0.
    """

    masks: int = 4000
    cells: int = 8
    p: float = 0.5
    score: Score = "probability"
    seed: int = 0
    estimate: Literal["mean", "regression"] = "mean"
    draw: Literal["independent", "balanced"] = "independent"
    tolerance: float | None = None

    shows: ClassVar[str] = "random masks, weighted by the score of the image under each"
    plainly: ClassVar[str] = "A place is bright if the score is higher in the random views that show it."
    passes: ClassVar[str] = "4000, 1 per mask"
    slow: ClassVar[bool] = True
    needs_layer: ClassVar[bool] = False
    roles: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        if self.masks < 1 or self.cells < 1 or self.seed < 0:
            raise OptionError("rise: masks and cells are at least 1, seed at least 0")
        if not 0 < self.p < 1:
            raise OptionError(f"rise: p is between 0 and 1, not {self.p}")
        if self.draw == "balanced" and self.p != 0.5:
            raise OptionError(f"rise: balanced masks show half of the cells: p is 0.5 for them, not {self.p}")
        check_tolerance("rise", self.tolerance)

    def why_not(self, manifest: Manifest) -> str | None:
        """See `Method.why_not`."""
        return why_no_score(self.score, manifest)

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,H,W]; see `Method.maps`."""
        require_varying_score("rise", self.score, forward)
        count, size = len(forward.x), forward.image_size
        drawn = Drawn(Enlarged(size, self.cells, self.p), self.seed, in_pairs=self.draw == "balanced")
        told = [[_Told(np.zeros(size)) for _ in range(count)] for _ in seeds]
        seen = ScoresSeen("rise", self.score, seeds, count)
        looked = 0
        draws = self._draws(np.random.default_rng(self.seed), *size)
        starts = self._starts(forward.batch_size)
        for start, end in forward.progress(starts, len(starts), "batches of rise"):
            grids, corners = zip(*islice(draws, end - start), strict=True)
            masks = np.stack([self._enlarged(*one, *size) for one in zip(grids, corners, strict=True)])
            drawn.add(np.stack(grids).astype(np.float64), np.array(corners))
            for image in range(count):  # all images get the same masks, so these are drawn once per batch
                waiting = [(target, own[image]) for target, own in enumerate(told) if not own[image].done]
                if waiting:
                    scores = forward.network(forward.masked_input(image, masks), np.full(len(masks), image), self.score)
                for target, one in waiting:
                    one.add(seen.of_target(target, image, scores), masks)
            if end == self.masks or self._looks(end, looked):
                looked = end
                self._judge([one for own in told for one in own if not one.done], drawn, end == self.masks)
            if all(one.done for own in told for one in own):
                break
        for name in ("passes", "relative_error"):
            forward.report(name, np.array([[getattr(one, name) for one in own] for own in told], np.float64))
        seen.tell(forward)
        errors = np.array([[one.relative_error for one in own] for own in told])
        warn_of_tolerance("rise", self.tolerance, errors, "masks")
        maps = [one.total / (one.passes * self.p) for own in told for one in own]  # E[M] is p, hence the division
        if self.estimate == "regression":
            every = [one for own in told for one in own]
            parts = drawn.maps([one.model for one in every if one.model is not None])
            maps = [one.scores.mean() + part / self.p for one, part in zip(every, parts, strict=True)]
        return np.asarray(maps, np.float32).reshape(len(seeds), count, *size)

    def _looks(self, end: int, looked: int) -> bool:
        """Whether the errors are looked at after so many masks."""
        if self.tolerance is None or end % _STEP:
            return False
        return self.estimate == "mean" or end >= max(_LEAST, _LATER * looked)

    def _starts(self, batch_size: int) -> list[tuple[int, int]]:
        """The first and last masks of the batches; with a tolerance they end where it is looked at."""
        blocks = range(0, self.masks, _STEP if self.tolerance is not None else self.masks)
        ends = [min(block + blocks.step, self.masks) for block in blocks]
        return [
            (start, min(start + batch_size, end))
            for block, end in zip(blocks, ends, strict=True)
            for start in range(block, end, batch_size)
        ]

    def _judge(self, waiting: Sequence[_Told], drawn: Drawn, last: bool) -> None:
        """State the errors of maps, and end those whose errors are small enough."""
        scores = [one.scores for one in waiting]
        if self.estimate == "regression":
            for one, model in zip(waiting, drawn.fit(scores), strict=True):
                one.model = model
        for one, own in zip(waiting, scores, strict=True):
            one.relative_error = drawn.relative_error(own, one.model)
            one.done = last or (self.tolerance is not None and one.relative_error <= self.tolerance)

    def _draws(self, rng: np.random.Generator, *size: int) -> Iterator[tuple[Array, tuple[int, ...]]]:
        """The grids, 1 where visible, and their offsets, without end."""
        if self.draw == "independent":
            while True:
                yield self._grid(rng, *size)
        for grid in balanced(rng, (self.cells,) * len(size)):
            offset = self._offset(rng, size)
            yield grid, offset
            yield 1 - grid, offset

    def _mask(self, rng: np.random.Generator, *size: int) -> Array:
        """The next mask, [H,W] in [0,1]; masks are drawn one by one, so they do not depend on the batch size."""
        return self._enlarged(*self._grid(rng, *size), *size)

    def _grid(self, rng: np.random.Generator, *size: int) -> tuple[Array, tuple[int, ...]]:
        """The next grid, 1 where visible, and its offset."""
        grid = (rng.random((self.cells,) * len(size)) < self.p).astype(np.float32)
        return grid, self._offset(rng, size)

    def _offset(self, rng: np.random.Generator, size: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(int(rng.integers(side)) for side in self._sides(size))

    def _sides(self, size: tuple[int, ...]) -> list[int]:
        """Pixels of a cell along each axis, rounded up."""
        return [-(-side // self.cells) for side in size]

    def _enlarged(self, grid: Array, corner: tuple[int, ...], *size: int) -> Array:
        """The mask of a grid. Only the crop is computed.

        It fits at every offset: cells * side >= size, and the enlarged grid has `side` more pixels.
        """
        return resample.resize(grid, *((self.cells + 1) * side for side in self._sides(size)), part=(*corner, *size))


@dataclass(eq=False)
class _Told:
    """What the masks tell of one image and target.

    Attributes:
        total: The sum of the masks, weighted; float64, since thousands of terms are added up.
        batches: The scores of the masks.
        done: The map is settled.
        relative_error: See `Drawn.relative_error`.
        model: Of the regression.
    """

    total: Numbers
    batches: list[Array] = field(default_factory=list)
    done: bool = False
    relative_error: float = 0.0
    model: Model | None = None

    @property
    def scores(self) -> Numbers:
        """Of the masks seen, [n]."""
        return np.concatenate(self.batches).astype(np.float64)

    @property
    def passes(self) -> int:
        """The masks seen."""
        return sum(map(len, self.batches))

    def add(self, scores: Array, masks: Array) -> None:
        """Take the scores [b] of masks [b,H,W]."""
        self.batches.append(scores)
        self.total += np.tensordot(scores, masks, 1)  # [b] . [b,H,W] -> [H,W], summed in float64
