"""The gradient at the pixels as a graph (Simonyan et al. 2013, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import onnx_ir as ir

from xai_deploy.format.bundle import GRADIENT

from .fused_method import fused
from .net import Net

Channels = Literal["max-abs", "sum-abs", "sum"]


def over_channels(net: Net, values: ir.Value, channels: Channels) -> ir.Value:
    """Values of the input's shape as maps [N,H,W].

    Over the colours, take the largest magnitude ("max-abs"), the sum of the magnitudes ("sum-abs") or the signed sum ("sum").
    """
    op, first = net.op, net.channels_first(values)
    maps: ir.Value
    match channels:
        case "max-abs":
            maps = op.ReduceMax(op.Abs(first), [1], keepdims=0)
        case "sum-abs":
            maps = op.ReduceSum(op.Abs(first), [1], keepdims=0)
        case "sum":
            maps = op.ReduceSum(first, [1], keepdims=0)
    return maps


@fused.register("gradient")
@dataclass(frozen=True)
class Gradient:
    """M = max_c |dy/dx_c|.

    Attributes:
        channels: How colours become one map, see `over_channels`.
    """

    channels: Channels = "max-abs"

    input_sized: ClassVar[bool] = True
    at_pixels: ClassVar[bool] = True

    @property
    def signed(self) -> bool:
        """See `Fused`; magnitudes have no sign."""
        return self.channels == "sum"

    def raw(self, net: Net) -> ir.Value:
        """See `Fused.raw`."""
        net.tensors = net.gradient_at(net.x)
        return over_channels(net, net.floats(net.tensors[GRADIENT]), self.channels)
