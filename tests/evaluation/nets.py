"""Networks small enough to evaluate a thousand images in seconds: one convolution, pooling, one linear layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from xai_deploy.format import bundle as b
from xai_deploy.format.format1 import with_ports
from xai_deploy.format.randomised import Randomised
from xai_deploy.foundation.printable import printable

HEIGHT, WIDTH, CLASSES, CHANNELS = 16, 20, 5, 6
Activation = Literal["softmax", "sigmoid", "none"]


def write(
    path: Path,
    seed: int = 0,
    *,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    classes: int = CLASSES,
    activation: Activation = "softmax",
    labels: tuple[str, ...] = (),
    randomised: Randomised | None = None,
    assumed: bool = False,
) -> Path:
    """Write a bundle of random weights."""
    height, width = size
    h, w = height // 4, width // 4
    rng = np.random.default_rng(seed)
    weights = {
        "conv": rng.standard_normal((CHANNELS, 3, 4, 4)) * 0.2,
        "conv-bias": rng.standard_normal(CHANNELS) * 0.2,
        "linear": rng.standard_normal((CHANNELS, classes)) * 4,
        "linear-bias": rng.standard_normal(classes) * 0.1,
    }
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, height, width])
    middle = helper.make_tensor_value_info("activation", TensorProto.FLOAT, ["N", CHANNELS, h, w])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", classes]) for name in ("logits", "scores")]
    last = {"softmax": "Softmax", "sigmoid": "Sigmoid", "none": "Identity"}[activation]
    head = [
        helper.make_node("Conv", ["image", "conv", "conv-bias"], ["c"], strides=[4, 4]),
        helper.make_node("Relu", ["c"], ["activation"]),
    ]
    tail = [
        helper.make_node("GlobalAveragePool", ["activation"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("Gemm", ["features", "linear", "linear-bias"], ["logits"]),
        helper.make_node(last, ["logits"], ["scores"]),
    ]
    contents = {
        "head.onnx": _model(head, image, [middle], weights),
        "tail.onnx": _model(tail, middle, outputs, weights),
    }
    if labels:
        contents["labels.txt"] = ("\n".join(labels) + "\n").encode()
    manifest = b.Manifest(
        format=b.FORMAT,
        digest="",
        producer="tests",
        name=printable(path.name),
        input=b.Input(
            "image", "NCHW", 3, height, width, "float32", b.Preprocess(scale=1 / 255, assumed=assumed, mean=(0.5,) * 3)
        ),
        target=b.TargetLayer("layer", "relu", (CHANNELS, h, w), "float32"),
        classes=classes,
        activation=activation,
        batch="any",
        outputs=(b.Output("scores", "scores", (classes,), "probabilities"),),
        graphs={"head": b.Graph("head.onnx", 18, "image"), "tail": b.Graph("tail.onnx", 18)},
        labels="labels.txt" if labels else None,
        files=b.file_records(contents),
        randomised=randomised,
    )
    path.mkdir(parents=True)
    for name, data in contents.items():
        (path / name).write_bytes(data)
    (path / b.MANIFEST).write_bytes(with_ports(manifest).to_bytes())
    return path


def write_randomised(path: Path, of: int, seed: int = 100, **options: Any) -> list[Path]:
    """The bundles that xai-export --randomise would write beside `path`."""
    return [
        write(
            path.with_name(f"{path.stem}.randomised-{step}-of-{of}.xai"),
            seed + step,
            **({"randomised": Randomised(step, of, seed, ("fc", "conv", "more")[: max(step, 1)])} | options),
        )
        for step in range(1, of + 1)
    ]


def _model(
    nodes: list[onnx.NodeProto],
    source: onnx.ValueInfoProto,
    outputs: list[onnx.ValueInfoProto],
    weights: dict[str, Any],
) -> bytes:
    used = {name for node in nodes for name in node.input}
    initializers = [numpy_helper.from_array(v.astype(np.float32), name) for name, v in weights.items() if name in used]
    graph = helper.make_graph(nodes, "net", [source], outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    data: bytes = model.SerializeToString()
    return data
