"""Small networks exported by the tests that compare them: their input size, classes, activation and weights are free."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from xai_exporters import Request, export


def write(
    path: Path,
    *,
    size: tuple[int, int] = (24, 32),
    classes: int = 4,
    activation: str = "Softmax",
    seed: int = 0,
    noise: float = 0.0,
    roles: tuple[str, ...] = (),
) -> Path:
    """Export a network of two convolutions; `noise` disturbs its weights. Returns the bundle's folder."""
    rng, disturb = np.random.default_rng(seed), np.random.default_rng(seed + 1)
    shapes = {"w1": (6, 3, 3, 3), "b1": (6,), "w2": (8, 6, 3, 3), "b2": (8,), "w3": (classes, 8), "b3": (classes,)}
    weights = []
    for name, shape in shapes.items():
        value = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]) or 1)
        value = value * (6 if name == "w3" else 1) + noise * disturb.standard_normal(shape)
        weights.append(numpy_helper.from_array(value.astype(np.float32), name))
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], name="first", strides=[2, 2], pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="second", pads=[1] * 4),
        helper.make_node("Relu", ["c2"], ["r2"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "w3", "b3"], ["logits"], name="classifier", transB=1),
    ]
    if activation:
        nodes.append(helper.make_node(activation, ["logits"], ["scores"], name="last"))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, *size])],
        [helper.make_tensor_value_info("scores" if activation else "logits", TensorProto.FLOAT, ["N", classes])],
        weights,
    )
    source = path.with_suffix(".onnx")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), source)
    fields = {"resize": "stretch", "scale": 1 / 64, "mean": [2.0] * 3, "std": [1.0] * 3}
    return export(Request(source, output_path=path, preprocess_fields=fields, roles=roles)).path
