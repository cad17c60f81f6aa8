"""What an image shows in place of a pixel that is hidden: one spelling for the methods and the metrics that hide pixels."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .format.image_input import Input

Baseline = Literal["zeros", "black", "mean", "blur"]
"""What replaces a pixel: 0 in the preprocessed input, a black pixel, the image's mean colour, or the input blurred as in
RISE's code: by a Gaussian of standard deviation 5, reflected into a window of 11 x 11 pixels, with zeros outside the image."""

_REACH = 5  # pixels of the blur's window on each side of its middle


def empty(x: NDArray[Any], spec: Input, baseline: Baseline) -> NDArray[Any]:
    """The baseline of one input [...], in its own layout, shape and dtype."""
    channels = spec.channel_axis - 1  # x has no batch axis
    axes = tuple(axis for axis in range(x.ndim) if axis != channels)
    match baseline:
        case "zeros":
            return np.zeros_like(x)
        case "black":
            color = spec.per_channel(spec.preprocess.ends()[0].astype(np.float32))[0]
            return as_input(np.broadcast_to(color, x.shape), spec)
        case "mean":
            return as_input(np.broadcast_to(x.mean(axis=axes, keepdims=True, dtype=np.float64), x.shape), spec)
        case "blur":
            blurred = np.asarray(x, np.float32)
            for axis in axes:
                blurred = np.moveaxis(np.tensordot(blurred, _blur(x.shape[axis]), (axis, 1)), -1, axis)
            return as_input(blurred, spec)


def segment_means(x: NDArray[Any], spec: Input, labels: NDArray[np.int64]) -> NDArray[Any]:
    """One input [...] with the mean colour of its segment at each pixel, in its own layout, shape and dtype.

    Args:
        x: The input.
        spec: Its layout.
        labels: The segment of each pixel, 0, 1, 2, ..., [H,W].
    """
    planes, places = np.moveaxis(x, spec.channel_axis - 1, 0), labels.ravel()
    counts = np.bincount(places)
    means = [np.bincount(places, plane.ravel().astype(np.float64)) / counts for plane in planes]
    return as_input(np.moveaxis(np.stack(means)[:, labels], 0, spec.channel_axis - 1), spec)


def masked_input(x: NDArray[Any], masks: NDArray[Any], base: NDArray[Any] | None, spec: Input) -> NDArray[Any]:
    """One input [...] times each mask [b,H,W], plus the base times what is left of 1, in its own layout and dtype."""
    layered = np.expand_dims(masks, spec.channel_axis)
    masked: NDArray[Any] = x * layered  # [...] * [b,1,H,W] or [b,H,W,1]
    if base is not None:
        masked = masked + base * (1 - layered)
    if spec.dtype == "uint8":
        masked = np.rint(masked, out=masked)
    return masked.astype(spec.dtype, copy=False)


def as_input(x: NDArray[Any], spec: Input) -> NDArray[Any]:
    """x in the input's own dtype; 8-bit pixels are rounded and clipped to 0..255, as `preprocess.prepare` does."""
    return (np.clip(np.rint(x), 0, 255) if spec.dtype == "uint8" else x).astype(spec.dtype, copy=False)


def _blur(size: int) -> NDArray[np.float32]:
    """RISE's kernel along an axis, as a matrix [size,size]: a Gaussian of standard deviation 5, cut at distance 20; the part
    outside the window is reflected back into it."""
    distance = np.arange(-20, 21)
    gaussian = np.exp(-((distance / 5) ** 2) / 2)
    place = (_REACH + distance) % 22  # 0..10 is the window, 11..21 its mirror image: 11 is index 10, 21 is index 0
    kernel = np.zeros(2 * _REACH + 1)
    np.add.at(kernel, np.minimum(place, 21 - place), gaussian / gaussian.sum())
    step = np.arange(size)[None] - np.arange(size)[:, None]
    inside = np.where(np.abs(step) <= _REACH, kernel[np.clip(step + _REACH, 0, 2 * _REACH)], 0)
    return inside.astype(np.float32)
