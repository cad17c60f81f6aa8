"""Preprocessing inside the graph is the engine's: every filter, geometry, colour order, element type and layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.exporters import onnx_nets as o
from tests.exporters.checks import open_vino
from xai_deploy.format.bundle import SALIENCY

from .harness import Fused, compare, fuse_onnx, onnxruntime
from .networks import C, K

SIDES = (12, 14)
SIZES = ((12, 14), (24, 28), (5, 6), (40, 31), (31, 64), (1, 30), (30, 1), (1, 1), (2, 3), (211, 307))


def network(channels: int = 3, dtype: int = o.FLOAT, channels_last: bool = False) -> onnx.ModelProto:
    """Gives its image again, as "picture"."""
    b = o.Build()
    x = b("Cast", "image", to=o.FLOAT)
    shape = ("N", channels, *SIDES)
    if channels_last:
        x, shape = b("Transpose", x, perm=[0, 3, 1, 2]), ("N", *SIDES, channels)
    x = b("Relu", b.conv(b("Mul", x, b.weight(np.float32(1 / 64))), channels, K), name="layer")
    ends = [b("Gemm", b.pooled(x), b.draw(K, C), b.draw(C), out="scores"), b("Identity", "image", out="picture")]
    return b.model(*ends, shape=shape, dtype=dtype, ranks={"picture": (dtype, shape)})


def embedded(folder: Path, model: onnx.ModelProto, **preprocess: Any) -> Fused:
    fields = {"resize": "stretch", "scale": 1 / 255, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    fields |= preprocess
    return fuse_onnx(folder, model, "grad-cam", output="scores", preprocess_fields=fields, embed_preprocess=True)


def check_pictures(case: Fused, runner: Any = onnxruntime, sizes: Any = SIZES) -> float:
    """What the network gets is what the engine prepares, but for pixels that round the other way; returns their share."""
    spec = case.bundle.manifest.input
    std, scale = np.array(spec.preprocess.std), spec.preprocess.scale
    steps = (scale / std).reshape((-1, 1, 1) if spec.layout == "NCHW" else (1, 1, -1))  # one grey level of each channel
    other, count = 0, 0
    rng = np.random.default_rng(0)
    for height, width in sizes:
        images = rng.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
        images[1] = (
            np.linspace(0, 255, images[1].size).reshape(images[1].shape).astype(np.uint8)
        )  # smooth, as photographs
        got = case.run("grad-cam", images, (1, -1), runner)
        picture = got["picture"]
        want = case.engine.prepare(images).x
        assert (picture.shape, picture.dtype) == (want.shape, want.dtype)
        levels = np.abs(picture.astype(np.float64) - want) / np.abs(steps)
        assert levels.max() < 1.001, (height, width)
        rounded = levels > 1e-3
        assert np.abs(picture.astype(np.float64) - want)[~rounded].max(initial=0) < 1e-6
        other, count = other + int(rounded.sum()), count + rounded.size
        raw = np.concatenate([case.raw("grad-cam", picture[i : i + 1], (t,)) for i, t in enumerate((1, -1))])
        compare(got[SALIENCY], raw, 1e-5 if runner is onnxruntime else 1e-4)
        if not rounded.any():
            own = [
                case.engine.explain(image, "grad-cam", target=t).raw for image, t in zip(images, (1, -1), strict=True)
            ]
            np.testing.assert_array_equal(np.concatenate(own), raw)
    return other / count


FILTERS = [("bilinear", True), ("bilinear", False), ("bicubic", True), ("nearest", True), ("nearest", False)]
MOST = {"bilinear": 4e-3, "bicubic": 5e-4, "nearest": 0.0}
"""Share of pixels that round the other way: plain ratios of sizes put bilinear ones on a half exactly."""


@pytest.mark.parametrize("resize", ["stretch", 19, (17, 23)])
@pytest.mark.parametrize(("interpolation", "antialias"), FILTERS)
def test_filters_and_geometry(tmp_path: Path, interpolation: str, antialias: bool, resize: Any) -> None:
    case = embedded(tmp_path, network(), interpolation=interpolation, antialias=antialias, resize=resize)
    assert check_pictures(case) <= MOST[interpolation]


@pytest.mark.parametrize("color", ["RGB", "BGR", "GRAY"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_colours_and_layouts(tmp_path: Path, color: str, channels_last: bool) -> None:
    channels = 1 if color == "GRAY" else 3
    fields = {"mean": [0.4], "std": [0.2]} if color == "GRAY" else {}
    case = embedded(tmp_path, network(channels, channels_last=channels_last), color=color, **fields)
    assert check_pictures(case) <= MOST["bilinear"]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("color", ["RGB", "GRAY"])
def test_networks_of_8_bits(tmp_path: Path, color: str, channels_last: bool) -> None:
    channels = 1 if color == "GRAY" else 3
    model = network(channels, o.UINT8, channels_last)
    case = embedded(tmp_path, model, color=color, scale=1.0, mean=[0.0], std=[1.0])
    assert check_pictures(case) <= MOST["bilinear"]


def test_networks_of_half_precision(tmp_path: Path) -> None:
    case = embedded(tmp_path, network(dtype=onnx.TensorProto.FLOAT16), scale=1 / 64, mean=[2.0], std=[1.0])
    images = np.random.default_rng(0).integers(0, 256, (1, 30, 21, 3), dtype=np.uint8)
    picture = case.run("grad-cam", images, (1,))["picture"]
    assert picture.dtype == np.float16
    np.testing.assert_array_equal(picture, case.engine.prepare(images).x)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
def test_openvino(tmp_path: Path, interpolation: str) -> None:
    case = embedded(tmp_path, network(), interpolation=interpolation, antialias=True, resize=14)
    assert check_pictures(case, open_vino, SIZES[:6]) <= MOST[interpolation]


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_large_photograph(tmp_path: Path, interpolation: str) -> None:
    """Whole numbers are compared before they are divided: float32 alone would lose the place of a pixel."""
    case = embedded(tmp_path, network(), interpolation=interpolation, antialias=True, resize=14)
    assert check_pictures(case, sizes=((1999, 3001), (3, 9000))) <= MOST[interpolation]


def test_every_method_takes_it(tmp_path: Path) -> None:
    """Also those that run the network on inputs of their own, or go down to it."""
    asked = ("score-cam", "integrated-gradients", "gradient", "lrp", "reciprocam")
    fields = {"resize": 14, "scale": 1 / 64, "mean": [2.0], "std": [1.0]}
    for channels_last in (False, True):
        model = network(channels_last=channels_last)
        case = fuse_onnx(
            tmp_path, model, *asked, output="scores", preprocess_fields=fields, embed_preprocess=True
        )  # fmt: skip
        image = np.random.default_rng(0).integers(0, 256, (2, 21, 30, 3), dtype=np.uint8)
        for method in asked:
            got = case.run(method, image, (1, -1))
            x = got["picture"]
            np.testing.assert_allclose(x, case.engine.prepare(image).x, rtol=0, atol=1e-6)
            compare(got[SALIENCY], case.raw(method, x, (1, -1)), 1e-5)


def test_declared(tmp_path: Path) -> None:
    case = embedded(tmp_path, network())
    image = onnx.load_from_string(case.files["grad-cam"]).graph.input[0]
    assert image.name == "image"
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    dims = [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim]
    assert dims == ["N", "height", "width", 3]
