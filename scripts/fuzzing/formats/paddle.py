"""PaddlePaddle: a program and its weights (paddle/fluid/framework/framework.proto; tensors as save_combine writes them)."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from . import Array, Net
from .wire import field, fields

_FP32, _TENSOR, _FEED, _FETCH = 5, 7, 9, 10


def program(net: Net, activation: str = "relu", pair: bool = False) -> bytes:
    """A ProgramDesc; the activation's type may be another one. Of a pair the means of both images, `other` too, are subtracted."""
    names = ("conv", "active", "mean", "linear", "scores", *(("conv2", "active2", "mean2", "apart") if pair else ()))
    images = ("image", "other") if pair else ("image",)
    before = "apart" if pair else "mean"
    size = (-1, net.filters.shape[2], net.height, net.width)
    variables = [
        _variable("feed", _FEED),
        _variable("fetch", _FETCH),
        *(_variable(image, _TENSOR, size) for image in images),
        *(_variable(name, _TENSOR, array.shape, True) for name, array in _weights(net).items()),
        *(_variable(name, _TENSOR, (-1,)) for name in names),
    ]
    apart = [_op("elementwise_sub", {"X": "mean", "Y": "mean2"}, {"Out": "apart"}, {"axis": -1})] if pair else []
    ops = [
        *(_op("feed", {"X": "feed"}, {"Out": image}, {"col": col}) for col, image in enumerate(images)),
        *(op for image, end in zip(images, ("", "2"), strict=False) for op in _branch(image, activation, end)),
        *apart,
        _op(
            "matmul_v2",
            {"X": before, "Y": "matrix"},
            {"Out": "linear"},
            {"trans_x": False, "trans_y": False},
        ),
        _op("softmax", {"X": "linear"}, {"Out": "scores"}, {"axis": -1}),
        _op("fetch", {"X": "scores"}, {"Out": "fetch"}, {"col": 0}),
    ]
    block = field(1, 0) + field(2, -1) + fields(3, variables) + fields(4, ops)
    return field(1, block) + field(4, field(1, 2_000_000))


def _branch(image: str, activation: str, end: str) -> list[bytes]:
    """The mean over positions of the activation of the convolution of an image."""
    conv: Mapping[str, int | str | list[int]] = {
        "strides": [1, 1],
        "paddings": [1, 1],
        "dilations": [1, 1],
        "groups": 1,
        "padding_algorithm": "EXPLICIT",
        "data_format": "NCHW",
    }
    mean: Mapping[str, int | str | list[int]] = {"dim": [2, 3], "keep_dim": False, "reduce_all": False}
    return [
        _op("conv2d", {"Input": image, "Filter": "filters"}, {"Output": f"conv{end}"}, conv),
        _op(activation, {"X": f"conv{end}"}, {"Out": f"active{end}"}, {}),
        _op("reduce_mean", {"X": f"active{end}"}, {"Out": f"mean{end}"}, mean),
    ]


def weights(net: Net) -> bytes:
    """A .pdiparams file: the tensors in their names' order, each with its version, level of detail and description."""
    parts = []
    for _, array in sorted(_weights(net).items()):
        description = field(1, _FP32) + fields(2, array.shape)
        parts.append(struct.pack("<IQIi", 0, 0, 0, len(description)) + description + array.tobytes())
    return b"".join(parts)


def save(net: Net, path: Path, pair: bool = False) -> Path:
    """Write PATH.pdmodel and its weights."""
    path.with_suffix(".pdmodel").write_bytes(program(net, pair=pair))
    path.with_suffix(".pdiparams").write_bytes(weights(net))
    return path.with_suffix(".pdmodel")


def _weights(net: Net) -> Mapping[str, Array]:
    return {"filters": np.ascontiguousarray(net.filters.transpose(3, 2, 0, 1)), "matrix": net.matrix}


def _variable(name: str, kind: int, dims: Sequence[int] = (), persistable: bool = False) -> bytes:
    tensor = field(3, field(1, field(1, _FP32) + fields(2, dims))) if dims else b""
    return field(1, name) + field(2, field(1, kind) + tensor) + field(3, persistable)


def _op(
    kind: str, inputs: Mapping[str, str], outputs: Mapping[str, str], attributes: Mapping[str, int | str | list[int]]
) -> bytes:
    ends = [fields(n, [field(1, k) + field(2, v) for k, v in e.items()]) for n, e in ((1, inputs), (2, outputs))]
    return b"".join(ends) + field(3, kind) + fields(4, [_attribute(k, v) for k, v in attributes.items()])


def _attribute(name: str, value: int | str | list[int]) -> bytes:
    """The types INT, STRING, INTS and BOOLEAN."""
    if isinstance(value, bool):
        return field(1, name) + field(2, 6) + field(10, value)
    if isinstance(value, int):
        return field(1, name) + field(2, 0) + field(3, value)
    if isinstance(value, str):
        return field(1, name) + field(2, 2) + field(5, value)
    return field(1, name) + field(2, 3) + fields(6, value)
