"""Score-CAM as a graph (Wang et al., CVPR-W 2020): every channel's masked image in one batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import onnx_ir as ir

from xai_deploy.format.bundle import LOGITS

from ...errors import GraphError
from .fused_method import fused
from .interpolation import resized
from .net import Net

MOST_CHANNELS = 64
"""Each channel is one more image in the network's batch. With more channels the graph would need gigabytes."""


@fused.register("score-cam")
@dataclass(frozen=True)
class ScoreCam:
    """L = ReLU(sum_k weight_k up(A_k)), weight_k = f(x * minmax(up(A_k)))_c; constant channels have weight 0.

    Attributes:
        score: f: the network's own "probability", its "logit", or the "softmax" of the logits.
    """

    score: Literal["probability", "logit", "softmax"] = "probability"

    input_sized: ClassVar[bool] = True
    at_pixels: ClassVar[bool] = False
    signed: ClassVar[bool] = False

    def raw(self, net: Net) -> ir.Value:
        """See `Fused.raw`."""
        channels, h, w = net.shape
        net.require_batch("all channels' masked images", net.material.whole, channels)
        if channels > MOST_CHANNELS:
            raise GraphError(
                f"it is one inference per channel, all in one batch: at most {MOST_CHANNELS} channels fit one graph, and "
                f"this layer has {channels}; run score-cam with the runtime engine, or fuse another method"
            )
        op, (height, width), spec = net.op, net.size, net.material.image
        net.plain()
        activation = net.activation
        up = resized(net.op, activation, (h, w), (height, width))  # [N,K,H,W]
        low = op.ReduceMin(up, [2, 3], keepdims=1)
        spread = op.Sub(op.ReduceMax(up, [2, 3], keepdims=1), low)
        # constant channels give masks of zeros, not 0/0
        masks = op.Div(op.Sub(up, low), op.Where(op.Greater(spread, 0.0), spread, 1.0))
        x = op.Unsqueeze(net.floats(net.x), [1])  # [N,1, ...]
        layered = op.Unsqueeze(masks, [1 + spec.channel_axis])  # [N,K,1,H,W], or [N,K,H,W,1] for NHWC
        inputs = net.as_input(op.Reshape(op.Mul(x, layered), [-1, *spec.image_shape]))
        beside = net.repeated(channels)
        between = net.add(net.material.parts.head, {str(net.image.name): inputs, **beside})
        start = net.explained(self.score)
        values = net.floats(net.add(net.tail, {**beside, **between})[start])
        scores = net.scored(self.score, values) if start == LOGITS else values
        of_class = op.MatMul(op.Reshape(scores, [-1, channels, net.classes]), op.Unsqueeze(net.unit, [2]))  # [N,K,1]
        flat = op.Reshape(activation, [-1, channels, h * w])
        varies = op.Greater(op.ReduceMax(flat, [2], keepdims=1), op.ReduceMin(flat, [2], keepdims=1))
        weights = op.Transpose(op.Where(varies, of_class, 0.0), perm=[0, 2, 1])  # [N,1,K]
        maps = op.Reshape(op.MatMul(weights, flat), [-1, h, w])
        # resizing is linear: the resized sum is the sum of the resized channels
        raw: ir.Value = op.Relu(resized(net.op, maps, (h, w), (height, width)))
        return raw
