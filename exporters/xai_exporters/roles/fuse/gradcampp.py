"""Grad-CAM++ as a graph (Chattopadhyay et al., WACV 2018, equation 19)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from .cam import weighted_sum
from .fused_method import fused
from .net import Net


@fused.register("grad-cam++")
@dataclass(frozen=True)
class GradCamPlusPlus:
    """L = ReLU(sum_k w_k A_k), w_k = sum_ij alpha_kij ReLU(g_kij), alpha = 1 / (2 + (sum_ab A_kab) g).

    This is the authors' form with g^2 cancelled, as in the runtime's method. alpha is 0 where the denominator is 0.
    """

    input_sized: ClassVar[bool] = False
    at_pixels: ClassVar[bool] = False
    signed: ClassVar[bool] = False

    def raw(self, net: Net) -> ir.Value:
        """See `Fused.raw`."""
        op = net.op
        g, activation = net.gradient(), net.activation
        # the denominator of alpha
        below = op.Add(op.Mul(g, op.ReduceSum(activation, net.spatial, keepdims=1)), 2.0)
        zero = op.Equal(below, 0.0)  # the inner Where avoids a division by 0
        shares = op.Where(zero, 0.0, op.Div(op.Relu(g), op.Where(zero, 1.0, below)))
        weights = op.ReduceSum(shares, net.spatial, keepdims=0)
        raw: ir.Value = op.Relu(weighted_sum(net, weights, activation))
        return raw
