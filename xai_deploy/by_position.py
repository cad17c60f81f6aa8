"""The graphs that give the scores of a network's positions one by one: `pixelwise-tail` and `windowed-tail`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from .backends.backend import Tensor
from .format.bundle import PIXEL_LOGITS, POSITION_COLUMNS, POSITION_LOGITS, POSITION_ROWS
from .opened_network import OpenedNetwork

Array = NDArray[np.float32]
Tail = Callable[[Array], Array]
"""Runs the tail on activations [b,K,h,w], with what is beside one image."""

PIXELWISE, WINDOWED = "pixelwise-tail", "windowed-tail"


def pixel_logits(network: OpenedNetwork, activation: Tensor, logits: Array, tail: Tail) -> Array:
    """The scores of one image's positions by themselves, without bias, [h*w,classes].

    Args:
        network: The opened graphs.
        activation: [1,K,h,w].
        logits: The image's own, [1,classes].
        tail: The tail.
    """
    scores: Array = network.scores(PIXELWISE, {network.activation: activation}, PIXEL_LOGITS)
    if PIXELWISE not in network.proven:
        # logits = mean over the positions + bias
        network.prove(PIXELWISE, scores.mean(axis=1) + bias(network, tail), logits)
    first: Array = scores[0]
    return first


def bias(network: OpenedNetwork, tail: Tail) -> Array:
    """The linear layer's bias [1,classes]: the tail's logits less the mean of `pixelwise-tail`, for an activation of zeros."""
    zeros = np.zeros((1, *network.manifest.target.shape), np.float32)
    between = zeros.astype(network.manifest.target.dtype)
    own: Array = tail(zeros) - network.scores(PIXELWISE, {network.activation: between}, PIXEL_LOGITS).mean(axis=1)
    return own


def parts(network: OpenedNetwork) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The rows [R] and the columns [S] of positions that `windowed-tail` takes at once. The last of each may overlap."""
    sizes = {port.name: int(port.shape[0] or 1) for port in network.manifest.graphs[WINDOWED].takes if port.shape}
    h, w = network.manifest.target.shape[-2:]

    def along(size: int, count: int) -> Iterator[NDArray[np.int64]]:
        for first in range(0, size, count):
            yield np.arange(count) + min(first, size - count)

    columns = list(along(w, sizes[POSITION_COLUMNS]))
    return [(own, other) for own in along(h, sizes[POSITION_ROWS]) for other in columns]


def window_logits(
    network: OpenedNetwork, activation: Array, rows: NDArray[np.int64], columns: NDArray[np.int64], tail: Tail
) -> Array:
    """The scores of one image if only one position of its activation is not 0: for R rows and S columns, [R*S,classes].

    Args:
        network: The opened graphs.
        activation: [1,K,h,w].
        rows: [R].
        columns: [S].
        tail: The tail.
    """
    feeds: dict[str, Tensor] = {
        network.activation: activation,
        POSITION_ROWS: rows[None],
        POSITION_COLUMNS: columns[None],
    }
    scores: Array = network.scores(WINDOWED, feeds, POSITION_LOGITS)[0]
    if WINDOWED not in network.proven:
        alone = np.zeros_like(activation)
        alone[:, :, rows[0], columns[-1]] = activation[:, :, rows[0], columns[-1]]
        network.prove(WINDOWED, scores[len(columns) - 1 : len(columns)], tail(alone))
    return scores
