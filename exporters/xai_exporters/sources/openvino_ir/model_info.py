"""What an IR says of itself in `rt_info`, as OpenVINO's converters, Model API and Geti write it: `model_info`.

| key | meaning in Model API 0.4 (`ImageModel`, `OpenvinoAdapter.embed_preprocessing`) |
|-|-|
| `labels` | class names between spaces; a space in a name is `_` |
| `mean_values`, `scale_values` | pixels of 0 to 255: (x - mean) / scale, in the network's order of channels; without them x |
| `reverse_input_channels` | images, BGR as OpenCV reads them, are reversed: the network takes RGB. Without it they stay BGR |
| `resize_type` | `standard` (the default) stretches, `crop` crops the middle, `fit_to_window...` keeps the form and pads |
| `pad_value` | the grey of the border, 0 without it; a letterbox of the manifest has 114, so that one alone is read |
| `interpolation_mode` | LINEAR (the default), CUBIC, NEAREST; without antialias |
| `intensity_mode` | `scale_to_unit` divides pixels of `input_dtype` u8 by `intensity_max_value` (255) first |
| `embedded_processing` | the graph itself resizes and normalises; it takes pixels |
| `layout` | the input's, if the graph does not say it |
| `multilabel` | the probability of each class is the sigmoid of its score; without it softmax |
| `hierarchical` | the classes form groups, each with its softmax; the bundle reports no probabilities |
| `path_to_labels` | a file with the labels; it is not read |

Model API takes the text `None` for none. Files of ultralytics (`model_type` YOLO...) say no `resize_type` if they classify: Model
API then stretches, but ultralytics itself crops the middle, in training and prediction.

The order of colours is uncertain. OTX and Geti (`otx_version`) write `reverse_input_channels` False, but give Model API images in
RGB, so their networks take RGB; the authors say so in open-edge-platform/geti#3558. Others may do the same.

The file may come from a stranger: texts are bounded, and nothing in them is evaluated but numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from xai_deploy.format.image_input import BORDER

from ...errors import SourceError
from ..first_steps import ORDER, FirstSteps, stated_by
from ..source_file import TrainedNetwork
from ..stated import Stated

_KEYS = (
    "labels", "mean_values", "scale_values", "reverse_input_channels", "resize_type", "interpolation_mode", "intensity_mode",
    "intensity_max_value", "input_dtype", "embedded_processing", "layout", "otx_version",
    "multilabel", "hierarchical", "path_to_labels", "model_type", "pad_value",
)  # fmt: skip
_NUMBERS = ("mean_values", "scale_values", "reverse_input_channels", "intensity_mode")
_MOST = 100_000  # labels
_LONGEST = 1 << 20  # characters of a text
_LONGEST_LABEL = 1000  # characters
_LEAST_SCALE = 1e-4  # below, pixels of 8 bits become too large for float16, and soon for float32
_LARGEST_NUMBER = 1e6  # above, they become all alike
_TRUE = ("yes", "true", "1")
_NUMBER = r"[-+]?\d{1,9}(?:\.\d{0,12})?(?:[eE][-+]?\d{1,2})?"
_WHERE = "the IR's model_info"
_INTERPOLATIONS = {"LINEAR": "bilinear", "CUBIC": "bicubic", "NEAREST": "nearest"}
_INTERPOLATION = "its interpolation_mode {!r} is not known, bilinear is assumed, --interpolation sets it"
_OWN = "ultralytics crops the middle of the image, Model API would stretch it"


def texts(model: Any) -> dict[str, str]:
    """The texts of a model's `model_info` by their keys, without those that are too long.

    Args:
        model: An `openvino.Model`.

    Raises:
        SourceError: One is not UTF-8.
    """
    info: dict[str, str] = {}
    for key in _KEYS:
        if model.has_rt_info(["model_info", key]):
            try:
                text = str(model.get_rt_info(["model_info", key]).astype(str))
            except UnicodeDecodeError:
                raise SourceError(f"model_info/{key} in its rt_info is not UTF-8; save the .xml as UTF-8") from None
            if len(text) <= _LONGEST:
                info[key] = text
    return info


def read(info: Mapping[str, str], network: TrainedNetwork, first: FirstSteps) -> TrainedNetwork:
    """The network with what its file says of it, and notes on what is not used.

    Args:
        info: Key -> text.
        network: The same as a source.
        first: The graph's first steps.

    Raises:
        SourceError: The input's layout is none that images have.
    """
    info = {key: text for key, text in info.items() if text.strip() not in ("", "None")}
    notes = list(network.notes)
    labels = tuple(" ".join(_plain(name).split()) for name in info.get("labels", "").split())
    if len(labels) > _MOST or any(len(name) > _LONGEST_LABEL for name in labels) or not all(labels):
        notes.append("The IR's model_info 'labels' is not used for class names: too many, too long, or empty ones.")
        labels = ()
    if not labels and "path_to_labels" in info:
        notes.append("The IR's model_info names a file with class names; give them with --labels.")
    layout = first.layout or re.sub(r"[\[\], ]", "", info.get("layout", "").rpartition(":")[2]).upper()
    if sorted(layout) == sorted("NCHW") and layout not in ("NCHW", "NHWC"):
        raise SourceError(f"its input has the layout {layout}; images are NCHW or NHWC, so convert it so")
    image = _image(network, layout)
    stated, note = _model_api(info, image)
    if stated is None and not note and image is not None:
        # a reversal is for images of OpenCV, which Model API takes, too; a network of its own takes RGB
        stated = stated_by(first, image[0], _says(info, "embedded_processing"), "otx_version" not in info)
    if note:
        notes.append(note)
    if str(first):
        notes.append(first.said)
    return replace(
        network,
        labels=labels,
        labels_from=f"{_WHERE}, 'labels'" if labels else "",
        preprocess=stated or network.preprocess,
        unused=note.removesuffix("."),
        activation="scores" if _says(info, "hierarchical") else "sigmoid" if _says(info, "multilabel") else None,
        notes=tuple(notes),
    )


def _image(network: TrainedNetwork, layout: str) -> tuple[int, int, int] | None:
    """(C,H,W) of the input, 0 for a size that is not known; None if it is no image."""
    dims = [[d.dim_value for d in i.type.tensor_type.shape.dim] for i in network.proto.graph.input]
    if len(dims) != 1 or len(dims[0]) != 4:
        return None
    _, a, b, c = dims[0]
    last = layout == "NHWC" if layout in ("NCHW", "NHWC") else c in (1, 3) and a not in (1, 3)
    return (c, a, b) if last else (a, b, c)


def _model_api(info: Mapping[str, str], image: tuple[int, int, int] | None) -> tuple[Stated | None, str]:
    """What Model API does to pixels before the network, and a note on what can't be used."""
    if not set(_NUMBERS) & set(info) or _says(info, "embedded_processing"):
        return None, ""
    unused = "The IR's model_info is not used for the preprocessing: "
    mean, std = _numbers(info.get("mean_values", ""), 0.0), _numbers(info.get("scale_values", ""), 1.0)
    for key, values in (("mean_values", mean), ("scale_values", std)):
        if values is None:
            return None, f"{unused}{key} is {_plain(info[key])[:40]!r}, not one number or one for each channel."
    assert mean is not None
    assert std is not None
    if any(v <= 0 for v in std):
        return (
            None,
            f"{unused}scale_values is {_plain(info['scale_values'])[:40]!r}, and pixels are divided by numbers above 0.",
        )
    if any(v < _LEAST_SCALE for v in std) or any(abs(v) > _LARGEST_NUMBER for v in (*mean, *std)):
        key = "mean_values" if any(abs(v) > _LARGEST_NUMBER for v in mean) else "scale_values"
        least = f"{_LEAST_SCALE:g} to {_LARGEST_NUMBER:g}" if key == "scale_values" else f"up to {_LARGEST_NUMBER:g}"
        return None, f"{unused}{key} is {_plain(info[key])[:40]!r}, and pixels have numbers of {least}."
    channels = max(len(mean), len(std), image[0] if image else 3)
    own = image[0] if image else channels
    for key, values in (("mean_values", mean), ("scale_values", std)):
        if len(values) not in (1, own):
            return None, f"{unused}{key} has {len(values)} numbers, and images have {own} channels."
    if channels not in (1, 3):
        return None, f"{unused}images have {channels} channels, and it is read for 1 or 3."
    mean, std = (values * channels if len(values) == 1 else values for values in (mean, std))
    scale = _intensity(info)
    if scale is None:
        return None, f"{unused}its intensity_mode, input_dtype or intensity_max_value is not one for 8-bit pixels."
    color, sure, asked = _color(info, channels)
    if color == "BGR":
        mean, std = mean[::-1], std[::-1]  # the fields are for RGB
    resize, exact, ask = _resize(info, image)
    mode = info.get("interpolation_mode", "LINEAR").strip().upper()
    if mode not in _INTERPOLATIONS:
        exact, ask = False, "; ".join(filter(None, (ask, _INTERPOLATION.format(_plain(mode)[:40]))))
    fields = {
        "resize": resize,
        "interpolation": _INTERPOLATIONS.get(mode, "bilinear"),
        "antialias": ask.startswith(_OWN),  # ultralytics crops with Pillow, Model API resizes with OpenCV
        "color": color,
        "scale": scale,
        "mean": mean,
        "std": std,
    }
    return Stated(None, fields, _WHERE, sure and exact, "; ".join(filter(None, (ask, asked)))), ""


def _color(info: Mapping[str, str], channels: int) -> tuple[str, bool, str]:
    """The order of the network's channels, whether it is certain, and what to ask if it is not."""
    if channels == 1:
        return "GRAY", True, ""
    if _says(info, "reverse_input_channels"):
        return "RGB", True, ""
    if "otx_version" in info:
        return "RGB", True, ""
    return "BGR", False, ORDER


def _resize(info: Mapping[str, str], image: tuple[int, int, int] | None) -> tuple[int | str, bool, str]:
    """The manifest's resize, whether it is Model API's, and what to say if it is not."""
    square = image is not None and image[1] == image[2] > 0
    own = "resize_type" not in info and info.get("model_type", "").strip().upper().startswith("YOLO")
    kind = "crop" if own and square else info.get("resize_type", "standard").strip()
    if kind == "standard":
        return "stretch", not own, _OWN if own else ""
    if kind == "crop" and image is not None and square:
        return image[1], not own, _OWN if own else ""
    pad = _numbers(info.get("pad_value", ""), 0.0)
    if kind == "fit_to_window_letterbox" and pad == (float(BORDER),):
        return "letterbox", True, ""
    return "stretch", False, f"it resizes as {_plain(kind)[:40]!r}; here images are stretched"


def _intensity(info: Mapping[str, str]) -> float | None:
    """The factor on an 8-bit pixel; None for what has no equal in a manifest."""
    mode = info.get("intensity_mode", "none").strip().lower() or "none"
    if info.get("input_dtype", "u8").strip().lower() != "u8" or mode not in ("none", "scale_to_unit"):
        return None
    top = _numbers(info.get("intensity_max_value", ""), 255.0)
    if mode == "none":
        return 1.0
    return 1 / top[0] if top is not None and top[0] > 0 else None


def _numbers(text: str, default: float) -> tuple[float, ...] | None:
    """Numbers between spaces or commas; the default for an empty text; None for anything else."""
    parts = re.split(r"[\s,]+", text.strip("[]() \t\r\n"))
    if parts == [""]:
        return (default,)
    if len(parts) > 4 or not all(re.fullmatch(_NUMBER, part) for part in parts):
        return None
    return tuple(float(part) for part in parts)


def _says(info: Mapping[str, str], key: str) -> bool:
    return info.get(key, "").strip().lower() in _TRUE


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)
