"""Tiny bundles made by hand with onnx.helper, and the same networks in torch, float64, as an independent reference.

Activations are [N,6,4,5] for inputs of 16 x 20 pixels (no two sizes equal, so that a swapped axis shows), five classes.
Channel 2 is constant.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnx.compose
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from xai_exporters.graph.writing import make_model
from xai_exporters.vjp.graph import gradient_graph
from xai_exporters.vjp.guided import guided_gradient_graph

from xai_deploy.format import bundle as b
from xai_deploy.format.format1 import with_ports

Kind = Literal["pooled", "residual", "nhwc", "uint8", "nan", "wrong-shape", "wrong-classes"]

CHANNELS, H, W = 6, 4, 5
HEIGHT, WIDTH = 16, 20
CLASSES = 5
LABELS = ("tabby cat", "tiger cat", "beagle", "crane", "crane")
SCALE = 1 / 255


def weights() -> dict[str, NDArray[np.float32]]:
    """The weights of all tiny networks, the caller's own; probabilities are neither flat nor saturated."""
    return {name: value.copy() for name, value in _drawn().items()}


@functools.cache
def _drawn() -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(11)
    shapes = {
        "conv1": (CHANNELS, 3, 4, 4),
        "bias1": (CHANNELS,),
        "conv2": (CHANNELS, CHANNELS, 3, 3),
        "conv3": (CHANNELS, CHANNELS, 3, 3),
        "linear": (CHANNELS, CLASSES),
        "flat": (CHANNELS * H * W, CLASSES),
        "bias": (CLASSES,),
    }
    drawn = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    factors = {"conv1": 0.2, "conv2": 0.2, "conv3": 0.2, "linear": 1.5, "flat": 0.15, "bias": 0.3}
    for name, factor in factors.items():
        drawn[name] *= np.float32(factor)
    drawn["conv1"][2] = 0
    drawn["bias1"][2] = 0.7
    return drawn


@dataclass(frozen=True)
class Tiny:
    """A bundle on disk and its network in torch."""

    path: Path
    kind: Kind

    def head(self, x: NDArray[Any]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Activation [n,K,h,w] and side tensor (residual network), float64."""
        w = {name: torch.from_numpy(value).double() for name, value in weights().items()}
        image = torch.from_numpy(np.ascontiguousarray(x)).double()
        if self.kind == "nhwc":
            image = image.permute(0, 3, 1, 2)
        if self.kind == "uint8":
            image = image * float(np.float32(SCALE))
        first = torch.relu(torch.nn.functional.conv2d(image, w["conv1"], w["bias1"], stride=4))
        if self.kind != "residual":
            return first, None
        return torch.relu(torch.nn.functional.conv2d(first, w["conv2"], padding=1)), first

    def tail(self, activation: torch.Tensor, side: torch.Tensor | None) -> torch.Tensor:
        """Logits [n,classes], float64."""
        w = {name: torch.from_numpy(value).double() for name, value in weights().items()}
        if side is None:
            return activation.mean(dim=(2, 3)) @ w["linear"] + w["bias"]
        mixed = torch.relu(torch.nn.functional.conv2d(activation, w["conv3"], padding=1) + side)
        return mixed.flatten(1) @ w["flat"] + w["bias"]

    def logits(self, x: NDArray[Any]) -> torch.Tensor:
        """Logits [n,classes] of preprocessed inputs."""
        return self.tail(*self.head(x))


def inputs(kind: Kind, count: int, seed: int = 0) -> NDArray[Any]:
    """Preprocessed inputs [count, ...] in the network's layout and dtype (uint8: [count,h,w,3] pixels)."""
    rng = np.random.default_rng(seed)
    if kind == "uint8":
        return rng.integers(0, 256, (count, HEIGHT, WIDTH, 3), dtype=np.uint8)
    shape = (count, HEIGHT, WIDTH, 3) if kind == "nhwc" else (count, 3, HEIGHT, WIDTH)
    return rng.standard_normal(shape).astype(np.float32)


def write(
    path: Path,
    kind: Kind = "pooled",
    *,
    pixelwise: bool = True,
    gradients: bool = False,
    labels: tuple[str, ...] = LABELS,
    preprocess: b.Preprocess | None = None,
    changes: Mapping[str, Any] | None = None,
    extra: Mapping[str, bytes] | None = None,
) -> Tiny:
    """Write a bundle; `changes` replace fields of the manifest, `extra` adds files, `gradients` the graphs that propagate."""
    graphs = {"head": _head(kind), "tail": _tail(kind)}
    if pixelwise and kind != "residual":
        graphs["pixelwise-tail"] = _pixelwise()
    if gradients:
        graphs |= _gradients(kind)
    contents = {f"{role}.onnx": model.SerializeToString() for role, model in graphs.items()}
    if labels:
        contents["labels.txt"] = ("\n".join(labels) + "\n").encode()
    contents |= extra or {}
    if preprocess is None:
        preprocess = b.Preprocess(scale=1.0 if kind == "uint8" else SCALE)
    side = (b.Side("side/0", (CHANNELS, H, W), "float32"),) if kind == "residual" else ()
    manifest = b.Manifest(
        format=b.FORMAT,
        digest="",
        producer="tests",
        name=f"tiny-{kind}",
        input=b.Input(
            name="image",
            layout="NHWC" if kind == "nhwc" else "NCHW",
            channels=3,
            height=HEIGHT,
            width=WIDTH,
            dtype="uint8" if kind == "uint8" else "float32",
            preprocess=preprocess,
        ),
        target=b.TargetLayer("layer", "relu", (CHANNELS, H, W), "float32"),
        classes=CLASSES,
        activation="softmax",
        batch="any",
        outputs=(b.Output("scores", "scores", (CLASSES,), "probabilities"),),
        graphs={
            role: b.Graph(f"{role}.onnx", 18, "image" if role.startswith(("head", "input", "guided")) else "activation")
            for role in graphs
        },
        side=side,
        labels="labels.txt" if labels else None,
        files=b.file_records(contents),
    )
    manifest = with_ports(replace(manifest, **(changes or {})))
    path.mkdir(parents=True)
    for name, data in contents.items():
        (path / name).write_bytes(data)
    (path / b.MANIFEST).write_bytes(manifest.to_bytes())
    return Tiny(path, kind)


def _head(kind: Kind) -> onnx.ModelProto:
    shape: list[str | int] = ["N", HEIGHT, WIDTH, 3] if kind == "nhwc" else ["N", 3, HEIGHT, WIDTH]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8 if kind == "uint8" else TensorProto.FLOAT, shape)
    nodes, source = [], "image"
    if kind == "nhwc":
        nodes.append(helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]))
        source = "planes"
    if kind == "uint8":
        nodes.append(helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", ["floats", "scale"], ["scaled"]))
        source = "scaled"
    first = "side/0" if kind == "residual" else "activation"
    nodes.append(helper.make_node("Conv", [source, "conv1", "bias1"], ["c1"], strides=[4, 4]))
    nodes.append(helper.make_node("Relu", ["c1"], [first]))
    outputs = [_map("activation")]
    if kind == "residual":
        nodes.append(helper.make_node("Conv", [first, "conv2"], ["c2"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", ["c2"], ["activation"]))
        outputs.append(_map("side/0"))
    if kind == "wrong-shape":
        nodes[-1].output[0] = "relu"
        nodes.append(helper.make_node("Transpose", ["relu"], ["activation"], perm=[0, 1, 3, 2]))
        outputs = [helper.make_tensor_value_info("activation", TensorProto.FLOAT, ["N", CHANNELS, W, H])]
    return _model(nodes, [image], outputs)


def _tail(kind: Kind) -> onnx.ModelProto:
    inputs_ = [_map("activation")]
    if kind == "wrong-shape":
        inputs_ = [helper.make_tensor_value_info("activation", TensorProto.FLOAT, ["N", CHANNELS, W, H])]
    classes = CLASSES
    if kind == "residual":
        inputs_.append(_map("side/0"))
        nodes = [
            helper.make_node("Conv", ["activation", "conv3"], ["c3"], pads=[1, 1, 1, 1]),
            helper.make_node("Add", ["c3", "side/0"], ["sum"]),
            helper.make_node("Relu", ["sum"], ["mixed"]),
            helper.make_node("Flatten", ["mixed"], ["features"]),
            helper.make_node("Gemm", ["features", "flat", "bias"], ["logits"]),
        ]
    else:
        nodes = [
            helper.make_node("GlobalAveragePool", ["activation"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["features"]),
            helper.make_node("Gemm", ["features", "linear", "bias"], ["logits"]),
        ]
    if kind == "nan":  # the root of a negative number
        nodes[-1].output[0] = "plain"
        for op, source, result in (("Abs", "plain", "abs"), ("Neg", "abs", "negative"), ("Sqrt", "negative", "logits")):
            nodes.append(helper.make_node(op, [source], [result]))
    if kind == "wrong-classes":
        nodes[-1].output[0] = "plain"
        nodes.append(helper.make_node("Concat", ["plain", "plain"], ["logits"], axis=1))
        classes = 2 * CLASSES
    nodes.append(helper.make_node("Softmax", ["logits"], ["scores"], axis=1))
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", classes]) for name in ("logits", "scores")]
    return _model(nodes, inputs_, outputs)


def _pixelwise() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Reshape", ["activation", "shape"], ["columns"]),
        helper.make_node("Transpose", ["columns"], ["rows"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["rows", "linear"], ["pixel_logits"]),
    ]
    output = helper.make_tensor_value_info("pixel_logits", TensorProto.FLOAT, ["N", H * W, CLASSES])
    return _model(nodes, [_map("activation")], [output])


def _gradients(kind: Kind) -> dict[str, onnx.ModelProto]:
    """The graphs that propagate back, by the exporters' own rules: the tests compare them with torch."""
    tail, between = _tail(kind), ["activation", *(["side/0"] if kind == "residual" else [])]
    whole = onnx.compose.merge_models(_head(kind), tail, io_map=[(name, name) for name in between])
    forward, image = (ir.from_proto(model).graph for model in (tail, whole))
    graphs = {
        "gradient": gradient_graph(forward, CLASSES),
        "input-gradient": gradient_graph(image, CLASSES),
        "guided-gradient": guided_gradient_graph(image, CLASSES),
    }
    return {role: ir.to_proto(make_model(graph)) for role, graph in graphs.items()}


def _map(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", CHANNELS, H, W])


def _model(
    nodes: list[onnx.NodeProto], inputs_: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
) -> onnx.ModelProto:
    constants: dict[str, NDArray[Any]] = {
        **weights(),
        "scale": np.array(SCALE, np.float32),
        "shape": np.array([0, CHANNELS, H * W], np.int64),
    }
    used = {name for node in nodes for name in node.input}
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items() if name in used]
    graph = helper.make_graph(nodes, "tiny", inputs_, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model
