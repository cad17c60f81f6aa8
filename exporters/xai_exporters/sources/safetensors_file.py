"""A safetensors file: weights alone; the architecture comes from --arch, or from the file's name."""

from __future__ import annotations

from ..errors import SourceError
from ..request import Request
from .architecture import network_from_weights
from .source_file import SourceFile, TrainedNetwork


def matches(file: SourceFile) -> bool:
    """Eight bytes of header length, then a JSON object."""
    length = int.from_bytes(file.head[:8], "little")
    return file.head[8:9] == b"{" and 2 <= length <= file.path.stat().st_size - 8


def load(file: SourceFile, request: Request) -> TrainedNetwork:
    """Read the weights.

    Raises:
        SourceError: The file is damaged, or safetensors is not installed.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError:
        raise SourceError(f"{file.path}: needs safetensors; pip install 'xai-deploy-exporters[torch]'") from None
    try:
        weights = load_file(file.path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise SourceError(f"{file.path}: damaged or truncated ({error})") from None
    return network_from_weights(weights, file, request)
