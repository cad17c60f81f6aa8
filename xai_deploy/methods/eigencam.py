"""Eigen-CAM: the layer's first principal component (Muhammad & Yeasin, IJCNN 2020, arXiv:2008.00299)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .method import Array, Forward, Method, Seed, methods

_ROUNDING = 1e-5
"""A sum of float32 numbers that is smaller than this share of the sum of their magnitudes is rounding: 2^-24 of each number, and
as much of the mean that a norm subtracted, which may be 100 times as large."""


@methods.register("eigen-cam")
@dataclass(frozen=True)
class EigenCam(Method):
    """L = ReLU(A v), A the activation as [h*w,K] and v its first right singular vector. It is the same for every target.

    The sign of v is free. Here it is the one for which the projection agrees with the sum of the channels over the positions. Of
    activations that are not negative v has no negative entry, so that the ReLU changes nothing. A layer norm with untrained gains
    leaves a sum of rounding alone; then the projection's largest entry is positive, as in scikit-learn's `svd_flip`.

    Attributes:
        centred: Subtract each channel's mean first (pytorch-grad-cam, whose sign is the one that its LAPACK gives).
    """

    centred: bool = False

    shows: ClassVar[str] = "the layer's first principal component, for any target"
    plainly: ClassVar[str] = (
        "A place is bright if the strongest common pattern of the layer is there, whatever was asked."
    )
    passes: ClassVar[str] = "1"
    roles: ClassVar[Mapping[str, str]] = {}

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,h,w]; see `Method.maps`."""
        return np.repeat(first_component(forward.activation, self.centred)[None], len(seeds), axis=0)


def first_component(values: Array, centred: bool) -> Array:
    """ReLU of the projection of values [n,K,h,w] on their first right singular vector, [n,h,w]; see `EigenCam`."""
    n, channels, *places = values.shape
    maps = np.empty((n, int(np.prod(places))), np.float32)
    for i, columns in enumerate(values.reshape(n, channels, -1)):
        rows = columns.T.astype(np.float64)  # [h*w,K]
        total = rows.sum(axis=1)
        if centred:
            rows = rows - rows.mean(axis=0)
            total = total - total.mean()
        # A v = s u: u is the first eigenvector of A A^T, v that of A^T A; the smaller of the two matrices is taken
        if len(rows) <= channels:
            u = np.linalg.eigh(rows @ rows.T)[1][:, -1]
            projected = u * np.linalg.norm(u @ rows)
        else:
            projected = rows @ np.linalg.eigh(rows.T @ rows)[1][:, -1]
        agreement = projected @ total
        if abs(agreement) <= _ROUNDING * (np.abs(projected) @ np.abs(rows).sum(axis=1)):
            agreement = projected[np.abs(projected).argmax()]
        maps[i] = np.maximum(-projected if agreement < 0 else projected, 0)
    return maps.reshape(n, *places)
