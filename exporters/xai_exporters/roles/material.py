"""What the graphs of a bundle are made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import onnx_ir as ir

from xai_deploy.format.bundle import Input

from ..cut.scores.logits import Logits
from ..cut.split import Cut, Parts, whole
from ..passes.clean import CleanGraph
from ..relevance.composite import Composite
from ..relevance.facts import find_facts, is_nonnegative
from ..relevance.graph import relevance_graph
from ..vjp.graph import Start, by_target_and_seed, gradient_graph


@dataclass(frozen=True)
class Material:
    """The clean graph, its cut, the logits that are explained, its two parts, and its input.

    Attributes:
        clean: The clean graph.
        cut: Where it is cut; None if it stays whole.
        logits: What is explained.
        parts: Head and tail; or the whole network.
        image: The input.
        keep_batchnorm: Leave BatchNormalizations in graphs of relevance.
    """

    clean: CleanGraph
    cut: Cut | None
    logits: Logits
    parts: Parts
    image: Input
    keep_batchnorm: bool = False

    @cached_property
    def whole(self) -> ir.Graph:
        """Image -> `logits` and the network's outputs, uncut."""
        return whole(self.clean, self.cut, self.logits).tail

    @property
    def layer(self) -> Cut:
        """Where the network is cut, for graphs that need a layer."""
        assert self.cut is not None  # `RolePlan` leaves them out otherwise
        return self.cut

    def gradient(self, from_image: bool, start: Start = by_target_and_seed) -> ir.Graph:
        """The tail, or the whole network, with its gradient; see `vjp.graph.gradient_graph`."""
        return gradient_graph(self.whole if from_image else self.parts.tail, self.logits.classes, start=start)

    def relevance(self, composite: Composite, from_image: bool, start: Start = by_target_and_seed) -> ir.Graph:
        """The tail, or the whole network, with relevance by a composite's rules; see `relevance.graph.relevance_graph`."""
        composite.check_names(self.clean.graph)
        # a fact of the whole network (the layer is after a Relu) that the tail alone does not show
        nonnegative: frozenset[str] = frozenset()
        if not from_image:
            find_facts(self.clean.graph)
            cut = [self.layer.target, *self.layer.sides]
            names = [str(value.name) for value in self.parts.tail.inputs]
            nonnegative = frozenset(n for n, value in zip(names, cut, strict=False) if is_nonnegative(value))
        return relevance_graph(
            self.whole if from_image else self.parts.tail,
            self.logits.classes,
            composite,
            from_image,
            nonnegative,
            self.keep_batchnorm,
            bounds(self.image),
            start,
        )


def bounds(image: Input) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The preprocessed values of black and white pixels, per channel: the smaller and the larger one."""
    ends = image.preprocess.ends()
    return tuple(map(float, ends.min(axis=0))), tuple(map(float, ends.max(axis=0)))
