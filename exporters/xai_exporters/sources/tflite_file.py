"""TFLite: a FlatBuffers file, often with a zip archive of labels after it. OpenVINO reads it, in a process of its own."""

from __future__ import annotations

from dataclasses import replace

from ..errors import SourceError
from ..request import Request
from .openvino_ir import network
from .openvino_ir.given import Given
from .source_file import SourceFile, TrainedNetwork, refuse_arch
from .tflite import metadata
from .tflite.custom import SUPPRESSION
from .tflite.model import VERSION, TFLite
from .tflite.readable import readable

_LARGEST = 1 << 31  # bytes; offsets in the format have 32 bits


def matches(file: SourceFile) -> bool:
    """The file identifier TFL3, after the root's offset."""
    return file.head[4:8] == b"TFL3"


def load(file: SourceFile, request: Request) -> TrainedNetwork:
    """Translate the graph to ONNX; class names and normalisation come from the file's metadata.

    Raises:
        SourceError: OpenVINO is not installed or can't read the file, or an operator has no rule.
        RequestError: An option is given that is for files of weights only.
    """
    refuse_arch(file, request, "a TFLite file")
    path = file.path.absolute()
    size = path.stat().st_size
    if size > _LARGEST:
        raise SourceError(f"{file.path}: a TFLite file of {size} bytes, more than its 32-bit offsets reach; refused")
    try:
        content = TFLite(readable(path.read_bytes()))
        codes = content.input_codes()
    except ValueError as error:
        raise SourceError(f"{file.path}: a damaged or truncated TFLite file ({error})") from None
    if content.version != VERSION:
        raise SourceError(
            f"{file.path}: a TFLite file of schema version {content.version}; runtimes read version {VERSION} alone: damaged?"
        )
    given = Given(file.path, path, "TFLite", size, "TFLite file", "tflite", ".tflite")
    loaded = network.load(given, request, metadata.stated(content), codes)
    if content.custom_options(SUPPRESSION):
        loaded = replace(loaded, notes=(*loaded.notes, network.CHOSEN_LATER.format(SUPPRESSION)))
    return metadata.read(file.path, content, request.output, loaded)
