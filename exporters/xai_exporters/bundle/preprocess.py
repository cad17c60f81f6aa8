"""What the manifest says about the input's preprocessing: a recipe, and single fields on top of it."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import typing
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from xai_deploy.format.bundle import Input, Preprocess
from xai_deploy.format.image_input import written

from ..errors import RequestError
from ..request import Request
from ..sources.stated import Stated
from .recipes import Unstated, recipe

_NUMBERS = ("scale", "mean", "std")
_CHANNELS = 1024  # more are no image's
_COLOURS = {"GRAY": 1, "RGB": 3, "BGR": 3}


def describe_input(
    request: Request,
    name: str,
    dtype: str,
    image_shape: tuple[int, ...],
    layout: str,
    default: Stated | str | None,
) -> Input:
    """The manifest's input.

    Args:
        request: The export; its recipe and single fields win.
        name: The input's name in the graph.
        dtype: Its element type.
        image_shape: One image in the network's own layout.
        layout: The order of its axes.
        default: The recipe whose geometry is usual for the source, or what the source states about its preprocessing.

    Raises:
        RequestError: A field or a value that preprocessing does not have, or that does not fit the input.
    """
    channels, *deep, height, width = _sides(image_shape, layout)
    for option in ("embed_preprocess", "web") if deep else ():
        if getattr(request, option):
            flag = option.replace("_", "-")
            raise RequestError(f"--{flag} takes pictures, and the network takes volumes: leave --{flag} out")
    stated, usual = (default, "imagenet") if isinstance(default, Stated) else (None, default)
    asked, guess = (None, "imagenet") if request.preprocess == "assume" else (request.preprocess, "none")
    # a network of 8-bit pixels takes them as they are, unless the request says otherwise
    chosen = asked or (usual or guess if dtype != "uint8" else "none")
    # a single field says nothing about the others; these four together leave nothing important to guess
    assumed = asked is None and not {"resize", "scale", "mean", "std"} <= set(request.preprocess_fields)
    if asked is None and chosen == "imagenet" and channels not in (1, 3):
        chosen = "unit"
    values = recipe(chosen, channels, height, width)
    if stated is not None and asked is None:
        fields = stated.at(channels, height, width) or {}
        values |= {k: v for k, v in fields.items() if dtype != "uint8" or k not in _NUMBERS}
        # what the source states is sure only for the image size that it states
        assumed &= not (stated.sure and stated.size in (None, (height, width)))
    values["assumed"] = assumed
    known = {field.name for field in dataclasses.fields(Preprocess)} - {"assumed"}
    for key, value in request.preprocess_fields.items():
        if key not in known:
            raise RequestError(f"preprocessing has no field {key!r}; it has {', '.join(sorted(known))}")
        values[key] = _checked(key, value)
    if values["color"] == "CHANNELS":
        values.setdefault("range", (0.0, 255.0))  # values as they are: there is no 8-bit photo to compare with
    for key in ("mean", "std"):
        if values["color"] == "BGR" and key not in request.preprocess_fields:
            values[key] = values[key][::-1]  # presets are in RGB order, the manifest in the network's
        if len(values[key]) == 1:
            values[key] = values[key] * channels  # one number stands for all channels
        if len(values[key]) != channels:
            raise RequestError(f"--{key} needs {channels} values, one per channel of the input; got {len(values[key])}")
    how = _fitting(values, channels, height, width)
    if dtype == "uint8":
        _check_range(how)
    return Input(name, layout, channels, height, width, dtype, how, *deep)  # type: ignore[arg-type]


def _sides(image_shape: tuple[int, ...], layout: str) -> tuple[int, ...]:
    """(C,H,W), or (C,D,H,W) of volumes."""
    axis = layout.index("C") - 1  # `image_shape` does not count the batch
    return (image_shape[axis], *image_shape[:axis], *image_shape[axis + 1 :])


def image_request(request: Request, name: str, stated: Mapping[str, str]) -> Request:
    """The request for a further image: what is stated of it as text in place of what is asked for the first one.

    Raises:
        RequestError: A key or a value that preprocessing does not have.
    """
    if not stated:
        return request
    hints = typing.get_type_hints(Preprocess)
    fields: dict[str, Any] = {}
    for key, text in stated.items():
        if key in ("preprocess", "shape"):
            continue
        if key not in hints or key == "assumed":
            known = ", ".join(sorted({*hints, "preprocess", "shape"} - {"assumed"}))
            raise RequestError(f"--input-image {name}: has no {key!r}; it has {known}")
        fields[key] = _from_text(text)
    preset: Any = stated.get("preprocess")
    return replace(request, preprocess=preset, preprocess_fields=fields)


def _from_text(text: str) -> Any:
    """A field's value as it is written on a command line: numbers, lists of them, true or false, or a word."""

    def one(part: str) -> Any:
        for kind in (int, float):
            with contextlib.suppress(ValueError):
                return kind(part)
        return {"true": True, "false": False}.get(part, part)

    parts = [one(part) for part in text.split(",")]
    return parts if len(parts) > 1 else parts[0]


def _fitting(values: dict[str, Any], channels: int, height: int, width: int) -> Preprocess:
    """The preprocessing of these fields, if they fit the input.

    Raises:
        RequestError: They do not.
    """
    if 0.0 in values["std"]:
        raise RequestError("--std must not be zero")
    if channels > _CHANNELS:
        raise RequestError(f"the input has {channels} channels; images of at most {_CHANNELS} are explained")
    expected = _COLOURS.get(values["color"], channels)
    if channels != expected:
        raise RequestError(
            f"the input has {channels} channels; {values['color']} images have {expected} (--color CHANNELS takes any number)"
        )
    how = Preprocess(**values)
    if not how.holds(height, width):
        raise RequestError(f"--resize {written(how.resize)} is smaller than the input, {height} x {width}")
    if (fault := how.fault(channels)) is not None:
        raise RequestError(f"the preprocessing does not fit the input: {fault}")
    return how


def unstated(
    request: Request, dtype: str, image_shape: tuple[int, ...], layout: str, default: Stated | str | None
) -> Unstated | None:
    """What is not stated of the preprocessing, although it has to be; None if nothing is missing.

    Stated is a recipe in the request, or the three numbers of the formula together, or what the source states for as many
    channels. 8-bit pixels are taken as they are, so a network of them needs nothing.

    Args:
        request, dtype, image_shape, layout, default: As for `describe_input`.
    """
    channels, *_, height, width = _sides(image_shape, layout)
    if request.preprocess is not None or dtype == "uint8" or set(request.preprocess_fields) >= set(_NUMBERS):
        return None
    if isinstance(default, Stated) and default.at(channels, height, width) is not None:
        return None
    return Unstated(request.source, channels, tuple(f"--{key}" for key in _NUMBERS if key in request.preprocess_fields))


def _check_range(how: Preprocess) -> None:
    """Refuse a preprocessing that does not fit a network of 8-bit pixels.

    Raises:
        RequestError: Its values lie outside 0 to 255, or span next to nothing of that range.
    """
    low, high = how.ends().min(), how.ends().max()
    if low < -0.5 or high > 255.5 or high - low < 2:
        raise RequestError(
            f"the input takes uint8 pixels, 0 to 255, and this preprocessing makes them {low:.3g} to {high:.3g}; "
            "give --preprocess none, and --resize if the image is cropped"
        )


def _checked(key: str, value: Any) -> Any:
    """A field's value in the type that the manifest takes.

    Raises:
        RequestError: The field can't have this value.
    """
    choices = typing.get_args(typing.get_type_hints(Preprocess)[key])
    if key in ("mean", "std"):
        if isinstance(value, (list, tuple)) and all(map(_is_number, value)):
            return tuple(map(float, value))
        if _is_number(value):
            return (float(value),)
        raise RequestError(f"--{key} takes numbers, one per channel; got {value!r}")
    if key in ("range", "shown"):
        kinds = typing.get_args(typing.get_args(typing.get_type_hints(Preprocess)[key])[0])
        if (
            isinstance(value, (list, tuple))
            and len(value) == len(kinds)
            and all(map(_is_number, value))
            and (key == "range" or all(type(number) is int for number in value))
        ):
            return tuple(kind(number) for kind, number in zip(kinds, value, strict=True))
        what = "--input-range takes LOW,HIGH, for example 0,65535" if key == "range" else "--shown takes three channels"
        raise RequestError(f"{what}; got {value!r}")
    if key == "scale":
        if _is_number(value) and value != 0:
            return float(value)
        raise RequestError(f"--scale takes a number that is not zero; got {value!r}")
    if key == "antialias":
        if isinstance(value, bool):
            return value
        raise RequestError(f"antialias is true or false; got {value!r}")
    if key == "resize":
        if isinstance(value, (list, tuple)) and len(value) == 2 and all(type(side) is int for side in value):
            return tuple(value)
        if value in ("stretch", "letterbox") or type(value) is int:
            return value
        raise RequestError(f"--resize takes a number of pixels, HEIGHT,WIDTH, 'stretch' or 'letterbox'; got {value!r}")
    if value not in choices:
        raise RequestError(f"--{key} is one of {', '.join(choices)}; got {value!r}")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
