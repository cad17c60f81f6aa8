"""Networks for fused graphs: what stands behind the cut decides how a method is written, so there is one for each form."""

from __future__ import annotations

from collections.abc import Callable

import onnx

from tests.exporters import nets
from tests.exporters import onnx_nets as o

K, C = o.CHANNELS, nets.CLASSES
Tail = Callable[[o.Build, str], str]


def network(tail: Tail) -> onnx.ModelProto:
    """Two convolutions -> "layer", [N,6,8,10]; what a tail makes of it is called "scores"."""
    b = o.Build()
    return b.model(b("Identity", tail(b, b.features()), out="scores"))


def mlp(b: o.Build, x: str, activation: str = "Relu", hidden: int = 7) -> str:
    x = b(activation, b("Gemm", x, b.draw(K, hidden), b.draw(hidden)))
    return b("Gemm", x, b.draw(C, hidden), b.draw(C), transB=1)


def quarter(b: o.Build, x: str) -> str:
    """[N,6,8,10] -> [N,6,2,2]."""
    return b("AveragePool", x, kernel_shape=[4, 5], strides=[4, 5])


def bias_of_the_activation(b: o.Build, x: str) -> str:
    """The last layer's bias depends on the activation."""
    beside = b("Gemm", b("Flatten", b("GlobalMaxPool", x)), b.draw(K, C))
    return b("Gemm", b.pooled(x), b.draw(K, C), beside)


def rows_of_positions(b: o.Build, x: str) -> str:
    """Twelve classes: three at each of four positions."""
    x = b("Transpose", b("Reshape", quarter(b, x), b.weight([0, K, 4])), perm=[0, 2, 1])
    return b("Flatten", b("Add", b("MatMul", x, b.draw(K, 3)), b.draw(3)))


LINEAR: dict[str, Tail] = {
    "Gemm": lambda b, x: b.linear(b.pooled(x)),
    "Gemm, transposed, scaled; softmax": lambda b, x: b(
        "Softmax", b("Gemm", b.pooled(x), b.draw(C, K), b.draw(C), transB=1, alpha=-0.5)
    ),
    "MatMul, Add; sigmoid": lambda b, x: b("Sigmoid", b("Add", b("MatMul", b.pooled(x), b.draw(K, C)), b.draw(C))),
    "MatMul": lambda b, x: b("MatMul", b("ReduceMean", x, b.weight([2, 3]), keepdims=0), b.draw(K, C)),
    "convolution behind the pooling": lambda b, x: b("Flatten", b.conv(b("GlobalAveragePool", x), K, C, 1)),
    "channels last": lambda b, x: b(
        "MatMul", b("ReduceMean", b("Transpose", x, perm=[0, 2, 3, 1]), b.weight([1, 2]), keepdims=0), b.draw(K, C)
    ),
    "none": lambda b, x: b.pooled(x),
}
"""Pooling and at most one linear layer: CAM is defined."""

POOLED: dict[str, Tail] = {
    "hidden layer, ReLU": lambda b, x: mlp(b, b.pooled(x)),
    "hidden layer, HardSwish": lambda b, x: mlp(b, b.pooled(x), "HardSwish"),
    "hidden convolution": lambda b, x: b(
        "Flatten", b.conv(b("Relu", b.conv(b("GlobalAveragePool", x), K, 7, 1)), 7, C, 1)
    ),
    "hidden layer, channels last": lambda b, x: mlp(
        b, b("Flatten", b("ReduceMean", b("Transpose", x, perm=[0, 2, 3, 1]), b.weight([1, 2]), keepdims=1))
    ),
    "scaled logits": lambda b, x: b("Mul", b.linear(b.pooled(x)), b.draw(C)),
    "bias of the pooled": lambda b, x: b("Gemm", b.pooled(x), b.draw(K, C), b("Tanh", mlp(b, b.pooled(x)))),
}
"""Pooling first, then something else: ReciproCAM runs what follows the pooling at each position."""

OTHER: dict[str, Tail] = {
    "convolution before the pooling": lambda b, x: b("Flatten", b("GlobalAveragePool", b.conv(x, K, C, 1))),
    "convolutions, then pooling": lambda b, x: b.linear(b.pooled(b("Relu", b.conv(x, K, K)))),
    "flattened": lambda b, x: b("Gemm", b("Flatten", x), b.draw(K * 80, C), b.draw(C)),
    "maximum": lambda b, x: b.linear(b("Flatten", b("GlobalMaxPool", x))),
    "pooled, and read once more": lambda b, x: b.linear(b("Add", b.pooled(x), b("Flatten", b("GlobalMaxPool", x)))),
    "mean over rows": lambda b, x: b(
        "Gemm", b("Flatten", b("ReduceMean", x, b.weight([2]), keepdims=0)), b.draw(K * 10, C), b.draw(C)
    ),
    "mean over channels and columns": lambda b, x: b(
        "Gemm", b("Flatten", b("ReduceMean", x, b.weight([1, 3]), keepdims=1)), b.draw(8, C), b.draw(C)
    ),
    "a row of convolved positions": lambda b, x: b("Flatten", b.conv(quarter(b, x), K, 2, 1)),
    "a row of multiplied positions": rows_of_positions,
    "bias of the activation": bias_of_the_activation,
}
"""Anything else: ReciproCAM runs the whole tail at each position."""
