"""The graph under construction: image and target -> the network's outputs, and what methods compute from its tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial

import numpy as np
import onnx_ir as ir

from xai_deploy.format.bundle import (
    ACTIVATION,
    GRADIENT,
    LOGITS,
    PREDICTED,
    REFERENCE,
    RELEVANCE,
    SHARES,
    TARGET,
    VERSUS,
    VERSUS_WHERE,
    WHERE,
    at_level,
)
from xai_deploy.probabilities import why_none

from ...errors import GraphError
from ...graph.emit import Emitter, Ops
from ...graph.measure import batch_of
from ...relevance.composite import Composite
from ...vjp.graph import Start, by_contrast, by_number, by_reference, by_target, known_reference, turned_unit
from ..material import Material
from .regions import region_weights, softmax_in_each, unless_empty
from .weights import shared_initializer

_FLOAT = int(ir.DataType.FLOAT)

REGION = "region"
"""The name here of a copy's scores of the region before they lose its axis, [N,1,classes]."""


class Net:
    """A fused graph, written piece by piece: copies of head, tail and of the graphs that propagate back, and a method's nodes.

    Copies share their weights, so that a network that occurs twice in a graph is stored once. `tensors` are the outputs of the
    copy that `plain`, `gradient` or `relevance` adds. The predicted class is found in them, so a method calls one of these first.
    `level` is the number of the layer at which a method runs; for the next layer, these three give what is there already.
    `all_at_once` asks a method for the maps of all classes, see `fused_method.AllAtOnce`.

    Args:
        material: The network.
        fixed_target: Always explain the predicted class; the graph has no input `target`.
        bare: The network alone, without a method: no input beside the image.
        versus: Further inputs, the class that is subtracted and, with dense scores, its region.
    """

    def __init__(
        self, material: Material, fixed_target: bool = False, bare: bool = False, versus: bool = False
    ) -> None:
        source = material.parts.head.inputs[0]
        self.material, self.all_at_once = material, False
        self.image = ir.Value(name=source.name, shape=source.shape, type=source.type)
        self.x = self.image
        opsets = dict(material.parts.head.opset_imports)
        self.graph = ir.Graph([self.image], [], nodes=[], opset_imports=opsets, name="fused")
        self._emit = Emitter(self.graph, "saliency")
        self.op = Ops(self._emit, "map", np.dtype(np.float32))
        self.tensors: dict[str, ir.Value] = {}
        self.level = 0
        self.further = {
            port.name: self._input(
                port.name,
                (batch_of(source), *(size or 1 for size in port.shape)),
                ir.DataType.from_numpy(np.dtype(port.dtype)),
            )
            for port in material.beside.ports
        }
        scores, batch = material.logits.scores, batch_of(source)
        self.numbers = scores.kind == "vector" and not scores.normalised
        if fixed_target and not bare and scores.kind not in ("classes", "rows"):
            needs = "a region" if scores.kind == "dense" else "a number" if self.numbers else "a reference"
            raise GraphError(f"the graph explains {needs}, which is an input of it: leave --fixed-target out")
        self.where: ir.Value | None = None
        self.reference: ir.Value | None = None
        if scores.by_region and bare:
            self.where = self._emit.constant(
                np.zeros((1, *scores.shape[1:]), np.float32), WHERE
            )  # nothing reads the region's scores
        elif scores.kind == "dense":
            self.where = self._input(WHERE, (batch, *scores.shape[1:]), ir.DataType.FLOAT)
        if scores.normalised and not bare:
            self.reference = known_reference(self.op, self._input(REFERENCE, (batch, *scores.shape), ir.DataType.FLOAT))
        elif fixed_target or bare:
            self.target = self._emit.ints([PREDICTED], "predicted")  # [1] broadcasts over the batch
        else:
            self.target = self._input(TARGET, (batch,), ir.DataType.INT64)
        self.versus = self._input(VERSUS, (batch,), ir.DataType.INT64) if versus else None
        self.versus_where: ir.Value | None = None
        if versus and scores.kind == "dense":
            self.versus_where = self._input(VERSUS_WHERE, (batch, *scores.shape[1:]), ir.DataType.FLOAT)

    def _input(self, name: str, shape: Sequence[int | str], dtype: ir.DataType) -> ir.Value:
        value = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype))
        self.graph.inputs.append(value)
        self._emit.unique(name)  # no other tensor gets this name
        return value

    @property
    def classes(self) -> int:
        """How many classes the network has."""
        return self.material.logits.classes

    @property
    def regions(self) -> int:
        """How many regions, or rows of a detector, are scored: a contrast has two, one for each side."""
        return 2 if self.versus is not None and self.material.logits.scores.by_region else 1

    @property
    def entries(self) -> int:
        """How many scores an image has: those of the classes, in each region."""
        return self.classes * self.regions

    def scored(self, score: str, logits: ir.Value) -> ir.Value:
        """The score [...,entries] that the option `score` names, as the engine's `methods.method.scored` computes it.

        Args:
            score: "logit": the logits as they are; "softmax"; or "probability": the network's own activation.
            logits: [...,entries].

        Raises:
            GraphError: The score is no probability for this network.
        """
        if self.material.logits.scores.kind == "vector" and score != "softmax":
            return logits  # numbers that are no classes have no probabilities
        activation = self.material.logits.activation if score == "probability" else score
        if activation == "scores":
            raise GraphError(f"{why_none('scores')}; fuse with score=logit")
        if activation in ("softmax", "none"):
            if self.classes == 1:
                what = "the softmax of a single class is 1 everywhere" if score == "softmax" else "it is no probability"
                raise GraphError(f"the network has one score, and {what}; fuse with score=logit")
            if self.regions > 1:
                return softmax_in_each(self.op, logits, self.classes)
            shares: ir.Value = self.op.Softmax(logits, axis=-1)
            return shares
        if activation == "sigmoid":
            own: ir.Value = self.op.Sigmoid(logits)
            return own
        return logits

    def explained(self, score: str) -> str:
        """The tensor of the tail that `scored` begins with: the logits, or the mean probabilities of a region.

        Raises:
            GraphError: The region has no probabilities.
        """
        if self.where is None or score != "probability":
            return LOGITS
        if all(value.name != SHARES for value in self.material.parts.tail.outputs):
            raise GraphError(f"{why_none(self.material.logits.activation)}; fuse with score=logit")
        return SHARES

    @property
    def shape(self) -> tuple[int, ...]:
        """(K,h,w) of the activation; (K,d,h,w) of volumes."""
        return self.material.cuts[self.level].shape

    @property
    def size(self) -> tuple[int, ...]:
        """(H,W) of the network's input; (D,H,W) of volumes."""
        return self.material.image.size

    @property
    def spatial(self) -> list[int]:
        """The axes of the activation [N,K,h,w] that are places."""
        return list(range(2, 2 + len(self.size)))

    def add(self, part: ir.Graph, feeds: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
        """Put a copy of a graph into this one.

        Args:
            part: The graph; not changed.
            feeds: Name of an input of `part` -> the tensor of this graph that it gets.

        Returns:
            Name of an output of `part` -> its tensor in this graph.
        """
        # a copy of the part: its inputs become tensors of this graph, its weights are shared, its nodes get free names
        feeds = {**self.further, **feeds}
        if WHERE not in feeds and any(own.name == WHERE for own in part.inputs):
            feeds = {**feeds, WHERE: self.region}
        begun = [feeds[str(own.name)] for own in part.inputs]
        ends = self._emit.insert(part, part.inputs, part.outputs, begun, self.weight)
        results = {str(own.name): end for own, end in zip(part.outputs, ends, strict=True)}
        if self.where is not None and LOGITS in results:
            results[REGION] = results[LOGITS]
        if self.where is not None:  # [N,R,classes] -> [N,entries]
            flat = {
                name: self.op.Reshape(results[name], [-1, self.entries]) for name in (LOGITS, SHARES) if name in results
            }
            results |= flat
        return results

    @cached_property
    def region(self) -> ir.Value:
        """The weights of each region [N,R,H,W], see `region_weights`."""
        axes, given = [axis - 1 for axis in self.spatial], (self.where, self.versus_where)
        sides = [region_weights(self.op, where, axes) for where in given if where is not None]
        return sides[0] if len(sides) == 1 else self.op.Concat(*sides, axis=1)

    @cached_property
    def subtracted(self) -> ir.Value:
        """`versus` [N], of images that have both regions."""
        assert self.versus is not None  # who asks has a contrast
        return self.versus if self.versus_where is None else unless_empty(self.op, self.versus, self.region)

    @property
    def compared(self) -> int:
        """How many classes are compared with each other; 0: its scores are no classes."""
        return 0 if self.material.logits.scores.kind == "vector" else self.classes

    def start(self, others: float = 0.0, times_logits: bool = False) -> Start:
        """What a walk back begins with: the target, or the reference; see `relevance`."""
        if self.reference is not None:
            return partial(by_reference, times_logits=times_logits)
        of_target: Start = by_number if self.numbers else partial(by_target, others=others)
        if self.versus is None:
            return of_target
        return partial(by_contrast, of_target=of_target, times_logits=times_logits)

    def start_feeds(self, copies: int = 1) -> dict[str, ir.Value]:
        """The inputs that `start` adds to a graph; for `copies` rows of each image, all images in each copy."""
        if self.reference is not None:
            return {REFERENCE: self.reference if copies == 1 else self.op.Tile(self.reference, [copies, 1])}
        if copies == 1:
            return {TARGET: self.target} | ({} if self.versus is None else {VERSUS: self.subtracted})
        # the class that the image itself has, in all its copies
        own = {TARGET: self.chosen} | ({} if self.versus is None else {VERSUS: self.against})
        return {name: self.op.Tile(self.op.Squeeze(value, [1]), [copies]) for name, value in own.items()}

    def weight(self, value: ir.Value) -> ir.Value:
        """This graph's initializer with the name and content of another graph's."""
        return shared_initializer(self.graph, self._emit.unique, value)

    @cached_property
    def between(self) -> dict[str, ir.Value]:
        """The head's outputs for the image: the activation and the side tensors, by name."""
        return self.add(self.material.parts.head, {str(self.image.name): self.x})

    @property
    def activation(self) -> ir.Value:
        """[N,K,h,w] float32."""
        return self.floats(self.between[at_level(ACTIVATION, self.level)])

    @property
    def tail(self) -> ir.Graph:
        """Activation -> the network's outputs."""
        return self.material.tails[self.level]

    def plain(self) -> None:
        """Add the tail; it gives the network's outputs."""
        self.tensors = self.tensors or self.add(self.material.parts.tail, self.between)

    def gradient(self) -> ir.Value:
        """Add the tail, and d(logit)/d(activation) [N,K,h,w] float32."""
        if not self.tensors:
            part = self.material.gradient(from_image=False, start=self.start())
            self.tensors = self.add(part, {**self.between, **self.start_feeds()})
        return self.floats(self.tensors[at_level(GRADIENT, self.level)])

    def gradient_at(self, x: ir.Value, copies: int = 1) -> dict[str, ir.Value]:
        """The network at inputs x [copies*N, ...] in its own type: `gradient` in their shape, `logits`, the other outputs."""
        part = self.material.gradient(from_image=True, start=self.start())
        beside = self._beside() if copies > 1 else {}
        further = {name: self.op.Tile(value, [copies] + [1] * len(own)) for name, (value, own) in beside.items()}
        return self.add(part, {str(part.inputs[0].name): x, **further, **self.start_feeds(copies)})

    def repeated(self, times: int) -> dict[str, ir.Value]:
        """What is beside each image, its region too, `times` rows of one image after the other."""
        repeated = {}
        for name, (value, own) in self._beside().items():
            wide = self.op.Tile(self.op.Unsqueeze(value, [1]), [1, times] + [1] * len(own))
            repeated[name] = self.op.Reshape(wide, [-1, *own])
        return repeated

    def _beside(self) -> dict[str, tuple[ir.Value, list[int]]]:
        """What is beside each image, its region too, and the shape of one image's part of it."""
        beside = {
            name: (value, [int(str(d)) for d in list(value.shape or [])[1:]]) for name, value in self.further.items()
        }
        if self.where is not None:
            beside[WHERE] = self.region, [self.regions, *self.material.logits.scores.shape[1:]]
        return beside

    def relevance(
        self, composite: Composite, from_image: bool, others: float = 0.0, times_logits: bool = False
    ) -> ir.Value:
        """Add the network, and the relevance of its activation [N,K,h,w] or of the image, float32.

        Args:
            composite: The rules.
            from_image: Go down to the image.
            others: The start at the other classes; at the target it is 1.
            times_logits: Start with each logit's share of the score: the logit times its weight. Relevance is linear in its start,
                so that of one class is multiplied by the logit afterwards.
        """
        if self.tensors and not from_image:
            return self.floats(self.tensors[at_level(RELEVANCE, self.level)])
        part = self.material.relevance(composite, from_image, self.start(others, times_logits))
        feeds = {str(part.inputs[0].name): self.x} if from_image else self.between
        self.tensors = self.add(part, {**feeds, **self.start_feeds()})
        relevance = self.floats(self.tensors[RELEVANCE if from_image else at_level(RELEVANCE, self.level)])
        if not times_logits or self.reference is not None or self.versus is not None:
            return relevance
        times: ir.Value = self.op.Mul(relevance, self.op.Reshape(self.logit, [-1, *[1] * (1 + len(self.size))]))
        return times

    @cached_property
    def chosen(self) -> ir.Value:
        """The class explained, int64 [N,1]: the target, or the predicted one."""
        return self._class_of(self.target, 0)

    @cached_property
    def against(self) -> ir.Value:
        """The class that is subtracted, int64 [N,1]; a number that is no class if nothing is."""
        return self._class_of(self.subtracted, self.regions - 1)

    def _class_of(self, asked: ir.Value, region: int) -> ir.Value:
        column, scores, first = self.op.Unsqueeze(asked, [1]), self.tensors[LOGITS], region * self.classes
        own = scores if self.regions == 1 else self.op.Slice(scores, [first], [first + self.classes], [1])
        predicted = self.op.ArgMax(own, axis=1, keepdims=1)
        chosen: ir.Value = self.op.Where(self.op.Equal(column, PREDICTED), predicted, column)
        return chosen

    @cached_property
    def unit(self) -> ir.Value:
        """The unit vector of the class explained, [N,entries] float32; zeros for a number that is no class. Or the reference's.

        That of a number in its other direction is negative. If a class is subtracted, its unit vector is, in its own region.
        """
        if self.reference is not None:
            direction: ir.Value = self.op.LpNormalization(self.reference, axis=1, p=2)
            return direction
        op, classes = self.op, np.arange(self.classes)[None]
        unit: ir.Value = op.Where(op.Equal(classes, self.chosen), 1.0, 0.0)
        if self.numbers:
            unit = op.Sub(unit, turned_unit(op, self.chosen, self.classes))
        if self.versus is None:
            return unit
        subtracted = op.Where(op.Equal(classes, self.against), 1.0, 0.0)
        # a target that is no class has no contrast either
        weighed = op.Mul(subtracted, op.ReduceSum(op.Abs(unit), [1], keepdims=1))
        contrast: ir.Value = op.Concat(unit, op.Neg(weighed), axis=1) if self.regions > 1 else op.Sub(unit, weighed)
        return contrast

    @cached_property
    def logit(self) -> ir.Value:
        """The logit explained, [N,1] float32; of a number itself, not turned."""
        unit = self.op.Abs(self.unit) if self.numbers else self.unit
        logit: ir.Value = self.op.ReduceSum(self.op.Mul(unit, self.floats(self.tensors[LOGITS])), [1], keepdims=1)
        return logit

    def row(self, matrix: ir.Value) -> ir.Value:
        """The row of a matrix [classes,K] for the class explained, [N,K]; zeros for a number that is no class."""
        op = self.op
        if self.reference is not None or self.numbers or self.versus is not None:
            weighted: ir.Value = op.MatMul(self.unit, matrix)
            return weighted
        # Gather needs a valid row: the class is clipped, and the row is multiplied by 0 if that changed the class
        inside = op.Max(op.Min(self.chosen, self.classes - 1), 0)  # [N,1]
        known = op.Cast(op.Equal(inside, self.chosen), to=_FLOAT)
        row: ir.Value = op.Mul(op.Gather(matrix, op.Squeeze(inside, [1]), axis=0), known)
        return row

    def floats(self, value: ir.Value) -> ir.Value:
        """A tensor as float32."""
        if value.dtype == ir.DataType.FLOAT or value.dtype is None:
            return value
        cast: ir.Value = self.op.Cast(value, to=_FLOAT)
        return cast

    def as_input(self, x: ir.Value) -> ir.Value:
        """float32 inputs in the network's element type: integers are rounded."""
        dtype = ir.DataType.from_numpy(np.dtype(self.material.image.dtype))
        if dtype == ir.DataType.FLOAT:
            return x
        if dtype == ir.DataType.UINT8:
            x = self.op.Round(x)
        cast: ir.Value = self.op.Cast(x, to=int(dtype))
        return cast

    def channels_first(self, value: ir.Value) -> ir.Value:
        """A tensor of the input's shape as [N,C,H,W]."""
        axis = self.material.image.channel_axis
        if axis == 1:
            return value
        others = [other for other in range(1, 2 + len(self.size)) if other != axis]
        turned: ir.Value = self.op.Transpose(value, perm=[0, axis, *others])
        return turned
