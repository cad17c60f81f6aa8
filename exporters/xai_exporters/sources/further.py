"""What a source's own framework is given beside the images: built-in constants, and what a bundle gives with each image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from ..passes.clean import free_name
from ..passes.network_inputs import build_in, constants_of, free_inputs
from ..request import Request
from .image_size import image_sizes, told
from .source_file import NOTHING, Further, TrainedNetwork


def with_constants(network: TrainedNetwork, request: Request) -> TrainedNetwork:
    """The network with the constants that the request gives, and the size of its image; its framework's run gets them, too.

    Raises:
        RequestError: See `constants_of`.
    """
    sizes = image_sizes(network.proto, request)
    constants = {**sizes, **constants_of(network.proto, request)}
    if not constants:
        return network
    own = network.reference

    def reference(images: NDArray[Any], further: Further = NOTHING) -> Mapping[str, NDArray[Any]]:
        assert own is not None
        rows = {name: np.repeat(one.array, len(images), axis=0) for name, one in constants.items() if one.each}
        whole = {name: one.array for name, one in constants.items() if not one.each}
        return own(images, Further({**further.rows, **rows}, {**further.whole, **whole}))

    return replace(
        network,
        proto=build_in(network.proto, constants),
        reference=None if own is None else reference,
        notes=(*network.notes, *told(sizes)),
    )


def further_of(graph: onnx.GraphProto, feeds: Mapping[str, NDArray[Any]], image: str) -> Further:
    """What a bundle takes beside the images, under the names that its source has for it; inputs that it does not use get zeros.

    Args:
        graph: The source's graph.
        feeds: What the bundle takes, by its own names, [n, ...] each; the images are among it.
        image: The name of the images in the bundle.
    """
    rows, whole = {}, {}
    for value in free_inputs(graph):
        name, kind = free_name(value.name), value.type.tensor_type
        if name == image:
            continue
        if name in feeds:
            rows[value.name] = feeds[name]
            continue
        first, *sizes = [dim.dim_value or 1 for dim in kind.shape.dim] or [0]
        zeros = np.zeros(sizes, helper.tensor_dtype_to_np_dtype(kind.elem_type))
        if first:
            rows[value.name] = np.stack([zeros] * len(feeds[image]))
        else:
            whole[value.name] = zeros
    return Further(rows, whole)
