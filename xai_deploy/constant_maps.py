"""Why a map is the same everywhere. The reason is found by running the tail on other activations; it is not guessed.

The reasons (`why_constant` checks them in its own order):

1. `INACTIVE`: the activation is the same at every position, or zero wherever the score depends on it.
2. `INDEPENDENT`: the score stays the same, to a millionth of the largest logit, if the activation is replaced: by zeros, by itself
   rolled, mirrored, times 2, times 1000, times -1, times -1000, and by noise of its own size.
3. `SATURATED`: the score changes, but the gradient (if there is no graph of it: the relevance) is exactly zero at the layer.
4. `NEGATIVE`: the gradient or relevance is not zero there, but the map is: everything counts against the target, and the method
   keeps only what counts for it.
5. `CUT_OFF`: as 4, but the map is of the image's pixels, and the gradient (or relevance) is exactly zero there. Relevance alone
   does not show it if the gradient is not zero at the pixels, or the relevance is zero at the layer already: its rules then keep
   nothing, which is 4.
   `ZERO_IMAGE`: as 4, but the map is of the image's pixels, and these are zero wherever the gradient is not.
6. `BELOW_STEP`: the scores of single positions are the same only because the network rounds them. The scores of halves of the map
   or of larger activations differ, or the gradient differs from position to position.
7. `UNIFORM`: anything else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import NonFiniteOutputError

Array = NDArray[np.float32]
Score: TypeAlias = Callable[[NDArray[Any]], NDArray[Any]]

_LARGEST = 3e4
"""The largest magnitude that the tail is given, because half precision ends at 65,504."""

INACTIVE = "dead: the layer's activation is the same everywhere, or zero wherever the score depends on it"
INDEPENDENT = "independent: the score explained stays the same whatever the layer holds"
SATURATED = (
    "saturated: the score depends on the layer, but a small change passes nothing (clipped, or a flat end of a sigmoid)"
)
NEGATIVE = "negative evidence only: the layer counts against the target, and the method keeps what counts for it"
CUT_OFF = "cut off: a small change of the image does not reach the layer (clipped, or a flat end of a sigmoid)"
ZERO_IMAGE = "zero image: the image is zero, as the network gets it, wherever the score depends on it"
BELOW_STEP = "below the quantisation step: positions count differently, but the network rounds the difference away"
ELSEWHERE = "elsewhere: nothing passes back to this layer; the detection is made at another one, whose map varies"
UNIFORM = "uniform: every position counts the same"


def why_constant(
    raw: Array,
    activation: Array,
    tail: Callable[[Array], NDArray[Any]],
    gradient: Callable[[], NDArray[Any] | None],
    score: Score | None = None,
    rounded: bool = False,
) -> str:
    """The reason of one image's constant map.

    Args:
        raw: The map.
        activation: [K,h,w].
        tail: Gives the logits [b,classes] for other activations [b,K,h,w] of that image.
        score: Gives the score explained, [b], for logits; None: every logit is a score.
        gradient: Gives the gradient at the layer for the class explained, [K,h,w]; the relevance if there is no graph of the
            gradient; None if there is neither. It is called only if it matters.
        rounded: Whether the map holds the scores of single positions, as a network of integers rounds them.
    """
    if (np.ptp(activation, axis=tuple(range(1, activation.ndim))) == 0).all():  # every channel is constant
        return INACTIVE
    if not depends(activation, tail, score):
        return INDEPENDENT
    if rounded and positions_differ(activation, tail, score):
        return BELOW_STEP
    values = gradient()
    if values is None:
        return UNIFORM
    if not values.any():
        return SATURATED
    if not (values * activation).any():
        return INACTIVE
    if rounded:
        each = (values * activation).sum(axis=0)  # [h,w], gradient times activation: the share of each position
        return BELOW_STEP if np.ptp(each) > 1e-4 * np.abs(each).max() else UNIFORM
    return UNIFORM if raw.any() else NEGATIVE


def finite_or_nan(tail: Callable[[Array], Array], others: Array, entries: int) -> Array:
    """The logits [b,entries] of other activations [b,K,h,w]; NaN for one without any.

    An embedding of zeros that is divided by its length is one.

    Args:
        tail: As for `why_constant`. It raises NonFiniteOutputError if a logit is NaN or infinity.
        others: The activations.
        entries: How many logits an image has.
    """
    try:
        return tail(others)
    except NonFiniteOutputError:
        if len(others) > 1:
            return np.concatenate([finite_or_nan(tail, one[None], entries) for one in others])
        return np.full((1, entries), np.nan, np.float32)


def positions_differ(activation: Array, tail: Callable[[Array], NDArray[Any]], score: Score | None = None) -> bool:
    """Whether halves of the map, all with the same number of positions, give different scores at 1, 8 or 64 times the activation.

    They can't if every position of the activation [K,h,w] counts the same.
    """
    places = activation.shape[1:]
    count = math.prod(places)
    rng, half = np.random.default_rng(0), count // 2
    strength = np.abs(activation).sum(axis=0).ravel()
    columns = np.arange(count).reshape(places).T.ravel()
    # Each order gives two halves: row by row, column by column, by strength, and three at random.
    orders = [
        np.arange(count),
        columns,
        np.argsort(strength, kind="stable"),
        *(rng.permutation(count) for _ in range(3)),
    ]
    masks = np.zeros((2 * len(orders), count), np.float32)
    for i, order in enumerate(orders):
        masks[2 * i, order[:half]] = 1
        masks[2 * i + 1, order[count - half :]] = 1  # an odd number leaves the middle position out
    for factor in (1.0, 8.0, 64.0):
        parts = np.clip(factor * activation * masks.reshape(-1, 1, *places), -_LARGEST, _LARGEST).astype(np.float32)
        logits = tail(parts)  # one row per half
        scores = logits if score is None else score(logits)
        size = np.abs(scores[np.isfinite(scores)]).max(initial=0)
        if (np.ptp(scores, axis=0) > 1e-4 * size).any():
            return True
    return False


def depends(activation: Array, tail: Callable[[Array], NDArray[Any]], score: Score | None = None) -> bool:
    """Whether the score (any logit if `score` is None) changes with the activation [K,h,w]."""
    noise = np.random.default_rng(0).standard_normal(activation.shape).astype(np.float32) * np.abs(activation).max()
    others = [
        activation * 0,
        np.roll(activation, 1, tuple(range(1, activation.ndim))),
        np.flip(activation, tuple(range(1, activation.ndim))),
        2 * activation,
        -activation,
        np.clip(1e3 * activation, -_LARGEST, _LARGEST),
        np.clip(-1e3 * activation, -_LARGEST, _LARGEST),
        noise,
    ]
    logits = tail(np.stack([activation, *others]))
    size = np.abs(logits[0]).max()
    scores = logits if score is None else score(logits)
    change = np.abs(scores[1:] - scores[:1])
    return bool((change[np.isfinite(change)] > 1e-6 * size).any())  # an overflow proves nothing
