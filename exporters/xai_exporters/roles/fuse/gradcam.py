"""Grad-CAM as a graph (Selvaraju et al., ICCV 2017, equations 1 and 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from .cam import weighted_sum
from .fused_method import fused
from .net import Net


@fused.register("grad-cam")
@dataclass(frozen=True)
class GradCam:
    """L = ReLU(sum_k w_k A_k), w_k = mean_ij g_kij."""

    input_sized: ClassVar[bool] = False
    at_pixels: ClassVar[bool] = False
    signed: ClassVar[bool] = False

    def raw(self, net: Net) -> ir.Value:
        """See `Fused.raw`."""
        op = net.op
        weights = op.ReduceMean(net.gradient(), net.spatial, keepdims=0)  # [N,K]
        raw: ir.Value = op.Relu(weighted_sum(net, weights, net.activation))
        return raw
