"""HiResCAM as a graph (Draelos & Carin 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from .fused_method import fused
from .net import Net


@fused.register("hires-cam")
@dataclass(frozen=True)
class HiResCam:
    """L = ReLU(sum_k g_k * A_k), elementwise."""

    input_sized: ClassVar[bool] = False
    at_pixels: ClassVar[bool] = False
    signed: ClassVar[bool] = False

    def raw(self, net: Net) -> ir.Value:
        """See `Fused.raw`."""
        op = net.op
        raw: ir.Value = op.Relu(op.ReduceSum(op.Mul(net.gradient(), net.activation), [1], keepdims=0))
        return raw
