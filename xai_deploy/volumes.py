"""Volumes and films: arrays [D,h,w] or [D,h,w,C], of which every slice is an image; and which slices a picture shows."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DtypeError, ImageFileError, ShapeError
from .format.image_input import Input
from .images.given import as_array, is_single
from .images.npy import is_npy, read_image_array

SHOWN = 9
"""How many slices a picture shows at most."""

_FORMS = "a volume is an array [D,h,w] or [D,h,w,C], or a .npy file with one"


def as_volumes(array: NDArray[np.generic]) -> list[NDArray[np.generic]]:
    """An array as a list of volumes. [D,h,w] and [D,h,w,C] are one; [n,D,h,w,C] is a batch, as are floats [n, *own shape].

    Raises:
        ShapeError: It has another rank.
    """
    if array.ndim not in (3, 4, 5):
        raise ShapeError(f"an array of shape {array.shape} is neither a volume nor a batch of volumes; {_FORMS}")
    return list(array) if array.ndim == 5 else [array]


def read(given: object, spec: Input, max_pixels: int) -> NDArray[np.generic]:
    """One volume in any form: pixels [D,h,w] or [D,h,w,C]; or preprocessed floats in the network's own shape.

    Raises:
        InputError: It can't be read, or is no volume.
    """
    name = "an array"
    if isinstance(given, (str, os.PathLike)):
        name = str(given)
        if not is_npy(Path(given)):
            raise ImageFileError(f"{given}: this network takes volumes; {_FORMS}")
        array: NDArray[np.generic] = read_image_array(Path(given), max_pixels)
    elif is_single(given):
        raise DtypeError(f"this network takes volumes; {_FORMS}")
    else:
        array = as_array(given)
    if is_preprocessed(array, spec):
        if spec.channels == 1 and array.shape == spec.size:
            array = np.expand_dims(array, spec.channel_axis - 1)  # `channel_axis` counts the batch
        if array.shape != spec.image_shape:
            raise ShapeError(
                f"{name}: floats are taken as preprocessed, and such a volume for this network has shape {spec.image_shape} "
                f"({spec.layout[1:]}), not {array.shape}; of a network exported with --input-range LOW,HIGH they are pixels"
            )
    elif array.ndim not in (3, 4) or 0 in array.shape:
        raise ShapeError(f"{name}: {_FORMS}, not {array.shape}")
    elif len(array) != spec.depth:
        raise ShapeError(
            f"{name}: a volume for this network has {spec.depth} slices, not {len(array)} (shape {array.shape}); resample its "
            "depth before"
        )
    return array


def is_preprocessed(array: NDArray[np.generic], spec: Input) -> bool:
    """Whether a volume's values are what the network takes: floats, if the manifest states no range of pixels."""
    return spec.depth is not None and array.dtype.kind == "f" and spec.preprocess.range is None


def photo_size(image: NDArray[np.generic], spec: Input) -> tuple[int, int] | None:
    """(height, width) of an image read by `read_for`, or of each slice of a volume; None for a preprocessed volume."""
    if spec.depth is None:
        return image.shape[0], image.shape[1]
    return None if is_preprocessed(image, spec) else (image.shape[1], image.shape[2])


def stacked(inputs: Sequence[NDArray[Any]], spec: Input) -> NDArray[Any]:
    """The inputs of the slices, [C,H,W] or [H,W,C] as the network has them, as one input of the network."""
    return np.ascontiguousarray(np.stack(inputs, axis=1 if spec.channel_axis == 1 else 0))


def shown(depth: int) -> NDArray[np.int64]:
    """The slices that a picture shows: the middles of `SHOWN` equal parts, or all if there are fewer."""
    count = min(depth, SHOWN)
    return (2 * np.arange(count) + 1) * depth // (2 * count)


def mosaic(tiles: NDArray[Any]) -> NDArray[Any]:
    """Slices [S,h,w, ...] as one picture, row by row in a grid that is as wide as high or a column wider; zeros fill it up."""
    count, height, width = tiles.shape[:3]
    rows, columns = _grid(count)
    whole = np.zeros((rows * columns, *tiles.shape[1:]), tiles.dtype)
    whole[:count] = tiles
    in_rows = whole.reshape(rows, columns, *tiles.shape[1:]).swapaxes(1, 2)
    return np.ascontiguousarray(in_rows.reshape(rows * height, columns * width, *tiles.shape[3:]))


def pictured(spec: Input) -> Input:
    """The input as if the picture of a volume's slices were its image, all of which the network sees."""
    assert spec.depth is not None
    rows, columns = _grid(min(spec.depth, SHOWN))
    return replace(
        spec.slice,
        height=rows * spec.height,
        width=columns * spec.width,
        preprocess=replace(spec.preprocess, resize="stretch"),
    )


def _grid(count: int) -> tuple[int, int]:
    columns = math.isqrt(count - 1) + 1  # the root, rounded up
    return -(-count // columns), columns
