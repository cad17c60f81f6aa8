"""Relevance-CAM as a graph (Lee et al., CVPR 2021, equations 5 and 7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from ...relevance.composite import DEFAULT, load_composite
from .cam import weighted_sum
from .fused_method import fused
from .net import Net


@fused.register("relevance-cam")
@dataclass(frozen=True)
class RelevanceCam:
    """L = sum_k alpha_k A_k, alpha_k = mean_ij R_kij; relevance starts with 1 at the target, -1/n at all other classes.

    n is the number of classes.

    Attributes:
        composite: Name or .toml file of the rules.
        contrast: False starts with the target alone, as plain LRP does.
    """

    composite: str = DEFAULT
    contrast: bool = True

    input_sized: ClassVar[bool] = False
    at_pixels: ClassVar[bool] = False
    signed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        load_composite(self.composite)  # an invalid composite is refused before the network is read

    def raw(self, net: Net) -> ir.Value:
        """See `Fused.raw`."""
        others = -1 / net.compared if self.contrast and net.compared else 0.0
        relevance = net.relevance(load_composite(self.composite), from_image=False, others=others)
        return weighted_sum(net, net.op.ReduceMean(relevance, net.spatial, keepdims=0), net.activation)
