"""Small copies of photos, kept with an explanation so that it can be shown."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..format.bundle import Input
from ..preprocess import Prepared, as_photo
from ..volumes import photo_size

SIDE = 256  # pixels; a thumbnail of 256 x 256 has 196 kB, as much as a heatmap of 224 x 224


def thumbnail(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Every k-th pixel of an RGB photo [h,w,3], the smallest k with which both sides are at most `SIDE`; always a copy."""
    step = -(-max(photo.shape[:2]) // SIDE)
    # The middle of each cell of k x k pixels, so that the picture is not shifted to the upper left.
    return photo[(step - 1) // 2 :: step, (step - 1) // 2 :: step].copy()


def small(image: NDArray[Any] | Prepared, spec: Input) -> tuple[tuple[int, int] | None, NDArray[np.uint8] | None]:
    """The size of a photo, or of a volume's slices, and its thumbnail; None for floats and prepared inputs, which are no photos."""
    if spec.depth is not None and not isinstance(image, Prepared):
        return photo_size(image, spec), thumbnail(as_photo(image, spec))
    if isinstance(image, Prepared) or (image.dtype != np.uint8 and spec.preprocess.range is None):
        return None, None
    photo = as_photo(image, spec)
    return (photo.shape[0], photo.shape[1]), thumbnail(photo)
