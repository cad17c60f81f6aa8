"""RISE: random masks, weighted by the network's score for the masked image (Petsiuk et al. 2018, arXiv:1806.07421)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from .. import resample
from ..errors import OptionError
from ..format.bundle import Manifest
from .mask_regression import Coarse, Model, Numbers, fitted, relative_error
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
from .scores_seen import ScoresSeen
from .tolerance import check_tolerance, warn_of_tolerance

_STEP = 64  # masks between two looks at the tolerance; fixed, so that no map depends on the batch size


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
    picture shows).

    Attributes:
        masks: N; the paper uses 4000 to 8000. With `tolerance`, the most.
        cells: Cells along each side of the grid.
        p: Probability that a cell is left visible, between 0 and 1.
        score: f: the network's own "probability" (softmax, sigmoid, or another output), its "logit", or the "softmax" of
            the logits, for any network.
        seed: Seed of the masks, 0 or more.
        estimate: "mean": equation 6. "regression" tends to the same map with fewer masks, see `mask_regression`.
        tolerance: Draw masks, 64 at a time, until the relative error is at most this; each map gets as many as it needs.

    Raises:
        OptionError: `masks` or `cells` below 1, `seed` below 0, `p` not between 0 and 1, or a tolerance that is not above 0.
    """

    masks: int = 4000
    cells: int = 8
    p: float = 0.5
    score: Score = "probability"
    seed: int = 0
    estimate: Literal["mean", "regression"] = "mean"
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
        check_tolerance("rise", self.tolerance)

    def why_not(self, manifest: Manifest) -> str | None:
        """See `Method.why_not`."""
        return why_no_score(self.score, manifest)

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,H,W]; see `Method.maps`."""
        require_varying_score("rise", self.score, forward)
        count, size = len(forward.x), forward.image_size
        coarse = Coarse(size, self.cells, self.p)
        told = [[_Told(np.zeros(size)) for _ in range(count)] for _ in seeds]
        seen = ScoresSeen("rise", self.score, seeds, count)
        values, spread = np.zeros((0, len(coarse.own))), np.zeros(0)
        rng = np.random.default_rng(self.seed)
        starts = self._starts(forward.batch_size)
        for start, end in forward.progress(starts, len(starts), "batches of rise"):
            masks = np.stack([self._mask(rng, *size) for _ in range(start, end)])
            values = np.concatenate([values, coarse.values(masks)])
            spread = np.concatenate([spread, masks.reshape(len(masks), -1).var(axis=1, dtype=np.float64)])
            for image in range(count):  # all images get the same masks, so these are drawn once per batch
                waiting = [(target, own[image]) for target, own in enumerate(told) if not own[image].done]
                if waiting:
                    scores = forward.network(forward.masked_input(image, masks), np.full(len(masks), image), self.score)
                for target, one in waiting:
                    one.add(seen.of_target(target, image, scores), masks)
            if end == self.masks or (self.tolerance is not None and end % _STEP == 0):
                for one in (one for own in told for one in own if not one.done):
                    self._judge(one, coarse, values, spread, end == self.masks)
            if all(one.done for own in told for one in own):
                break
        for name in ("passes", "relative_error"):
            forward.report(name, np.array([[getattr(one, name) for one in own] for own in told], np.float64))
        seen.tell(forward)
        errors = np.array([[one.relative_error for one in own] for own in told])
        warn_of_tolerance("rise", self.tolerance, errors, "masks")
        if self.estimate == "regression":
            self._residuals(told, size)
        maps = [[one.map(coarse, self.p) for one in own] for own in told]
        return np.asarray(maps, np.float32)

    def _starts(self, batch_size: int) -> list[tuple[int, int]]:
        """The first and last masks of the batches; with a tolerance they end where it is looked at."""
        blocks = range(0, self.masks, _STEP if self.tolerance is not None else self.masks)
        ends = [min(block + blocks.step, self.masks) for block in blocks]
        return [
            (start, min(start + batch_size, end))
            for block, end in zip(blocks, ends, strict=True)
            for start in range(block, end, batch_size)
        ]

    def _judge(self, one: _Told, coarse: Coarse, values: Numbers, spread: Numbers, last: bool) -> None:
        """State the error of a map, and end it if it is small enough."""
        scores: Numbers = np.concatenate(one.scores).astype(np.float64)
        if self.estimate == "regression":
            one.model = fitted(values, scores)
            part, drawn = one.model.weights @ coarse.own, one.model.residuals
        else:
            part, drawn = np.zeros(values.shape[1]), scores
        one.relative_error = relative_error(part + drawn @ values / len(drawn), drawn, spread)
        one.done = last or (self.tolerance is not None and one.relative_error <= self.tolerance)

    def _residuals(self, told: Sequence[Sequence[_Told]], size: tuple[int, ...]) -> None:
        """The sums of the masks weighted by what the models leave; the masks are drawn once more."""
        rng = np.random.default_rng(self.seed)
        every = [one for own in told for one in own]
        for one in every:
            one.total[:] = 0
        for start in range(0, max(one.passes for one in every), _STEP):
            masks = np.stack([self._mask(rng, *size) for _ in range(min(_STEP, self.masks - start))])
            for one in every:
                if one.model is not None and start < one.passes:
                    rest = one.model.residuals[start : start + _STEP]
                    one.total += np.tensordot(rest, masks[: len(rest)] - np.float32(self.p), 1)

    def _mask(self, rng: np.random.Generator, *size: int) -> Array:
        """The next mask, [H,W] in [0,1]; masks are drawn one by one, so they do not depend on the batch size."""
        sides = [-(-side // self.cells) for side in size]  # pixels of a cell along each axis, rounded up
        grid = (rng.random((self.cells,) * len(size)) < self.p).astype(np.float32)
        # Only the crop is computed. It fits at every offset: cells * side >= size, and the enlarged grid has `side` more pixels.
        corner = [int(rng.integers(side)) for side in sides]
        return resample.resize(grid, *((self.cells + 1) * side for side in sides), part=(*corner, *size))


@dataclass(eq=False)
class _Told:
    """What the masks tell of one image and target.

    Attributes:
        total: The sum of the masks, weighted; float64, since thousands of terms are added up.
        scores: Of the masks, in batches.
        done: The map is settled.
        relative_error: See `mask_regression.relative_error`.
        model: Of the regression.
    """

    total: Numbers
    scores: list[Array] = field(default_factory=list)
    done: bool = False
    relative_error: float = 0.0
    model: Model | None = None

    @property
    def passes(self) -> int:
        """The masks seen."""
        return sum(map(len, self.scores))

    def add(self, scores: Array, masks: Array) -> None:
        """Take the scores [b] of masks [b,H,W]."""
        self.scores.append(scores)
        self.total += np.tensordot(scores, masks, 1)  # [b] . [b,H,W] -> [H,W], summed in float64

    def map(self, coarse: Coarse, p: float) -> Numbers:
        """[H,W]."""
        total = self.total / (self.passes * p)  # the expectation of a mask is p, hence the division
        if self.model is None:
            return total
        return np.asarray(total + self.model.mean + coarse.with_pixels(self.model.weights) / p, np.float64)
