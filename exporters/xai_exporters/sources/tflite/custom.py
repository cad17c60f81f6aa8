"""Custom operators of TFLite files whose definition is public, in OpenVINO's operators: its reader knows none of them.

Convolution2DTransposeBias (MediaPipe, mediapipe/util/tflite/operations/transpose_conv_bias.cc): a transposed convolution of
images [N,H,W,I] with weights [O,h,w,I] and a bias [O]. Its options are TfLiteTransposeConvParams, three numbers of 32 bits: padding
(1: SAME, 2: VALID) and the strides along width and height. With SAME, the padding is max(0, h - (H - 1) % stride - 1) in all, half
of it before.

TFLite_Detection_PostProcess (tensorflow/lite/kernels/detection_postprocess.cc) ends an SSD: it decodes boxes, chooses among
them and gives a list. Here it gives what it chooses from, so that a gradient passes: the corners of all boxes, left, top, right,
bottom [1,R,4], and the scores of all classes but the background [1,R,C]. Its inputs are encodings e [1,R,4+], scores [1,R,C] or
[1,R,1+C], and anchors a [R,4], both as y, x, height, width; its options hold the scales s.

    centre = e / s * size_a + centre_a        size = size_a exp(e / s)        corners = centre -+ size / 2
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from .model import TFLite
from .options import numbers

Converter: TypeAlias = "Callable[[Any], Sequence[Any]]"
"""What OpenVINO's reader calls for an operator: a NodeContext -> its outputs."""

SUPPRESSION = "TFLite_Detection_PostProcess"
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
    transposed, suppressed = (content.custom_options(name) for name in (_TRANSPOSED, SUPPRESSION))
    found: dict[str, Converter] = {}
    if transposed:
        found[_TRANSPOSED] = lambda node: _transposed(ov, node, transposed)
    if suppressed:
        found[SUPPRESSION] = lambda node: _before_suppression(ov, node, suppressed)
    return found


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


def _before_suppression(ov: Any, node: Any, options: dict[str, bytes]) -> Sequence[Any]:
    """What the suppression chooses from: boxes [1,R,4] and scores [1,R,C], then zeros for its other two outputs."""
    op = ov.opset13
    encoded, scores, anchors = (node.get_input(i) for i in range(3))
    # what quantises a tensor has no name; a file has one suppression
    own = next(iter(options.values()))
    given = numbers(next((options[name] for name in scores.get_names() if name in options), own))
    try:
        scales, classes = [given[f"{side}_scale"] for side in "yxhw"], int(given["num_classes"])
    except (KeyError, ValueError, OverflowError):
        raise ValueError(f"the options of {SUPPRESSION} are damaged") from None
    columns = scores.get_partial_shape()[2]
    background = columns.get_length() - classes if columns.is_static else -1
    if not all(0 < scale < math.inf for scale in scales) or background not in (0, 1):
        raise ValueError(f"the options of {SUPPRESSION} are damaged")

    def columns_of(value: Any, start: int, stop: int) -> Any:
        return op.slice(value, [start], [stop], [1], [-1])

    def swapped(value: Any) -> Any:  # y, x -> x, y
        return op.gather(value, [1, 0], -1)

    # codes: OpenVINO's reader replaces a Convert after what quantises them by their real values
    encoded, scores, anchors = (op.convert(value, ov.Type.f32) for value in (encoded, scores, anchors))
    encoded = op.divide(columns_of(encoded, 0, 4), op.constant([[scales]], ov.Type.f32))
    place, size = (op.unsqueeze(columns_of(anchors, at, at + 2), [0]) for at in (0, 2))
    centre = swapped(op.add(op.multiply(columns_of(encoded, 0, 2), size), place))
    half = swapped(op.multiply(op.exp(columns_of(encoded, 2, 4)), op.multiply(size, op.constant(0.5, ov.Type.f32))))
    boxes = op.concat([op.subtract(centre, half), op.add(centre, half)], -1)
    rest = [op.constant([[0.0]], ov.Type.f32) for _ in ("scores", "count")]
    return [one.output(0) for one in (boxes, columns_of(scores, background, background + classes), *rest)]


def _sizes(image: Any) -> list[int]:
    """Height and width of an image [N,H,W,I]; the number of images may be open."""
    sizes = [*image.get_partial_shape()][1:3]
    if not all(size.is_static for size in sizes):
        raise ValueError(f"{_TRANSPOSED} needs an image of fixed height and width")
    return [int(size.get_length()) for size in sizes]
