"""One small network as files of several formats, written without their frameworks: the tests' and the fuzzers' material.

y = softmax(mean over positions of relu(conv(x, w)) . m), with a convolution of 3 x 3 that keeps the size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class Net:
    """The network.

    Attributes:
        height, width: Its input's size.
        filters: The convolution's weights [3,3,I,O].
        matrix: The linear layer's, [O,classes].
    """

    height: int
    width: int
    filters: Array
    matrix: Array

    @classmethod
    def drawn(cls, height: int = 7, width: int = 9, channels: int = 3, maps: int = 5, classes: int = 4) -> Net:
        """One with random weights."""
        rng = np.random.default_rng(0)
        filters = rng.normal(size=(3, 3, channels, maps)).astype(np.float32) * 0.3
        return cls(height, width, filters, rng.normal(size=(maps, classes)).astype(np.float32))

    def maps(self, x: Array) -> Array:
        """relu(conv(x, w)) [N,H,W,O] in float64, for images [N,H,W,I]."""
        padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
        _, height, width, _ = x.shape
        parts = [padded[:, i : i + height, j : j + width] @ self.filters[i, j] for i in range(3) for j in range(3)]
        return np.asarray(np.maximum(np.sum(parts, axis=0), 0))

    def logits(self, x: Array) -> Array:
        """The scores before softmax, [N,classes]."""
        return np.asarray(self.maps(x).mean((1, 2)) @ self.matrix)

    def scores(self, x: Array, other: Array | None = None) -> Array:
        """The network's output, [N,classes]; of a pair the linear layer sees the difference of both means."""
        e = np.exp(self.logits(x) - (0 if other is None else self.logits(other)))
        return np.asarray(e / e.sum(1, keepdims=True))
