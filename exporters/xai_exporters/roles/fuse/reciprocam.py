"""ReciproCAM as a graph (Byun & Lee, 2022, arXiv:2209.14074): with as little of the tail per position as its form allows."""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from xai_deploy.format.bundle import LOGITS, WHERE

from ...errors import GraphError
from ...graph.measure import Measured, measure
from ...graph.writing import IR_VERSION
from ..material import Material
from ..pixelwise import find_linear, find_pooled
from .batch import MOST_BYTES, require_batch
from .cam import all_class_scores, class_scores
from .fused_method import fused
from .net import Net
from .rows import LastLinear, last_linear, matrix

# along one axis, sum 1; its product over two axes is the authors' 3x3 `gaussian`, over three that of volumes
_KERNEL = np.array([1, 2, 1], dtype=np.float32) / 4


@fused.register("reciprocam")
@dataclass(frozen=True)
class ReciproCam:
    """raw_n = score_c(tail(M_n * A)), one mask M_n for each position n; no ReLU. Three forms, each exact:

    1. Pooling and one linear layer after the cut, score "logit": a signed CAM plus a constant, with one row of the weight.
    2. Pooling and anything after it: the mean of M_n * A is A_n / hw, so what follows the pooling runs on h*w rows.
    3. Any other tail: it runs on h*w masked copies of the activation, in one batch.

    A last linear layer computes the target's logit alone. Its bias only shifts the map, and is left out.

    Attributes:
        score: "logit", the network's own "probability", or the "softmax" of the logits.
        mask: "pixel", "gaussian" or "gaussian-centre"; see the runtime method.
    """

    score: Literal["logit", "probability", "softmax"] = "logit"
    mask: Literal["pixel", "gaussian", "gaussian-centre"] = "pixel"

    input_sized: ClassVar[bool] = False
    at_pixels: ClassVar[bool] = False
    signed: ClassVar[bool] = False

    def raw(self, net: Net) -> ir.Value:
        """See `Fused.raw`."""
        tail = net.tail
        _, *places = net.shape
        if self.score == "logit" and find_linear(tail, net.shape) is not None:
            net.plain()
            maps = all_class_scores(net) if net.all_at_once else class_scores(net)
            scores = net.op.Reshape(maps, [-1, 1, *places])
            return net.op.Reshape(self._masked(net, scores), [-1, *places])
        require_batch(net, "what follows the layer, at every position,", tail, math.prod(places))
        pooled = find_pooled(tail, net.shape)
        if pooled is not None and _reads_only(tail, pooled, [LOGITS]):
            linear = last_linear(tail, net.classes) if self.score == "logit" else None
            names = [str(v.name) for v in tail.outputs]
            if (
                not net.tensors
                and not net.all_at_once
                and linear is not None
                and linear.hidden.name not in names
                and _reads_only(tail, linear.hidden, names)
            ):
                return self._with_the_image(net, pooled, linear)
            net.plain()
            return self._score(net, pooled, {str(pooled.name): self._pooled_rows(net, pooled)})
        net.plain()
        return self._score(net, tail.inputs[0], self._masked_copies(net))

    def gives_all(self, material: Material) -> bool:
        """See `AllAtOnce`."""
        return material.logits.scores.kind == "classes"

    def every(self, net: Net) -> ir.Value:
        """See `AllAtOnce.every`: the scores of each position hold those of all classes."""
        return self.raw(net)

    def _masked(self, net: Net, maps: ir.Value) -> ir.Value:
        """The sum of M_n * maps for each position n, [.,1,h,w]; the mean is this sum / (h*w), the same map up to a factor."""
        _, *places = net.shape
        if self.mask == "gaussian":
            # the kernel is symmetric; padding with zeros clips the masks at the borders
            smooth: ir.Value = net.op.Conv(maps, _kernel(len(places))[None, None], pads=[1] * 2 * len(places))
            return smooth
        if self.mask == "gaussian-centre":
            # the mean of A_n M_n is A_n times the sum of the mask, which is smaller at the borders
            weighted: ir.Value = net.op.Mul(
                maps, _masks(places, self.mask).sum(axis=tuple(net.spatial)).reshape(1, 1, *places)
            )
            return weighted
        return maps

    def _with_the_image(self, net: Net, pooled: ir.Value, linear: LastLinear) -> ir.Value:
        """Form 2 for a logit. The image itself is one more row, so that weights before the last layer are read once, not twice."""
        op, tail, count = net.op, net.tail, math.prod(net.shape[1:])
        shapes = measure(ir.Model(tail, ir_version=IR_VERSION))
        width = net.shape[0]
        own = _run(net, tail, list(tail.inputs), pooled, net.between)
        masked = op.Reshape(self._pooled_rows(net, pooled), [-1, count, width])
        # [N,h*w,K] and [N,1,K] -> [N,h*w+1,K], one batch of N*(h*w+1) rows
        rows = op.Concat(masked, op.Reshape(own, [-1, 1, width]), axis=1)
        flat = op.Reshape(rows, _per_image(shapes, pooled))
        hidden = op.Reshape(
            _run(net, tail, [pooled], linear.hidden, {str(pooled.name): flat}), [-1, count + 1, linear.width]
        )
        # the last row is the image's own: it gives the network's outputs
        image = op.Reshape(op.Slice(hidden, [count], [count + 1], [1]), _per_image(shapes, linear.hidden))
        rest = ir.convenience.extract(tail, [linear.hidden], tail.outputs)
        net.tensors = net.add(rest, {str(linear.hidden.name): _as(net, image, linear.hidden)})
        # [N,h*w,K'] x [N,K',1]
        scores = op.MatMul(op.Slice(hidden, [0], [count], [1]), op.Unsqueeze(net.row(matrix(net, linear)), [2]))
        raw: ir.Value = op.Reshape(scores, [-1, *net.shape[1:]])
        return raw

    def _pooled_rows(self, net: Net, pooled: ir.Value) -> ir.Value:
        """The pooled masked activations, [N*h*w, ...] in the form of `pooled`."""
        op, (channels, *places) = net.op, net.shape
        tail, count = net.tail, math.prod(places)
        maps = net.activation
        if self.mask != "pixel":
            planes = self._masked(net, op.Reshape(maps, [-1, 1, *places]))
            maps = op.Reshape(planes, [-1, channels, *places])
        rows = op.Transpose(op.Reshape(maps, [-1, channels, count]), perm=[0, 2, 1])
        shapes = measure(ir.Model(tail, ir_version=IR_VERSION))
        return op.Reshape(op.Mul(rows, 1 / count), _per_image(shapes, pooled))

    def _masked_copies(self, net: Net) -> dict[str, ir.Value]:
        """The tail's inputs for all positions: masked activations [N*h*w,K,h,w], and the side tensors repeated as often."""
        op, (channels, *places) = net.op, net.shape
        count = math.prod(places)
        size = 4 * channels * count**2
        if size > MOST_BYTES:
            raise GraphError(
                f"the tail is not pooling first, so that every one of {count} positions needs its own copy of the "
                f"activation: {size >> 20} MiB per image, above {MOST_BYTES >> 20}; split later, or use the runtime engine"
            )
        masks = _masks(places, self.mask)[None]  # [1,hw,1,h,w]
        if self.mask == "gaussian-centre":
            # the value at the centre, spread by the mask, instead of the masked activation
            rows = op.Transpose(op.Reshape(net.activation, [-1, channels, count]), perm=[0, 2, 1])
            features = op.Reshape(rows, [-1, count, channels, *[1] * len(places)])
        else:
            features = op.Unsqueeze(net.activation, [1])
        # [N,1,K,h,w] x [1,h*w,1,h,w] -> [N,h*w,K,h,w]
        feeds = {str(net.tail.inputs[0].name): op.Reshape(op.Mul(features, masks), [-1, channels, *places])}
        if net.where is not None:
            feeds[WHERE] = net.repeated(count)[WHERE]
        for value in net.tail.inputs[1:]:
            if str(value.name) in feeds:
                continue
            assert value.shape is not None
            shape = [int(str(d)) for d in value.shape.dims[1:]]
            side = op.Unsqueeze(net.between[str(value.name)], [1])
            many = op.Expand(side, [1, count, *[1] * len(shape)])
            feeds[str(value.name)] = op.Reshape(many, [-1, *shape])
        return feeds

    def _score(self, net: Net, start: ir.Value, feeds: dict[str, ir.Value]) -> ir.Value:
        """The score explained [N,h,w]; h*w rows per image enter the tail at `start`."""
        op, places, tail = net.op, net.shape[1:], net.tail
        count = math.prod(places)
        inputs = [start, *tail.inputs[1:]] if start is tail.inputs[0] else [start]
        linear = last_linear(tail, net.classes) if self.score == "logit" else None
        if linear is not None and linear.hidden not in inputs:
            hidden = _run(net, tail, inputs, linear.hidden, feeds)
            rows = op.Reshape(hidden, [-1, count, linear.width])
            weights = matrix(net, linear) if net.all_at_once else net.row(matrix(net, linear))
        else:
            explained = net.explained(self.score)
            [end] = [v for v in tail.outputs if v.name == explained]
            scores = op.Reshape(_run(net, tail, inputs, end, feeds), [-1, count, net.entries])
            rows, weights = net.scored(self.score, scores) if explained == LOGITS else scores, None
        if net.all_at_once:  # [N,h*w,K'] x [K',K]
            all_scores = rows if weights is None else op.MatMul(rows, op.Transpose(weights, perm=[1, 0]))
            maps: ir.Value = op.Reshape(op.Transpose(all_scores, perm=[0, 2, 1]), [-1, *places])
            return maps
        weights = net.unit if weights is None else weights
        raw: ir.Value = op.Reshape(op.MatMul(rows, op.Unsqueeze(weights, [2])), [-1, *places])
        return raw


def _run(net: Net, tail: ir.Graph, inputs: list[ir.Value], end: ir.Value, feeds: Mapping[str, ir.Value]) -> ir.Value:
    """The tensor `end` of a new copy of a part of the tail, float32."""
    part = ir.convenience.extract(tail, inputs, [end])
    first = str(inputs[0].name)
    return net.floats(net.add(part, {**feeds, first: _as(net, feeds[first], inputs[0])})[str(end.name)])


def _as(net: Net, value: ir.Value, like: ir.Value) -> ir.Value:
    """A float32 tensor in the element type of one of the tail's tensors."""
    dtype = like.dtype or net.tail.inputs[0].dtype
    if dtype != ir.DataType.FLOAT16 or value.dtype == dtype:
        return value
    cast: ir.Value = net.op.Cast(value, to=int(dtype))
    return cast


def _per_image(shapes: Measured, value: ir.Value) -> list[int]:
    """The shape of a tensor, its batch left open for Reshape."""
    return [-1, *(d or 1 for d in shapes.dims(value)[1:])]


def _reads_only(tail: ir.Graph, source: ir.Value, outputs: Collection[str]) -> bool:
    """Whether outputs depend on the tail's inputs through `source` alone."""
    reached, pending = set(), [v for v in tail.outputs if v.name in outputs]
    while pending:
        value = pending.pop()
        if value is source or value in reached:
            continue
        reached.add(value)
        producer = value.producer()
        pending.extend(v for v in producer.inputs if v is not None) if producer is not None else None
    return not reached & set(tail.inputs)


def _kernel(rank: int) -> NDArray[np.float32]:
    """The kernel over so many axes."""
    return np.asarray(functools.reduce(np.multiply.outer, [_KERNEL] * rank), np.float32)


def _masks(places: Sequence[int], mask: str) -> NDArray[np.float32]:
    """The masks M_n, [h*w,1,h,w]: one position, or a 3x3 kernel (in volumes 3x3x3) clipped at the borders."""
    # a border of 1 on each side takes what the kernel puts outside, and is cut off at the end
    masks = np.zeros((math.prod(places), *(side + 2 for side in places)), np.float32)
    for n, where in enumerate(np.ndindex(*places)):
        if mask == "pixel":
            masks[(n, *(i + 1 for i in where))] = 1
        else:
            around: Any = (n, *(slice(i, i + 3) for i in where))
            masks[around] = _kernel(len(places))
    inside: Any = (slice(None), None, *(slice(1, -1),) * len(places))
    inner: NDArray[np.float32] = masks[inside]
    return inner
