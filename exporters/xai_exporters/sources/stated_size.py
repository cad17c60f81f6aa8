"""The size of the image where a source's graph leaves it open and the source states it."""

from __future__ import annotations

from dataclasses import replace

from ..request import Request
from .source_file import TrainedNetwork
from .stated import Stated

_LARGEST = 4096  # pixels of a side that a file's text may ask for


def at_stated_size(network: TrainedNetwork, request: Request) -> tuple[TrainedNetwork, Request]:
    """The request with the image's size that the file states, if its input leaves the size open and the request gives none."""
    stated = network.preprocess
    if request.input_shape is not None or not isinstance(stated, Stated) or stated.size is None:
        return network, request
    weights = {tensor.name for tensor in network.proto.graph.initializer}
    image = next((value for value in network.proto.graph.input if value.name not in weights), None)
    dims = [] if image is None else [dim.dim_value for dim in image.type.tensor_type.shape.dim]
    known = all(own in (0, said) for own, said in zip(dims[2:], stated.size, strict=False))
    channels = len(stated.fields["mean"])
    if len(dims) != 4 or dims[1] not in (0, channels) or 0 not in dims[1:] or not known:
        return network, request
    if not 1 <= min(stated.size) <= max(stated.size) <= _LARGEST:
        return network, request
    height, width = stated.size
    note = f"The image's size is {height} x {width}, as {stated.where} states; --input-shape gives another."
    return replace(network, notes=(*network.notes, note)), replace(request, input_shape=(channels, height, width))
