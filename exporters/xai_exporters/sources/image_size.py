"""Inputs in which a detector's own post-processing takes the photo's size: they get the size of the network's image.

Its boxes are then pixels of that image; what made it of the photo is undone when the boxes are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper

from ..graph.reading import opset_of
from ..passes.network_inputs import Constant, free_inputs
from ..request import Request

_SIZES = {
    "orig_target_sizes": (1, 0),  # RT-DETR, D-FINE, DEIM: width, height
    "im_shape": (0, 1),  # PaddleDetection: height, width of the image, which it divides by
    "scale_factor": (None, None),  # how much larger the image is than the photo
}
"""For each of the two numbers of such an input which side it is; None: 1."""
_EXPAND = 8  # the opset that brought the operator


def image_sizes(proto: onnx.ModelProto, request: Request) -> Mapping[str, Constant]:
    """What such inputs get that the request does not name; nothing if there are several images, or their size is open."""
    free = free_inputs(proto.graph)
    images = [value for value in free if len(value.type.tensor_type.shape.dim) == 4]
    sides = _sides(images[0], request) if len(images) == 1 else None
    found: dict[str, Constant] = {}
    for value in free if sides is not None else ():
        first, *sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim] or [0]
        asked = any(text.startswith(f"{value.name}=") for text in request.input)
        if value.name in _SIZES and not asked and first in (0, 1) and sizes == [2]:
            kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            row = [1 if side is None or sides is None else sides[side] for side in _SIZES[value.name]]
            each = first == 0 and not images[0].type.tensor_type.shape.dim[0].dim_value and opset_of(proto) >= _EXPAND
            found[value.name] = Constant(np.array([row], kind), each)
    return found


def told(sizes: Mapping[str, Constant]) -> tuple[str, ...]:
    """What to tell of each: its numbers."""
    return tuple(
        f"{name!r} is {' '.join(f'{number:g}' for number in one.array[0])}, so that boxes are pixels of the network's image; "
        f"--input {name}=... gives another."
        for name, one in sizes.items()
    )


def _sides(image: onnx.ValueInfoProto, request: Request) -> tuple[int, int] | None:
    """(height, width) of the network's image; None if the file leaves them open, and the request does."""
    if request.input_shape is not None:
        return request.input_shape[-2], request.input_shape[-1]
    _, *sizes = [dim.dim_value for dim in image.type.tensor_type.shape.dim]
    last = sizes[2] in (1, 3) and sizes[0] not in (1, 3)
    height, width = sizes[:2] if last else sizes[1:]
    return (height, width) if height and width else None
