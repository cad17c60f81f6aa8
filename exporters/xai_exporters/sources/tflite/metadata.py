"""Class names and normalisation in a TFLite file's metadata, as TensorFlow Lite Support writes it.

The metadata is a FlatBuffers buffer of its own (metadata_schema.fbs, identifier M001). A tensor's metadata holds its process
units: NormalizationOptions, (pixel - mean) / std of pixels of 0 to 255. Its associated files lie in a zip archive after the graph;
those of the type TENSOR_AXIS_LABELS hold one class name a line, for a detector's list of classes TENSOR_VALUE_LABELS.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

from ..onnx_metadata import ultralytics_line
from ..source_file import TrainedNetwork
from ..stated import Stated
from .custom import SUPPRESSION
from .flatbuffer import Table
from .model import TFLite

_KEY = "TFLITE_METADATA"
_SUBGRAPHS, _INPUTS, _OUTPUTS = 3, 2, 3  # of ModelMetadata, and of SubGraphMetadata
_UNITS, _FILES = 4, 6  # of TensorMetadata
_NORMALIZATION = 1  # ProcessUnitOptions.NormalizationOptions
_AXIS_LABELS, _VALUE_LABELS = 2, 3  # AssociatedFileType
_LONGEST = 1 << 20  # bytes of a file of labels
_MOST_FILES = 100  # that are looked for in the archive: one for each language
_MOST, _LONGEST_LABEL = 100_000, 1000


def read(shown: Path, content: TFLite, output: str | None, network: TrainedNetwork) -> TrainedNetwork:
    """The network with what its file says of it, and notes on what is not used.

    Args:
        shown: The file.
        content: Its content.
        output: The output that is explained; None: the only one.
        network: The same as a source.
    """
    notes, where = list(network.notes), ""
    labels: tuple[str, ...] = ()
    preprocess: Stated | None = None
    try:
        if (graph := _graph(content)) is not None:
            preprocess = _stated(content, graph)
            labels, where = _labels(content, [*graph.tables(_OUTPUTS)], output)
    except ValueError as error:
        notes.append(f"{shown}: its metadata is not used: {error}.")
    return replace(
        network, labels=labels, labels_from=where, preprocess=preprocess or network.preprocess, notes=tuple(notes)
    )


def stated(content: TFLite) -> Stated | None:
    """What the file says of its preprocessing; None if it says nothing that can be used."""
    try:
        graph = _graph(content)
        return None if graph is None else _stated(content, graph)
    except ValueError:  # `read` tells it
        return None


def _graph(content: TFLite) -> Table | None:
    """The metadata of the file's first graph."""
    data = content.metadata(_KEY)
    return next(iter(Table.root(data).tables(_SUBGRAPHS)), None) if data else None


def _stated(content: TFLite, graph: Table) -> Stated | None:
    own = _preprocessing([*graph.tables(_INPUTS)], content.input_shapes)
    return own or _of_ultralytics(content, [*graph.tables(_OUTPUTS)])


def _of_ultralytics(content: TFLite, outputs: Sequence[Table]) -> Stated | None:
    """What Ultralytics' own metadata states: it stands as a file of class names."""
    for file in islice(chain.from_iterable(one.tables(_FILES) for one in outputs), _MOST_FILES):
        text = content.associated_file(file.text(0), _LONGEST).decode("utf-8", "replace")
        if (stated := ultralytics_line(text.strip())[1]) is not None:
            return stated
    return None


def _preprocessing(inputs: Sequence[Table], shapes: Sequence[Sequence[int]]) -> Stated | None:
    """What is done to pixels before the network: the first input's."""
    units = [u for u in inputs[0].tables(_UNITS) if u.number(0, "<B") == _NORMALIZATION] if inputs else []
    options = units[0].table(1) if units else None
    if options is None or not shapes or len(shapes[0]) != 4:
        return None
    channels = shapes[0][3]
    mean, std = (_of_channels(options.numbers(field, "<f"), channels) for field in (0, 1))
    if channels not in (1, 3) or mean is None or std is None or 0 in std:
        raise ValueError("its NormalizationOptions do not fit its input")
    fields = {
        "resize": "stretch",
        "interpolation": "bilinear",
        "antialias": True,
        "color": "GRAY" if channels == 1 else "RGB",
        "scale": 1.0,
        "mean": mean,
        "std": std,
    }
    return Stated(None, fields, "the file's TFLite metadata", True)


def _of_channels(values: Sequence[float], channels: int) -> tuple[float, ...] | None:
    """One value per channel; a single one stands for all. None if they do not fit or are no finite numbers."""
    values = [*values] * channels if len(values) == 1 else values
    return tuple(values) if len(values) == channels and all(map(math.isfinite, values)) else None


def _labels(content: TFLite, outputs: Sequence[Table], output: str | None) -> tuple[tuple[str, ...], str]:
    """Class names of the output, and the file that holds them; of a detector's list they stand with the output of the classes."""
    if output is not None and output not in content.outputs and not content.custom_options(SUPPRESSION):
        return (), ""  # an inner tensor: what its numbers are the file does not say
    place = content.outputs.index(output) if output in content.outputs else 0
    kind, listed = _AXIS_LABELS, outputs[place : place + 1]
    if content.custom_options(SUPPRESSION):
        kind, listed = _VALUE_LABELS, outputs
    elif output is None and len(outputs) > 1:
        return (), ""
    for file in islice(chain.from_iterable(one.tables(_FILES) for one in listed), _MOST_FILES):
        name = file.text(0)
        if file.number(2, "<b") != kind:
            continue
        text = content.associated_file(name, _LONGEST).decode("utf-8", "replace")
        if (own := ultralytics_line(text.strip())[0]) or text.startswith("{'"):
            return own, _plain(name)[:100] if own else ""
        labels = tuple(" ".join(_plain(line).split()) for line in text.removesuffix("\n").splitlines())
        if len(labels) > _MOST or any(len(label) > _LONGEST_LABEL for label in labels) or not all(labels):
            raise ValueError(f"{_plain(name)[:100]!r} holds too many names, too long or empty ones")
        if labels:
            return labels, _plain(name)[:100]
    return (), ""


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)
