"""Integrated gradients as a graph (Sundararajan et al., ICML 2017, equation 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import onnx_ir as ir

from xai_deploy.errors import OptionError
from xai_deploy.format.bundle import GRADIENT

from ...errors import GraphError
from .batch import require_batch
from .fused_method import fused
from .gradient import Channels, over_channels
from .net import Net


@fused.register("integrated-gradients")
@dataclass(frozen=True)
class IntegratedGradients:
    """M = sum_c (x - x0)_c int_0^1 dy/dx_c(x0 + a (x - x0)) da by Gauss-Legendre quadrature.

    All steps are one batch of the network, so that memory grows with their number.

    Attributes:
        steps: Number of points on the path, at least 1.
        baseline: x0: "zeros" of the network's input, or a "black" image.
        channels: How colours become one map; only "sum" is complete (adds up to the difference of the outputs).
    """

    steps: int = 50
    baseline: Literal["zeros", "black"] = "zeros"
    channels: Channels = "sum"

    input_sized: ClassVar[bool] = True
    at_pixels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise OptionError(f"integrated-gradients: steps are at least 1, not {self.steps}")

    @property
    def signed(self) -> bool:
        """See `Fused`; magnitudes have no sign."""
        return self.channels == "sum"

    def raw(self, net: Net) -> ir.Value:
        """See `Fused.raw`."""
        op, spec, steps = net.op, net.material.image, self.steps
        if spec.dtype == "uint8":
            raise GraphError(
                "the network takes uint8 images, and this method needs values between integers; export it with a float input"
            )
        require_batch(net, "all steps", net.material.whole, steps)
        net.plain()  # gives the network's outputs and the predicted class
        nodes, shares = np.polynomial.legendre.leggauss(steps)
        points, shares = ((nodes + 1) / 2).astype(np.float32), (shares / 2).astype(np.float32)  # from [-1,1] to [0,1]
        black = spec.preprocess.ends()[0].astype(np.float32)
        color = black if self.baseline == "black" else np.zeros_like(black)
        start = spec.per_channel(color)
        along = (steps, *[1] * (1 + len(spec.image_shape)))
        change = op.Sub(net.floats(net.x), start)  # [N, ...]
        # [steps,N, ...]: the points x0 + a (x - x0)
        way = op.Add(op.Mul(op.Unsqueeze(change, [0]), points.reshape(along)), start[None])
        inputs = net.as_input(op.Reshape(way, [-1, *spec.image_shape]))
        gradient = net.floats(net.gradient_at(inputs, steps)[GRADIENT])  # of the image's own class at all of its points
        weighted = op.Mul(op.Reshape(gradient, [steps, -1, *spec.image_shape]), shares.reshape(along))
        return over_channels(net, op.Mul(op.ReduceSum(weighted, [0], keepdims=0), change), self.channels)
