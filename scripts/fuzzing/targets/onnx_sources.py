"""ONNX files as `xai-export --list-layers` reads them: parsed, rewritten, cleaned, measured."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from xai_exporters import Request, list_layers

from ..material import folder


def seeds() -> list[bytes]:
    """A small classifier: its batch symbolic, its batch fixed and folded in a Reshape, and on integers."""
    return [_classifier("N"), _classifier(1), _quantised()]


def one(data: bytes) -> None:
    """List the layers of the file.

    Raises:
        XaiError: It is refused.
    """
    path = folder() / f"source-{os.getpid()}.onnx"
    path.write_bytes(data)
    list_layers(Request(path))


def _classifier(batch: int | str) -> bytes:
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"], name="conv", pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
        helper.make_node("Reshape", ["p", "shape"], ["f"], name="flat"),
        helper.make_node("MatMul", ["f", "m"], ["scores"], name="linear"),
    ]
    weights = {"w": _draw(4, 3, 3, 3), "shape": np.array([1 if batch == 1 else -1, 4]), "m": _draw(4, 5)}
    return _model(nodes, weights, batch)


def _quantised() -> bytes:
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "s", "z"], ["q"]),
        helper.make_node("QLinearConv", ["q", "s", "z", "w", "s", "z", "s", "z"], ["c"], pads=[1] * 4),
        helper.make_node("DequantizeLinear", ["c", "s", "z"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["p"]),
        helper.make_node("Flatten", ["p"], ["scores"]),
    ]
    weights = {"s": np.float32(0.05), "z": np.uint8(128), "w": np.arange(135, dtype=np.uint8).reshape(5, 3, 3, 3)}
    return _model(nodes, weights, "N")


def _draw(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _model(nodes: list[onnx.NodeProto], weights: Mapping[str, object], batch: int | str) -> bytes:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 8, 8])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 5])
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "net", [image], [scores], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
