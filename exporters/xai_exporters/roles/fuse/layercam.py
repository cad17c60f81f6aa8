"""LayerCAM as a graph (Jiang et al., IEEE TIP 2021, equation 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from .fused_method import fused
from .net import Net


@fused.register("layer-cam")
@dataclass(frozen=True)
class LayerCam:
    """L = ReLU(sum_k ReLU(g_k) * A_k), elementwise."""

    input_sized: ClassVar[bool] = False
    at_pixels: ClassVar[bool] = False
    signed: ClassVar[bool] = False

    def raw(self, net: Net) -> ir.Value:
        """See `Fused.raw`."""
        op = net.op
        raw: ir.Value = op.Relu(op.ReduceSum(op.Mul(op.Relu(net.gradient()), net.activation), [1], keepdims=0))
        return raw
