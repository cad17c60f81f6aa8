"""Grids of 0 and 1 for masks that vary together less than independent ones: rows of Hadamard matrices."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from .method import Array


def balanced(rng: np.random.Generator, shape: tuple[int, ...]) -> Iterator[Array]:
    """Grids of 0 and 1 without end. Every grid is as likely as any other, so means over them have no bias.

    They come in blocks as long as a Hadamard matrix of Sylvester's kind that has a column for each cell: H[i,j] = (-1)^b, b the
    number of ones in i & j, i and j from 0 to 2^m - 1; -1 is written as 1, and 1 as 0. Within a block two
    cells are equal in exactly half of the grids. Which column a cell gets, its sign, and the order of the rows are drawn for
    each block. (Orthogonal arrays as samples: Owen 1992, Statistica Sinica 2, 439-452.)

    Args:
        rng: Draws columns, signs and the order.
        shape: The grid's cells along each axis.

    Yields:
        A grid of this shape, float32.
    """
    count = math.prod(shape)
    order = 1 << (count - 1).bit_length()
    while True:
        columns, signs = rng.permutation(order)[:count], rng.integers(2, size=count)
        for row in rng.permutation(order):
            yield (_parity(row & columns) ^ signs).astype(np.float32).reshape(shape)


def _parity(values: np.ndarray[tuple[int], np.dtype[np.int64]]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Whether the number of ones among the bits is odd: an entry of the matrix, as 0 or 1, from row & column."""
    for half in (32, 16, 8, 4, 2, 1):
        values = values ^ (values >> half)
    return values & 1
