"""Activation functions y = f(x): dx = dy f'(x), computed from the output y if y determines the derivative.

A rule that reads y instead of x gives x no further reader: runtimes fuse an activation into the convolution before it only
if nothing else reads the tensor between them. At a kink the derivative is torch's: 0 for Relu at 0 and for Clip at its bounds.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from ..backward.rules import Step
from ..graph.emit import Ops
from .mask import masked, positive
from .table import vjp


@vjp("Relu", finite=True)
def relu(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """dx = dy where y > 0."""
    return masked(op, step, positive(op, step.y), dy)


@vjp("LeakyRelu", finite=True)
def leaky_relu(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """dx = dy where x > 0, alpha dy elsewhere."""
    return op.Where(op.Greater(step.x, 0.0), dy, op.Mul(dy, float(step.attr("alpha", 0.01))))


@vjp("ThresholdedRelu", finite=True)
def thresholded_relu(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """dx = dy where x > alpha."""
    return masked(op, step, op.Greater(step.x, float(step.attr("alpha", 1.0))), dy)


@vjp("Shrink", finite=True)
def shrink(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y = x + bias below -lambd, x - bias above lambd, else 0: dx = dy where |x| > lambd."""
    return masked(op, step, op.Greater(op.Abs(step.x), float(step.attr("lambd", 0.5))), dy)


@vjp("PRelu", broadcasts=True, finite=True)
def prelu(op: Ops, step: Step, dy: ir.Value) -> list[ir.Value]:
    """y = x where x > 0, slope x elsewhere."""
    x, slope = step.x, step.input(1)
    positive = op.Greater(x, 0.0)
    # dx, and dslope = dy x where x <= 0; the walker sums dslope down to the shape of the slope
    return [op.Where(positive, dy, op.Mul(dy, slope)), op.Where(positive, 0.0, op.Mul(dy, x))]


@vjp("Elu", finite=True)
def elu(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y = alpha (e^x - 1) for x <= 0, so y' = y + alpha."""
    alpha = float(step.attr("alpha", 1.0))
    return op.Mul(dy, op.Where(op.Greater(step.x, 0.0), 1.0, op.Add(step.y, alpha)))


@vjp("Celu")
def celu(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y = alpha (e^(x/alpha) - 1) for x <= 0, so y' = y/alpha + 1."""
    alpha = float(step.attr("alpha", 1.0))
    return op.Mul(dy, op.Where(op.Greater(step.x, 0.0), 1.0, op.Add(op.Div(step.y, alpha), 1.0)))


@vjp("Selu")
def selu(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y = gamma x for x > 0, gamma alpha (e^x - 1) elsewhere, so y' = y + gamma alpha."""
    alpha = float(step.attr("alpha", 1.67326319217681884765625))
    gamma = float(step.attr("gamma", 1.05070102214813232421875))
    return op.Mul(dy, op.Where(op.Greater(step.x, 0.0), gamma, op.Add(step.y, gamma * alpha)))


@vjp("Sigmoid", finite=True)
def sigmoid(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y' = y (1 - y)."""
    return op.Mul(dy, op.Mul(step.y, op.Sub(1.0, step.y)))


@vjp("HardSigmoid", finite=True)
def hard_sigmoid(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y = clip(alpha x + beta, 0, 1): y' = alpha where 0 < y < 1."""
    # y is strictly between the bounds exactly where x was not clipped
    inside = op.And(positive(op, step.y), op.Less(step.y, 1.0))
    return masked(op, step, inside, op.Mul(dy, float(step.attr("alpha", 0.2))))


@vjp("HardSwish", finite=True)
def hard_swish(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y = x clip(x/6 + 1/2, 0, 1): y' = x/3 + 1/2 where -3 < x < 3, 0 below, 1 above."""
    x = step.x
    slope = op.Where(op.Less(x, 3.0), op.Add(op.Div(x, 3.0), 0.5), 1.0)
    return masked(op, step, op.Greater(x, -3.0), op.Mul(dy, slope))


@vjp("Tanh", finite=True)
def tanh(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y' = 1 - y^2."""
    return op.Mul(dy, op.Sub(1.0, op.Mul(step.y, step.y)))


@vjp("Softplus", finite=True)
def softplus(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y = log(1 + e^x): y' = sigmoid(x)."""
    return op.Mul(dy, op.Sigmoid(step.x))


@vjp("Softsign", finite=True)
def softsign(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y = x / (1 + |x|): y' = (1 - |y|)^2."""
    root = op.Sub(1.0, op.Abs(step.y))  # 1 - |y| = 1 / (1 + |x|)
    return op.Mul(dy, op.Mul(root, root))


@vjp("Mish")
def mish(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y = x t, t = tanh(softplus(x)): y' = t + x sigmoid(x) (1 - t^2)."""
    x = step.x
    t = op.Tanh(op.Softplus(x))
    return op.Mul(dy, op.Add(t, op.Mul(op.Mul(x, op.Sigmoid(x)), op.Sub(1.0, op.Mul(t, t)))))


@vjp("Swish", finite=True)
def swish(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y = x s, s = sigmoid(alpha x): y' = s + alpha y (1 - s)."""
    alpha = float(step.attr("alpha", 1.0))
    s = op.Sigmoid(op.Mul(step.x, alpha))
    return op.Mul(dy, op.Add(s, op.Mul(op.Mul(step.y, alpha), op.Sub(1.0, s))))


@vjp("Erf", finite=True)
def erf(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y' = 2/sqrt(pi) e^(-x^2)."""
    slope = op.Mul(op.Exp(op.Neg(op.Mul(step.x, step.x))), 2 / math.sqrt(math.pi))
    return op.Mul(dy, slope)


@vjp("Gelu", finite=True)
def gelu(op: Ops, step: Step, dy: ir.Value) -> ir.Value:
    """y = x Phi(x): y' = Phi(x) + x phi(x), with the normal distribution's Phi(x) = (1 + erf(x/sqrt(2)))/2.

    approximate="tanh": y = x (1 + t)/2, t = tanh(c (x + 0.044715 x^3)), c = sqrt(2/pi):
    y' = (1 + t)/2 + x (1 - t^2) c (1 + 3 * 0.044715 x^2)/2. There x^2 is clipped at 100, because |t| is 1 to any
    precision beyond that: float16 overflows at |x| = 256, and 0 times infinity is NaN.
    """
    x = step.x
    square = op.Mul(x, x)
    if step.attr("approximate", "none") == "tanh":
        square = op.Min(square, 100.0)
        c = math.sqrt(2 / math.pi)
        t = op.Tanh(op.Mul(op.Mul(x, op.Add(op.Mul(square, 0.044715), 1.0)), c))
        # half the derivative of the argument of tanh
        inner = op.Mul(op.Add(op.Mul(square, 3 * 0.044715), 1.0), c / 2)
        slope = op.Add(op.Mul(op.Add(t, 1.0), 0.5), op.Mul(op.Mul(x, op.Sub(1.0, op.Mul(t, t))), inner))
    else:
        distribution = op.Mul(op.Add(op.Erf(op.Mul(x, math.sqrt(0.5))), 1.0), 0.5)
        density = op.Mul(op.Exp(op.Mul(square, -0.5)), 1 / math.sqrt(2 * math.pi))
        slope = op.Add(distribution, op.Mul(x, density))
    return op.Mul(dy, slope)
