"""Source formats, one file each: a source is a module with `matches(file)` and `load(file, request)`.

A file's format is recognised by its content, never by its extension.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, cast

from xai_deploy.foundation.registry import import_all

from ..errors import UnknownSourceError
from ..request import Request
from . import foreign
from .source_file import SourceFile, TrainedNetwork

__all__ = ["SourceFile", "TrainedNetwork", "load_source"]


class SourceFormat(Protocol):
    """The functions that a source module defines."""

    def matches(self, file: SourceFile) -> bool:
        """Whether the file is of this format."""
        ...

    def load(self, file: SourceFile, request: Request) -> TrainedNetwork:
        """The network as ONNX."""
        ...


def refuse_folder(path: Path) -> None:
    """Refuse a folder that holds no network, before anything is read.

    Raises:
        UnknownSourceError: It is such a folder; the message names its kind, and what to do.
    """
    if path.is_dir() and _format_of(SourceFile.open(path)) is None:
        raise UnknownSourceError(f"{path}: {foreign.folder(path)}")


def load_source(request: Request) -> TrainedNetwork:
    """Read the trained network.

    Raises:
        SourceError: The file is missing, of no known format, damaged, or needs an option.
    """
    refuse_folder(request.source)
    file = SourceFile.open(request.source)
    source = _format_of(file)
    if source is not None:
        return source.load(file, request)
    if (known := foreign.describe(file)) is not None:
        raise UnknownSourceError(f"{file.path}: {known}")
    raise UnknownSourceError(
        f"{file.path}: damaged, or no network that xai-export reads (torch state dict, module, TorchScript, .pt2, safetensors, "
        "ONNX, OpenVINO IR, TFLite, TensorFlow, PaddlePaddle)"
    )


def _format_of(file: SourceFile) -> SourceFormat | None:
    for module in import_all(__name__):
        if hasattr(module, "matches") and module.matches(file):
            return cast(SourceFormat, module)
    return None
