"""A stranger's source format: an ONNX file as text."""

import base64

import onnx
from xai_exporters.request import Request
from xai_exporters.sources.source_file import SourceFile, TrainedNetwork

MAGIC = b"onnx as text\n"


def matches(file: SourceFile) -> bool:
    """It says so in its first line."""
    return file.head.startswith(MAGIC)


def load(file: SourceFile, request: Request) -> TrainedNetwork:
    """See `SourceFormat.load`."""
    model = onnx.load_from_string(base64.b64decode(file.path.read_bytes()[len(MAGIC) :]))
    return TrainedNetwork(model, "ONNX as text")
