"""Gelu and its kin, with and without a bias."""

from __future__ import annotations

import math

import onnx_ir as ir

from ...graph.emit import Ops
from ..fused_node import FusedNode, rule


def gelu(op: Ops, x: ir.Value) -> ir.Value:
    """0.5 x (1 + erf(x / sqrt 2))."""
    return op.Mul(op.Mul(x, 0.5), op.Add(op.Erf(op.Div(x, math.sqrt(2.0))), 1.0))


def fast_gelu(op: Ops, x: ir.Value) -> ir.Value:
    """0.5 x (1 + tanh(0.797885 x + 0.035677 x^3)); ONNX Runtime's kernel has these constants in full: sqrt(2 / pi) and 0.044715."""
    inner = op.Mul(op.Add(op.Mul(op.Mul(op.Mul(x, x), x), 0.044715), x), math.sqrt(2.0 / math.pi))
    return op.Mul(op.Mul(x, 0.5), op.Add(op.Tanh(inner), 1.0))


def biased(op: Ops, node: FusedNode) -> ir.Value:
    """The first input plus the second, if there is one."""
    bias = node.optional(1)
    return node.x() if bias is None else op.Add(node.x(), bias)


@rule("com.microsoft.Gelu", "com.microsoft.BiasGelu")
def exact(op: Ops, node: FusedNode) -> ir.Value:
    """See `gelu`."""
    return gelu(op, biased(op, node))


@rule("com.microsoft.FastGelu")
def approximate(op: Ops, node: FusedNode) -> ir.Value:
    """See `fast_gelu`."""
    return fast_gelu(op, biased(op, node))


@rule("com.microsoft.GemmFastGelu")
def after_product(op: Ops, node: FusedNode) -> ir.Value:
    """`fast_gelu` of X W + bias."""
    product, bias = op.MatMul(node.x(), node.x(1)), node.optional(2)
    return fast_gelu(op, product if bias is None else op.Add(product, bias))


@rule("com.microsoft.QuickGelu")
def quick_gelu(op: Ops, node: FusedNode) -> ir.Value:
    """x sigmoid(alpha x)."""
    alpha = float(node.attr("alpha", 1.702))
    return op.Mul(node.x(), op.Sigmoid(node.x() if alpha == 1.0 else op.Mul(node.x(), alpha)))


@rule("Swish")
def swish(op: Ops, node: FusedNode) -> ir.Value:
    """x sigmoid(alpha x), with another default for alpha than QuickGelu has."""
    alpha = float(node.attr("alpha", 1.0))
    return op.Mul(node.x(), op.Sigmoid(node.x() if alpha == 1.0 else op.Mul(node.x(), alpha)))


@rule("com.microsoft.ScaledSiLU")
def scaled_silu(op: Ops, node: FusedNode) -> ir.Value:
    """z sigmoid(z), z = scale x; the scale is an input, or the attribute alpha."""
    z = op.Mul(node.x(), node.optional(1) or float(node.attr("alpha", 1.0)))
    return op.Mul(z, op.Sigmoid(z))


@rule("com.microsoft.BiasSplitGelu")
def split_gelu(op: Ops, node: FusedNode) -> ir.Value:
    """a gelu(b), where a and b are the halves of x + bias along the last axis."""
    x = op.Add(node.x(), node.x(1))
    half = node.dim(node.x(1), -1) // 2
    left, right = op.Slice(x, [0], [half], [-1]), op.Slice(x, [half], [2 * half], [-1])
    return op.Mul(left, gelu(op, right))


def activated(op: Ops, node: FusedNode, y: ir.Value, parameters: list[float]) -> ir.Value:
    """The activation that an attribute names, as in FusedConv and FusedGemm.

    Args:
        op: Writes the nodes.
        node: The fused node.
        y: What is activated.
        parameters: Alpha and beta, as far as the node has them.
    """
    name = node.attr("activation", "")
    given = dict(zip(("alpha", "beta"), parameters, strict=False))
    if name == "Clip":  # its parameters are the bounds
        if len(parameters) < 2:
            raise node.refuse("its activation Clip lacks its bounds")
        return op.Clip(y, *map(float, parameters[:2]))
    if name == "HardSwish":
        return op.Mul(y, op.HardSigmoid(y, alpha=1 / 6, beta=0.5))
    if name == "":
        return y
    takes = _ACTIVATIONS.get(name)
    if takes is None:
        raise node.refuse(f"its activation {name!r} is not known")
    result: ir.Value = getattr(op, name)(y, **{key: value for key, value in given.items() if key in takes})
    return result


_ACTIVATIONS: dict[str, tuple[str, ...]] = {
    "Relu": (), "Sigmoid": (), "Tanh": (), "Softplus": (), "Softsign": (), "LeakyRelu": ("alpha",), "Elu": ("alpha",),
    "ThresholdedRelu": ("alpha",), "HardSigmoid": ("alpha", "beta"), "Mish": (),
}  # fmt: skip
"""Activation -> its parameters, in order. They are operators of the same name."""


@rule("SwiGLU")
def swiglu(op: Ops, node: FusedNode) -> ir.Value:
    """`swish` of the first input, times the second (Shazeer 2020, arXiv:2002.05202)."""
    return op.Mul(swish(op, node), node.x(1))
