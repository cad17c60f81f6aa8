"""What an IR says of itself in `rt_info`, as OpenVINO's converters, Model API and Geti write it: `model_info`.

| key | meaning in Model API |
|-|-|
| `labels` | class names between spaces; a space in a name is `_` |
| `mean_values`, `scale_values` | pixels of 0 to 255: (x - mean) / scale, per channel |
| `reverse_input_channels` | the network takes RGB; without it what Model API gets from OpenCV, BGR |
| `resize_type` | `standard` stretches, `crop` crops the middle, `fit_to_window` keeps the form and pads |
| `embedded_processing` | the graph itself resizes and normalises; it takes pixels |

The file may come from a stranger: texts are bounded, and nothing in them is evaluated but numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from ..source_file import TrainedNetwork
from ..stated import Stated

_MOST = 100_000  # labels
_LONGEST_LABEL = 1000  # characters
_TRUE = ("yes", "true", "1")
_NUMBER = r"[-+]?\d{1,9}(?:\.\d{0,12})?(?:[eE][-+]?\d{1,2})?"
_WHERE = "the IR's model_info"


def read(info: Mapping[str, str], network: TrainedNetwork) -> TrainedNetwork:
    """The network with what its file says of it, and notes on what is not used.

    Args:
        info: Key -> text.
        network: The same as a source.
    """
    notes = list(network.notes)
    labels = tuple(" ".join(_plain(name).split()) for name in info.get("labels", "").split())
    if len(labels) > _MOST or any(len(name) > _LONGEST_LABEL for name in labels) or not all(labels):
        notes.append("The IR's model_info 'labels' is not used for class names: too many, too long, or empty ones.")
        labels = ()
    stated, note = _preprocessing(info)
    if note:
        notes.append(note)
    return replace(
        network,
        labels=labels,
        labels_from=f"{_WHERE}, 'labels'" if labels else "",
        preprocess=stated or network.preprocess,
        notes=tuple(notes),
    )


def _preprocessing(info: Mapping[str, str]) -> tuple[Stated | None, str]:
    """What is done to pixels before the network, and a note on what can't be used."""
    if not {"mean_values", "scale_values", "reverse_input_channels", "embedded_processing"} & set(info):
        return None, ""
    embedded = _is_true(info, "embedded_processing")
    mean = (0.0, 0.0, 0.0) if embedded else _numbers(info.get("mean_values", ""), 0.0)
    std = (1.0, 1.0, 1.0) if embedded else _numbers(info.get("scale_values", ""), 1.0)
    if mean is None or std is None or any(v == 0 for v in std):
        return (
            None,
            "The IR's model_info is not used for the preprocessing: mean_values or scale_values are no numbers.",
        )
    channels = max(len(mean), len(std))
    mean, std = (values * channels if len(values) == 1 else values for values in (mean, std))
    if len(mean) != len(std) or channels not in (1, 3):
        return None, "The IR's model_info is not used for the preprocessing: mean_values and scale_values do not match."
    color = "GRAY" if channels == 1 else "RGB" if _is_true(info, "reverse_input_channels") else "BGR"
    fields = {
        "resize": "stretch",
        "interpolation": "bilinear",
        "antialias": True,
        "color": color,
        "scale": 1.0,
        "mean": mean,
        "std": std,
    }
    kind = info.get("resize_type", "standard")
    asked = "" if kind == "standard" else f"it resizes as {_plain(kind)[:40]!r}; here images are stretched"
    return Stated(None, fields, _WHERE, True, asked), ""


def _numbers(text: str, default: float) -> tuple[float, ...] | None:
    """Numbers between spaces or commas; the default three times for an empty text; None for anything else."""
    parts = re.split(r"[\s,]+", text.strip("[]() \t\r\n"))
    if parts == [""]:
        return (default,) * 3
    if len(parts) > 4 or not all(re.fullmatch(_NUMBER, part) for part in parts):
        return None
    return tuple(float(part) for part in parts)


def _is_true(info: Mapping[str, str], key: str) -> bool:
    return info.get(key, "").strip().lower() in _TRUE


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)
