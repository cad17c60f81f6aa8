"""A map at the network's input size on the whole photo: the inverse of the resize and the crop of the preprocessing.

Row i of the input has its centre at y = top + (i + 1/2) * height / H in the photo's own pixels, where (top, left, height, width) is
`preprocess.crop_box`; columns likewise. So a pixel of the photo with the centre r + 1/2 takes the map at i = (r + 1/2 - top) * H /
height - 1/2, interpolated bilinearly. Beyond the outermost centres the edge of the map repeats.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .. import resample
from ..format.bundle import Input
from ..preprocess import frame, resized

Array = NDArray[np.float32]


def on_photo(maps: Array, height: int, width: int, spec: Input) -> Array:
    """Maps at the network's input size on a whole photo.

    Args:
        maps: [...,H,W].
        height: The height of the upright photo, in pixels.
        width: Its width.
        spec: The manifest's input.

    Returns:
        [...,height,width] float32; 0 outside `preprocess.frame`, the part that the network saw.
    """
    down, across = axes(height, width, spec)
    whole = np.zeros((*maps.shape[:-2], height, width), np.float32)
    rows, columns = frame(height, width, spec).slices
    whole[..., rows, columns] = down @ (maps @ across.T)
    return whole


def axes(height: int, width: int, spec: Input) -> tuple[Array, Array]:
    """The matrices down [rows,H] and across [columns,W] that take a map [H,W] to the pixels of the frame: down @ map @ across.T."""
    seen = frame(height, width, spec)
    (whole_height, whole_width), (top, left) = resized(height, width, spec)
    return (
        _axis(spec.height, top, whole_height, height, (seen.top, seen.height)),
        _axis(spec.width, left, whole_width, width, (seen.left, seen.width)),
    )


def _axis(cropped: int, corner: int, whole: int, size: int, part: tuple[int, int]) -> Array:
    """The weights [part,cropped] of an axis from `whole` to `size` pixels; the map has `cropped` of them, from `corner` on."""
    first, weights = resample.weights(whole, size, antialias=True, part=part)
    inside = np.clip(np.arange(first, first + weights.shape[1]) - corner, 0, cropped - 1)  # outside the crop: its edge
    folded = np.zeros((len(weights), cropped), np.float32)
    np.add.at(folded.T, inside, weights.T)
    return folded
