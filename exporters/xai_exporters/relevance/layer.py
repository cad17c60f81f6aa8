"""A linear layer z = W x (+ b), as the rules of relevance propagation see it.

A rule is written in *terms*. A term is a modified forward pass z' = W' x' of the layer (a node of the same kind with modified
inputs and weights), and its way back, x' * VJP(s). The VJP comes from the gradient table (law 3), so that strides, pads, groups
and shapes are written once. A rule shares relevance out: R_in = sum over terms of x' * W'^T (R / Z), Z = sum of z' (+ b).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..backward.rules import Step
from ..cut.normalised import scaled_and_shifted
from ..graph.emit import Ops
from ..graph.reading import attribute
from ..graph.shapes import unbroadcast
from ..vjp.integers import scaling
from ..vjp.table import vjp
from .facts import RESAMPLINGS, is_nonnegative, is_signal

Part = Literal["all", "+", "-"]
Back = Callable[[ir.Value], list[ir.Value]]

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum")
POOLINGS = {
    "AveragePool": "AveragePool", "GlobalAveragePool": "GlobalAveragePool", "ReduceMean": "ReduceMean", "ReduceSum": "ReduceSum",
    "MaxPool": "AveragePool", "GlobalMaxPool": "GlobalAveragePool", "ReduceMax": "ReduceMean",
}  # fmt: skip
"""Pooling -> the linear pooling that shares its relevance out; a maximum's goes to all of its window, in proportion."""
SUMS = ("Add", "Sum", "Sub", "Mean")
_LINEAR = {"cubic": "linear", "bicubic": "bilinear"}


@dataclass(frozen=True)
class Term:
    """A modified forward, and its way back: s -> x' * VJP(s), one value per signal of the layer."""

    z: ir.Value
    back: Back


class Layer:
    """A linear node of the forward graph.

    Attributes:
        op: Where nodes are written.
        step: The node.
        positions: The positions of its inputs that are signals; relevance is shared out among them.
        xs: Those inputs; a subtracted one has its sign changed.
        scaling: What a layer on integers stands for; None for any other layer.
    """

    def __init__(self, op: Ops, step: Step) -> None:
        self.op, self.step = op, step
        kind = step.node.op_type
        inputs = step.node.inputs
        signals = [i for i, x in enumerate(inputs) if x is not None and is_signal(x)]
        self.positions = [0] if kind in RESAMPLINGS else signals
        self.xs = [step.input(i) for i in self.positions]
        # a - b is a + (-b); a pooling is replaced by the linear one
        self._kind = "Add" if kind == "Sub" else POOLINGS.get(kind, kind)
        if kind == "Sub" and 1 in self.positions:
            at = self.positions.index(1)
            self.xs[at] = self._like(op.Neg(self.xs[at]), self.xs[at])
        self.scaling = scaling(step.node)
        self._weight: int | None = None
        if kind in WEIGHTED and not (kind == "Einsum" and len(inputs) == 1):
            # from position 2 on an input is a bias, but in an Einsum every input is an operand
            operands = [i for i in range(len(inputs)) if i not in self.positions and not (kind != "Einsum" and i > 1)]
            if len(self.positions) != 1 or len(operands) != 1:
                raise step.refuse("a layer has one input and one weight")
            self._weight = operands[0]

    @functools.cached_property
    def weight(self) -> ir.Value | None:
        """The weight, multiplied by a Gemm's alpha; None for poolings and sums, whose fixed weights are positive."""
        if self._weight is None:
            return None
        given, alpha = self.step.input(self._weight), float(self.step.attr("alpha", 1.0))
        scaled = self.step.node.op_type == "Gemm" and alpha != 1
        return self._like(self.op.Mul(given, alpha), given) if scaled else given

    @property
    def nonnegative(self) -> bool:
        """Whether every input is known to be nowhere negative."""
        return self.step.node.op_type != "Sub" and all(is_nonnegative(x) for x in self.xs)

    @functools.cached_property
    def bias(self) -> ir.Value | None:
        """The bias that is added to W x, in a shape that broadcasts with it; None if there is none."""
        step, kind = self.step, self.step.node.op_type
        given = step.optional(2)
        if kind in ("Conv", "ConvTranspose") and given is not None:
            return self.op.Reshape(given, [1, -1, *[1] * (len(step.dims(step.y)) - 2)])
        if kind == "Gemm" and given is not None:
            beta = float(step.attr("beta", 1.0))
            return given if beta == 1 else self.op.Mul(given, beta)
        if self.scaling is not None:  # z = (y - bias) / factor
            return None if self.scaling.bias is None else self.op.Div(self.scaling.bias, self.scaling.factor)
        return self._bias_after()

    def _bias_after(self) -> ir.Value | None:
        """The constant of an Add that alone reads the product: MatMul and Einsum have no input for a bias, and some formats write
        every bias so. Of a Conv, ConvTranspose or Gemm, and of a product that is moved first, it has a number for each channel."""
        step, kind = self.step, self.step.node.op_type
        y, moved, channels = step.y, False, 1 if kind in ("Conv", "ConvTranspose") else -1
        while kind in WEIGHTED and (after := _only_reader(y)) is not None:
            if after.op_type == "Add":
                added = next((x for x in after.inputs if x is not None and not is_signal(x)), None)
                if added is None or step.dims(after.outputs[0]) != step.dims(y):
                    return None
                if kind in ("MatMul", "Einsum") and not moved:
                    return added
                dims = step.dims(y)
                want = [d if i == channels % len(dims) else 1 for i, d in enumerate(dims)]
                if [*[1] * (len(dims) - len(step.dims(added))), *step.dims(added)] != want:
                    return None
                return self.op.Reshape(added, [-1]) if moved else added
            if channels == 1 or not _keeps_last(step, after):
                return None
            y, moved = after.outputs[0], True
        return None

    def terms(self, x: Part, w: Part) -> list[Term]:
        """The term of a part of the input and a part of the weight; [] if it is known to be zero."""
        if (x == "-" and self.nonnegative) or (w == "-" and self.weight is None):
            return []
        xs = [self.part(value, x) for value in self.xs]
        weight = self.weight if self.weight is None else self.part(self.weight, w)
        return [self.term(xs, weight, positive=w == "+")]

    def term(self, xs: Sequence[ir.Value], weight: ir.Value | None, positive: bool = False) -> Term:
        """The term of modified inputs and of a modified weight, in the shapes of the layer's own.

        If only `positive` weights are wanted, a cubic kernel gives way to the linear one: its own weights have both signs.
        """
        op, step = self.op, self.step
        # without the bias
        inputs = list(step.node.inputs[:2] if self._kind in WEIGHTED and self._kind != "Einsum" else step.node.inputs)
        if step.node.op_type in SUMS:
            inputs = list(xs)
        else:
            [inputs[self.positions[0]]] = xs
        if self._weight is not None:
            inputs[self._weight] = weight
        attributes = self._attributes()
        cubic = positive and str(attribute(step.node, "mode", "")) in _LINEAR
        if cubic:
            attributes = {k: v for k, v in attributes.items() if k not in ("cubic_coeff_a", "exclude_outside")}
            attributes["mode"] = _LINEAR[str(attribute(step.node, "mode", ""))]
        if self._is_plain(inputs) and not cubic:
            z = step.y
        else:
            z = self._like(op.emit.node(self._kind, inputs, f"{step.node.name}/{self._kind}", attributes), step.y)
        producer = z.producer()
        assert producer is not None
        leads = frozenset(range(len(xs)) if step.node.op_type in SUMS else self.positions)
        modified = Step(producer, step.shapes, leads)
        rule = vjp.find(producer)

        def back(s: ir.Value) -> list[ir.Value]:
            results = rule.function(op, modified, s)
            parts = [results] if isinstance(results, ir.Value) else list(results or [])
            relevances = []
            # xs stand in the order of the inputs that lead
            for position, x in zip(sorted(leads), xs, strict=True):
                part = parts[position]
                assert part is not None
                if rule.broadcasts:
                    part = unbroadcast(op, part, step.dims(step.y), step.dims(x), x)
                relevances.append(op.Mul(x, part))
            return relevances

        return Term(z, back)

    def ones(self) -> list[ir.Value]:
        """Inputs of 1."""
        return [self.spread(1.0, x) for x in self.xs]

    def sizes(self) -> list[ir.Value]:
        """The magnitudes of the inputs."""
        return [x if is_nonnegative(x) else self._like(self.op.Abs(x), x) for x in self.xs]

    def spread(self, value: ir.Value | NDArray[Any] | float, x: ir.Value) -> ir.Value:
        """A value broadcast to an input's shape; a value that is the same for all images keeps a batch of 1."""
        dims = self.step.dims(x)
        return self._like(self.op.Expand(value, [1 if d is None else d for d in dims]), x)

    def padded(self, value: ir.Value, pad: ir.Node, like: ir.Value) -> ir.Value:
        """A value padded as a node pads its input."""
        node = self.op.emit.node("Pad", [value, *pad.inputs[1:]], f"{self.step.node.name}/Pad", pad.attributes)
        return self._like(node, like)

    def change(self, weight: Callable[[ir.Value], ir.Value]) -> ir.Value | None:
        """The weight, changed elementwise."""
        return None if self.weight is None else self._like(weight(self.weight), self.weight)

    def divide(self, r: ir.Value, z: ir.Value, epsilon: float, nonnegative: bool = False) -> ir.Value:
        """R / (z + epsilon sign(z)), sign(0) = 1; for epsilon = 0 R / z, and 0 where z is 0.

        An epsilon below 1e-20 (in half precision below its smallest normal number) counts as 0, and so does a z of such a
        magnitude for epsilon = 0, because the quotient would overflow.
        """
        op = self.op
        smallest = max(1e-20, float(np.finfo(op.floats).tiny))
        if epsilon > smallest:
            # on integers z is y / factor, and so is epsilon
            more = epsilon if self.scaling is None else op.Div(epsilon, self.scaling.factor)
            if nonnegative:
                return op.Div(r, op.Add(z, more))
            return op.Div(r, op.Where(op.Less(z, 0.0), op.Sub(z, more), op.Add(z, more)))
        known = op.Greater(z if nonnegative else op.Abs(z), smallest)
        return op.Where(known, op.Div(r, z), 0.0)

    def part(self, value: ir.Value, part: Part) -> ir.Value:
        """A tensor, its positive or its negative part."""
        if part == "all" or (part == "+" and is_nonnegative(value)):
            return value
        signed = self.op.Max(value, 0.0) if part == "+" else self.op.Min(value, 0.0)
        return self._like(signed, value)

    def _like(self, value: ir.Value, like: ir.Value) -> ir.Value:
        """A new tensor, its shape noted as that of another one: rules ask for it."""
        self.step.shapes.alias(str(value.name), like)
        return value

    def _is_plain(self, inputs: Sequence[ir.Value | None]) -> bool:
        """Whether a term is the layer itself, so that the layer's own output is its z."""
        node = self.step.node
        given = [x for x in node.inputs if x is not None]
        return self._kind == node.op_type and given == [x for x in inputs if x is not None]

    def _attributes(self) -> dict[str, ir.Attr | object]:
        node = self.step.node
        if self._kind == node.op_type:
            # alpha is in `weight`, and beta belongs to the bias
            return {k: v for k, v in node.attributes.items() if node.op_type != "Gemm" or k not in ("alpha", "beta")}
        if self.step.node.op_type == "Sub":
            return {}
        # a maximum becomes a linear pooling, which has no storage order
        kept = {k: v for k, v in node.attributes.items() if k != "storage_order"}
        if any(d != 1 for d in self.step.attr("dilations", [1])):
            raise self.step.refuse("a dilated window can't be shared out in proportion")
        kept.pop("dilations", None)
        return dict(kept)


def _only_reader(value: ir.Value) -> ir.Node | None:
    """The node of the network that alone reads a tensor; a walk back may read it, too."""
    readers = [node for node, _ in value.uses() if any(is_signal(y) for y in node.outputs)]
    return readers[0] if len(readers) == 1 else None


def _keeps_last(step: Step, node: ir.Node) -> bool:
    """Whether a node moves a tensor and leaves its last axis as it is."""
    if node.op_type not in ("Cast", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"):
        return False
    x, dims = node.inputs[0], step.dims(node.outputs[0])
    order = list(attribute(node, "perm", range(len(dims))[::-1])) if node.op_type == "Transpose" else [len(dims) - 1]
    return x is not None and bool(dims) and step.dims(x)[-1:] == dims[-1:] != (None,) and order[-1] == len(dims) - 1


def normalised(step: Step) -> int | None:
    """The position of x m in x m + (b - m mean x), a normalisation as TensorFlow writes it: the mean takes nothing, as in the other
    forms."""
    values = [x for x in step.node.inputs if x is not None]
    if step.node.op_type not in ("Add", "Sub") or len(values) != 2:
        return None
    orders = (values, values[::-1])
    return next((i for i, (one, other) in enumerate(orders) if scaled_and_shifted(one, other, along=False)), None)


def is_bilinear(step: Step) -> bool:
    """Whether a node is a product of several signals, as in attention, or of a signal and several weights."""
    operands = step.node.inputs if step.node.op_type == "Einsum" else step.node.inputs[:2]
    signals = sum(x is not None and is_signal(x) for x in operands)
    return step.node.op_type in WEIGHTED and (signals > 1 or len(operands) > 2)
