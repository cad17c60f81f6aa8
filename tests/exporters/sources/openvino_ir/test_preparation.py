"""How pixels are prepared for an IR: `model_info.py`, `..first_steps.py`, `binding.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from xai_exporters.errors import PreprocessingError, SourceError
from xai_exporters.request import Request
from xai_exporters.sources import load_source
from xai_exporters.sources.first_steps import FirstSteps
from xai_exporters.sources.openvino_ir import model_info
from xai_exporters.sources.source_file import TrainedNetwork
from xai_exporters.sources.stated import Stated

from xai_deploy import Explainer

from ... import onnx_nets
from ...running import HEAD_AND_TAIL
from .running import ov
from .test_openvino_file import classifier, exported

NAMES = "cat dog big_bird ant bee"
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
INFO = {
    "labels": NAMES,
    "mean_values": "123.675 116.28 103.53",
    "scale_values": "58.395, 57.12, 57.375",
}
YOLO = {
    "model_type": "YOLO",
    "reverse_input_channels": "YES",
    "mean_values": "None",
    "scale_values": "255",
    "pad_value": "114",
}
Prepare = Callable[[Any], None]


def test_labels(tmp_path: Path) -> None:
    assert load_source(Request(classifier(tmp_path, INFO))).labels == ("cat", "dog", "big_bird", "ant", "bee")


def test_values_as_ultralytics_and_python_write_them(tmp_path: Path) -> None:
    """OpenVINO turns a bool into YES, and lists into words between spaces."""
    info: dict[str, Any] = {
        "model_type": "YOLO",
        "reverse_input_channels": True,
        "scale_values": [255.0],
        "iou_threshold": 0.7,
    }
    network = load_source(Request(classifier(tmp_path, {**info, "labels": ["big_bird", "ant"]})))
    assert network.labels == ("big_bird", "ant")
    assert isinstance(network.preprocess, Stated)
    assert {key: network.preprocess.fields[key] for key in ("color", "std")} == {"color": "RGB", "std": (255,) * 3}


@pytest.mark.parametrize(
    ("key", "activation"), [("multilabel", "sigmoid"), ("hierarchical", "scores"), ("topk", "none")]
)
def test_how_scores_become_probabilities(key: str, activation: str, tmp_path: Path) -> None:
    """Model API's classifier takes the sigmoid of each score, or softmax in groups, if the file says so."""
    done = exported(classifier(tmp_path, {key: True, "path_to_labels": "/labels.txt"}), roles=("gradient",))
    assert done.manifest.activation == activation
    assert "names a file with class names" in " ".join(done.notes)
    if activation != "sigmoid":
        return
    x = np.random.default_rng(0).standard_normal((2, 3, 16, 20)).astype(np.float32)
    explainer = Explainer(done.path)
    answer = explainer.explain(x, "grad-cam", [1, 2])
    assert answer.probabilities is not None
    assert np.allclose(answer.probabilities, 1 / (1 + np.exp(-explainer.predict(x))), atol=1e-6)


def test_model_api_prepares_pixels(tmp_path: Path) -> None:
    """(x - mean) / scale in the network's order of channels, BGR unless they are reversed: InputTransform of model_api 0.4.7."""
    how = exported(classifier(tmp_path, INFO), preprocess=None, roles=HEAD_AND_TAIL).manifest.input.preprocess
    assert (how.color, how.mean, how.std, how.scale) == ("BGR", MEAN, STD, 1)
    assert (how.resize, how.antialias, how.assumed) == ("stretch", False, True)
    how = exported(
        classifier(tmp_path, {**INFO, "reverse_input_channels": "YES"}),
        preprocess=None,
        overwrite=True,
        roles=HEAD_AND_TAIL,
    ).manifest.input.preprocess
    assert (how.color, how.mean, how.assumed) == ("RGB", MEAN, False)


def said(info: dict[str, str], shape: tuple[int, ...] = (3, 32, 32)) -> TrainedNetwork:
    proto = onnx_nets.classifier(shape=("N", *shape))
    return model_info.read(info, TrainedNetwork(proto, "IR"), FirstSteps())


@pytest.mark.parametrize(
    ("more", "shape", "fields", "sure", "ask"),
    [
        ({}, (3, 32, 32), {"resize": "stretch", "color": "BGR", "mean": MEAN[::-1]}, False, "--color RGB or BGR sets it"),
        ({"reverse_input_channels": "False"}, (3, 32, 32), {"color": "BGR"}, False, "--color RGB or BGR sets it"),
        ({"reverse_input_channels": "False", "otx_version": "2.4"}, (3, 32, 32), {"color": "RGB", "mean": MEAN}, True, ""),
        ({"resize_type": "crop", "reverse_input_channels": "1"}, (3, 32, 32), {"resize": 32}, True, ""),
        ({"resize_type": "crop", "reverse_input_channels": "1"}, (3, 32, 48), {"resize": "stretch"}, False, "it resizes as 'crop'"),
        ({"resize_type": "fit_to_window", "reverse_input_channels": "1"}, (3, 32, 32), {"resize": "stretch"}, False,
         "it resizes as 'fit_to_window'; here images are stretched"),
        ({"interpolation_mode": "CUBIC"}, (3, 32, 32), {"interpolation": "bicubic", "antialias": False}, False, "--color"),
        ({"interpolation_mode": "AREA", "reverse_input_channels": "YES"}, (3, 32, 32), {"interpolation": "bilinear"}, False,
         "its interpolation_mode 'AREA' is not known, bilinear is assumed, --interpolation sets it"),
        ({"intensity_mode": "scale_to_unit"}, (3, 32, 32), {"scale": 1 / 255}, False, "--color"),
        ({"mean_values": "None", "scale_values": "None", "reverse_input_channels": "False"}, (3, 32, 32),
         {"mean": (0,) * 3, "std": (1,) * 3}, False, "--color"),
        ({**YOLO, "resize_type": "fit_to_window_letterbox"}, (3, 32, 32), {"resize": "letterbox"}, True, ""),
        ({"resize_type": "fit_to_window_letterbox", "pad_value": "114", "reverse_input_channels": "1"}, (3, 32, 48),
         {"resize": "letterbox"}, True, ""),
        ({"resize_type": "fit_to_window_letterbox", "pad_value": "0", "reverse_input_channels": "1"}, (3, 32, 48),
         {"resize": "stretch"}, False, "'fit_to_window_letterbox'"),
        (YOLO, (3, 32, 32), {"resize": 32, "color": "RGB", "mean": (0,) * 3, "std": (255,) * 3, "antialias": True}, False,
         "ultralytics crops"),
        (YOLO, (3, 32, 48), {"resize": "stretch"}, False, "ultralytics crops"),
        ({"mean_values": "33", "scale_values": "78"}, (1, 32, 32), {"color": "GRAY", "mean": (33.0,), "std": (78.0,)}, True, ""),
    ],
)  # fmt: skip
def test_what_model_info_states(
    more: dict[str, str], shape: tuple[int, ...], fields: dict[str, Any], sure: bool, ask: str
) -> None:
    got = said({**INFO, **more}, shape).preprocess
    assert isinstance(got, Stated)
    assert {key: got.fields[key] for key in fields} == fields
    assert got.sure is sure
    assert (ask in got.ask) if ask else got.ask == ""


@pytest.mark.parametrize(
    ("info", "why"),
    [
        ({"mean_values": "1 2"}, "mean_values has 2 numbers, and images have 3 channels"),
        ({"mean_values": "1 two 3"}, "mean_values is '1 two 3', not one number or one for each channel"),
        ({"mean_values": "1 2 3 4 5"}, "mean_values is '1 2 3 4 5', not one number or one for each channel"),
        ({"mean_values": "1 2 3 4"}, "mean_values has 4 numbers, and images have 3 channels"),
        ({"scale_values": "nan"}, "scale_values is 'nan', not one number or one for each channel"),
        ({"mean_values": "1e999999 0 0"}, "not one number or one for each channel"),
        ({"scale_values": "0"}, "scale_values is '0', and pixels are divided by numbers above 0"),
        ({"scale_values": "-1"}, "scale_values is '-1', and pixels are divided by numbers above 0"),
        ({"scale_values": "1e-30"}, "scale_values is '1e-30', and pixels have numbers of 0.0001 to 1e+06"),
        ({"scale_values": "1 1e9 1"}, "scale_values is '1 1e9 1', and pixels have numbers of 0.0001 to 1e+06"),
        ({"mean_values": "-1e30"}, "mean_values is '-1e30', and pixels have numbers of up to 1e+06"),
        ({"intensity_mode": "percentile"}, "is not one for 8-bit pixels"),
        ({"intensity_mode": "scale_to_unit", "input_dtype": "u16"}, "is not one for 8-bit pixels"),
    ],
)
def test_model_info_that_is_not_used(info: dict[str, str], why: str) -> None:
    network = said(info)
    assert network.preprocess is None
    assert network.notes[0].startswith("The IR's model_info is not used for the preprocessing: ")
    assert why in network.notes[0]


@pytest.mark.parametrize("layout", ["NCWH", "data:[N,W,H,C]", "CHWN"])
def test_another_layout_is_refused(layout: str) -> None:
    with pytest.raises(SourceError, match=r"its input has the layout .*; images are NCHW or NHWC"):
        said({"layout": layout})


def changed(prepare: Prepare) -> Callable[[Any], Any]:
    """PrePostProcessor on the tests' classifier, an NCHW network of floats."""

    def build(model: Any) -> Any:
        steps = ov.preprocess.PrePostProcessor(model)
        steps.input().model().set_layout(ov.Layout("NCHW"))
        prepare(steps.input())
        return steps.build()

    return build


def floats(image: Any) -> None:
    image.tensor().set_element_type(ov.Type.f32).set_layout(ov.Layout("NHWC"))
    image.preprocess().mean([110, 120, 130]).scale([50, 60, 70])


def planes(image: Any) -> None:
    image.preprocess().mean(127.5).scale(127.5)


def unit(image: Any) -> None:
    image.preprocess().mean([0.485, 0.456, 0.406]).scale([0.229, 0.224, 0.225])


def any_size(image: Any) -> None:
    image.tensor().set_element_type(ov.Type.f32).set_layout(ov.Layout("NHWC")).set_spatial_dynamic_shape()
    image.preprocess().resize(ov.preprocess.ResizeAlgorithm.RESIZE_LINEAR).mean([110, 120, 130])


def pixels(image: Any) -> None:
    bgr = ov.preprocess.ColorFormat.BGR
    image.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC")).set_shape(
        [1, -1, -1, 3]
    ).set_color_format(bgr)
    image.preprocess().convert_color(ov.preprocess.ColorFormat.RGB).convert_element_type(ov.Type.f32)
    image.preprocess().resize(ov.preprocess.ResizeAlgorithm.RESIZE_CUBIC).mean([110, 120, 130]).scale([50, 60, 70])


def swapped(image: Any) -> None:
    """Of plain pixels: OpenVINO merges the order of colours into the first convolution, whose weights then have a Gather's name."""
    color = ov.preprocess.ColorFormat
    image.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC")).set_color_format(color.BGR)
    image.preprocess().convert_color(color.RGB).convert_element_type(ov.Type.f32).mean([110, 120, 130])


CASES: dict[str, tuple[Prepare, str, float]] = {  # steps, how they are said, the factor on an 8-bit pixel
    "floats": (floats, "mean 110 120 130", 1),
    "planes": (planes, "mean 127.5; it takes pixels of 0 to 255", 1),
    "unit": (unit, "mean 0.485 0.456 0.406; it takes pixels of 0 to 1", 1 / 255),
    "any size": (any_size, "mean 110 120 130; it takes pixels of 0 to 255", 1),
    "pixels": (pixels, "reversed channels, mean 130 120 110, scale 70 60 50; it takes pixels of 0 to 255", 1),
    "swapped": (
        swapped,
        "channels reversed in the first layer's weights, mean 130 120 110; it takes pixels of 0 to 255",
        1,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_steps_inside(name: str, tmp_path: Path) -> None:
    """A photo's logits are those of OpenVINO on the IR, which gets the photo as PrePostProcessor's user would give it."""
    prepare, text, scale = CASES[name]
    done = exported(classifier(tmp_path, before=changed(prepare)), preprocess=None, roles=HEAD_AND_TAIL)
    spec = done.manifest.input
    assert any(f"begins with steps of preprocessing, which stay in it: {text}" in note for note in done.notes)
    order = "its mean shows the order of colours, RGB" if name == "unit" else "the order of colours is not certain"
    assert any(f"Preprocessing is that of the graph's first steps; {order}" in note for note in done.notes)
    assert spec.preprocess.assumed
    assert spec.preprocess.color == ("BGR" if name in ("pixels", "swapped") else "RGB")
    photo = np.random.default_rng(0).integers(0, 256, (45, 61, 3)).astype(np.uint8)
    if name not in ("any size", "pixels"):
        photo = photo[: spec.height, : spec.width]
    given = photo[..., ::-1] if name in ("pixels", "swapped") else photo * np.float32(scale)
    given = given[None] if spec.layout == "NHWC" else given[None].transpose(0, 3, 1, 2)
    core = ov.Core()
    compiled = core.compile_model(tmp_path / "ir" / "net.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    want = compiled([np.ascontiguousarray(given)])[0]
    got = Explainer(done.path, "onnxruntime").predict(photo)
    # a resized photo is rounded to 8 bits in the runtime, in PrePostProcessor only if it is given as such
    assert np.abs(got - want).max() <= (5e-3 if name in ("any size", "pixels") else 1e-4) * np.abs(want).max()


@pytest.mark.parametrize("kind", ["BILINEAR", "BICUBIC"])
@pytest.mark.parametrize("size", [(37, 53), (11, 17)], ids=["smaller", "larger"])
def test_resizes_as_pillow_has_them(tmp_path: Path, kind: str, size: tuple[int, int]) -> None:
    """On odd sizes: the logits are OpenVINO's, and those of the network without steps on what Pillow itself gives, in floats."""
    algorithm = getattr(ov.preprocess.ResizeAlgorithm, f"RESIZE_{kind}_PILLOW")

    def prepare(image: Any) -> None:
        image.tensor().set_element_type(ov.Type.f32).set_layout(ov.Layout("NHWC")).set_spatial_static_shape(*size)
        image.preprocess().resize(algorithm).mean([110, 120, 130]).scale([50, 60, 70])

    done = exported(classifier(tmp_path, before=changed(prepare)), preprocess="none")
    x = np.random.default_rng(0).uniform(0, 255, (1, *size, 3)).astype(np.float32)
    core = ov.Core()
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    of_file = core.compile_model(tmp_path / "ir" / "net.xml", "CPU", exact)([x])[0]
    (tmp_path / "plain").mkdir()
    plain = core.compile_model(classifier(tmp_path / "plain"), "CPU", exact)
    height, width = (plain.inputs[0].partial_shape[i].get_length() for i in (2, 3))
    bands = [
        np.asarray(Image.fromarray(x[0, ..., c], "F").resize((width, height), Image.Resampling[kind])) for c in range(3)
    ]
    pixels = (np.stack(bands) - np.array([110, 120, 130])[:, None, None]) / np.array([50, 60, 70])[:, None, None]
    by_pillow = plain([pixels[None].astype(np.float32)])[0]
    for backend in ("onnxruntime", "openvino"):
        got = Explainer(done.path, backend).predict(x)
        for want in (of_file, by_pillow):
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * np.abs(want).max(), err_msg=backend)


@pytest.mark.parametrize("kind", ["LINEAR", "CUBIC", "NEAREST", "BILINEAR_PILLOW", "BICUBIC_PILLOW"])
@pytest.mark.parametrize("size", [(37, 53), (11, 17)], ids=["smaller", "larger"])
def test_pixels_that_are_resized_before_they_are_floats(tmp_path: Path, kind: str, size: tuple[int, int]) -> None:
    """As OpenVINO's own samples do: it rounds to pixels, Pillow's filters after each of the two passes.

    Rows that are means of two pixels lie midway between two whole numbers often: a few pixels fall to the other one.
    """
    algorithm = getattr(ov.preprocess.ResizeAlgorithm, f"RESIZE_{kind}")

    def prepare(image: Any) -> None:
        image.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC")).set_spatial_static_shape(*size)
        image.preprocess().resize(algorithm).convert_element_type(ov.Type.f32)
        image.preprocess().mean([110, 120, 130]).scale([50, 60, 70])

    done = exported(classifier(tmp_path, before=changed(prepare)), preprocess="none", roles=HEAD_AND_TAIL)
    x = np.random.default_rng(0).integers(0, 256, (1, *size, 3)).astype(np.uint8)
    core = ov.Core()
    model = core.read_model(tmp_path / "ir" / "net.xml")
    assert any("The bundle rounds resized pixels to whole numbers" in note for note in done.notes)
    model.reshape([1, *size, 3])  # of an open batch OpenVINO leaves out the rounding
    want = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([x])[0]
    for backend in ("onnxruntime", "openvino"):
        got = Explainer(done.path, backend).predict(x)
        close = 1e-3 if kind == "BILINEAR_PILLOW" else 1e-4
        np.testing.assert_allclose(got, want, rtol=0, atol=close * np.abs(want).max(), err_msg=backend)


def rgbx(image: Any) -> None:
    color = ov.preprocess.ColorFormat
    image.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC")).set_color_format(color.RGBX)
    image.preprocess().convert_color(color.RGB).convert_element_type(ov.Type.f32).mean([110, 120, 130])


def test_pixels_of_four_bytes(tmp_path: Path) -> None:
    """RGBX, the fourth unused: [N,h,w,4], which was taken for [N,channels,rows,4]."""
    done = exported(classifier(tmp_path, before=changed(rgbx)), preprocess="none", roles=HEAD_AND_TAIL)
    spec = done.manifest.input
    assert (spec.layout, spec.channels, spec.dtype) == ("NHWC", 4, "uint8")
    x = np.random.default_rng(0).integers(0, 256, (1, spec.height, spec.width, 4)).astype(np.uint8)
    want = ov.Core().compile_model(tmp_path / "ir" / "net.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([x])[0]
    for backend in ("onnxruntime", "openvino"):
        np.testing.assert_allclose(
            Explainer(done.path, backend).predict(x), want, rtol=0, atol=1e-4 * np.abs(want).max()
        )


def test_outputs_in_half_precision(tmp_path: Path) -> None:
    """PrePostProcessor rounds the scores to float16: the bundle keeps them in float32, and is no more than a rounding away."""

    def build(model: Any) -> Any:
        steps = ov.preprocess.PrePostProcessor(model)
        steps.output().postprocess().convert_element_type(ov.Type.f16)
        return steps.build()

    done = exported(classifier(tmp_path, before=build), preprocess="none", roles=HEAD_AND_TAIL)
    compiled = ov.Core().compile_model(tmp_path / "ir" / "net.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    image = np.random.default_rng(0).integers(
        0, 256, (done.manifest.input.height, done.manifest.input.width, 3), np.uint8
    )
    want = compiled([image[None].transpose(0, 3, 1, 2).astype(np.float32)])[0]
    assert want.dtype == np.float16
    assert np.abs(Explainer(done.path, "onnxruntime").predict(image) - want).max() <= 2**-11 * np.abs(want).max()


def test_steps_that_do_not_show_a_scale(tmp_path: Path) -> None:
    def prepare(image: Any) -> None:
        image.preprocess().mean([1, 2, 3])

    path = classifier(tmp_path, before=changed(prepare))
    assert load_source(Request(path)).preprocess is None
    with pytest.raises(PreprocessingError, match="is not stated"):
        exported(path, preprocess=None)


def test_embedded_processing(tmp_path: Path) -> None:
    """Model API's mark for a graph that prepares pixels itself: they come as OpenCV reads them, in BGR."""
    network = load_source(
        Request(classifier(tmp_path, {**INFO, "embedded_processing": "True"}, before=changed(floats)))
    )
    assert isinstance(network.preprocess, Stated)
    assert (network.preprocess.fields["color"], network.preprocess.fields["mean"]) == ("BGR", (0, 0, 0))
