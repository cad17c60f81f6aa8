"""Images as arrays in `.npy` files: numbers of any type and any number of channels. Nothing in such a file is run.

The file is not compressed, so it holds what its header claims, or it is refused before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageFileError, ImageTooLargeError, ShapeError

SUFFIX = ".npy"
_LIMIT = 1 << 30  # bytes, as for other image files
_SIDE = 65_535  # pixels, as for other image files


def is_npy(path: Path) -> bool:
    """Whether a file is an array, by its name."""
    return path.suffix.lower() == SUFFIX


def read_image_array(path: Path, max_pixels: int) -> NDArray[Any]:
    """The array of a `.npy` file: [h,w], or of rank 3, or 4 if it holds one volume.

    Args:
        path: The file.
        max_pixels: The most values of one channel that are read; a channel is one of the last or of the first axis.

    Raises:
        ImageFileError: The file is missing, damaged, or holds something other than numbers of an image.
        ImageTooLargeError: It is larger than the limits.
    """
    array = _array(path)
    if array.dtype.kind not in "buif" or array.ndim not in (2, 3, 4) or array.size == 0:
        raise ImageFileError(
            f"{path}: holds {array.dtype} of shape {array.shape}; an image is an array of numbers [h,w] or [h,w,channels]"
        )
    if max(array.shape) > _SIDE:
        raise ImageTooLargeError(f"{path}: shape {array.shape}; no side may exceed {_SIDE}")
    least = array.size // max(array.shape[0], array.shape[-1]) if array.ndim > 2 else array.size
    if least > max_pixels:
        raise ImageTooLargeError(f"{path}: shape {array.shape}, the limit is {max_pixels} pixels; scale it down")
    return array


def read_numbers(path: Path) -> NDArray[Any]:
    """The array of a `.npy` file that is no image: numbers of any shape.

    Raises:
        ImageFileError: The file is missing, damaged, or holds something other than numbers.
        ImageTooLargeError: It is larger than the limit.
    """
    array = _array(path)
    if array.dtype.kind not in "buif" or array.size == 0:
        raise ImageFileError(f"{path}: holds {array.dtype} of shape {array.shape}; give an array of numbers")
    return array


def _array(path: Path) -> NDArray[Any]:
    from ..foundation.arrays import read_npy  # late: it needs zipfile, and few processes read such files

    return read_npy(path, _LIMIT, str(path), ImageFileError, ImageTooLargeError)


def channels_last(array: NDArray[Any], counts: Collection[int], name: str = "an array") -> NDArray[Any]:
    """An array [h,w,C] or [C,h,w] as [h,w,C]; any other shape stays as it is.

    Args:
        array: The image.
        counts: The numbers of channels that an image may have.
        name: The file, for messages.

    Raises:
        ShapeError: Its channels may be first as well as last.
    """
    if array.ndim != 3 or array.shape[0] not in counts:
        return array
    if array.shape[-1] in counts:
        if array.shape[-1] == array.shape[0]:
            raise ShapeError(f"{name}: shape {array.shape} may have its channels first or last; give [h,w,channels]")
        return array
    return np.moveaxis(array, 0, -1)
