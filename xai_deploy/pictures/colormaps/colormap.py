"""What a colour map is: a table of colours between evenly spaced anchors. To add one, add a file that registers it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...foundation.registry import Registry

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class ColorMap:
    """Colours of the values from 0 to 1, or from -1 to 1 if it is diverging.

    Attributes:
        anchors: Evenly spaced colours, the first at the lowest value, as "rrggbb" with spaces between them. Colours between two
            anchors are interpolated linearly.
        diverging: It has a neutral colour in its middle, for the value 0.
    """

    anchors: str
    diverging: bool

    @cached_property
    def table(self) -> Pixels:
        """[steps,3]: 256 steps; 255 if it is diverging, so that step 127 is the middle exactly."""
        colors = np.array([list(bytes.fromhex(anchor)) for anchor in self.anchors.split()], np.float64)
        at, steps = np.linspace(0, 1, len(colors)), np.linspace(0, 1, 255 if self.diverging else 256)
        table: Pixels = np.rint(np.stack([np.interp(steps, at, shade) for shade in colors.T], axis=-1)).astype(np.uint8)
        return table

    def steps(self, values: NDArray[np.float32]) -> Pixels:
        """The step of the table for each value; values outside the range take the nearest end."""
        low, scale = (-1, 127) if self.diverging else (0, 255)
        steps: Pixels = np.rint((np.clip(values, low, 1) - np.float32(low)) * np.float32(scale)).astype(np.uint8)
        return steps


def sequential(anchors: str) -> ColorMap:
    """A colour map of the values from 0 to 1."""
    return ColorMap(anchors, diverging=False)


def diverging(anchors: str) -> ColorMap:
    """A colour map of the values from -1 to 1, symmetric about 0."""
    return ColorMap(anchors, diverging=True)


colormaps: Registry[ColorMap] = Registry(__package__)
