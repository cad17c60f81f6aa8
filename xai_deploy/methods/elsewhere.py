"""Gradients at inputs other than the image: noisy copies, or points on the path from a baseline.

SmoothGrad, Smooth Grad-CAM++ and integrated gradients share this code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import NotApplicableError, OptionError
from ..format.bundle import Manifest
from .method import Array, Forward, Index, Seed

Inputs: TypeAlias = Callable[[Index, Index], NDArray[Any]]
"""(sample [b], image [b]) -> inputs [b, ...]"""


def gradients_at(
    forward: Forward, role: str, seeds: Sequence[Seed], inputs: Inputs, samples: int, label: str
) -> Iterator[tuple[int, Index, Index, Array]]:
    """The gradients of `samples` inputs for each image, in batches; each batch has one forward pass, shared by all seeds.

    Yields:
        The seed's index, the sample and the image of each row [b], the rows' gradients [b, ...].
    """
    n = len(forward.x)
    starts = range(0, n * samples, forward.batch_size)
    for start in forward.progress(starts, len(starts), f"batches of {label}"):
        # row r of all n * samples rows is sample r // n of image r % n
        sample, image = np.divmod(np.arange(start, min(start + forward.batch_size, n * samples)), n)
        there = forward.at(inputs(sample, image), image)
        for t, seed in enumerate(seeds):
            yield t, sample, image, there.backward(role, seed.rows(image))


def add_rows(total: NDArray[Any], image: Index, values: NDArray[Any]) -> None:
    """total[image[i]] += values[i], also for repeated images; row by row is a hundred times as fast as `np.add.at`."""
    for i, value in zip(image.tolist(), values, strict=True):
        total[i] += value


def noisy(name: str, forward: Forward, sigma: float, seed: int) -> Inputs:
    """x + noise of standard deviation sigma * (max x - min x), per image.

    A sample's noise depends on the seed and the sample only: not on the batch, and all images get the same noise.

    Raises:
        NotApplicableError: The network takes integers.
    """
    x = floats(name, forward)
    scale = sigma * np.ptp(x.reshape(len(x), -1), axis=1)

    def inputs(sample: Index, image: Index) -> NDArray[Any]:
        noise = {s: np.random.default_rng([seed, s]).standard_normal(x.shape[1:]) for s in np.unique(sample).tolist()}
        return np.stack([x[i] + scale[i] * noise[s] for s, i in zip(sample.tolist(), image.tolist(), strict=True)])

    return inputs


def why_no_floats(manifest: Manifest) -> str | None:
    """Why a network has no inputs between two images; None if it has."""
    if manifest.input.dtype != "uint8":
        return None
    return "the network takes uint8 images, between whose values there are none; export it with a float input"


def floats(name: str, forward: Forward) -> NDArray[Any]:
    """The network's input, if it is of a floating dtype, so that any value between two inputs is an input too.

    Raises:
        NotApplicableError: The network takes integers.
    """
    if forward.x.dtype.kind != "f":
        raise NotApplicableError(
            f"{name}: the network takes {forward.x.dtype} images, and this method needs values between integers; export it with a "
            "float input"
        )
    return forward.x


def check_noise(name: str, samples: int, sigma: float, seed: int) -> None:
    """Refuse meaningless options of the noise.

    Raises:
        OptionError: Fewer than 1 sample, a sigma that is negative or not finite, or a negative seed.
    """
    if samples < 1:
        raise OptionError(f"{name}: samples are at least 1, not {samples}")
    if not 0 <= sigma < np.inf:
        raise OptionError(f"{name}: sigma is a share of the image's range, 0 or more; not {sigma}")
    if seed < 0:
        raise OptionError(f"{name}: seed is 0 or more, not {seed}")
