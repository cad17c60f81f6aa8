"""The roles of relevance: forward graph -> forward graph and the relevance of its first input."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

import onnx_ir as ir

from xai_deploy.format.bundle import RELEVANCE

from ..backward.rules import QUANTISES, Rule, Table
from ..vjp.graph import Start, backward_graph, by_target_and_seed
from ..vjp.integers import centres
from ..vjp.table import vjp
from .composite import Composite, resolve_bounds
from .facts import find_facts
from .layer import WEIGHTED
from .merge_batchnorm import merge_batchnorm
from .table import relevance


@dataclass(frozen=True)
class Assigned:
    """The table of one graph: the rules of a composite, and what operators do by themselves.

    Attributes:
        composite: The composite.
        first: The first layers with weights.
    """

    composite: Composite
    first: frozenset[ir.Node]

    def find(self, node: ir.Node) -> Rule:
        """See `RuleTable.find`."""
        rule = self.composite.rule_of(node, node in self.first)
        # a composite's rule returns relevance in the shapes of the inputs
        return relevance.find(node) if rule is None else Rule(rule, broadcasts=False)

    def stops(self, value: ir.Value, leading: Container[ir.Value]) -> bool:
        """See `RuleTable.stops`: relevance stops where gradients stop."""
        return vjp.stops(value, leading)


def relevance_graph(
    forward: ir.Graph,
    classes: int,
    composite: Composite,
    from_image: bool = False,
    nonnegative: frozenset[str] = frozenset(),
    keep_batchnorm: bool = False,
    bounds: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
    start: Start = by_target_and_seed,
    layers: int = 1,
) -> ir.Graph:
    """The forward graph with the relevance of its first input as a further output `relevance`.

    Args:
        forward: activation or image (and side tensors) -> `logits` [N,classes] and other outputs; not changed.
        classes: Number of classes.
        composite: The rules.
        from_image: The first input is the image: the composite's rules for first layers hold.
        nonnegative: Names of inputs that are nowhere negative, so that the negative halves of rules need not be computed.
        keep_batchnorm: Leave BatchNormalizations as they are; they pass relevance on.
        bounds: The least and the largest values of the image, one per channel, for z^B rules that ask for them.
        start: What the walk begins with.
        layers: How many layers get relevance, see `backward_graph`.

    Returns:
        The forward's inputs, and those of `start` (`target` int64 [N], `seed` float32 [N,classes]) -> the forward's outputs,
        `relevance`, `relevance_1` ...

    Raises:
        RuleError: An operator on the way has no rule, or one that does not fit it.
        GraphError: The network's input has a name that the graph needs.
    """

    def table(walked: ir.Graph) -> Table:
        find_facts(walked, nonnegative)
        if not from_image:
            return Assigned(composite, frozenset())
        first = _first_layers(walked)
        return Assigned(
            resolve_bounds(composite, bounds, [node for node, bare in first.items() if not bare]), frozenset(first)
        )

    prepare = (lambda graph: None) if keep_batchnorm else merge_batchnorm
    return backward_graph(forward, classes, table, RELEVANCE, start, prepare, layers, alone=True)


def _first_layers(graph: ir.Graph) -> dict[ir.Node, bool]:
    """The layers with weights that the image reaches through no other such layer -> whether it reaches them unchanged."""
    reached = {graph.inputs[0]: True}  # tensor -> whether it holds the image's own values
    first: dict[ir.Node, bool] = {}
    for node in graph:
        before = [reached[x] for x in node.inputs if x in reached]
        if before and node.op_type in WEIGHTED:
            first[node] = all(before)
        elif before:
            same = all(before) and _moves(node)
            reached.update({y: same for y in node.outputs if not vjp.stops(y, reached)})
    return first


def _moves(node: ir.Node) -> bool:
    """Whether a node leaves an image's values as they are; quantising and at once dequantising does, up to rounding."""
    before = node.inputs[0].producer() if node.inputs[0] is not None else None
    if node.op_type == "DequantizeLinear":
        return before is not None and before.op_type in QUANTISES
    return centres(node) or node.op_type in {"Identity", "Cast", "Transpose", "Dropout", "Pad", *QUANTISES}
