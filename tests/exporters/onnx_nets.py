"""Tiny ONNX networks in the styles of several exporters, and a builder for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from .nets import CLASSES, SHAPE, SIZE

Array = NDArray[Any]
FLOAT, UINT8 = TensorProto.FLOAT, TensorProto.UINT8
CHANNELS = 6


class Build:
    """Collects nodes and weights; names are chosen here unless given."""

    def __init__(self, opset: int = 18, seed: int = 0) -> None:
        self.opset = opset
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.rng = np.random.default_rng(seed)

    def __call__(
        self, op: str, *inputs: str, out: str = "", name: str = "", domain: str = "", **attributes: Any
    ) -> str:
        """Add a node; returns its output."""
        name = name or f"{op.lower()}_{len(self.nodes)}"
        out = out or f"{name}_out"
        self.nodes.append(helper.make_node(op, list(inputs), [out], name=name, domain=domain, **attributes))
        return out

    def weight(self, value: Any, name: str = "") -> str:
        """Register an initializer; integers become int64."""
        array = np.asarray(value)
        if array.dtype.kind == "i" and array.dtype.itemsize != 1:
            array = array.astype(np.int64)
        name = name or f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def draw(self, *shape: int) -> str:
        """A weight of small normal numbers."""
        fan = int(np.prod(shape[1:])) if len(shape) > 1 else 4
        return self.weight((self.rng.standard_normal(shape) / np.sqrt(fan)).astype(np.float32))

    def conv(self, x: str, channels: int, out: int, kernel: int = 3, name: str = "", **attributes: Any) -> str:
        """A convolution with bias, padded to keep the size at stride 1."""
        pad = kernel // 2
        return self(
            "Conv", x, self.draw(out, channels, kernel, kernel), self.draw(out), name=name, pads=[pad] * 4, **attributes
        )

    def features(self, x: str = "image") -> str:
        """Two convolutions with ReLU: [N,3,16,20] -> "layer_out" [N,6,8,10]."""
        x = self("Relu", self.conv(x, 3, 4, strides=[2, 2]))
        return self("Relu", self.conv(x, 4, CHANNELS), name="layer")

    def pooled(self, x: str) -> str:
        """Global average pooling and Flatten: [N,6]."""
        return self("Flatten", self("GlobalAveragePool", x))

    def linear(self, x: str, **names: str) -> str:
        """[N,6] -> [N,5] by Gemm."""
        return self("Gemm", x, self.draw(CHANNELS, CLASSES), self.draw(CLASSES), **names)

    def model(
        self,
        *outputs: str,
        shape: Sequence[Any] = ("N", *SHAPE),
        dtype: int = FLOAT,
        image: str = "image",
        ranks: Mapping[str, tuple[int, Sequence[Any]]] | None = None,
        ir_version: int = 8,
        **options: Any,
    ) -> onnx.ModelProto:
        """The model; an output is float [n,m] unless `ranks` says (type, shape)."""
        ranks = ranks or {}
        imports = [helper.make_opsetid("", self.opset), *options.pop("imports", [])]
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info(image, dtype, shape), *options.pop("more_inputs", [])],
            [helper.make_tensor_value_info(o, *ranks.get(o, (FLOAT, ("n", "m")))) for o in outputs],
            self.weights,
        )
        return helper.make_model(graph, opset_imports=imports, ir_version=ir_version, **options)


def classifier(opset: int = 18, **options: Any) -> onnx.ModelProto:
    """Convolutions, global pooling, Gemm."""
    b = Build(opset)
    return b.model(b.linear(b.pooled(b.features()), out="scores"), **options)


def residual() -> onnx.ModelProto:
    """A block whose shortcut passes beside it, in the names of torch's older exporter."""
    b = Build()
    stem = b("Relu", b.conv("image", 3, 4, name="/stem/Conv", strides=[2, 2]), name="/Relu")
    inner = b("Relu", b.conv(stem, 4, 4, name="/layer1/layer1.0/conv1/Conv"), name="/layer1/layer1.0/relu/Relu")
    added = b("Add", b.conv(inner, 4, 4, name="/layer1/layer1.0/conv2/Conv"), stem, name="/layer1/layer1.0/Add")
    last = b("Relu", b.conv(added, 4, CHANNELS, name="/layer2/conv/Conv"), name="/layer2/relu/Relu")
    pooled = b("Flatten", b("GlobalAveragePool", last, name="/avgpool/GlobalAveragePool"), name="/Flatten")
    return b.model(b.linear(pooled, name="/fc/Gemm", out="output"))


def keras() -> onnx.ModelProto:
    """As tf2onnx writes: NHWC input, Transpose, Squeeze, MatMul and Add, Softmax."""
    b = Build(13)
    x = b("Transpose", "image", name="model/conv1/Conv2D__6", perm=[0, 3, 1, 2])
    x = b("GlobalAveragePool", b.features(x), name="model/pool/Mean")
    x = b("Squeeze", x, b.weight([2, 3]))
    x = b("Add", b("MatMul", x, b.draw(CHANNELS, CLASSES)), b.draw(CLASSES))
    return b.model(b("Softmax", x, out="predictions"), shape=("batch", *SIZE, 3))


def channels_last() -> onnx.ModelProto:
    """[N,h,w,K] in the middle: LayerNormalization, MatMul, Relu, ReduceMean over positions."""
    b = Build()
    x = b("Transpose", b.features(), perm=[0, 2, 3, 1])
    x = b("LayerNormalization", x, b.draw(CHANNELS), b.draw(CHANNELS), name="norm", axis=-1)
    x = b("Relu", b("Add", b("MatMul", x, b.draw(CHANNELS, CHANNELS)), b.draw(CHANNELS)), name="tokens")
    x = b("ReduceMean", x, b.weight([1, 2]), keepdims=0)
    return b.model(b("MatMul", x, b.draw(CHANNELS, CLASSES), out="scores"))


def quantised(end: str = "softmax") -> onnx.ModelProto:
    """uint8 in and out: a QDQ network with its probability function, if any, before the last QuantizeLinear."""
    b = Build(13)

    def quantised_again(x: str, scale: float, zero: int, out: str = "") -> str:
        s, z = b.weight(np.float32(scale)), b.weight(np.uint8(zero))
        q = b("QuantizeLinear", x, s, z, out=out)
        return q if out else b("DequantizeLinear", q, s, z)

    x = b("DequantizeLinear", "image", b.weight(np.float32(1 / 128)), b.weight(np.uint8(128)))
    x = quantised_again(b("Relu", b.conv(x, 3, 4, strides=[2, 2])), 0.02, 3)
    x = quantised_again(b("Relu", b.conv(x, 4, CHANNELS)), 0.02, 3)
    x = quantised_again(b.linear(b.pooled(x)), 0.02, 128)
    if end == "softmax":
        x = b("Softmax", x)
    quantised_again(x, 1 / 256 if end == "softmax" else 0.02, 0 if end == "softmax" else 128, "out")
    return b.model("out", dtype=UINT8, ranks={"out": (UINT8, ("n", CLASSES))})


def class_token() -> onnx.ModelProto:
    """A fixed batch of 1: a class token of batch 1 is concatenated to the patches."""
    b = Build()
    x = b("Reshape", b.features(), b.weight([1, CHANNELS, 80]))
    x = b("Concat", b.weight(np.ones((1, CHANNELS, 1), np.float32)), x, axis=2)
    x = b("ReduceMean", x, b.weight([2]), keepdims=0)
    return b.model(b.linear(x, out="scores"), shape=(1, *SHAPE))


def folded_by_batch(batch: int = 1, flatten: bool = False, infer: bool = False) -> onnx.ModelProto:
    """A fixed batch that can be made symbolic: Reshape to [batch,C], or Flatten."""
    b = Build()
    x = b("GlobalAveragePool", b.features())
    shape = [batch, -1] if infer else [batch, CHANNELS]
    x = b("Flatten", x) if flatten else b("Reshape", x, b.weight(shape))
    return b.model(b.linear(x, out="scores"), shape=(batch, *SHAPE), ranks={"scores": (FLOAT, (batch, CLASSES))})


def shape_flatten() -> onnx.ModelProto:
    """x.view(x.size(0), -1) as torch's exporters write it: Shape, Gather, Unsqueeze, Concat, Reshape; Constant nodes."""
    b = Build()

    def constant(value: Any) -> str:
        return b("Constant", value=numpy_helper.from_array(np.asarray(value, np.int64)))

    x = b("GlobalAveragePool", b.features())
    size = b("Gather", b("Shape", x), constant(0), axis=0)
    shape = b("Concat", b("Unsqueeze", size, constant([0])), constant([-1]), axis=0)
    return b.model(b.linear(b("Reshape", x, shape), out="scores"))


def initializers_as_inputs() -> onnx.ModelProto:
    """ir_version 3: every initializer is listed as an input, too."""
    model = classifier(opset=11, ir_version=3)
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return model


def with_function(opset: int = 18) -> onnx.ModelProto:
    """The pooling is a function of the model; in opset 17 it reduces over axes given as an attribute."""
    b = Build(opset)
    x = b("Pool", b.features(), name="pool", domain="house")
    body = [helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)]
    if opset >= 18:
        axes = helper.make_node("Constant", [], ["axes"], value_ints=[2, 3])
        body = [axes, helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=0)]
    imports = [helper.make_opsetid("", opset)]
    function = helper.make_function("house", "Pool", ["x"], ["y"], body, imports)
    return b.model(b.linear(x, out="scores"), functions=[function], imports=[helper.make_opsetid("house", 1)])
