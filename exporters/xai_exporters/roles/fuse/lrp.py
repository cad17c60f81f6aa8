"""LRP as a graph (Bach et al., PLoS ONE 2015)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from ...relevance.composite import DEFAULT, load_composite
from .fused_method import fused
from .gradient import Channels, over_channels
from .net import Net


@fused.register("lrp")
@dataclass(frozen=True)
class Lrp:
    """M = sum_c R_c at the pixels; relevance starts with the target's logit at the target, and 0 at all other classes.

    Attributes:
        composite: Name or .toml file of the rules.
        channels: How colours become one map, see `gradient.over_channels`.
    """

    composite: str = DEFAULT
    channels: Channels = "sum"

    input_sized: ClassVar[bool] = True
    at_pixels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        load_composite(self.composite)  # an invalid composite is refused before the network is read

    @property
    def signed(self) -> bool:
        """See `Fused`; magnitudes have no sign."""
        return self.channels == "sum"

    def raw(self, net: Net) -> ir.Value:
        """See `Fused.raw`."""
        relevance = net.relevance(load_composite(self.composite), from_image=True, times_logits=True)
        return over_channels(net, relevance, self.channels)
