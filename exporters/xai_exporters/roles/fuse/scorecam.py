"""Score-CAM as a graph (Wang et al., CVPR-W 2020): the channels' masked images in one batch, all of them or some."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import onnx_ir as ir

from xai_deploy.errors import OptionError
from xai_deploy.format.bundle import LOGITS

from ...errors import GraphError
from .batch import require_batch
from .few_channels import Few
from .fused_method import fused
from .interpolation import resized
from .net import Net

MOST_CHANNELS = 64
"""Each channel is one more image in the network's batch. With more channels the graph would need gigabytes."""
FEWEST = 16
"""From fewer channels the scores of the others can't be told: the engine's least budget, too."""


@fused.register("score-cam")
@dataclass(frozen=True)
class ScoreCam:
    """L = ReLU(sum_k weight_k up(A_k)), weight_k = f(x * minmax(up(A_k)))_c; constant channels have weight 0.

    Attributes:
        score: f: the network's own "probability", its "logit", or the "softmax" of the logits.
        budget: How many channels are scored, 16 to 64; the scores of the others are interpolated, see `few_channels`. None: all.
    """

    score: Literal["probability", "logit", "softmax"] = "probability"
    budget: int | None = None

    input_sized: ClassVar[bool] = True
    at_pixels: ClassVar[bool] = False
    signed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.budget is not None and not FEWEST <= self.budget <= MOST_CHANNELS:
            raise OptionError(
                f"score-cam: the budget of a graph is {FEWEST} to {MOST_CHANNELS} channels, not {self.budget}"
            )

    def raw(self, net: Net) -> ir.Value:
        """See `Fused.raw`."""
        channels, *places = net.shape
        scored = min(channels, self.budget or channels)
        require_batch(net, "the masked images of its channels", net.material.whole, scored)
        if scored > MOST_CHANNELS:
            raise GraphError(
                f"it is one inference per channel, all in one batch: at most {MOST_CHANNELS} channels fit one graph, and "
                f"this layer has {channels}; give score-cam:budget={MOST_CHANNELS}, which interpolates the others' scores, run "
                "score-cam with the runtime engine, or fuse another method"
            )
        op = net.op
        net.plain()
        flat = op.Reshape(net.activation, [-1, channels, math.prod(places)])
        varies = op.Greater(op.ReduceMax(flat, [2], keepdims=1), op.ReduceMin(flat, [2], keepdims=1))  # [N,K,1]
        if scored == channels:
            of_class = self._scores(net, net.activation, channels)
        else:
            few = Few(op, flat, varies, (channels, scored))
            chosen = op.Reshape(op.MatMul(few.chosen, flat), [-1, scored, *places])
            of_class = few.all_scores(self._scores(net, chosen, scored), roots=self._never_negative(net))
        weights = op.Transpose(op.Where(varies, of_class, 0.0), perm=[0, 2, 1])  # [N,1,K]
        maps = op.Reshape(op.MatMul(weights, flat), [-1, *places])
        # resizing is linear: the resized sum is the sum of the resized channels
        raw: ir.Value = op.Relu(resized(op, maps, tuple(places), net.size))
        return raw

    def _scores(self, net: Net, maps: ir.Value, count: int) -> ir.Value:
        """The score explained of the image under the masks of maps [N,count,h,w], [N,count,1]."""
        op, spec = net.op, net.material.image
        up = resized(op, maps, net.shape[1:], net.size, before=2)  # [N,count,H,W]
        low = op.ReduceMin(up, net.spatial, keepdims=1)
        spread = op.Sub(op.ReduceMax(up, net.spatial, keepdims=1), low)
        # constant channels give masks of zeros, not 0/0
        masks = op.Div(op.Sub(up, low), op.Where(op.Greater(spread, 0.0), spread, 1.0))
        x = op.Unsqueeze(net.floats(net.x), [1])  # [N,1, ...]
        layered = op.Unsqueeze(masks, [1 + spec.channel_axis])  # [N,count,1,H,W], or [N,count,H,W,1] for NHWC
        inputs = net.as_input(op.Reshape(op.Mul(x, layered), [-1, *spec.image_shape]))
        beside = net.repeated(count)
        between = net.add(net.material.parts.head, {str(net.image.name): inputs, **beside})
        start = net.explained(self.score)
        values = net.floats(net.add(net.tail, {**beside, **between})[start])
        scores = net.scored(self.score, values) if start == LOGITS else values
        explained: ir.Value = op.MatMul(op.Reshape(scores, [-1, count, net.entries]), op.Unsqueeze(net.unit, [2]))
        return explained

    def _never_negative(self, net: Net) -> bool:
        if net.versus is not None:  # a difference of probabilities
            return False
        return self.score == "softmax" or (self.score == "probability" and net.material.logits.scores.kind != "vector")
