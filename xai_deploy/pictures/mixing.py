"""A map over the whole photo: the part that the network did not see is dimmed, and the frame of the rest is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .. import volumes
from ..errors import OptionError
from ..format.bundle import Input
from ..preprocess import Frame, frame
from .colors import DIVERGING, SEQUENTIAL, find_colormap
from .photo import axes
from .scale import drawn

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]

OPACITY = 0.7
FULL = 0.5  # the magnitude from which on a colour has its full opacity
LEVELS = 4  # contours at 1/4, 2/4 and 3/4
_DIMMED = 102  # of 256: 40 % of the light
_STRIP = 1 << 16  # pixels drawn at a time: a photograph of 100 megapixels must not need gigabytes
_LUMA = np.array([77, 150, 29], np.uint16)  # 256 * (0.299, 0.587, 0.114), ITU-R BT.601


@dataclass(frozen=True)
class Style:
    """How maps are drawn.

    Attributes:
        sequential: Colour map of positive maps.
        diverging: Colour map of signed maps.
        opacity: Largest share of the colour in the mixture, 0 to 1. The share rises from 0 at the value 0 to this at 0.5.
        grey: Draw the photo in grey.
        contours: Draw lines at 25, 50 and 75 % of the scale: white ones, and black ones below 0. Not in maps at the pixels.

    Raises:
        OptionError: The opacity lies outside 0 to 1, or a colour map does not exist or is of the other kind.
    """

    sequential: str = SEQUENTIAL
    diverging: str = DIVERGING
    opacity: float = OPACITY
    grey: bool = False
    contours: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.opacity, (int, float)) or not 0 <= self.opacity <= 1:
            raise OptionError(f"opacity is a number from 0 to 1, not {self.opacity!r}")
        find_colormap(self.sequential, signed=False)
        find_colormap(self.diverging, signed=True)

    def with_colormap(self, name: str) -> Style:
        """The same with another colour map, for the kind of maps that it is made for.

        Raises:
            OptionError: No colour map has this name.
        """
        if find_colormap(name).diverging:
            return replace(self, diverging=name)
        return replace(self, sequential=name)

    def colors(self, signed: bool) -> tuple[Pixels, NDArray[np.uint8]]:
        """The colour of each step of the colour map, [steps,3], and its share of the mixture in 255ths, [steps]."""
        table = find_colormap(self.diverging if signed else self.sequential, signed).table
        values = np.abs(np.linspace(-1 if signed else 0, 1, len(table)))
        return table, np.rint(255 * self.opacity * np.minimum(values / FULL, 1)).astype(np.uint8)


def overlay(photo: Pixels, values: Array, spec: Input, signed: bool = False, style: Style | None = None) -> Pixels:
    """Lay one map over one photo.

    Args:
        photo: The whole upright photo, RGB [h,w,3] uint8, of any size; of a volume the picture of its slices.
        values: [H,W] at the network's input size, in [0,1], or in [-1,1] if `signed`; see `drawn`. [D,H,W] of a volume.
        spec: The manifest's input.
        signed: 0 is the neutral colour in the middle.
        style: Colours, opacity, contours.

    Returns:
        RGB [h,w,3] uint8. All of it is drawn in strips, so the memory needed is that of the result.
    """
    style = style or Style()
    if spec.depth is not None:
        values, spec = volumes.mosaic(values[volumes.shown(spec.depth)]), volumes.pictured(spec)
    height, width = photo.shape[:2]
    seen = frame(height, width, spec)
    down, across = axes(height, width, spec)
    table, shares = style.colors(signed)
    # The step of a value v in the colour map is 127 v + 127, or 255 v. The half more makes the truncation below a rounding.
    scale, offset = (np.float32(127), np.float32(127.5)) if signed else (np.float32(255), np.float32(0.5))
    steps = np.asarray((np.clip(values, -1 if signed else 0, 1) * scale + offset) @ across.T, np.float32)
    picture = np.empty_like(photo)
    thick = thickness(height, width)
    for rows in _strips(0, height, width):
        _dim(photo[rows], picture[rows], style.grey)
    for rows in _strips(0, seen.height, seen.width):
        below = min(rows.stop + thick, seen.height)  # a contour looks at the rows below
        own = _product(down[rows.start : below], steps).astype(np.intp)
        place = slice(seen.top + rows.start, seen.top + rows.stop), seen.slices[1]
        count = rows.stop - rows.start
        _mix(photo[place], own[:count], table, shares, style.grey, picture[place])
        if style.contours:
            _contours(picture[place], own, signed, thick)
    draw_frame(picture, seen)
    return picture


def draw(
    photo: Pixels,
    heatmap: Array,
    raw: Array,
    spec: Input,
    *,
    signed: bool,
    at_pixels: bool,
    style: Style | None = None,
) -> Pixels:
    """`overlay` of what `drawn` makes of a method's maps. Maps at the pixels get no contours: they would be noise."""
    style = style or Style()
    if at_pixels:
        style = replace(style, contours=False)
    return overlay(photo, drawn(heatmap, raw, signed, at_pixels), spec, signed, style)


def thickness(height: int, width: int) -> int:
    """Pixels of a line in a picture of this size: visible when the picture fills a screen."""
    return max(1, round(max(height, width) / 500))


def draw_frame(picture: Pixels, seen: Frame) -> None:
    """Draw white lines just outside of the frame, in place; none if the frame ends where the picture ends."""
    thick = thickness(*picture.shape[:2])
    bottom, right = seen.top + seen.height, seen.left + seen.width
    top, left = max(seen.top - thick, 0), max(seen.left - thick, 0)
    rows, columns = slice(top, bottom + thick), slice(left, right + thick)
    for line in (
        (slice(top, seen.top), columns),
        (slice(bottom, bottom + thick), columns),
        (rows, slice(left, seen.left)),
        (rows, slice(right, right + thick)),
    ):
        picture[line] = 255


def _strips(start: int, stop: int, width: int) -> Iterator[slice]:
    step = max(1, _STRIP // width)
    return (slice(top, min(top + step, stop)) for top in range(start, stop, step))


def _product(down: Array, steps: Array) -> Array:
    """down @ steps, with the columns of `down` only that are not zero: a strip of the photo lies on few rows of the map."""
    used = np.flatnonzero(down.any(axis=0))
    first, last = used[0], used[-1] + 1
    product: Array = down[:, first:last] @ steps[first:last]
    return product


def _light(photo: Pixels, channel: int, grey: bool) -> NDArray[np.uint16]:
    """One channel [h,w] of a photo, or its luma."""
    if grey:
        return np.asarray((photo * _LUMA).sum(axis=-1, dtype=np.uint16) >> np.uint16(8))
    return photo[..., channel].astype(np.uint16)


def _dim(photo: Pixels, picture: Pixels, grey: bool) -> None:
    for channel in range(3):
        light = _light(photo, channel, grey)
        light *= np.uint16(_DIMMED)
        light >>= np.uint16(8)
        picture[..., channel] = light


def _mix(
    photo: Pixels, steps: NDArray[np.intp], table: Pixels, shares: NDArray[np.uint8], grey: bool, picture: Pixels
) -> None:
    """picture = (1 - share) photo + share color, rounded. Channel by channel: NumPy is slow on an axis of length 3."""
    left = (255 - shares.astype(np.uint16))[steps]
    for channel in range(3):
        light = _light(photo, channel, grey)
        light *= left
        light += (table[:, channel] * shares.astype(np.uint16) + np.uint16(128))[steps]
        light += light >> np.uint16(8)  # (x + 128 + (x + 128 >> 8)) >> 8 is x / 255, rounded
        light >>= np.uint16(8)
        picture[..., channel] = light


def _contours(picture: Pixels, steps: NDArray[np.intp], signed: bool, thick: int) -> None:
    """Draw lines where the level changes within `thick` pixels to the right or below. `steps` has up to `thick` rows more."""
    middle, largest = (127, 127) if signed else (0, 255)
    levels = np.minimum(np.abs(steps - middle) * LEVELS // largest, LEVELS - 1) * np.sign(steps - middle)
    count = len(picture)
    edge = np.zeros(picture.shape[:2], bool)
    edge[:, :-thick] = levels[:count, thick:] != levels[:count, :-thick]
    following = levels[thick : thick + count]
    edge[: len(following)] |= following != levels[: len(following)]
    picture[edge] = np.where((steps[:count] < middle)[edge], 0, 255)[:, None]
