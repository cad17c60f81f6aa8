"""Cut a graph at one tensor into head and tail.

The *side tensors* are the tensors that the tail needs beside the activation: inputs of the activation's descendants that are
neither constants, nor descendants, nor computed from the batch alone (the tail computes those again, from its own batch).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from xai_deploy.format.bundle import ACTIVATION, DENSE, LOGITS, RESERVED, SHARES, WHERE, Side

from ..errors import LayerError
from ..graph.emit import Emitter
from ..graph.layouts import Grid, from_channels_first, to_channels_first
from ..graph.measure import batch_of
from ..graph.reading import content_of, descendants
from ..graph.writing import rename
from ..passes.clean import CleanGraph
from .featuremap import find_grid
from .regions import REGIONS, add_regions
from .scores.logits import Logits

_MOVING = ("Concat", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


@dataclass(frozen=True)
class Cut:
    """The place at which a graph is cut.

    Attributes:
        target: The tensor.
        grid: How it holds the activation.
        sides: The tensors that pass beside the cut, in the graph's order. In the bundle, the target's own prefix tokens follow
            them as one more side tensor.
    """

    target: ir.Value
    grid: Grid
    sides: tuple[ir.Value, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """(K,h,w) of the activation; (K,d,h,w) in a network of volumes."""
        return self.grid.shape


@dataclass(frozen=True)
class Parts:
    """Head and tail, and for each of the network's own outputs the tail's tensor that holds it.

    If the network is not cut, each is the whole network.
    """

    head: ir.Graph
    tail: ir.Graph
    tensors: dict[str, str]


def plan_cut(clean: CleanGraph, target: ir.Value, logits: Logits, ends: Sequence[ir.Value], name: str) -> Cut:
    """Check that the graph can be cut at `target`, and find the side tensors.

    Args:
        clean: The graph.
        target: The tensor to cut at.
        logits: The explained output.
        ends: Further tensors that the tail has to give.
        name: The user's name for the layer, for messages.

    Raises:
        LayerError: The graph can't be cut there; the message says why.
    """
    if target in clean.graph.inputs:
        raise LayerError(f"{name!r} gives the image as it is; split at an activation after it")
    grid = find_grid(clean, target, name)
    if target.dtype is not None and target.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
        raise LayerError(f"{name!r} holds {target.dtype.name}, not floats; split after its DequantizeLinear")
    if logits.value not in descendants([target]) or logits.value is target:
        raise LayerError(f"the logits do not depend on {name!r}; split at a layer on the way to them")
    sides = side_tensors(clean, target, [logits.value, *ends])
    if (odd := without_batch(clean, sides)) is not None:
        raise LayerError(
            f"the cut at {name!r} needs {odd.name!r} beside it, whose shape {clean.shapes.two.get(str(odd.name))} "
            "does not start with the batch; split at another layer"
        )
    return Cut(target, grid, sides)


def without_batch(clean: CleanGraph, sides: Sequence[ir.Value]) -> ir.Value | None:
    """The first side tensor that does not start with the batch, and so can't pass a cut; None if all can."""
    return next((side for side in sides if clean.shapes.per_image(side.name) is None), None)


def side_tensors(clean: CleanGraph, target: ir.Value, ends: Sequence[ir.Value]) -> tuple[ir.Value, ...]:
    """The tensors that `ends` need beside `target`; see the module's docstring.

    If one does not start with the batch because its elements were moved (the logits of another branch, stacked to be averaged),
    the tail takes the tensors before that, and moves the elements itself.
    """
    after = descendants([target])
    data = descendants(clean.graph.inputs)
    if clean.batch is not None:  # tensors computed from the batch alone are no data
        data -= descendants([clean.batch]) - content_of(clean.graph.inputs[0])
    # back from the ends; a path stops at the target, at the batch, or at a side tensor
    sides: set[ir.Value] = set()
    pending, seen = list(ends), set()
    while pending:
        value = pending.pop()
        if value in seen or value is target or value is clean.batch:
            continue
        seen.add(value)
        producer = value.producer()
        moved = producer is not None and producer.op_type in _MOVING and clean.shapes.per_image(value.name) is None
        if value in data and value not in after and not moved:
            sides.add(value)
            continue
        if producer is not None:
            pending.extend(v for v in producer.inputs if v is not None)
    return tuple(v for node in clean.graph for v in node.outputs if v in sides) + tuple(
        v for v in clean.graph.inputs if v in sides
    )


def split(clean: CleanGraph, cut: Cut, logits: Logits) -> Parts:
    """Head and tail of a planned cut, with the bundle's tensor names.

    Head: image -> `activation` [N,K,h,w], `side_0`, ...; tail: these -> `logits` [N,classes] and the network's outputs.
    """
    graph = clean.graph
    head = ir.convenience.extract(graph, graph.inputs, [cut.target, *cut.sides])
    ends = list(dict.fromkeys([logits.value, *graph.outputs]))
    passed_on = [v for v in ends if v in cut.sides]  # outputs that do not depend on the activation
    computed = [v for v in ends if v not in passed_on]
    batch = [] if clean.batch is None else [clean.batch]
    tail = ir.convenience.extract(graph, [cut.target, *cut.sides, *batch], computed)
    in_tail = dict(zip(computed, tail.outputs, strict=True))
    in_tail |= {v: tail.inputs[1 + cut.sides.index(v)] for v in passed_on}
    if batch:  # so far it is the tail's last input, which bounds the extraction
        _batch_from_activation(tail)
    _finish_head(head, cut, clean)
    tensors = _finish_tail(tail, cut, clean, logits, [(str(v.name), v, in_tail[v]) for v in graph.outputs])
    return Parts(head, tail, tensors)


def _finish_head(head: ir.Graph, cut: Cut, clean: CleanGraph) -> None:
    emit = Emitter(head, "head")
    target, *sides = head.outputs
    activation, *prefix = to_channels_first(emit, target, cut.grid)
    outputs = [activation, *sides, *prefix]
    # the image as a side tensor needs a second name
    outputs = [emit.node("Identity", [v], "image") if v in head.inputs else v for v in outputs]
    _replace_outputs(head, outputs)
    rename(head, dict(zip(outputs, [ACTIVATION, *side_names(cut)], strict=True)))
    batch = batch_of(clean.graph.inputs[0])
    _declare(head.inputs[0], clean.image_shape, head.inputs[0].dtype, batch)
    for value, (shape, dtype) in zip(outputs, _passed(cut, clean), strict=True):
        _declare(value, shape, dtype, batch)


def _finish_tail(
    tail: ir.Graph, cut: Cut, clean: CleanGraph, logits: Logits, outputs: Sequence[tuple[str, ir.Value, ir.Value]]
) -> dict[str, str]:
    """Name inputs and outputs; returns own output name -> tail tensor."""
    if cut.grid.layout not in ("NCHW", "NCDHW"):
        # the tail takes [N,K,h,w], and computes the tensor in its own layout from it
        native, activation = tail.inputs[0], ir.Value(name="activation/new")
        tail.inputs[0] = activation
        prefix = ir.Value(name="prefix/new") if cut.grid.prefix else None
        if prefix is not None:
            tail.inputs.append(prefix)
        again = from_channels_first(Emitter(tail, "tail"), activation, prefix, cut.grid)
        native.replace_all_uses_with(again, replace_graph_outputs=True)
        outputs = [(name, source, again if value is native else value) for name, source, value in outputs]
        tail.sort()
    rename(tail, dict(zip(tail.inputs, [ACTIVATION, *side_names(cut)], strict=True)))
    for value, (shape, dtype) in zip(tail.inputs, _passed(cut, clean), strict=True):
        _declare(value, shape, dtype, batch_of(clean.graph.inputs[0]))
    return _finish_outputs(tail, cut, clean, logits, outputs)


def whole(clean: CleanGraph, cut: Cut | None, logits: Logits, further: ir.Value | None = None) -> Parts:
    """The network uncut: image -> `logits` and the network's outputs, with the names that they have in the tail.

    Args:
        clean: The graph.
        cut: Where it is cut; None if the bundle holds no cut.
        logits: What is explained.
        further: A tensor that becomes the last output, under its own name.
    """
    graph = clean.graph
    ends = list(dict.fromkeys([logits.value, *graph.outputs, *([] if further is None else [further])]))
    copy = ir.convenience.extract(graph, graph.inputs, ends)
    copied = dict(zip(ends, copy.outputs, strict=True))
    _declare(copy.inputs[0], clean.image_shape, graph.inputs[0].dtype, batch_of(graph.inputs[0]))
    tensors = _finish_outputs(copy, cut, clean, logits, [(str(v.name), v, copied[v]) for v in graph.outputs])
    if further is not None and copied[further] not in copy.outputs:
        copy.outputs.append(copied[further])
    return Parts(copy, copy, tensors)


def _finish_outputs(
    graph: ir.Graph,
    cut: Cut | None,
    clean: CleanGraph,
    logits: Logits,
    outputs: Sequence[tuple[str, ir.Value, ir.Value]],
) -> dict[str, str]:
    """Name and declare the outputs, the logits first; returns own output name -> tensor.

    An output whose name a bundle reserves gets the prefix "output/".
    """
    emit, batch = Emitter(graph, "tail"), batch_of(clean.graph.inputs[0])
    flat = graph.outputs[0]
    if logits.is_dense:
        return _finish_dense(graph, cut, clean, logits, outputs)
    if clean.shapes.per_image(logits.value.name) != (logits.classes,):
        flat = emit.node("Reshape", [flat, emit.ints([-1, logits.classes], "logits_shape")], "logits")
    _declare(flat, (logits.classes,), logits.value.dtype, batch)
    return _name_outputs(graph, cut, clean, outputs, {flat: LOGITS})


def _finish_dense(
    graph: ir.Graph,
    cut: Cut | None,
    clean: CleanGraph,
    logits: Logits,
    outputs: Sequence[tuple[str, ir.Value, ir.Value]],
) -> dict[str, str]:
    """As `_finish_outputs`, for dense scores: logits are weighted sums of the scores at all positions."""
    emit, batch = Emitter(graph, "tail"), batch_of(clean.graph.inputs[0])
    regions = add_regions(emit, graph.outputs[0], logits, batch)
    graph.inputs.append(regions.where)
    results = {regions.scores: LOGITS} | ({} if regions.shares is None else {regions.shares: SHARES})
    for value in results:
        value.shape, value.type = ir.Shape([batch, REGIONS, logits.classes]), ir.TensorType(ir.DataType.FLOAT)
    tensors = _name_outputs(graph, cut, clean, outputs, results)
    rename(graph, {regions.dense: DENSE, regions.where: WHERE})
    return tensors


def _name_outputs(
    graph: ir.Graph,
    cut: Cut | None,
    clean: CleanGraph,
    outputs: Sequence[tuple[str, ir.Value, ir.Value]],
    results: dict[ir.Value, str],
) -> dict[str, str]:
    """Add the network's own outputs to a graph's results, tensor -> name; returns own output name -> tensor."""
    emit, batch, own = Emitter(graph, "tail"), batch_of(clean.graph.inputs[0]), set(results)
    reserved = (*RESERVED, *side_names(cut))
    tensors = {}
    for name, source, value in outputs:
        result = emit.node("Identity", [value], "passed_on") if value in graph.inputs else value
        # an output that is the logits, or another output again, is one tensor with one name
        tensors[name] = results.setdefault(result, f"output/{name}" if name in reserved else name)
        if result not in own:
            _declare(result, clean.shapes.two[str(source.name)][1:], source.dtype, batch)
    _replace_outputs(graph, list(results))
    rename(graph, results)
    graph.sort()
    return tensors


def _batch_from_activation(tail: ir.Graph) -> None:
    """The tail's batch is its activation's: Shape(activation)[0] in place of the bounding input."""
    stand_in = tail.inputs.pop()
    batch = Emitter(tail, "tail").node("Shape", [tail.inputs[0]], "batch", {"start": 0, "end": 1})
    stand_in.replace_all_uses_with(batch)
    tail.sort()


def _passed(cut: Cut, clean: CleanGraph) -> list[tuple[tuple[int, ...], ir.DataType | None]]:
    """Shape (without the batch) and element type of what head gives to tail: the activation, the side tensors."""
    own = clean.shapes.two[str(cut.target.name)][1:]
    prefix = [((cut.grid.prefix, own[1]), cut.target.dtype)] if cut.grid.prefix else []
    sides = [(clean.shapes.two[str(side.name)][1:], side.dtype) for side in cut.sides]
    return [(cut.shape, cut.target.dtype), *sides, *prefix]


def side_tensors_of(cut: Cut, clean: CleanGraph) -> list[Side]:
    """The side tensors as the manifest records them."""
    return [
        Side(name, shape, dtype.numpy().name if dtype else "float32")
        for name, (shape, dtype) in zip(side_names(cut), _passed(cut, clean)[1:], strict=True)
    ]


def _declare(value: ir.Value, shape: Sequence[int], dtype: ir.DataType | None, batch: int | str) -> None:
    value.shape = ir.Shape([batch, *shape])
    value.type = ir.TensorType(dtype or ir.DataType.FLOAT)


def _replace_outputs(graph: ir.Graph, outputs: Sequence[ir.Value]) -> None:
    graph.outputs.clear()
    graph.outputs.extend(outputs)


def side_names(cut: Cut | None) -> list[str]:
    """The side tensors' names in the bundle."""
    if cut is None:
        return []
    return [f"side_{i}" for i in range(len(cut.sides) + bool(cut.grid.prefix))]
