"""XGrad-CAM as a graph (Fu et al., BMVC 2020, equation 8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from .cam import weighted_sum
from .fused_method import fused
from .net import Net


@fused.register("xgrad-cam")
@dataclass(frozen=True)
class XGradCam:
    """L = ReLU(sum_k w_k A_k), w_k = sum_ij g_kij A_kij / sum_ij A_kij; 0 where the denominator is 0."""

    input_sized: ClassVar[bool] = False
    at_pixels: ClassVar[bool] = False
    signed: ClassVar[bool] = False

    def raw(self, net: Net) -> ir.Value:
        """See `Fused.raw`."""
        op = net.op
        g, activation = net.gradient(), net.activation
        above = op.ReduceSum(op.Mul(g, activation), net.spatial, keepdims=0)
        total = op.ReduceSum(activation, net.spatial, keepdims=0)
        zero = op.Equal(total, 0.0)  # the inner Where avoids a division by 0
        weights = op.Where(zero, 0.0, op.Div(above, op.Where(zero, 1.0, total)))
        raw: ir.Value = op.Relu(weighted_sum(net, weights, activation))
        return raw
