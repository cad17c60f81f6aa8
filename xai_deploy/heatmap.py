"""From a method's raw map to the heatmap in [0,1], and to a picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import resample

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]

# Eight anchors of the "turbo" colour map (Mikhailov 2019), interpolated: dark blue - green - yellow - dark red.
_TURBO = np.array(
    [
        [48, 18, 59],
        [70, 97, 219],
        [40, 165, 250],
        [36, 232, 165],
        [164, 252, 60],
        [238, 207, 58],
        [240, 100, 20],
        [122, 4, 3],
    ],
    dtype=np.float32,
)
_SHADES = [np.interp(np.linspace(0, 1, 256), np.linspace(0, 1, len(_TURBO)), shade) for shade in _TURBO.T]
_PALETTE: Pixels = np.rint(np.stack(_SHADES, axis=-1)).astype(np.uint8)

_STRIP = 512  # rows of a picture coloured at a time: a photograph of 100 megapixels must not need gigabytes


def normalise(maps: Array) -> Array:
    """Min-max each map of [..., H, W] to [0,1], in place; a constant map becomes all zeros, never NaN."""
    low = maps.min(axis=(-2, -1), keepdims=True)
    spread = maps.max(axis=(-2, -1), keepdims=True) - low
    spread[spread == 0] = 1  # a constant map becomes 0 / 1
    maps -= low
    maps /= spread
    return maps


def heatmap(raw: Array, height: int, width: int) -> Array:
    """Raw maps [N,h,w] -> heatmaps [N,height,width] in [0,1]: bilinear resize (half-pixel centres), min-max per image.

    A constant map becomes all zeros. For that, the minimum is subtracted before the resize, too, because the resize would round a
    constant unevenly.
    """
    return normalise(resample.resize(raw - raw.min(axis=(-2, -1), keepdims=True), height, width))


def colorize(heatmaps: Array) -> Pixels:
    """Heatmaps [..., H, W] in [0,1] -> RGB [..., H, W, 3] uint8, in 256 steps."""
    colors: Pixels = _PALETTE[np.rint(heatmaps * np.float32(255)).astype(np.uint8)]
    return colors


def overlay(image: Pixels, heat: Array, opacity: float = 0.5) -> Pixels:
    """Lay one heatmap over one image.

    Args:
        image: RGB [h,w,3] uint8.
        heat: [H,W] in [0,1]; resized to the image.
        opacity: Share of the colour in the mixture, 0 to 1.

    Returns:
        RGB [h,w,3] uint8.
    """
    height, width = image.shape[:2]
    share = np.float32(opacity)
    mixed = np.empty_like(image)
    for top in range(0, height, _STRIP):
        rows = slice(top, min(top + _STRIP, height))
        part = (top, 0, rows.stop - top, width)
        colors = colorize(np.clip(resample.resize(heat, height, width, part=part), 0, 1))
        mixed[rows] = np.rint((1 - share) * image[rows] + share * colors)
    return mixed
