"""Named recipes: how 8-bit pixels become the input of a network of floats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import RequestError
from ..request import Preset

RECIPES: Mapping[Preset, str] = {
    "imagenet": "x / 255, ImageNet's mean and std; centre crop (torchvision, timm)",
    "unit": "x / 255, so 0 to 1; stretched",
    "tf": "x / 127.5 - 1, so -1 to 1; centre crop (Keras' MobileNet and Inception, TF-slim)",
    "caffe": "BGR, ImageNet's mean pixel subtracted; centre crop (Caffe, Keras' VGG and ResNet)",
    "none": "0 to 255 as they are; stretched",
    "assume": "not known: what the source states, or else as imagenet, marked in the bundle as a guess",
}
"""Recipe -> what it does, in the order in which it is offered. The first is the default of the question at a terminal."""

_FOR: Mapping[Preset, tuple[int, ...] | None] = dict.fromkeys(RECIPES) | {"imagenet": (1, 3), "caffe": (3,)}
"""Recipe -> the numbers of channels that it is for; None: any."""


@dataclass(frozen=True)
class Unstated:
    """A network of floats whose preprocessing nobody states.

    Attributes:
        source: Its file.
        channels: Channels of its input.
        given: Options of the preprocessing that are given, but leave the numbers open: "--mean".
        why: Why what the file states can't be used; "" if it states nothing.
    """

    source: Path
    channels: int
    given: tuple[str, ...] = ()
    why: str = ""

    @property
    def choices(self) -> tuple[Preset, ...]:
        """The recipes that fit the input."""
        return tuple(name for name, channels in _FOR.items() if channels is None or self.channels in channels)


Ask = Callable[[Unstated], Preset]
"""Gets a recipe from the user, or raises `PreprocessingError`."""


def recipe(name: str, channels: int, height: int, width: int) -> dict[str, Any]:
    """A recipe's fields of `xai_deploy.format.manifest.Preprocess`, for RGB or grey images, or for other channels.

    A centre crop first resizes the shorter side to 8/7 of a square input; inputs of another form are stretched. Grey inputs have
    neither mean nor std, "tf" aside. "caffe" is the difference to the mean of ImageNet's training images, (103.939, 116.779,
    123.68) in BGR order.

    Raises:
        RequestError: There is no such recipe, or it is for other images.
    """
    color = {1: "GRAY", 3: "RGB"}.get(channels, "CHANNELS")
    if name == "imagenet" and color == "CHANNELS":
        raise RequestError(
            f"--preprocess imagenet is for photos; the input has {channels} channels: give unit or none, with --mean and --std"
        )
    plain = {"resize": "stretch", "color": color, "mean": (0.0,) * channels, "std": (1.0,) * channels}
    # 256 to 224 for square inputs; others are stretched
    crop = {"resize": round(min(height, width) * 256 / 224)} if height == width else {}
    if name == "imagenet":
        statistics = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)} if channels == 3 else {}
        return {**plain, **crop, "scale": 1 / 255, **statistics}
    if name == "unit":
        return {**plain, "scale": 1 / 255}
    if name == "tf":
        return {**plain, **crop, "scale": 1 / 127.5, "mean": (1.0,) * channels}
    if name == "caffe":
        if channels != 3:
            has = "one channel" if channels == 1 else f"{channels} channels"
            raise RequestError(f"--preprocess caffe is for colour images; the input has {has}")
        return {**plain, **crop, "scale": 1.0, "color": "BGR", "mean": (123.68, 116.779, 103.939)}
    if name == "none":
        return {**plain, "scale": 1.0}
    raise RequestError(f"no preset {name!r} for --preprocess; there are {', '.join(RECIPES)}")
