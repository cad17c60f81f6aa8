"""Activations."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from ....graph.emit import Ops
from ..layer import Layer, rule

_SAME = {
    "Relu": "Relu",
    "Sigmoid": "Sigmoid",
    "Tanh": "Tanh",
    "SoftPlus": "Softplus",
    "SoftSign": "Softsign",
    "HSwish": "HardSwish",
    "Mish": "Mish",
}


def same(op: Ops, layer: Layer) -> ir.Value:
    """The operator of the same meaning in ONNX."""
    return getattr(op, _SAME[layer.type])(layer.x())  # type: ignore[no-any-return]


for _type in _SAME:
    rule(_type)(same)


@rule("PRelu")
def prelu(op: Ops, layer: Layer) -> ir.Value:
    """x, or slope * x below 0. OpenVINO's slope of one dimension goes along axis 1; a single slope is LeakyRelu."""
    slope = layer.require(1, "slopes")
    if slope.size == 1:
        return op.LeakyRelu(layer.x(), alpha=float(slope.ravel()[0]))
    if slope.ndim == 1 and len(layer.dims()) > 1 and layer.dims()[1] == slope.size:
        slope = slope.reshape(-1, *(1,) * (len(layer.dims()) - 2))
    return op.PRelu(layer.x(), slope)


@rule("Elu")
def elu(op: Ops, layer: Layer) -> ir.Value:
    """x, or alpha (exp(x) - 1) below 0."""
    return op.Elu(layer.x(), alpha=float(layer.attr("alpha")))


@rule("Selu")
def selu(op: Ops, layer: Layer) -> ir.Value:
    """gamma * (x, or alpha (exp(x) - 1) below 0)."""
    alpha, gamma = (float(layer.require(i, "factors").ravel()[0]) for i in (1, 2))
    return op.Selu(layer.x(), alpha=alpha, gamma=gamma)


@rule("Gelu")
def gelu(op: Ops, layer: Layer) -> ir.Value:
    """x Phi(x) with Phi from erf, or from tanh (Hendrycks and Gimpel 2016): opset 18 has no Gelu."""
    x = layer.x()
    if str(layer.attr("approximation_mode", "ERF")).upper() == "ERF":
        inside = op.Erf(op.Mul(x, math.sqrt(0.5)))
    else:
        cube = op.Mul(op.Mul(x, x), x)
        inside = op.Tanh(op.Mul(op.Add(x, op.Mul(cube, 0.044715)), math.sqrt(2 / math.pi)))
    return op.Mul(op.Mul(x, 0.5), op.Add(inside, 1.0))


@rule("Swish")
def swish(op: Ops, layer: Layer) -> ir.Value:
    """x sigmoid(beta x)."""
    x = layer.x()
    beta = float(layer.require(1, "beta").ravel()[0]) if len(layer) > 1 else 1.0
    return op.Mul(x, op.Sigmoid(x if beta == 1 else op.Mul(x, np.float32(beta))))


@rule("HSigmoid")
def hsigmoid(op: Ops, layer: Layer) -> ir.Value:
    """min(max(x + 3, 0), 6) / 6."""
    return op.HardSigmoid(layer.x(), alpha=1 / 6, beta=0.5)


@rule("HardSigmoid")
def hard_sigmoid(op: Ops, layer: Layer) -> ir.Value:
    """max(0, min(1, alpha x + beta))."""
    alpha, beta = (float(layer.require(i, "factors").ravel()[0]) for i in (1, 2))
    return op.HardSigmoid(layer.x(), alpha=alpha, beta=beta)


@rule("Softmax")
def softmax(op: Ops, layer: Layer) -> ir.Value:
    """exp(x) / sum exp(x) along an axis."""
    return op.Softmax(layer.x(), axis=layer.axis(int(layer.attr("axis"))))


@rule("LogSoftmax")
def log_softmax(op: Ops, layer: Layer) -> ir.Value:
    """x - log sum exp(x) along an axis."""
    return op.LogSoftmax(layer.x(), axis=layer.axis(int(layer.attr("axis"))))
