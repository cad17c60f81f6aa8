"""Operators that keep the sizes of their first input."""

from __future__ import annotations

from ..tensors import size_of
from .rules import Call, Known, exact, rule


@rule(
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Ceil", "Celu", "Clip", "Cos", "Cosh",
    "CumProd", "CumSum", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu", "GroupNormalization", "HardSigmoid",
    "HardSwish", "Hardmax", "Identity", "InstanceNormalization", "LayerNormalization", "LeakyRelu", "Log",
    "LogSoftmax", "LpNormalization", "MeanVarianceNormalization", "Mish", "Neg", "Not", "RMSNormalization",
    "Reciprocal", "Relu", "ReverseSequence", "RotaryEmbedding", "Round", "Scatter", "ScatterElements",
    "ScatterND", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softmax", "Softplus", "Softsign", "Sqrt",
    "SwiGLU", "Swish", "Tan", "Tanh", "TensorScatter", "ThresholdedRelu", "Trilu",
)  # fmt: skip
def same(call: Call) -> list[Known]:
    """All outputs have the input's sizes at most: also Dropout's mask and LayerNormalization's mean."""
    x = call[0]
    return [x.like(x.shape), *(Known(x.shape, x.size, exact=False) for _ in call.node.outputs[1:])]


@rule("BatchNormalization")
def batch_normalization(call: Call) -> list[Known]:
    x, scale = call[0], call[1]
    return [x.like(x.shape), *(scale.like(scale.shape) for _ in call.node.outputs[1:])]


@rule("IsInf", "IsNaN")
def is_what(call: Call) -> list[Known]:
    return [call[0].like(call[0].shape, 1)]


@rule("Cast")
def cast(call: Call) -> list[Known]:
    return [call[0].like(call[0].shape, size_of(call.number("to", 1)))]


@rule("CastLike")
def cast_like(call: Call) -> list[Known]:
    return [call[0].like(call[0].shape, call[1].size)]


@rule("QuantizeLinear")
def quantize(call: Call) -> list[Known]:
    return [call[0].like(call[0].shape, 2)]  # 16 bits at most


@rule("DynamicQuantizeLinear")
def dynamic_quantize(call: Call) -> list[Known]:
    return [call[0].like(call[0].shape, 1), Known((), 4), Known((), 1)]


@rule("DequantizeLinear")
def dequantize(call: Call) -> list[Known]:
    return [call[0].like(call[0].shape, max(4, call[0].size))]


@rule("EyeLike")
def eye_like(call: Call) -> list[Known]:
    return [Known(call[0].shape, 8, exact=exact(call[0]))]
