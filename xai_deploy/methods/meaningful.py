"""Meaningful perturbation: the smallest part of an image whose blur takes the score away (Fong & Vedaldi 2017,
arXiv:1704.03296)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from .. import resample
from ..errors import OptionError
from ..format.bundle import Manifest
from .elsewhere import floats, why_no_floats
from .method import INPUT_ADVICE, Array, Forward, Index, Method, Seed, methods, softmax, why_no_score
from .scores_seen import ScoresSeen
from .smooth_masks import Fading

_RATE, _FIRST, _SECOND, _EPSILON = 0.1, 0.9, 0.999, 1e-8  # Adam's


@methods.register("meaningful-perturbation")
@dataclass(frozen=True)
class MeaningfulPerturbation(Method):
    """M = 1 - argmin_m l1 mean|1 - m| + l2 TV(m) + s(m x + (1 - m) blur(x)) (equation 6), m in [0,1].

    m is a coarse mask, enlarged bilinearly to the input. TV(m) is the mean of |m_i - m_j|^beta over neighbours along each axis,
    summed over both axes. m starts at 1 and follows Adam with a rate of 0.1. The paper also moves the image by some pixels at
    random; here nothing is random. The diagnostics hold the `objective` that is reached, its part `score` (s), and the
    `area` that is blurred, 0 to 1.

    The prices are made for a score from 0 to 1. A number of any unit, y, is measured by what the blur of the whole image does to
    it, s = y / |y(x) - y(blur(x))|: so the prices do not depend on the unit. This is not in the paper, which explains classes.

    Attributes:
        score: s: the "softmax" of the logits, as in the paper, the "logit", or the logit "relative" to what the blur of the whole
            image changes. None: the softmax of two or more classes; "relative" of what has none: numbers, embeddings, detections,
            a single score.
        cells: Cells along each side of the coarse mask, 2 or more.
        iterations: Steps, 1 or more.
        l1: Price of a blurred pixel, 0 or more.
        l2: Price of the mask's roughness, 0 or more.
        beta: The roughness's power, 1 or more.
        blur: Standard deviation of the blur, in pixels of the network's input, above 0.

    Raises:
        OptionError: An option is out of its range.
    """

    score: Literal["softmax", "logit", "relative"] | None = None
    cells: int = 28
    iterations: int = 300
    l1: float = 0.01
    l2: float = 0.2
    beta: float = 3.0
    blur: float = 10.0

    shows: ClassVar[str] = "the smallest part whose blur takes the score away"
    plainly: ClassVar[str] = "The bright part is the smallest whose blur takes the score away."
    passes: ClassVar[str] = "900, 3 per step"
    needs_layer: ClassVar[bool] = False
    slow: ClassVar[bool] = True
    roles: ClassVar[Mapping[str, str]] = INPUT_ADVICE

    def __post_init__(self) -> None:
        if self.cells < 2 or self.iterations < 1:
            raise OptionError("meaningful-perturbation: cells are at least 2, iterations at least 1")
        if not (min(self.l1, self.l2) >= 0 and self.beta >= 1 and 0 < self.blur < np.inf):
            raise OptionError("meaningful-perturbation: l1 and l2 are 0 or more, beta is 1 or more, blur above 0")

    def why_not(self, manifest: Manifest) -> str | None:
        """See `Method.why_not`."""
        if manifest.input.depth is not None:
            return "its masks are those of images, and the network takes volumes"
        compared = manifest.classes if manifest.scores.kind in ("classes", "dense") else 0
        score = self._score(compared, manifest.classes)
        return why_no_floats(manifest) or why_no_score("softmax" if score == "softmax" else "logit", manifest)

    def _score(self, compared: int, classes: int) -> Literal["softmax", "logit", "relative"]:
        """The score, if it is not given: see `score`."""
        return self.score or ("softmax" if compared == classes > 1 else "relative")

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,H,W] in [0,1]; see `Method.maps`."""
        if self.score is None:
            return replace(self, score=self._score(forward.compared, forward.classes)).maps(forward, seeds)
        x = forward.channels_first(floats("meaningful-perturbation", forward)).astype(np.float32)
        fading = [Fading(planes, 2, self.blur) for planes in x]
        every = Seed.join([seed.rows(np.arange(len(x))) for seed in seeds])  # row r is target r // n of image r % n
        image = np.tile(np.arange(len(x)), len(seeds))
        down, across = (_enlarging(self.cells, size) for size in forward.image_size)
        m = np.ones((len(image), self.cells, self.cells))
        first, second = np.zeros_like(m), np.zeros_like(m)
        seen = ScoresSeen("meaningful-perturbation", "softmax" if self.score == "softmax" else "logit", seeds, len(x))
        unit = self._unit(forward, every, image, fading)
        for t in forward.progress(range(1, self.iterations + 1), self.iterations, "steps of meaningful-perturbation"):
            slope = self._slope(forward, every, image, fading, down @ m @ across.T, seen) / unit[:, None, None]
            g = down.T @ slope @ across + self._price_slope(m)
            first, second = _FIRST * first + (1 - _FIRST) * g, _SECOND * second + (1 - _SECOND) * g * g
            step = first / (1 - _FIRST**t) / (np.sqrt(second / (1 - _SECOND**t)) + _EPSILON)
            m = np.clip(m - _RATE * step, 0, 1)
        masks = np.clip(1 - down @ m @ across.T, 0, 1).astype(np.float32)
        scores = self._scores(forward, every, image, fading, down @ m @ across.T) / unit
        for name, numbers in (
            ("objective", self._prices(m) + scores),
            ("score", scores),
            ("area", masks.mean(axis=(1, 2))),
        ):
            forward.report(name, numbers.reshape(len(seeds), len(x)))
        seen.tell(forward)
        return masks.reshape(len(seeds), len(x), *masks.shape[1:])

    def _unit(self, forward: Forward, seed: Seed, image: Index, fading: Sequence[Fading]) -> NDArray[np.float64]:
        """What s is divided by, [b]: 1, or what the blur of the whole image changes (1 if nothing)."""
        if self.score != "relative":
            return np.ones(len(image))
        whole, hidden = (
            self._scores(forward, seed, image, fading, np.full((len(image), *forward.image_size), m))
            for m in (1.0, 0.0)
        )
        change = np.abs(whole - hidden)
        return np.where(change > 0, change, 1.0)

    def _slope(
        self,
        forward: Forward,
        seed: Seed,
        image: Index,
        fading: Sequence[Fading],
        masks: NDArray[np.float64],
        seen: ScoresSeen,
    ) -> NDArray[np.float64]:
        """The gradient of the score at the masks, [b,H,W]."""
        slopes = np.empty_like(masks)
        for start in range(0, len(masks), forward.batch_size):
            rows = np.arange(start, min(start + forward.batch_size, len(masks)))
            pairs = [fading[image[r]].images(masks[r : r + 1].astype(np.float32)) for r in rows]
            mixed, rise = (np.concatenate(part) for part in zip(*pairs, strict=True))
            there = forward.at(forward.arranged(mixed), image[rows])
            own = seed.rows(rows)
            if self.score == "softmax":
                own = Seed.of_weights(_of_softmax(there, own))
            slopes[rows] = (forward.channels_first(there.backward("input-gradient", own)) * rise).sum(axis=1)
            for row, score in zip(rows, self._explained(there, seed.rows(rows)), strict=True):
                seen.note(int(row) // len(fading), int(image[row]), score[None])
        return slopes

    def _explained(self, there: Forward, seed: Seed) -> NDArray[np.float64]:
        """The softmax or the logit explained of each image, [b]."""
        shares, weights = _shares(there, seed)
        scores = shares if self.score == "softmax" else there.logits.reshape(shares.shape)
        return np.asarray((weights * scores).sum(axis=(1, 2)), np.float64)

    def _scores(
        self, forward: Forward, seed: Seed, image: Index, fading: Sequence[Fading], masks: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The softmax or the logit explained under each mask, [b]."""
        scores = np.empty(len(masks))
        for row, mask in enumerate(masks):
            mixed, _ = fading[image[row]].images(mask[None].astype(np.float32))
            one = np.array([row])
            there = forward.at(forward.arranged(mixed), image[one])
            scores[row] = self._explained(there, seed.rows(one))[0]
        return scores

    def _prices(self, m: NDArray[np.float64]) -> NDArray[np.float64]:
        """l1 mean|1 - m| + l2 TV(m) of the coarse masks, [b]."""
        rough = sum((np.abs(np.diff(m, axis=axis)) ** self.beta).mean(axis=(1, 2)) for axis in (1, 2))
        return np.asarray(self.l1 * np.abs(1 - m).mean(axis=(1, 2)) + self.l2 * rough)

    def _price_slope(self, m: NDArray[np.float64]) -> NDArray[np.float64]:
        """The gradient of the two prices at the coarse masks."""
        slope = -self.l1 * np.sign(1 - m) / m[0].size
        for axis in (1, 2):
            apart = np.diff(m, axis=axis)
            steep = self.l2 * self.beta * np.abs(apart) ** (self.beta - 1) * np.sign(apart) / apart[0].size
            before, after = [(0, 0)] * 3, [(0, 0)] * 3
            before[axis], after[axis] = (1, 0), (0, 1)
            slope = slope + np.pad(steep, before) - np.pad(steep, after)  # of m_{i+1} and of m_i
        return np.asarray(slope)


def _of_softmax(there: Forward, seed: Seed) -> Array:
    """The weights of the logits that give the gradient of s = sum_c a_c p_c: p_j (a_j - s), p the softmax over the classes."""
    shares, a = _shares(there, seed)
    own: Array = shares * (a - (a * shares).sum(axis=-1, keepdims=True))
    return own.reshape(len(own), -1)


def _shares(there: Forward, seed: Seed) -> tuple[Array, Array]:
    """p and a, [b,regions,classes]; an image's classes, without regions, are one region."""
    weights = there.weights(seed)
    shape = (len(weights), -1, there.classes)
    return softmax(there.logits.reshape(shape)), weights.reshape(shape)


def _enlarging(cells: int, size: int) -> NDArray[np.float64]:
    """The matrix [size,cells] that enlarges an axis bilinearly."""
    _, matrix = resample.weights(cells, size)
    return matrix.astype(np.float64)
