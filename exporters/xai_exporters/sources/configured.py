"""Preprocessing from the configuration that a network carries: timm's `pretrained_cfg`, transformers' `config`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .stated import Stated

_INTERPOLATIONS = ("bilinear", "bicubic", "nearest")


def stated_by_module(module: Any) -> Stated | None:
    """The preprocessing in a module's timm configuration; None if there is none, or one that can't be understood.

    The configuration belongs to the weights that timm published for the network. For the weights in the file it is assumed.
    """
    given = getattr(module, "pretrained_cfg", None) or getattr(module, "default_cfg", None)
    try:
        cfg: Mapping[str, Any] = given if isinstance(given, Mapping) else vars(given)
        size = _image_size(module) or tuple(int(side) for side in cfg["input_size"][1:])
        mean, std = (tuple(float(x) for x in cfg[key]) for key in ("mean", "std"))
        crop = float(cfg.get("crop_pct") or 0.875)
        interpolation, mode = cfg.get("interpolation") or "bilinear", cfg.get("crop_mode") or "center"
        if len(size) != 2 or min(size) < 1 or not 0.1 <= crop <= 1 or len(mean) != len(std):
            return None
    except (KeyError, TypeError, ValueError, AttributeError):  # the user's own attributes of these names
        return None
    resized = tuple(math.floor(side / crop) for side in size)  # timm's own rounding
    square = size[0] == size[1] and mode == "center"
    fields = {
        "resize": resized[0] if square else resized if mode == "squash" and crop < 1 else "stretch",
        "interpolation": interpolation if interpolation in _INTERPOLATIONS else "bilinear",
        "antialias": True,
        "color": "GRAY" if len(mean) == 1 else "RGB",
        "scale": 1 / 255,
        "mean": mean,
        "std": std,
    }
    unsaid = []
    if interpolation not in _INTERPOLATIONS:
        unsaid.append(f"its interpolation {interpolation!r} is taken as bilinear")
    if not square and mode != "squash":
        unsaid.append(f"its crop ({mode}, {crop:g} of {size[0]} x {size[1]}) is taken as stretching")
    return Stated(
        (size[0], size[1]), fields, f"the network's own configuration ({_name(cfg)})", False, "; ".join(unsaid)
    )


def image_size(module: Any) -> tuple[int, int] | None:
    """(height, width) in the configuration of a transformers network."""
    return _pair(getattr(getattr(module, "config", None), "image_size", None))


def frame_count(module: Any) -> int | None:
    """The frames of a film in the configuration of a transformers network, which takes films [N,frames,C,H,W]; None for images."""
    frames = getattr(getattr(module, "config", None), "num_frames", None)
    return frames if type(frames) is int and frames > 0 else None


def _image_size(module: Any) -> tuple[int, int] | None:
    """The size that a network was built for, if it is not the configuration's: timm's patch embedding holds it."""
    return _pair(getattr(getattr(module, "patch_embed", None), "img_size", None))


def _pair(size: Any) -> tuple[int, int] | None:
    if type(size) is int:
        return size, size
    if isinstance(size, (tuple, list)) and len(size) == 2 and all(type(side) is int for side in size):
        return size[0], size[1]
    return None


def _name(cfg: Mapping[str, Any]) -> str:
    return ".".join(str(cfg[key]) for key in ("architecture", "tag") if cfg.get(key)) or "pretrained_cfg"
