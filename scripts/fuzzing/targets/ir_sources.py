"""OpenVINO IR: the graph's XML and the weights beside it."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from xai_deploy.foundation import runtimes

from ..material import network
from ..mutations import mutate_bytes
from ..reading import place, read

_NUMBER = re.compile(rb'(?<=")-?[0-9]+(?=[",])')
_KIND = re.compile(rb'(?<=element_type=")[a-z0-9]+(?=")')
_VALUES = (b"0", b"-1", b"1", b"2", b"7", b"65536", b"2147483647", b"-9223372036854775808", b"99999999999999999999")
_KINDS = (b"f32", b"f16", b"bf16", b"f64", b"i64", b"i32", b"i8", b"u8", b"boolean", b"i4", b"u4", b"u1", b"nf4", b"f8e4m3",
          b"string", b"dynamic", b"nothing")  # fmt: skip
_WEIGHTS = b"\nweights beside it:\n"


def seeds() -> list[bytes]:
    """The small network of other targets, converted by OpenVINO: in float32 and in float16; and lists of boxes."""
    ov, folder = runtimes.openvino(), place("ir")
    (folder / "net.onnx").write_bytes(network().SerializeToString())
    model = ov.convert_model(folder / "net.onnx")
    found = []
    for given, half in ((model, False), (model, True), *((_detector(ov, kind), False) for kind in (0, 1))):
        ov.save_model(given, folder / "net.xml", compress_to_fp16=half)
        found.append((folder / "net.xml").read_bytes() + _WEIGHTS + (folder / "net.bin").read_bytes())
    return found


def _detector(ov: Any, kind: int) -> Any:
    """Eight boxes and their scores, from an image [1,3,4,4], and what chooses among them: DetectionOutput, or NonMaxSuppression."""
    op, flat_shape = ov.opset13, np.array([1, -1])
    x = op.parameter(ov.PartialShape([1, 3, 4, 4]), np.float32, name="image")
    flat = op.reshape(x, flat_shape, False)
    codes, scores = (op.slice(flat, [start], [end], [1], [1]) for start, end in ((0, 32), (32, 48)))
    if kind == 0:
        priors = op.constant(np.tile(np.array([0.1, 0.1, 0.6, 0.6], np.float32), 16).reshape(1, 2, 32))
        options = {
            "keep_top_k": [5], "nms_threshold": 0.5, "share_location": True, "normalized": True, "background_label_id": 0,
            "code_type": "caffe.PriorBoxParameter.CENTER_SIZE",
        }  # fmt: skip
        return ov.Model([op.detection_output(codes, scores, priors, options)], [x], "detector")
    boxes, scores = op.reshape(codes, [1, 8, 4], False), op.reshape(scores, [1, 2, 8], False)
    most, limit = op.constant(np.int64(5)), op.constant(np.float32(0.5))
    chosen = op.non_max_suppression(boxes, scores, most, limit, limit)
    return ov.Model([chosen.output(0)], [x], "detector")


def mutate(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Mostly a number in an attribute (an offset, a size, a shape), or a type of elements; sometimes bytes of either file."""
    text, _, weights = data.partition(_WEIGHTS)
    chance = rng.random()
    if chance < 0.2:
        return mutate_bytes(text, others, rng) + _WEIGHTS + weights
    if chance < 0.35:
        return text + _WEIGHTS + mutate_bytes(weights, others, rng)
    pattern, values = (_KIND, _KINDS) if chance < 0.5 else (_NUMBER, _VALUES)
    for _ in range(rng.choice((1, 1, 2))):
        places = list(pattern.finditer(text))
        if places:
            found = rng.choice(places)
            text = text[: found.start()] + rng.choice(values) + text[found.end() :]
    return text + _WEIGHTS + weights


def one(data: bytes) -> None:
    """Read the files.

    Raises:
        XaiError: They are refused.
    """
    text, _, weights = data.partition(_WEIGHTS)
    (place("ir") / "net.bin").write_bytes(weights)
    read(place("ir") / "net.xml", text)
