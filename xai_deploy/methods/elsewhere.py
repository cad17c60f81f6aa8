"""Gradients at other inputs than the image: noisy copies, the way from a baseline. What SmoothGrad, Smooth Grad-CAM++ and
integrated gradients share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import NotApplicableError, OptionError
from .base import Array, Forward, Index, Seed

Inputs: TypeAlias = Callable[[Index, Index], NDArray[Any]]
"""(sample [b], image [b]) -> inputs [b, ...]"""


def gradients_at(
    forward: Forward, role: str, seeds: Sequence[Seed], inputs: Inputs, samples: int, label: str
) -> Iterator[tuple[int, Index, Index, Array]]:
    """The gradients of `samples` inputs for each image, in batches; what comes before the gradient runs once for all seeds.

    Yields:
        The seed's number, the sample and the image of each row [b], the rows' gradients [b, ...].
    """
    n = len(forward.x)
    starts = range(0, n * samples, forward.batch_size)
    for start in forward.progress(starts, len(starts), label):
        sample, image = np.divmod(np.arange(start, min(start + forward.batch_size, n * samples)), n)
        there = forward.at(inputs(sample, image))
        for t, seed in enumerate(seeds):
            yield t, sample, image, there.backward(role, seed.rows(image))


def add_rows(total: NDArray[Any], image: Index, values: NDArray[Any]) -> None:
    """total[image[i]] += values[i]; row by row, which is a hundred times as fast as `np.add.at`."""
    for i, value in zip(image.tolist(), values, strict=True):
        total[i] += value


def noisy(name: str, forward: Forward, sigma: float, seed: int) -> Inputs:
    """x + noise of standard deviation sigma * (max x - min x), per image; a sample's noise does not depend on the batch.

    Raises:
        NotApplicableError: The network takes integers.
    """
    x = floats(name, forward)
    scale = sigma * np.ptp(x.reshape(len(x), -1), axis=1)

    def inputs(sample: Index, image: Index) -> NDArray[Any]:
        noise = {s: np.random.default_rng([seed, s]).standard_normal(x.shape[1:]) for s in np.unique(sample).tolist()}
        return np.stack([x[i] + scale[i] * noise[s] for s, i in zip(sample.tolist(), image.tolist(), strict=True)])

    return inputs


def floats(name: str, forward: Forward) -> NDArray[Any]:
    """The network's input, if values between its values are inputs too.

    Raises:
        NotApplicableError: The network takes integers.
    """
    if forward.x.dtype.kind != "f":
        raise NotApplicableError(
            f"{name}: the network takes {forward.x.dtype} images, between whose values there are none; export it with a "
            "float input"
        )
    return forward.x


def check_noise(name: str, samples: int, sigma: float, seed: int) -> None:
    """Refuse options of the noise that mean nothing.

    Raises:
        OptionError: No sample, a negative sigma or seed.
    """
    if samples < 1:
        raise OptionError(f"{name}: samples are at least 1, not {samples}")
    if not 0 <= sigma < np.inf:
        raise OptionError(f"{name}: sigma is a share of the image's range, 0 or more; not {sigma}")
    if seed < 0:
        raise OptionError(f"{name}: seed is 0 or more, not {seed}")
