"""Values -> colours: positive maps from 0 to 1, signed maps from -1 to 1 with 0 in the middle."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError
from ..foundation.options import unknown
from .colormaps import ColorMap, colormaps

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]

SEQUENTIAL = "inferno"  # of positive maps, if none is named
DIVERGING = "coolwarm"  # of signed maps


def find_colormap(name: str | None, signed: bool | None = None) -> ColorMap:
    """The colour map of a name, or the default of its kind.

    Args:
        name: As registered, for example "viridis".
        signed: What it is for: signed maps take a diverging one, positive maps a sequential one. None accepts both kinds.

    Raises:
        OptionError: No colour map has this name, or it is not of that kind.
    """
    name = name or (DIVERGING if signed else SEQUENTIAL)
    colormap = colormaps.get(name)
    if colormap is None:
        raise OptionError(unknown("colour map", name, colormaps))
    if signed is not None and colormap.diverging != signed:
        kinds = ("a diverging", "a sequential") if colormap.diverging else ("a sequential", "a diverging")
        maps, default = ("signed", DIVERGING) if signed else ("positive", SEQUENTIAL)
        raise OptionError(f"{name} is {kinds[0]} colour map; {maps} maps take {kinds[1]} one, for example {default}")
    return colormap


def colorize(maps: Array, colormap: str | None = None, signed: bool = False) -> Pixels:
    """Maps [...,H,W] in [0,1], or in [-1,1] if `signed`, -> RGB [...,H,W,3]; see `find_colormap`."""
    chosen = find_colormap(colormap, signed)
    colors: Pixels = chosen.table[chosen.steps(maps)]
    return colors


def color_bar(height: int, width: int, colormap: str | None = None, signed: bool = False) -> Pixels:
    """RGB [height,width,3]: all colours side by side, or one above the other if it is higher than wide (largest value on top)."""
    ramp = np.linspace(-1 if signed else 0, 1, max(height, width), dtype=np.float32)
    if height > width:
        return np.repeat(colorize(ramp[::-1, None], colormap, signed), width, axis=1)
    return np.repeat(colorize(ramp[None], colormap, signed), height, axis=0)
