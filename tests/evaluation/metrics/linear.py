"""Networks whose scores can be worked out by hand: logits = sum of weight * input + bias, pixel by pixel.

The head hands on the image itself, doubled, so that the target layer is the image. ReciproCAM's map with score=logit is then the
sum over the colours of weight * input at each pixel, up to min-max, and the map of weight * input * mask is as plain.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from xai_deploy import Explainer
from xai_deploy.evaluation.metrics import Case
from xai_deploy.format import bundle as b
from xai_deploy.format.format1 import with_ports
from xai_deploy.preprocess import Prepared

Floats = NDArray[np.float64]
Activation = Literal["softmax", "sigmoid", "none"]
_TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}


def network(
    path: Path,
    weight: Any,
    bias: Any = None,
    *,
    activation: Activation = "softmax",
    layout: Literal["NCHW", "NHWC"] = "NCHW",
    dtype: Literal["float32", "float16", "uint8"] = "float32",
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    backend: str = "onnxruntime",
    batch_size: int = 16,
) -> Explainer:
    """Write the bundle of one network and open it.

    Args:
        path: The bundle's folder, new.
        weight: [classes,C,H,W], however the input is laid out.
        bias: [classes].
        activation: What stands between logits and output.
        layout: The input's.
        dtype: The input's.
        mean: Per colour.
        std: Per colour.
        backend: The runtime.
        batch_size: As of `Explainer`.
    """
    weight = np.asarray(weight, np.float32)
    classes, channels, height, width = weight.shape
    image_shape = (channels, height, width) if layout == "NCHW" else (height, width, channels)
    shape = [channels, height, width]
    nodes, source = [], "image"
    if layout == "NHWC":
        nodes.append(helper.make_node("Transpose", [source], ["planes"], perm=[0, 3, 1, 2]))
        source = "planes"
    nodes.append(helper.make_node("Cast", [source], ["floats"], to=TensorProto.FLOAT))
    nodes.append(
        helper.make_node("Mul", ["floats", "two"], ["activation"])
    )  # OpenVINO 2026.4 dies of a Cast alone that changes nothing
    image = helper.make_tensor_value_info("image", _TYPES[dtype], ["N", *image_shape])
    cut = helper.make_tensor_value_info("activation", TensorProto.FLOAT, ["N", *shape])
    head = _model(nodes, [image], [cut], {"two": np.array(2, np.float32)})
    nodes = [
        helper.make_node("Flatten", ["activation"], ["pixels"]),
        helper.make_node("Gemm", ["pixels", "weight", "bias"], ["logits"], transB=1),
    ]
    names = ["logits"]
    if activation != "none":
        kind = {"softmax": "Softmax", "sigmoid": "Sigmoid"}[activation]
        nodes.append(helper.make_node(kind, ["logits"], ["scores"]))
        names.append("scores")
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", classes]) for name in names]
    bias = np.zeros(classes, np.float32) if bias is None else np.asarray(bias, np.float32)
    tail = _model(nodes, [cut], outputs, {"weight": weight.reshape(classes, -1) / 2, "bias": bias})
    contents = {"head.onnx": head.SerializeToString(), "tail.onnx": tail.SerializeToString()}
    manifest = b.Manifest(
        format=b.FORMAT,
        digest="",
        producer="tests",
        name="linear",
        input=b.Input(
            name="image",
            layout=layout,
            channels=channels,
            height=height,
            width=width,
            dtype=dtype,
            preprocess=b.Preprocess(
                color="RGB" if channels == 3 else "GRAY", mean=mean or (0.0,) * channels, std=std or (1.0,) * channels
            ),
        ),
        target=b.TargetLayer("image", "activation", (channels, height, width), "float32"),
        classes=classes,
        activation=activation,
        batch="any",
        outputs=(b.Output(names[-1], names[-1], (classes,), "logits" if len(names) == 1 else "probabilities"),),
        graphs={"head": b.Graph("head.onnx", 18, "image"), "tail": b.Graph("tail.onnx", 18, "activation")},
        files=b.file_records(contents),
    )
    path.mkdir(parents=True)
    for name, data in contents.items():
        (path / name).write_bytes(data)
    (path / b.MANIFEST).write_bytes(with_ports(manifest).to_bytes())
    return Explainer(path, backend, batch_size=batch_size)


def case(explainer: Explainer, x: Any, target: Any, heatmaps: Any, **more: Any) -> Case:
    """The maps of inputs x [n, ...] in the network's own layout, explained by ReciproCAM unless `method` says otherwise."""
    x = np.asarray(x, explainer.bundle.manifest.input.dtype)
    logits = explainer.predict(Prepared(x))
    method = more.pop("method", ("reciprocam", {}))
    return Case(explainer, method, x, logits, np.asarray(target), np.asarray(heatmaps, np.float32), **more)


def explained(explainer: Explainer, x: Any, target: Any = None, **more: Any) -> Case:
    """The same with the method's own maps."""
    x = np.asarray(x, explainer.bundle.manifest.input.dtype)
    name, options = more.get("method", ("reciprocam", {}))
    found = explainer.explain(Prepared(x), name, target, **options)
    return case(explainer, x, found.target, found.heatmap, **more)


def _model(
    nodes: list[onnx.NodeProto], inputs: list[Any], outputs: list[Any], constants: dict[str, NDArray[Any]]
) -> onnx.ModelProto:
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "linear", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model
