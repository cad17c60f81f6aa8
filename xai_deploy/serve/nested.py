"""Nested lists of numbers, as JSON holds them -> an array."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DEEPEST = 16  # lists within lists
_NUMBERS = {bool, int, float}


def as_array(nested: Sequence[Any]) -> NDArray[Any] | None:
    """Nested lists of numbers as an array of the kind that holds them, or None if they are anything else.

    The types are looked at before NumPy sees the lists: NumPy would make every text as wide as the longest one, so that some
    kilobytes of JSON take gigabytes.

    Args:
        nested: Lists of lists, up to 16 deep, of whole numbers, floats, true and false.

    Returns:
        The array, which may be empty. None: there is something else in the lists, they differ in length, or they are too deep.
    """
    level: Sequence[Any] = nested
    for _ in range(_DEEPEST):
        types = set(map(type, level))
        if types != {list}:
            break
        level = list(itertools.chain.from_iterable(level))
    if not types <= _NUMBERS:
        return None
    try:
        array = np.array(nested)
    except (ValueError, OverflowError):
        return None
    return array if array.dtype.kind in "buif" else None
