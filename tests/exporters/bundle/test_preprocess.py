"""The manifest's preprocessing: presets, single fields, and what does not fit the input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from xai_exporters import Request
from xai_exporters.bundle.preprocess import describe_input
from xai_exporters.errors import RequestError

from xai_deploy.format.bundle import Input, Preprocess

NCHW, SQUARE, GREY = (3, 16, 20), (3, 224, 224), (1, 28, 28)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def described(
    shape: tuple[int, int, int] = SQUARE,
    layout: str = "NCHW",
    default: str | None = "imagenet",
    dtype: str = "float32",
    **o: Any,
) -> Input:
    return describe_input(Request(Path("net"), **o), "image", dtype, shape, layout, default)


@pytest.mark.parametrize(
    ("shape", "preset", "expected"),
    [
        (SQUARE, "imagenet", Preprocess(resize=256, scale=1 / 255, mean=MEAN, std=STD)),
        (NCHW, "imagenet", Preprocess(resize="stretch", scale=1 / 255, mean=MEAN, std=STD)),
        (GREY, "imagenet", Preprocess(resize=32, color="GRAY", scale=1 / 255, mean=(0.0,), std=(1.0,))),
        (SQUARE, "tf", Preprocess(resize=256, scale=1 / 127.5, mean=(1.0, 1.0, 1.0))),
        (GREY, "tf", Preprocess(resize=32, color="GRAY", scale=1 / 127.5, mean=(1.0,), std=(1.0,))),
        (SQUARE, "none", Preprocess(resize="stretch", scale=1.0)),
        (SQUARE, "unit", Preprocess(resize="stretch", scale=1 / 255)),
        (GREY, "unit", Preprocess(resize="stretch", color="GRAY", scale=1 / 255, mean=(0.0,), std=(1.0,))),
        # Keras' preprocess_input(mode="caffe"): BGR, minus (103.939, 116.779, 123.68)
        (SQUARE, "caffe", Preprocess(resize=256, color="BGR", mean=(103.939, 116.779, 123.68))),
        (SQUARE, "assume", Preprocess(resize=256, scale=1 / 255, mean=MEAN, std=STD, assumed=True)),
    ],
)
def test_presets(shape: tuple[int, int, int], preset: str, expected: Preprocess) -> None:
    assert described(shape, preprocess=preset).preprocess == expected


def test_tf_maps_pixels_to_plus_and_minus_one() -> None:
    how = described(preprocess="tf").preprocess
    assert [(p * how.scale - how.mean[0]) / how.std[0] for p in (0, 255)] == pytest.approx([-1, 1], abs=1e-12)


@pytest.mark.parametrize(
    ("default", "dtype", "scale", "assumed"),
    [("imagenet", "float32", 1 / 255, True), (None, "float32", 1.0, True), ("imagenet", "uint8", 1.0, True)],
)
def test_assumed_where_nobody_states_it(default: str | None, dtype: str, scale: float, assumed: bool) -> None:
    how = described(default=default, dtype=dtype).preprocess
    assert (how.scale, how.assumed) == (scale, assumed)
    assert not described(default=default, dtype=dtype, preprocess="none").preprocess.assumed
    assert described(default=default, preprocess_fields={"scale": 2, "color": "BGR"}).preprocess.assumed
    whole = {"resize": "stretch", "scale": 2, "mean": [0, 0, 0], "std": [1, 1, 1]}
    assert not described(default=default, preprocess_fields=whole).preprocess.assumed


def test_a_presets_statistics_follow_the_networks_channel_order() -> None:
    how = described(preprocess="imagenet", preprocess_fields={"color": "BGR"}).preprocess
    assert (how.mean, how.std) == ((0.406, 0.456, 0.485), (0.225, 0.224, 0.229))
    how = described(preprocess="imagenet", preprocess_fields={"color": "BGR", "mean": [1, 2, 3]}).preprocess
    assert how.mean == (1.0, 2.0, 3.0)


def test_layout() -> None:
    one = described((16, 20, 3), "NHWC")
    assert (one.channels, one.height, one.width, one.layout, one.image_shape) == (3, 16, 20, "NHWC", (16, 20, 3))


def test_single_fields_over_the_preset() -> None:
    fields = {
        "resize": 300, "interpolation": "bicubic", "antialias": False, "color": "BGR", "scale": 1, "mean": [0.5], "std": (1, 2, 4),
    }  # fmt: skip
    how = described(preprocess="tf", preprocess_fields=fields).preprocess
    assert how == Preprocess(300, "bicubic", False, "BGR", 1.0, (0.5, 0.5, 0.5), (1.0, 2.0, 4.0))
    assert all(type(v) is float for v in (how.scale, *how.mean, *how.std))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"colour": "RGB"}, "preprocessing has no field 'colour'; it has antialias, color, interpolation, mean"),
        ({"assumed": True}, "preprocessing has no field 'assumed'"),
        ({"mean": (0.5, 0.5)}, "--mean needs 3 values, one per channel of the input; got 2"),
        ({"std": ()}, "--std needs 3 values"),
        ({"std": (1, 0, 1)}, "--std must not be zero"),
        ({"mean": "abc"}, "--mean takes numbers, one per channel; got 'abc'"),
        ({"mean": (float("nan"),)}, "--mean takes numbers"),
        ({"std": (True,)}, "--std takes numbers"),
        ({"scale": "1/255"}, "--scale takes a number that is not zero; got '1/255'"),
        ({"scale": 0}, "--scale takes a number"),
        ({"scale": float("inf")}, "--scale takes a number"),
        ({"resize": 200}, "--resize 200 is smaller than the input, 224 x 224"),
        ({"resize": (256, 200)}, "--resize 256,200 is smaller than the input, 224 x 224"),
        ({"resize": "crop"}, "--resize takes a number of pixels, HEIGHT,WIDTH, 'stretch' or 'letterbox'; got 'crop'"),
        ({"resize": (256,)}, "--resize takes a number"),
        ({"resize": True}, "--resize takes a number"),
        ({"antialias": 1}, "antialias is true or false; got 1"),
        ({"interpolation": "lanczos"}, "--interpolation is one of bilinear, bicubic, nearest; got 'lanczos'"),
        ({"interpolation": ["bilinear"]}, "--interpolation is one of"),
        ({"color": "rgb"}, "--color is one of RGB, BGR, GRAY, CHANNELS; got 'rgb'"),
        ({"color": "GRAY"}, "the input has 3 channels; GRAY images have 1"),
    ],
)
def test_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestError, match=says):
        described(preprocess_fields=fields)


def test_channels_that_are_no_colours() -> None:
    assert described((4, 16, 16)).preprocess.color == "CHANNELS"
    with pytest.raises(RequestError, match="the input has 1025 channels; images of at most 1024 are explained"):
        described((1025, 16, 16))
    with pytest.raises(
        RequestError, match="no preset 'torch' for --preprocess; there are imagenet, unit, tf, caffe, none, assume"
    ):
        described(preprocess="torch")


@pytest.mark.parametrize(
    ("asked", "made"),
    [
        ({"preprocess": "tf"}, "-1 to 1"),
        ({"preprocess": "imagenet"}, "-2.12 to 2.64"),
        ({"preprocess_fields": {"scale": 2}}, "0 to 510"),
        ({"preprocess_fields": {"mean": [1, 0, 0]}}, "-1 to 255"),
    ],
)
def test_pixels_stay_pixels_where_the_input_takes_them(asked: dict[str, Any], made: str) -> None:
    with pytest.raises(RequestError, match=f"makes them {made}; give --preprocess none"):
        described(dtype="uint8", **asked)
    assert described(dtype="uint8", preprocess="none", preprocess_fields={"resize": 256}).preprocess.scale == 1
