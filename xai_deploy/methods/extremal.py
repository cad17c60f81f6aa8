"""Extremal perturbations: the part of an image, of a given area, that raises the score most (Fong, Patrick & Vedaldi 2019,
arXiv:1910.08485)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ..errors import OptionError
from ..format.bundle import Manifest
from .elsewhere import floats, why_no_floats
from .method import INPUT_ADVICE, Array, Forward, Index, Method, Seed, methods
from .scores_seen import ScoresSeen
from .smooth_masks import Fading, SmoothMasks

_RATE, _MOMENTUM = 0.01, 0.9
_AREA_WEIGHT, _AREA_GROWTH = 300.0, 1.0035  # of the area's term, and its factor from one step to the next
_LEVELS, _BLUR = 8, 20.0  # versions of the image, and the standard deviation of the most blurred one in pixels
_TIE = 1e-6  # values of the mask that differ less are equal


@methods.register("extremal-perturbation")
@dataclass(frozen=True)
class ExtremalPerturbation(Method):
    """M = argmax_m s(fade(x, m)) - w mean((sort(m) - r)^2) over smooth masks (equations 2 and 6).

    r has the share `area` of ones, the rest zeros: a mask of that area, each pixel 0 or 1, pays nothing. w grows by 0.35 % a step.
    The masks' parameters start at 1 and follow the gradient with momentum 0.9, damped as much, and a rate of 0.01. Every other
    image is mirrored. These are the authors' values. Two things differ: of equal values of a mask, the first in reading order
    counts as the lower one, where theirs leaves the order to the sort; and where the mask is 1, the image's derivative by it is
    the one from below, theirs is 0. Nothing is random.

    The explanation's diagnostics hold the `score` (the logit) of the image under its mask, and the mask's `area`.

    Attributes:
        area: The share of the image that the mask covers, between 0 and 1; the paper takes 0.05, 0.1, 0.2 and 0.4.
        variant: "preserve": the mask is what raises the score most if the rest is blurred. "delete": what lowers it most if it is.
        iterations: Steps, 1 or more.
        step: Distance of the mask's parameters, in pixels of the network's input.
        sigma: Size of the mask's smallest details, in pixels; a multiple of `step`.

    Raises:
        OptionError: An option is out of its range.
    """

    area: float = 0.1
    variant: Literal["preserve", "delete"] = "preserve"
    iterations: int = 800
    step: int = 7
    sigma: int = 21

    shows: ClassVar[str] = "the part of a given area that raises the score most"
    plainly: ClassVar[str] = (
        "The bright part is the one of a given area that keeps the score highest when it alone is shown."
    )
    passes: ClassVar[str] = "1600, 2 per step"
    needs_layer: ClassVar[bool] = False
    slow: ClassVar[bool] = True
    roles: ClassVar[Mapping[str, str]] = INPUT_ADVICE

    def __post_init__(self) -> None:
        if not 0 < self.area < 1:
            raise OptionError(f"extremal-perturbation: area is between 0 and 1, not {self.area}")
        if self.iterations < 1 or self.step < 1 or self.sigma < 1:
            raise OptionError("extremal-perturbation: iterations, step and sigma are at least 1")
        if self.sigma % self.step:
            raise OptionError(f"extremal-perturbation: sigma is a multiple of step, not {self.sigma} for {self.step}")

    def why_not(self, manifest: Manifest) -> str | None:
        """See `Method.why_not`."""
        if manifest.input.depth is not None:
            return "its masks are those of images, and the network takes volumes"
        return why_no_floats(manifest)

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,H,W] in [0,1]; see `Method.maps`."""
        x = forward.channels_first(floats("extremal-perturbation", forward)).astype(np.float32)
        fading = [Fading(planes, _LEVELS, _BLUR) for planes in x]
        smooth = SmoothMasks(forward.image_size, self.step, self.sigma)
        every = Seed.join([seed.rows(np.arange(len(x))) for seed in seeds])  # row r is target r // n of image r % n
        image = np.tile(np.arange(len(x)), len(seeds))
        seen = ScoresSeen("extremal-perturbation", "logit", seeds, len(x))
        parameters = np.ones((len(image), *smooth.grid), np.float32)
        count = int(np.prod(smooth.full))
        wanted = (np.arange(count) >= int(count * (1 - self.area))).astype(np.float32)
        speed, weight = np.zeros_like(parameters), _AREA_WEIGHT
        for t in forward.progress(range(self.iterations), self.iterations, "steps of extremal-perturbation"):
            masks, full = smooth.masks(parameters)
            of_masks = self._rise(forward, every, image, fading, masks, seen, mirrored=t % 2 == 0)
            of_full = -2 * weight / count * (full - _in_order(full, wanted))
            rise = smooth.gradient(parameters, of_masks, of_full.astype(np.float32))
            # the first step is taken as it is, the others are damped, as torch's SGD does
            speed = rise if t == 0 else np.float32(_MOMENTUM) * speed + np.float32(1 - _MOMENTUM) * rise
            parameters = np.clip(parameters + np.float32(_RATE) * speed, 0, 1)
            weight *= _AREA_GROWTH
        masks, _ = smooth.masks(parameters)
        self._report(forward, every, image, fading, masks)
        seen.tell(forward)
        return masks.reshape(len(seeds), len(x), *masks.shape[1:])

    def _faded(self, fading: Fading, masks: Array) -> tuple[Array, Array]:
        if self.variant == "preserve":
            return fading.images(masks)
        images, rise = fading.images(1 - masks)
        return images, rise  # the score is to fall as the rest of the image rises: both signs cancel

    def _rise(
        self,
        forward: Forward,
        seed: Seed,
        image: Index,
        fading: Sequence[Fading],
        masks: Array,
        seen: ScoresSeen,
        mirrored: bool,
    ) -> Array:
        """The gradient of the score at the masks, [b,H,W]; of minus the score for "delete"."""
        along = slice(None, None, -1) if mirrored else slice(None)
        gradients = np.empty_like(masks)
        for start in range(0, len(masks), forward.batch_size):
            rows = np.arange(start, min(start + forward.batch_size, len(masks)))
            pairs = [self._faded(fading[image[r]], masks[r : r + 1]) for r in rows]
            faded, rise = (np.concatenate(part) for part in zip(*pairs, strict=True))
            there = forward.at(forward.arranged(faded[..., along]), image[rows])
            at_pixels = forward.channels_first(there.backward("input-gradient", seed.rows(rows)))[..., along]
            gradients[rows] = (at_pixels * rise).sum(axis=1)
            for row, score in zip(rows, seed.rows(rows).of(there.logits), strict=True):  # the same run gives the logits
                seen.note(int(row) // len(fading), int(image[row]), score[None])
        return gradients

    def _report(self, forward: Forward, seed: Seed, image: Index, fading: Sequence[Fading], masks: Array) -> None:
        """Report what the masks reached: the score of the image under each, and its area."""
        scores = np.empty((len(masks), 1))
        for row, mask in enumerate(masks):
            faded, _ = self._faded(fading[image[row]], mask[None])
            one = np.array([row])
            scores[row] = seed.rows(one).of(forward.at(forward.arranged(faded), image[one]).logits)
        shape = (-1, len(fading))
        forward.report("score", scores.reshape(shape))
        forward.report("area", masks.mean(axis=(1, 2)).reshape(shape))


def _in_order(full: Array, wanted: Array) -> Array:
    """For each mask [b, ...] the value of `wanted` [count], which is ascending, at each pixel's rank."""
    flat = np.rint(full.reshape(len(full), -1) / _TIE)
    order = np.argsort(flat, axis=1, kind="stable")
    ranked = np.empty_like(flat, dtype=np.float32)
    np.put_along_axis(ranked, order, np.broadcast_to(wanted, flat.shape), axis=1)
    return ranked.reshape(full.shape)
