"""What an ONNX file says of itself in `metadata_props`: class names, and how images are prepared.

| form | class names | preprocessing |
|-|-|-|
| Ultralytics | `names`, a Python dict | `task`, `imgsz`: x / 255, the shorter side to the input, centre crop for `classify` |
| ONNX's own (docs/MetadataProps.md) | | `Image.BitmapPixelFormat`, `Image.NominalPixelRange`, `Image.ColorSpaceGamma` |
| Paddle as RapidAI exports it | `character`, one a line | |
| others | `labels`, `classes`, `class_names`, `id2label`, ...: JSON, a Python list or dict, lines, or commas | |

The file may come from a stranger. Texts have a largest length, and nothing in them is evaluated but flat lists of numbers and
quoted names.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import onnx

from ..errors import RequestError
from .source_file import TrainedNetwork
from .stated import Stated

_LABELS = (
    "names", "labels", "classes", "class_names", "classnames", "categories", "id2label", "label2id", "class_to_idx", "character",
)  # fmt: skip
_LONGEST = 1 << 20  # characters of a text
_MOST = 100_000  # labels
_LONGEST_LABEL = 1000  # characters
_LONGEST_LINE = 1 << 20
_MOST_BRACKETS = 50
_QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
_ITEM = re.compile(rf"\s*(?:(\d{{1,9}}|{_QUOTED})\s*:\s*)?(\d{{1,9}}|{_QUOTED})\s*(,|\Z)", re.DOTALL)
_RANGES = {"NominalRange_0_255": (1.0, 0.0), "Normalized_0_1": (1 / 255, 0.0), "Normalized_1_1": (1 / 127.5, 1.0)}
"""ONNX's names of pixel ranges -> scale and mean."""
_TURNED = (
    "The file's metadata states turned boxes (obb): they are read and drawn without their angle, which concerns overlaps, the "
    "suppression and D-RISE; scores and the other methods' maps are not concerned."
)
_FORMATS = {"Gray8": "GRAY", "Rgb8": "RGB", "Bgr8": "BGR"}


def stated_in(model: onnx.ModelProto) -> Stated | None:
    """What a file's metadata says of the preprocessing."""
    texts = _texts(model)
    return _ultralytics(texts) or _image_category(texts)


def _texts(model: onnx.ModelProto) -> dict[str, str]:
    # protobuf gives bytes for what is not text, and onnx_ir writes none
    return {p.key: p.value for p in model.metadata_props if isinstance(p.key, str) and isinstance(p.value, str)}


def read_metadata(model: onnx.ModelProto, network: TrainedNetwork) -> TrainedNetwork:
    """The network with what its file says of it, and notes on what is not used. The graph loses its metadata.

    Args:
        model: The file's content.
        network: The same as a source.
    """
    texts = _texts(model)
    notes = list(network.notes)
    labels: tuple[str, ...] = ()
    from_key = ""
    for key in (key for key in _LABELS if texts.get(key, "").strip() and not labels):
        try:
            labels, from_key = _labels(key, texts[key]), key
        except RequestError as error:
            notes.append(f"The file's metadata {key!r} is not used for class names: {error}.")
    own = _ultralytics(texts) is not None
    against = _contradiction(texts, len(labels), network.proto) if own else ""
    if against:
        notes.append(against)
    elif own and texts["task"] == "obb":
        notes.append(_TURNED)
    stated = stated_in(model)
    del network.proto.metadata_props[:]
    return replace(network, labels=labels, labels_from=from_key, preprocess=stated, notes=tuple(notes))


def _labels(key: str, text: str) -> tuple[str, ...]:
    """Class names in the classes' order.

    Raises:
        RequestError: The text is of no known form.
    """
    if len(text) > _LONGEST:
        raise RequestError(f"it has more than {_LONGEST} characters")
    value = _flat(text)
    if value is None and not text.lstrip().startswith(("{", "[", "(")):
        lines = text.strip("\r\n").splitlines() if "\n" in text.strip() else text.split(",")
        value = [line if key == "character" else line.strip() for line in lines]
    if isinstance(value, Mapping):
        value = _in_order(value)
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise RequestError("it is no list of names")
    if len(value) > _MOST or any(len(name) > _LONGEST_LABEL for name in value):
        raise RequestError(f"it has more than {_MOST} names, or one of more than {_LONGEST_LABEL} characters")
    names = tuple(" ".join(_plain(name).split()) or ("(space)" if name else "") for name in value)
    if not all(names):
        raise RequestError("a name in it is empty")
    return names


def _flat(text: str) -> Any:
    """A list or a mapping in JSON or Python's form, one level deep; None if it is neither."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    inside = re.fullmatch(r"\s*(?:\[(.*)\]|\((.*)\)|\{(.*)\})\s*", text, re.DOTALL)
    if inside is None:
        return None
    body = next(part for part in inside.groups() if part is not None)
    pairs: dict[Any, Any] = {}
    values: list[Any] = []
    body, position = body.strip().removesuffix(","), 0
    while position < len(body):
        item = _ITEM.match(body, position)
        if item is None or (item[1] is None) != (inside[3] is None):
            return None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Python warns of escapes such as "\\d"
                values.append(ast.literal_eval(item[2]))  # a number or one quoted text
                pairs[ast.literal_eval(item[1]) if item[1] else len(pairs)] = values[-1]
        except (ValueError, SyntaxError):  # a number such as 007, a broken escape
            return None
        position = item.end()
    return pairs if inside[3] is not None else values


def _in_order(pairs: Mapping[Any, Any]) -> list[Any] | None:
    """{0: "cat", 1: "dog"} or {"cat": 0, "dog": 1} as a list; None if the numbers are not 0 to n - 1."""
    if pairs and all(type(value) is int for value in pairs.values()):
        pairs = {value: key for key, value in pairs.items()} if len(set(pairs.values())) == len(pairs) else {}
    by_number = {int(key): value for key, value in pairs.items() if re.fullmatch(r"\d{1,9}", str(key))}
    return [by_number[i] for i in range(len(pairs))] if pairs and set(by_number) == set(range(len(pairs))) else None


def _plain(name: str) -> str:
    return "".join(character if character.isprintable() else " " for character in name)


def ultralytics_line(line: str) -> tuple[tuple[str, ...], Stated | None]:
    """Class names and preprocessing of Ultralytics' metadata in one line, a mapping in Python's form, as its TFLite files hold it.

    Nothing of a line that is none.
    """
    if not line.startswith("{") or len(line) > _LONGEST_LINE or sum(map(line.count, "[({")) > _MOST_BRACKETS:
        return (), None
    try:
        found = ast.literal_eval(line)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return (), None
    if not isinstance(found, dict) or not isinstance(names := found.get("names"), dict):
        return (), None
    listed = _in_order(names) or []
    labels = tuple(" ".join(_plain(str(name)).split()) for name in listed)
    stated = _ultralytics({str(key): str(value) for key, value in found.items()})
    return (labels if all(labels) else ()), stated


def _ultralytics(texts: Mapping[str, str]) -> Stated | None:
    """Ultralytics' classifiers scale to 0 to 1 and crop, RT-DETR stretches; its other networks put images into a letterbox."""
    if not {"task", "imgsz", "stride", "names"} <= set(texts):
        return None
    size = re.fullmatch(r"\s*[\[(]?\s*(\d{1,5})\s*(?:,\s*(\d{1,5})\s*)?[\])]?\s*", texts["imgsz"])
    if size is None:
        return None
    height, width = int(size[1]), int(size[2] or size[1])
    classify = texts["task"] == "classify"
    stretches = "RTDETR" in texts.get("head", "") or "rt-detr" in texts.get("description", "").lower()
    fields = {
        "resize": (height if height == width else "stretch") if classify else "stretch" if stretches else "letterbox",
        "interpolation": "bilinear",
        "antialias": classify,  # OpenCV's resize has none
        "color": "RGB",
        "scale": 1 / 255,
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
    }
    return Stated((height, width), fields, f"the file's metadata (Ultralytics, {_plain(texts['task'])[:40]})", True, "")


def _contradiction(texts: Mapping[str, str], classes: int, proto: onnx.ModelProto) -> str:
    """What Ultralytics' metadata states and the outputs do not hold; "" if they agree as far as their shapes are known."""
    shapes = [[d.dim_value for d in value.type.tensor_type.shape.dim] for value in proto.graph.output]
    rows = next((shape for shape in shapes if len(shape) == 3), None)
    task = texts["task"]
    if rows is None or not classes or rows[1] != 4 + classes:
        return ""
    if texts.get("end2end") == "True":
        return "The file's metadata states rows that the graph chose (end2end), but they are those of all places."
    lacking = {"obb": "an angle (obb)", "pose": "key points (pose)", "segment": "coefficients of masks (segment)"}.get(
        task
    )
    return (
        f"The file's metadata states {lacking}, but its rows hold four sides and {classes} classes: upright boxes are read."
        if lacking
        else ""
    )


def _image_category(texts: Mapping[str, str]) -> Stated | None:
    """ONNX's metadata for images: the order and range of pixels. How they are resized is not in it; they are stretched."""
    stated = texts.get("Image.NominalPixelRange"), texts.get("Image.BitmapPixelFormat")
    if stated[0] not in _RANGES or stated[1] not in _FORMATS:
        return None
    if texts.get("Image.ColorSpaceGamma", "SRGB") != "SRGB":  # linear light; a bundle has no such conversion
        return None
    (scale, mean), color = _RANGES[str(stated[0])], _FORMATS[str(stated[1])]
    channels = 1 if color == "GRAY" else 3
    fields = {
        "resize": "stretch",
        "interpolation": "bilinear",
        "antialias": True,
        "color": color,
        "scale": scale,
        "mean": (mean,) * channels,
        "std": (1.0,) * channels,
    }
    ask = "it says nothing of their size, and images are stretched; Windows ML crops the middle, as --resize SIDE does"
    return Stated(None, fields, f"the file's metadata ({stated[1]}, {stated[0]})", False, ask)
