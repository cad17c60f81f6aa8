"""The network's image input, and how an image becomes it: part of the manifest."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..foundation import schema

Floats = TypeVar("Floats", bound=NDArray[Any])


BORDER = 114
"""The grey of a letterbox's border, an 8-bit value: Ultralytics' own."""


Resize = Literal["stretch", "letterbox"] | int | tuple[int, int]


def written(resize: Resize) -> str:
    """A resize as `--resize` takes it: a word, "256", or "256,288" for a height and a width."""
    return ",".join(map(str, resize)) if isinstance(resize, tuple) else str(resize)


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes the network's input: (pixel * scale - mean) / std, per channel; pixels run from 0 to 255.

    Attributes:
        resize: "stretch" to the input size; "letterbox": the whole image with its proportions kept, in the middle of a grey border;
            before a centre crop, in pixels: the length of the shorter side, or the (height, width) to which images are stretched.
        interpolation: Filter of the resize.
        antialias: Widen the filter when shrinking, as PIL and torchvision do; False is OpenCV's plain interpolation.
        color: Channel order that the network takes. "CHANNELS": channels that are no colours, as the image has them.
        scale: Factor on the 8-bit value.
        mean: Subtracted after scaling, one per channel.
        std: Divided by, one per channel.
        assumed: Whether these values were not stated at export but taken from a preset.
        range: (low, high), the values of images of more than 8 bits and of floats that become the pixels 0 and 255; values beyond
            them keep their distance. Such values are not rounded. None: they are scaled to 8 bits (files), or refused (arrays).
        shown: Three channels, from 0, that pictures show in red, green and blue; None: the first three, or of fewer the first.
    """

    resize: Resize = "stretch"
    interpolation: Literal["bilinear", "bicubic", "nearest"] = "bilinear"
    antialias: bool = True
    color: Literal["RGB", "BGR", "GRAY", "CHANNELS"] = "RGB"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    assumed: bool = False
    range: tuple[float, float] | None = field(default=None, metadata=schema.LATER)
    shown: tuple[int, int, int] | None = field(default=None, metadata=schema.LATER)

    @property
    def crops(self) -> bool:
        """Whether a part of the image may be cut off."""
        return not isinstance(self.resize, str)

    @property
    def resized_sides(self) -> tuple[int, int] | None:
        """The (height, width) that a resized image has at least, before a centre crop; None without a crop."""
        if isinstance(self.resize, str):
            return None
        return (self.resize, self.resize) if isinstance(self.resize, int) else self.resize

    @property
    def resized(self) -> str:
        """What happens to an image before a centre crop, for people; only where `crops`."""
        if isinstance(self.resize, tuple):
            return "stretched to {} x {}".format(*self.resize)
        return f"shorter side {self.resize}"

    def holds(self, height: int, width: int) -> bool:
        """Whether a centre crop of this size fits into each resized image; True without a crop."""
        sides = self.resized_sides or (height, width)
        return sides[0] >= height and sides[1] >= width

    def normalise(self, planes: Floats) -> Floats:
        """(pixel * scale - mean) / std. This is the only place that computes it on arrays.

        Args:
            planes: [..., C, h, w], floats from 0 to 255, the channels in the network's order.

        Returns:
            The same shape; computed in the type of `planes`.
        """
        mean, std = (np.array(values, planes.dtype)[:, None, None] for values in (self.mean, self.std))
        normalised: Floats = (planes * planes.dtype.type(self.scale) - mean) / std
        return normalised

    def fault(self, channels: int) -> str | None:
        """What contradicts an input of this many channels; None if nothing does."""
        if not len(self.mean) == len(self.std) == channels or 0.0 in self.std:
            return f"mean and std need {channels} values each, std none of them zero"
        if self.range is not None and not self.range[0] < self.range[1]:
            return "range is two numbers, the lower one first"
        if self.shown is not None and not 0 <= min(self.shown) <= max(self.shown) < channels:
            return f"shown names channels from 0 to {channels - 1}"
        return None

    def ends(self) -> NDArray[np.float64]:
        """A black and a white pixel, normalised: [2, C]."""
        with np.errstate(over="ignore"):  # an absurd scale or std gives infinity, without a warning
            normalised = self.normalise(np.array([0.0, 255.0])[:, None, None, None])
        return normalised[..., 0, 0]


@dataclass(frozen=True)
class Input:
    """The network's image input. The batch is symbolic; sizes in pixels.

    Attributes:
        name: Its name.
        layout: The order of its axes.
        channels, height, width: The sizes of one image, or of one slice of a volume.
        dtype: Its element type.
        preprocess: How an 8-bit image becomes the input; a volume slice by slice.
        depth: The slices of a volume, or the frames of a film; None for images.
    """

    name: str
    layout: Literal["NCHW", "NHWC", "NCDHW", "NDHWC", "NDCHW"]
    channels: int
    height: int
    width: int
    dtype: Literal["float32", "float16", "uint8"]
    preprocess: Preprocess
    depth: int | None = field(default=None, metadata=schema.LATER)

    @property
    def size(self) -> tuple[int, ...]:
        """(H,W), or (D,H,W) for volumes."""
        return (self.height, self.width) if self.depth is None else (self.depth, self.height, self.width)

    @property
    def slice(self) -> Input:
        """One slice of a volume, as if the network took images."""
        layout: Literal["NCHW", "NHWC"] = "NHWC" if self.layout.endswith("C") else "NCHW"
        return replace(self, layout=layout, depth=None)

    @property
    def channel_axis(self) -> int:
        """The axis of the channels in a batch. `np.moveaxis(x, 1, channel_axis)` brings [n,C,H,W] into the network's own layout."""
        return self.layout.index("C")

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one input in the network's own layout."""
        before = self.channel_axis - 1  # the sides before the channels
        return (*self.size[:before], self.channels, *self.size[before:])

    def arranged(self, planes: NDArray[Any]) -> NDArray[Any]:
        """Planes [n,C,H,W], or [n,D,C,H,W] of volumes, in the network's own layout and element type."""
        return np.ascontiguousarray(np.moveaxis(planes, -3, self.channel_axis), dtype=self.dtype)

    def per_channel(self, values: NDArray[Any]) -> NDArray[Any]:
        """One value for each channel, [C], in a shape that is broadcast to a batch: [1,C,1,1] or [1,1,1,C]."""
        shape = [1] * len(self.layout)
        shape[self.channel_axis] = -1
        return values.reshape(shape)
