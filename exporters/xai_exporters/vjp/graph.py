"""Graph roles that propagate back from the logits: forward graph -> the same, and the gradient (or relevance) of its first input.

Both `target` and `seed` start the walk: s = unit vector of class `target` + `seed`. `target` -1 means the predicted class. The
graph finds it itself, so that nobody has to run the network twice. `target` -2 means no class: s is the seed alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from xai_deploy.format.bundle import (
    ACTIVATION,
    BY_SEED,
    DENSE,
    GRADIENT,
    LOGITS,
    PREDICTED,
    REFERENCE,
    SEED,
    TARGET,
    VERSUS,
    WHERE,
    at_level,
)

from ..backward.precision import narrow_outputs, widen
from ..backward.recurrent import unroll
from ..backward.rules import FLOATS, RuleTable, Table, floats_of
from ..backward.walker import propagate
from ..cut.chosen import copied, taking
from ..cut.regions import REGIONS
from ..cut.scores.rows import row_pieces
from ..errors import GraphError
from ..graph.emit import Emitter, Ops
from ..graph.measure import Measured, batch_of, measure
from ..graph.writing import IR_VERSION, step_aside
from .integers import to_layers
from .quantised import to_floats
from .table import vjp


class Begin(NamedTuple):
    """Where a walk begins if not at the logits or dense scores: a tensor, and the value there."""

    tensor: ir.Value
    value: ir.Value


Start: TypeAlias = Callable[[ir.Graph, ir.Value, int], ir.Value | Begin]
"""(graph, logits, classes) -> the value at the logits when the walk begins, in their shape ([N,classes], or [N,R,classes] of
regions) and element type; or where else it begins. It adds the graph inputs that it needs."""


def by_target_and_seed(graph: ir.Graph, logits: ir.Value, classes: int) -> ir.Value:
    """`target` and `seed` as inputs; see the module's docstring."""
    op = Ops(Emitter(graph, SEED), "start", floats_of(logits))
    unit = op.Where(_is_target(graph, op, logits, classes), 1.0, 0.0)  # all zeros for BY_SEED, which is no class
    seed = ir.Value(name=SEED, shape=logits.shape, type=ir.TensorType(ir.DataType.FLOAT))
    graph.inputs.append(seed)
    given = seed if op.floats == np.float32 else op.Cast(seed, to=int(ir.DataType.from_numpy(op.floats)))
    return op.Add(unit, given)


def by_target(graph: ir.Graph, logits: ir.Value, classes: int, others: float = 0.0) -> ir.Value:
    """`target` as the only further input: 1 at the target, `others` at every other class; all zeros if the number is no class."""
    op = Ops(Emitter(graph, SEED), "start", floats_of(logits))
    is_target = _is_target(graph, op, logits, classes)
    unit: ir.Value = op.Where(is_target, 1.0, 0.0)
    if others == 0.0:
        return unit
    # the sum is 1 for a class, and 0 for a number that is no class
    return op.Mul(op.Where(is_target, 1.0, others), op.ReduceSum(unit, [-1], keepdims=1))


def by_number(graph: ir.Graph, logits: ir.Value, classes: int) -> ir.Value:
    """`target` as the only further input: k is the number k, -2 - k is the same with its sign turned; any other gives zeros."""
    op = Ops(Emitter(graph, SEED), "start", floats_of(logits))
    up = op.Where(_is_target(graph, op, logits, classes), 1.0, 0.0)
    return op.Sub(up, turned_unit(op, op.Unsqueeze(graph.inputs[-1], [1]), classes))


def turned_unit(op: Ops, column: ir.Value, classes: int) -> ir.Value:
    """1 at the number k if the target [N,1] is -2 - k, which asks for the other direction of k; all zeros for other targets."""
    unit: ir.Value = op.Where(op.Equal(np.arange(classes)[None], op.Sub(BY_SEED, column)), 1.0, 0.0)
    return unit


def by_contrast(
    graph: ir.Graph, logits: ir.Value, classes: int, of_target: Start, times_logits: bool = False
) -> ir.Value:
    """`target` and `versus` [N] as further inputs: 1 at the one, -1 at the other; or the product of both with their logits.

    With dense scores there are two regions, [N,2,classes]: the target is one of the first, the other class of the second.

    Args:
        graph, logits, classes: As every `Start` takes them.
        of_target: What the walk begins with if `versus` is no class, and which adds `target`. All zeros of it stay zeros.
        times_logits: Start with each logit's share of the difference.
    """
    two, first, second = _named(graph, DENSE) is not None, logits, logits
    if two:
        split = Ops(Emitter(graph, SEED), "regions", floats_of(logits))
        first, second = (split.Slice(logits, [i], [i + 1], [1]) for i in range(2))
    alone = of_target(graph, first, classes)
    assert not isinstance(alone, Begin)  # rows are no classes
    op = Ops(Emitter(graph, SEED), "contrast", floats_of(logits))  # it knows the names that `of_target` took
    subtracted = op.Where(_is_target(graph, op, second, classes, VERSUS), 1.0, 0.0)
    # the target's own weight without the others of Relevance-CAM, which a contrast does not compare
    own = op.Where(op.GreaterOrEqual(op.Abs(alone), 1.0), alone, 0.0)
    both = op.Mul(op.ReduceSum(subtracted, [-1], keepdims=1), op.ReduceSum(op.Abs(own), [-1], keepdims=1))
    difference = op.Concat(own, op.Neg(subtracted), axis=1) if two else op.Sub(own, subtracted)
    start: ir.Value = op.Where(
        op.Greater(both, 0.0), difference, op.Concat(alone, op.Mul(alone, 0.0), axis=1) if two else alone
    )
    return op.Mul(start, logits) if times_logits else start


def by_reference(graph: ir.Graph, logits: ir.Value, classes: int, times_logits: bool = False) -> ir.Value:
    """`reference` [N,classes] as the only further input: its direction, a vector of length 1; or its product with each logit."""
    op = Ops(Emitter(graph, SEED), "start", floats_of(logits))
    reference = ir.Value(name=REFERENCE, shape=logits.shape, type=ir.TensorType(ir.DataType.FLOAT))
    graph.inputs.append(reference)
    given = reference if op.floats == np.float32 else op.Cast(reference, to=int(ir.DataType.from_numpy(op.floats)))
    direction: ir.Value = op.LpNormalization(given, axis=1, p=2)
    return op.Mul(direction, logits) if times_logits else direction


def known_reference(op: Ops, reference: ir.Value) -> ir.Value:
    """A reference [N,D] divided by its largest magnitude; zeros if a value of it is NaN or infinite, or all are 0.

    So its squares neither overflow nor vanish, and a map of zeros says that there is nothing to compare with.
    """
    floats = np.finfo(np.float32)
    finite = op.LessOrEqual(op.Abs(reference), float(floats.max))  # NaN is not
    values = op.Where(finite, reference, 0.0)
    largest = op.Max(op.ReduceMax(op.Abs(values), [1], keepdims=1), float(floats.tiny))
    all_finite = op.ReduceMin(op.Cast(finite, to=int(ir.DataType.FLOAT)), [1], keepdims=1)
    known: ir.Value = op.Mul(op.Div(values, largest), all_finite)
    known.shape, known.type = reference.shape, reference.type
    return known


def by_row(graph: ir.Graph, logits: ir.Value, classes: int) -> Begin:
    """`seed` [N,R,C] as the only further input: the weights of the scores of the rows of a detector that `where` [N,R,rows] picks.

    The walk begins at the scores, before the boxes are put beside them: the branch that computes boxes is not walked.
    """
    dense = _named(graph, DENSE)
    assert dense is not None  # only detectors begin so
    shape = ir.Shape([batch_of(graph.inputs[0]), REGIONS, classes])
    seed = ir.Value(name=SEED, shape=shape, type=ir.TensorType(ir.DataType.FLOAT))
    graph.inputs.append(seed)
    return Begin(row_pieces(dense)[0], _spread(graph, dense, seed))


def _seeded(graph: ir.Graph, logits: ir.Value, classes: int, start: Start) -> tuple[ir.Value, ir.Value]:
    """The tensor at which the walk begins, and the value there: the logits, or the dense scores that regions sum up."""
    seed, dense = start(graph, logits, classes), _named(graph, DENSE)
    if isinstance(seed, Begin):
        return seed
    return (logits, seed) if dense is None else (dense, _spread(graph, dense, seed))


def _spread(graph: ir.Graph, dense: ir.Value, seed: ir.Value) -> ir.Value:
    """The seed of dense scores [N,classes,positions] from that of regions [N,R,classes]: sum_r seed[r,c] where[r,p]."""
    [where] = [v for v in graph.inputs if v.name == WHERE]
    op = Ops(Emitter(graph, SEED), "regions", floats_of(dense))
    flat = op.Reshape(where, [0, 0, -1])  # [N,R,positions]
    result: ir.Value = op.MatMul(op.Transpose(seed, perm=[0, 2, 1]), flat)
    return result


def _named(graph: ir.Graph, name: str) -> ir.Value | None:
    """The tensor inside a graph that has a name; None if there is none."""
    return next((value for node in graph for value in node.outputs if value.name == name), None)


def _is_target(graph: ir.Graph, op: Ops, logits: ir.Value, classes: int, name: str = TARGET) -> ir.Value:
    """Whether a class is the target, [N,classes]; of regions [N,1,classes], for all of them. The target becomes an input."""
    target = ir.Value(name=name, shape=ir.Shape([batch_of(graph.inputs[0])]), type=ir.TensorType(ir.DataType.INT64))
    graph.inputs.append(target)
    column = op.Unsqueeze(target, [1])  # [N,1]
    dense = _named(graph, DENSE) is not None
    predicted = op.ArgMax(op.ReduceMean(logits, [1], keepdims=0) if dense else logits, axis=1, keepdims=1)
    chosen = op.Where(op.Equal(column, PREDICTED), predicted, column)
    # [1,classes] == [N,1]; a number that is no class equals none
    is_target: ir.Value = op.Equal(np.arange(classes)[None], op.Unsqueeze(chosen, [1]) if dense else chosen)
    return is_target


def gradient_graph(
    forward: ir.Graph, classes: int, table: RuleTable = vjp, start: Start = by_target_and_seed, layers: int = 1
) -> ir.Graph:
    """The forward graph with d(s . logits)/d(first input) as a further output `gradient`.

    Args:
        forward: activation or image (and side tensors) -> `logits` [N,classes] and other outputs; not changed.
        classes: Number of classes.
        table: The gradient rules.
        start: What the walk begins with.
        layers: How many layers get a gradient, see `backward_graph`.

    Returns:
        The forward's inputs, and those of `start` (`target` int64 [N], `seed` float32 [N,classes]) -> the forward's outputs,
        `gradient`, `gradient_1` ...

    Raises:
        RuleError: An operator on the way has no rule.
        GraphError: The network's input has a name that the graph needs.
    """
    return backward_graph(forward, classes, lambda _: table, GRADIENT, start, layers=layers)


class Ends(Protocol):
    """Where a walk goes to, and what its graph gives of what comes back there."""

    @property
    def names(self) -> Sequence[str]:
        """The names of the graph's further outputs."""

    def targets(self, graph: ir.Graph, logits: ir.Value, shapes: Measured) -> list[ir.Value]:
        """The tensors to which the walk goes."""

    def results(
        self, graph: ir.Graph, logits: ir.Value, shapes: Measured, targets: Sequence[ir.Value], back: Sequence[ir.Value]
    ) -> list[ir.Value]:
        """The further outputs, made of what came back at each target."""


@dataclass(frozen=True)
class Layers:
    """The first input, and the activations of further layers: the result at each is an output.

    Attributes:
        name: The name of the first one's output.
        count: How many tensors.
    """

    name: str
    count: int

    @property
    def names(self) -> list[str]:
        """See `Ends`."""
        return [at_level(self.name, level) for level in range(self.count)]

    def targets(self, graph: ir.Graph, logits: ir.Value, shapes: Measured) -> list[ir.Value]:
        """See `Ends`."""
        return [graph.inputs[0], *(_at(graph, level) for level in range(1, self.count))]

    def results(
        self, graph: ir.Graph, logits: ir.Value, shapes: Measured, targets: Sequence[ir.Value], back: Sequence[ir.Value]
    ) -> list[ir.Value]:
        """See `Ends`."""
        return [_result(graph, *of, logits.dtype) for of in zip(self.names, targets, back, strict=True)]


def backward_graph(
    forward: ir.Graph,
    classes: int,
    table_for: Callable[[ir.Graph], Table],
    name: str,
    start: Start = by_target_and_seed,
    prepare: Callable[[ir.Graph], object] = lambda graph: None,
    layers: int = 1,
    alone: bool = False,
    ends: Ends | None = None,
) -> ir.Graph:
    """As `gradient_graph`, for any table of rules.

    Half precision is computed as float32 (`precision`), and so are quantised activations (`quantised`) and layers on integers
    (`integers`). The graph's inputs and
    the forward's outputs keep their types. The result is float32 (float64 if the network computes in float64).

    Args:
        forward: As in `gradient_graph`.
        classes: As in `gradient_graph`.
        table_for: Gives the rules for the graph's copy that is walked.
        name: Name of the further output, which has the first input's shape; also the scope of the new nodes' names.
        start: What the walk begins with.
        prepare: Changes the copy in place before it is walked.
        layers: To how many tensors the walk goes: to the first input, and to those called `activation_1`, ..., which are inputs or
            computed on the way. Each has an output.
        alone: See `walker.propagate`.
        ends: Where the walk goes to, if not to `layers`.

    Raises:
        RuleError, GraphError: As in `gradient_graph`.
    """
    if forward.inputs[0].name in (TARGET, SEED):
        raise GraphError(
            f"the input is called {forward.inputs[0].name!r}, as an input that the gradient needs; rename it"
        )
    if start is by_target_and_seed:  # other starts make graphs that choose for themselves
        forward = taking(forward)
    graph = copied(forward)
    prepare(graph)
    ends = ends or Layers(name, layers)
    _free(graph, (TARGET, SEED, *ends.names))
    _infer_types(graph)
    to_layers(graph)
    computed = widen(graph)
    _infer_types(graph)
    if unroll(graph, lambda: measure(ir.Model(graph, ir_version=IR_VERSION))):
        _infer_types(graph)
    shapes = measure(ir.Model(graph, ir_version=IR_VERSION))
    [logits] = [v for v in graph.outputs if v.name == LOGITS]
    begin = _seeded(graph, logits, classes, start)
    walked = [computed.get(end, end) for end in ends.targets(graph, logits, shapes)]
    back = propagate(graph, *begin, walked, table_for(graph), shapes, name, alone)
    results = ends.results(graph, logits, shapes, walked, back)
    to_floats(graph, shapes)
    narrow_outputs(graph, forward)
    graph.outputs.extend(results)
    common.RemoveUnusedNodesPass()(ir.Model(graph, ir_version=IR_VERSION))
    graph.sort()
    return graph


def _free(graph: ir.Graph, names: Sequence[str]) -> None:
    """Tensors inside a graph give way to the names of new inputs and outputs."""
    for value in [*graph.initializers.values(), *(value for node in graph for value in node.outputs)]:
        if value.name in names:
            step_aside(graph, value)


def _result(graph: ir.Graph, name: str, end: ir.Value, back: ir.Value, logits: ir.DataType | None) -> ir.Value:
    """What came back to the tensor `end`, under its name; for an image of integers in the element type of the logits."""
    result = Emitter(graph, name).node("Identity", [back], "result")
    floats = end.dtype if end.dtype in FLOATS else logits
    result.name, result.shape = name, end.shape
    result.type = ir.TensorType(floats or ir.DataType.FLOAT)
    return result


def _at(graph: ir.Graph, level: int) -> ir.Value:
    """The activation of a further layer: an input, or computed on the way."""
    named = at_level(ACTIVATION, level)
    found = next((value for value in graph.inputs if value.name == named), None) or _named(graph, named)
    assert found is not None  # `cut.split` holds it under this name
    return found


def _infer_types(graph: ir.Graph) -> None:
    """Infer element types where some are missing."""
    if all(value.dtype is not None for node in graph for value in node.outputs):
        return
    model = ir.Model(graph, ir_version=IR_VERSION)
    common.ShapeInferencePass(check_type=False, strict_mode=False)(model)
    for node in graph:  # ONNX's inference gives none after GroupNormalization of opset 21
        x, y = node.inputs[0] if node.inputs else None, node.outputs[0]
        if node.op_type == "GroupNormalization" and x is not None and y.dtype is None and x.dtype is not None:
            y.dtype = x.dtype
            common.ShapeInferencePass(check_type=False, strict_mode=False)(model)
