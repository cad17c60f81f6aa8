"""What the graphs of a bundle are made of."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import onnx_ir as ir

from xai_deploy.format.bundle import FurtherInputs, Input

from ..cut.plan import Cut
from ..cut.scores.listed import ADVICE, NMS
from ..cut.scores.logits import Logits
from ..cut.scores_alone import scores_alone
from ..cut.split import Parts, whole
from ..errors import RequestError, RuleError
from ..graph.measure import IMAGE
from ..passes.clean import CleanGraph
from ..passes.pooled_means import pool_means
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
        further: The cuts at further layers.
        beside: What it takes beside that image.
    """

    clean: CleanGraph
    cut: Cut | None
    logits: Logits
    parts: Parts
    image: Input
    keep_batchnorm: bool = False
    further: tuple[Cut, ...] = ()
    beside: FurtherInputs = field(default_factory=FurtherInputs)

    @cached_property
    def whole(self) -> ir.Graph:
        """Image -> `logits` and the network's outputs, uncut."""
        graph = whole(self.clean, self.cut, self.logits, chosen=self.parts.chosen).tail
        [own] = [value for value in graph.inputs if value.name == self.image.name]
        graph.inputs.remove(own)
        graph.inputs.insert(0, own)
        return graph

    def explaining(self, name: str) -> Material:
        """The same as if the further image of this name were explained: what goes back to the image goes to that one.

        Raises:
            RequestError: The network takes no such image.
        """
        own = {image.name.removeprefix(IMAGE): image for image in self.beside.images}
        if name not in own:
            names = ", ".join((self.image.name.removeprefix(IMAGE), *own))
            raise RequestError(f"--explain-input: the network takes no further image {name!r}; its images are {names}")
        image, beside = self.beside.without(own[name].name, self.image)
        return replace(self, image=image, beside=beside)

    @property
    def layer(self) -> Cut:
        """Where the network is cut, for graphs that need a layer."""
        assert self.cut is not None  # `RolePlan` leaves them out otherwise
        return self.cut

    @property
    def cuts(self) -> tuple[Cut, ...]:
        """All layers at which the network is cut."""
        return self.layer, *self.further

    @property
    def tails(self) -> tuple[ir.Graph, ...]:
        """Each layer's own tail."""
        return self.parts.tail, *self.parts.further

    def _forward(self, from_image: bool) -> tuple[ir.Graph, int]:
        """The graph through which the walk goes back, and to how many layers.

        Raises:
            RuleError: The network suppresses boxes itself.
        """
        rows = self.logits.scores.rows
        if rows is not None and rows.chosen_inside:
            raise RuleError(f"no gradient passes the suppression inside the graph ({NMS}); {ADVICE}")
        if from_image:
            return self.whole, 1
        return self.parts.joint or self.parts.tail, 1 + len(self.further)

    def gradient(self, from_image: bool, start: Start = by_target_and_seed) -> ir.Graph:
        """The tail, or the whole network, with its gradient; see `vjp.graph.gradient_graph`."""
        forward, layers = self._forward(from_image)
        graph = gradient_graph(forward, self.logits.classes, start=start, layers=layers)
        return pool_means(graph) if from_image else graph

    def score_gradient(self) -> ir.Graph:
        """The gradient of the scores of a detector's classes at the layers; see `cut.scores_alone`."""
        rows = self.logits.scores.rows
        assert rows is not None  # a detector has rows
        forward, layers = self._forward(from_image=False)
        return gradient_graph(scores_alone(forward, rows.classes), rows.classes, layers=layers)

    def relevance(self, composite: Composite, from_image: bool, start: Start = by_target_and_seed) -> ir.Graph:
        """The tail, or the whole network, with relevance by a composite's rules; see `relevance.graph.relevance_graph`."""
        composite.check_names(self.clean.graph)
        # a fact of the whole network (the layer is after a Relu) that the tail alone does not show
        nonnegative: frozenset[str] = frozenset()
        forward, layers = self._forward(from_image)
        if not from_image:
            find_facts(self.clean.graph)
            passed = {
                name: value
                for cut in self.cuts
                for name, value in zip((cut.activation, *cut.names), (cut.target, *cut.sides), strict=False)
            }
            taken = {str(value.name) for value in forward.inputs}
            nonnegative = frozenset(n for n, value in passed.items() if n in taken and is_nonnegative(value))
        return relevance_graph(
            forward,
            self.logits.classes,
            composite,
            from_image,
            nonnegative,
            self.keep_batchnorm,
            bounds(self.image),
            start,
            layers,
        )


def bounds(image: Input) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The preprocessed values of black and white pixels, per channel: the smaller and the larger one."""
    ends = image.preprocess.ends()
    return tuple(map(float, ends.min(axis=0))), tuple(map(float, ends.max(axis=0)))
