"""Pictures of images that are no photos: arrays with more than 8 bits, floats, or channels that are no colours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_SPAN = (2.0, 98.0)  # percentiles that become black and white
_ENOUGH = 1 << 20  # values that percentiles are taken of


def stretched(values: NDArray[Any], channels: tuple[int, int, int] | None = None) -> NDArray[np.uint8]:
    """Three channels of an image as red, green and blue, or one as grey.

    Each is stretched by itself: its 2nd percentile becomes black, its 98th white. A channel that is the same everywhere is grey.

    Args:
        values: [h,w] or [h,w,C], finite.
        channels: The channels that are shown; None: the first three, or the first if there are fewer.

    Returns:
        [h,w,3].
    """
    if values.ndim == 2:
        values = values[:, :, None]
    if channels is None:
        channels = (0, 1, 2) if values.shape[2] >= 3 else (0, 0, 0)
    made = {channel: _stretched(values[:, :, channel].astype(np.float64)) for channel in set(channels)}
    return np.stack([made[channel] for channel in channels], axis=2)


def _stretched(plane: NDArray[np.float64]) -> NDArray[np.uint8]:
    step = -(-plane.size // _ENOUGH)
    low, high = np.percentile(plane.reshape(-1)[::step], _SPAN)
    if not low < high:
        low, high = float(plane.min()), float(plane.max())
    if not low < high:
        return np.full(plane.shape, 128, np.uint8)
    with np.errstate(over="ignore"):
        return np.asarray(np.rint(np.clip((plane - low) / (high - low), 0, 1) * 255), np.uint8)
