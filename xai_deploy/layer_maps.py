"""The maps of one method at several layers, and what they give together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import heatmap as _heatmap
from . import resample
from .format.bundle import TargetLayer
from .methods.across import Combine

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class LayerMaps:
    """The maps of one layer on N images.

    Attributes:
        layer: The layer.
        raw: [N,h,w] float32, the method's own values there.
        constant: Per image, why its map is the same everywhere, or None if it is not.
    """

    layer: TargetLayer
    raw: Array
    constant: tuple[str | None, ...]

    def heatmaps(self, *size: int) -> Array:
        """[N,height,width] in [0,1], as `Explanation.heatmap` of a bundle that is cut at this layer alone."""
        return _heatmap.heatmap(self.raw, *size)


def put_together(maps: Sequence[LayerMaps], signed: Sequence[bool], combine: Combine, *size: int) -> Array:
    """One raw map of several layers, [N,height,width].

    Each layer's map is resized to the input, and scaled by itself: to 0..1 as heatmaps are; a signed map by its largest magnitude,
    so that 0 stays 0. Otherwise the layer with the largest numbers would drown the others. A map that is the same everywhere
    counts as 0. "max" takes the value that is farthest from 0 at each pixel, which for maps that are not signed is the largest.

    Args:
        maps: The layers'.
        signed: Per image, whether 0 is neutral in its maps.
        combine: How they are put together.
        *size: The size of the network's input.
    """
    scaled = np.stack([_scaled(one.raw, np.array(signed), *size) for one in maps])
    if combine != "max":
        total: Array = scaled.sum(axis=0)
        return total if combine == "sum" else total / np.float32(len(maps))
    farthest: Array = scaled[0]
    for other in scaled[1:]:
        farthest = np.where(np.abs(other) > np.abs(farthest), other, farthest)
    return farthest


def of_one_image(
    maps: Sequence[LayerMaps], signed: Sequence[bool], combine: Combine, *size: int, name: str | None = None
) -> tuple[Array, tuple[str | None, ...]]:
    """The raw map of the layers of one image and why it is constant: that of the layer, or several put together.

    Args:
        maps: The layers', of any image.
        signed, combine: As for `put_together`.
        *size: The size of that image.
        name: The further image; None: the image that is explained.
    """
    own = [one for one in maps if one.layer.input == name]
    if len(own) == 1:
        return own[0].raw, own[0].constant
    raw = put_together(own, signed, combine, *size)
    return raw, tuple(None if np.ptp(one) != 0 else why_constant(own, i) for i, one in enumerate(raw))


def why_constant(maps: Sequence[LayerMaps], image: int) -> str:
    """Why nothing varies in an image's maps together: the layers' reasons."""
    reasons = [f"{one.layer.name}: {reason}" for one in maps if (reason := one.constant[image]) is not None]
    return "; ".join(reasons) or "the maps of the layers add up to the same value everywhere"


def _scaled(raw: Array, signed: NDArray[np.bool_], *size: int) -> Array:
    scaled = _heatmap.heatmap(raw, *size)
    if signed.any():
        axes = tuple(range(1, raw.ndim))
        varies = np.ptp(raw, axis=axes) != 0
        values = resample.resize(raw, *size)
        largest = np.abs(values).max(axis=axes, keepdims=True)
        values = np.divide(values, largest, out=np.zeros_like(values), where=largest > 0)
        values[~varies] = 0
        scaled[signed] = values[signed]
    return scaled
