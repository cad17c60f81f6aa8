"""Converts values deeper than 8 bits to 8 bits: pixel = round(255 (v - low) / (high - low)), clipped to 0..255."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageFileError, OptionError

InputRange = tuple[float, float]
"""(low, high): the values that become black and white."""

_FULL = (0.0, 65_535.0)
_FAR_BELOW = 1 << 15  # a file of 16 bits that never reaches this holds at most 15 bits, or is very dark
_BLOCK = 1 << 22  # values converted at a time

log = logging.getLogger(__name__)


def parse_range(text: str) -> InputRange:
    """Read a range from text: "0,4095" -> (0.0, 4095.0).

    Raises:
        OptionError: The text is not two finite numbers, the lower one first.
    """
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = math.nan
    return checked((low, high))


def checked(span: InputRange) -> InputRange:
    """The range itself, after a check.

    Raises:
        OptionError: It is not two finite numbers, the lower one first.
    """
    try:
        low, high = span
        fits = math.isfinite(low) and math.isfinite(high) and low < high
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise OptionError("an input range is two numbers, LOW,HIGH, with LOW below HIGH, as in 0,4095")
    return low, high


def to_8_bits(image: NDArray[Any], span: InputRange | None, name: str) -> NDArray[np.uint8]:
    """Convert values of any depth to 8 bits.

    Args:
        image: Any shape; uint16, or with `span` any real type.
        span: The values that become black and white; None: 0 and 65,535, for uint16 only.
        name: The file, for messages.

    Returns:
        The same shape, uint8.

    Raises:
        ImageFileError: A value is NaN or infinity.
    """
    if span is None:
        _tell(image, name)
    low, high = span or _FULL
    if image.dtype == np.uint16:  # a table of all results replaces the formula for every pixel
        table = _scaled(np.arange(65_536), low, high)
        return np.asarray(table[image])
    pixels = np.empty(image.shape, np.uint8)
    source, target = np.ascontiguousarray(image).reshape(-1), pixels.reshape(-1)
    for start in range(0, source.size, _BLOCK):
        block = source[start : start + _BLOCK]
        if not np.isfinite(block).all():
            raise ImageFileError(f"{name}: holds NaN or infinity")
        target[start : start + _BLOCK] = _scaled(block, low, high)
    return pixels


def _scaled(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    with np.errstate(over="ignore"):  # a value that overflows float64 lies beyond the range, and is clipped
        return np.asarray(np.rint(np.clip((values.astype(np.float64) - low) / (high - low), 0, 1) * 255), np.uint8)


def _tell(image: NDArray[Any], name: str) -> None:
    least, most = int(image.min()), int(image.max())
    if most >= _FAR_BELOW:
        log.info("%s: 16 bits per value, 0 to 65535 scaled to 0 to 255", name)
        return
    # A guess at white: the largest number of as many bits as the brightest value needs, at least 10.
    likely = max((1 << max(most, 1).bit_length()) - 1, 1023)
    log.warning(
        "%s: 16 bits per value, but they reach only from %d to %d, so the picture is nearly black; if white is %d, say "
        "--input-range 0,%d (in Python: input_range=(0, %d))",
        *(name, least, most, likely, likely, likely),
    )
