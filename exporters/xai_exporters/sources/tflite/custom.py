"""Custom operators of TFLite files whose definition is public, in OpenVINO's operators: its reader knows none of them.

Convolution2DTransposeBias (MediaPipe, mediapipe/util/tflite/operations/transpose_conv_bias.cc): a transposed convolution of
images [N,H,W,I] with weights [O,h,w,I] and a bias [O]. Its options are TfLiteTransposeConvParams, three numbers of 32 bits: padding
(1: SAME, 2: VALID) and the strides along width and height. With SAME, the padding is max(0, h - (H - 1) % stride - 1) in all, half
of it before.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from .model import TFLite

Converter: TypeAlias = "Callable[[Any], Sequence[Any]]"
"""What OpenVINO's reader calls for an operator: a NodeContext -> its outputs."""

_TRANSPOSED = "Convolution2DTransposeBias"
_SAME = 1
_LARGEST = 1 << 10  # stride


def converters(ov: Any, content: TFLite) -> dict[str, Converter]:
    """The converters of a file's custom operators, by their names.

    Args:
        ov: The module openvino.
        content: The file.

    Raises:
        ValueError: The file is damaged.
    """
    options = content.custom_options(_TRANSPOSED)
    return {_TRANSPOSED: lambda node: _transposed(ov, node, options)} if options else {}


def _transposed(ov: Any, node: Any, options: dict[str, bytes]) -> Sequence[Any]:
    op = ov.opset13
    image, weights, bias = (node.get_input(i) for i in range(3))
    given = next((options[name] for name in weights.get_names() if name in options), b"")
    padding, width, height = struct.unpack_from("<3i", given) if len(given) >= 12 else (0, 0, 0)
    if not (0 < height <= _LARGEST and 0 < width <= _LARGEST):
        raise ValueError(f"the options of {_TRANSPOSED} are damaged")
    pads = [
        max(0, kernel - (size - 1) % stride - 1) if padding == _SAME else 0
        for kernel, size, stride in zip(weights.get_shape()[1:3], _sizes(image), (height, width), strict=True)
    ]
    y = op.convolution_backprop_data(
        op.transpose(image, [0, 3, 1, 2]),
        op.transpose(weights, [3, 0, 1, 2]),
        [height, width],
        pads_begin=[pad // 2 for pad in pads],
        pads_end=[pad - pad // 2 for pad in pads],
        dilations=[1, 1],
    )
    return [op.add(op.transpose(y, [0, 2, 3, 1]), bias).output(0)]


def _sizes(image: Any) -> list[int]:
    """Height and width of an image [N,H,W,I]; the number of images may be open."""
    sizes = [*image.get_partial_shape()][1:3]
    if not all(size.is_static for size in sizes):
        raise ValueError(f"{_TRANSPOSED} needs an image of fixed height and width")
    return [int(size.get_length()) for size in sizes]
