"""TensorFlow: a frozen graph, and a SavedModel of it (tensorflow/core/framework/*.proto, core/protobuf/*.proto)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from . import Array, Net
from .wire import field, fields

_FLOAT, _INT32 = 1, 3


def graph(net: Net, last: str = "Softmax") -> bytes:
    """A GraphDef; the last operator's type may be another one."""
    size = (-1, net.height, net.width, net.filters.shape[2])
    kind = {"T": field(6, _FLOAT)}
    strides = field(1, fields(3, [1, 1, 1, 1]))
    nodes = [
        _node("image", "Placeholder", [], {"dtype": field(6, _FLOAT), "shape": field(7, _shape(size))}),
        _constant("filters", net.filters),
        _constant("axes", np.array([1, 2], np.int32)),
        _constant("matrix", net.matrix),
        _node("conv", "Conv2D", ["image", "filters"], {**kind, "strides": strides, "padding": field(2, "SAME")}),
        _node("relu", "Relu", ["conv"], kind),
        _node("mean", "Mean", ["relu", "axes"], {**kind, "Tidx": field(6, _INT32), "keep_dims": field(5, False)}),
        _node("linear", "MatMul", ["mean", "matrix"], kind),
        _node("scores", last, ["linear"], kind),
    ]
    return fields(1, nodes) + field(4, field(1, 1395))


def saved_model(net: Net) -> bytes:
    """A saved_model.pb whose weights are constants."""
    image, scores = (-1, net.height, net.width, net.filters.shape[2]), (-1, net.matrix.shape[1])
    ends = [
        field(n, field(1, name) + field(2, field(1, f"{node}:0") + field(2, _FLOAT) + field(3, _shape(shape))))
        for n, name, node, shape in ((1, "image", "image", image), (2, "scores", "scores", scores))
    ]
    signature = b"".join(ends) + field(3, "tensorflow/serving/predict")
    meta = field(1, field(4, "serve") + field(5, "2.21.0"))
    return field(1, 1) + field(
        2, meta + field(2, graph(net)) + field(5, field(1, "serving_default") + field(2, signature))
    )


def save(net: Net, folder: Path) -> Path:
    """Write a SavedModel's folder."""
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(saved_model(net))
    return folder


def _node(name: str, op: str, inputs: Sequence[str], attributes: Mapping[str, bytes]) -> bytes:
    parts = [field(5, field(1, key) + field(2, value)) for key, value in attributes.items()]
    return field(1, name) + field(2, op) + fields(3, inputs) + b"".join(parts)


def _constant(name: str, array: Array) -> bytes:
    kind = _INT32 if array.dtype == np.int32 else _FLOAT
    tensor = field(1, kind) + field(2, _shape(array.shape)) + field(4, array.tobytes())
    return _node(name, "Const", [], {"dtype": field(6, kind), "value": field(8, tensor)})


def _shape(dims: Sequence[int]) -> bytes:
    return fields(2, [field(1, dim) for dim in dims])
