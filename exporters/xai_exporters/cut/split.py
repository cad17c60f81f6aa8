"""Cut a graph at one tensor, or at several, into head and tails.

With several layers there is one head. Each layer has the tail that it would have alone. A further tail serves all layers
together: it starts at the layers that lie after no other one, and computes the activations of the others on its way.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from xai_deploy.format.bundle import DENSE, LOGITS, RESERVED, SHARES, WHERE

from ..graph.emit import Emitter
from ..graph.layouts import from_channels_first, to_channels_first
from ..graph.measure import batch_of
from ..graph.reading import descendants
from ..graph.writing import rename
from ..passes.clean import CleanGraph
from .chosen import choices, give
from .plan import Cut, as_given, passed, side_tensors
from .regions import REGIONS, add_regions
from .scores.logits import Logits


@dataclass(frozen=True)
class Parts:
    """The parts of a network; head and tail are both the whole of it if it is not cut.

    Attributes:
        head: Image -> the activations and side tensors of all layers.
        tail: The first layer's tail.
        tensors: For each of the network's own outputs the tail's tensor that holds it.
        further: The tails of the further layers.
        joint: The tail for all layers together; it holds a tensor under the name of each activation.
        chosen: The names of the places that the first tail gives, see `chosen.give`.
    """

    head: ir.Graph
    tail: ir.Graph
    tensors: dict[str, str]
    further: tuple[ir.Graph, ...] = ()
    joint: ir.Graph | None = None
    chosen: tuple[str, ...] = ()


def split(clean: CleanGraph, cut: Cut, logits: Logits, further: Sequence[Cut] = ()) -> Parts:
    """Head and tails of a planned cut, with the bundle's tensor names.

    Head: image -> `activation` [N,K,h,w], `side_0`, ...; tail: these -> `logits` [N,classes] and the network's outputs.

    Args:
        clean: The graph.
        cut: The cut at the first layer.
        logits: What is explained.
        further: The cuts at further layers.
    """
    cuts = (cut, *further)
    head = _head(clean, cuts)
    tail, tensors = _tail(clean, logits, [cut], cut.sides)
    tails = tuple(_tail(clean, logits, [other], other.sides)[0] for other in further)
    joint = _joint(clean, logits, cuts) if further else None
    rows = logits.scores.rows
    chosen = () if rows is None or rows.chosen_inside else tuple(choices(tail))
    for graph in (tail, *tails, *(() if joint is None else (joint,))):
        give(graph, clean.shapes.two, batch_of(clean.graph.inputs[0]), chosen)
    return Parts(head, tail, tensors, tails, joint, chosen)


def _head(clean: CleanGraph, cuts: Sequence[Cut]) -> ir.Graph:
    """Image -> the activations and the side tensors of all layers."""
    wanted = list(dict.fromkeys(value for cut in cuts for value in (cut.target, *cut.sides)))
    head = ir.convenience.extract(clean.graph, clean.graph.inputs, wanted)
    copied = dict(zip(wanted, head.outputs, strict=True))
    emit = Emitter(head, "head")
    outputs: dict[ir.Value, str] = {}
    declared = []
    for cut in cuts:
        activation, *beside = to_channels_first(emit, copied[cut.target], cut.grid)
        values = [activation, *(copied[side] for side in cut.sides), *beside]
        for value, name, how in zip(values, (cut.activation, *cut.names), passed(cut, clean), strict=True):
            if name in outputs.values():  # a side tensor of an earlier layer, too
                continue
            # the image as a side tensor needs a second name, and so does a layer that is a side tensor of another one
            again = "image" if value in head.inputs else "again" if value in outputs else None
            given = value if again is None else emit.node("Identity", [value], again)
            outputs[given] = name
            declared.append((given, how))
    _replace_outputs(head, list(outputs))
    rename(head, outputs)
    batch = batch_of(clean.graph.inputs[0])
    _declare(head.inputs[0], clean.image_shape, head.inputs[0].dtype, batch)
    for value, (shape, dtype) in declared:
        _declare(value, shape, dtype, batch)
    return head


def _tail(
    clean: CleanGraph, logits: Logits, cuts: Sequence[Cut], sides: Sequence[ir.Value], inner: Sequence[Cut] = ()
) -> tuple[ir.Graph, dict[str, str]]:
    """The graph from some layers to the outputs.

    Args:
        clean: The graph.
        logits: What is explained.
        cuts: The layers at which it starts.
        sides: The tensors that it needs beside them.
        inner: Layers whose activations it computes, and holds in the form in which a head gives them.

    Returns:
        The tail, and own output name -> tail tensor.
    """
    graph = clean.graph
    ends = list(dict.fromkeys([logits.value, *graph.outputs]))
    passed_on = [v for v in ends if v in sides]  # outputs that do not depend on the activations
    computed = [v for v in ends if v not in passed_on]
    batch = [] if clean.batch is None else [clean.batch]
    tail = ir.convenience.extract(graph, [*(cut.target for cut in cuts), *sides, *batch], computed)
    in_tail = dict(zip(computed, tail.outputs, strict=True))
    in_tail |= {v: tail.inputs[len(cuts) + list(sides).index(v)] for v in passed_on}
    if batch:  # so far it is the tail's last input, which bounds the extraction
        _batch_from_activation(tail)
    outputs = [(str(v.name), v, in_tail[v]) for v in graph.outputs]
    marked = _hold(tail, inner, clean)
    outputs = _take_activations(tail, clean, cuts, sides, outputs)
    rename(tail, marked)
    return tail, _finish_outputs(tail, cuts[0], clean, logits, outputs)


def _joint(clean: CleanGraph, logits: Logits, cuts: Sequence[Cut]) -> ir.Graph:
    """The tail for all layers together; see the module's docstring."""
    starts = [cut for cut in cuts if not any(cut.target in descendants([o.target]) for o in cuts if o is not cut)]
    after = descendants([cut.target for cut in starts])
    ends = [logits.value, *clean.graph.outputs]
    sides = side_tensors(clean, [cut.target for cut in starts], ends)
    inner = [cut for cut in cuts if cut.target in after and cut not in starts]
    return _tail(clean, logits, starts, sides, inner)[0]


def _hold(tail: ir.Graph, inner: Sequence[Cut], clean: CleanGraph) -> dict[ir.Value, str]:
    """Make the activations of layers inside a tail as the head does, and let the tail go on from these; tensor -> its name."""
    emit, marked = Emitter(tail, "layer"), {}
    by_name = {str(value.name): value for node in tail for value in node.outputs}
    for cut in inner:
        own = by_name[str(cut.target.name)]
        uses = list(own.uses())
        activation, *beside = to_channels_first(emit, own, cut.grid)
        if activation is own:
            activation = emit.node("Identity", [own], "activation")
        again = from_channels_first(emit, activation, beside[0] if beside else None, cut.grid)
        for node, position in uses:
            node.replace_input_with(position, again)
        _declare(activation, cut.shape, cut.target.dtype, batch_of(clean.graph.inputs[0]))
        marked[activation] = cut.activation
    if inner:
        tail.sort()
    return marked


def _take_activations(
    tail: ir.Graph,
    clean: CleanGraph,
    cuts: Sequence[Cut],
    sides: Sequence[ir.Value],
    outputs: list[tuple[str, ir.Value, ir.Value]],
) -> list[tuple[str, ir.Value, ir.Value]]:
    """Let a tail take the activations as the head gives them, and name its inputs.

    Args:
        tail: The tail; its first inputs are the layers' tensors in their own layouts.
        clean: The graph.
        cuts: The layers.
        sides: The tensors beside them.
        outputs: The network's outputs: their names, their tensors in the graph, and in the tail.

    Returns:
        The outputs, with the tensors that the tail has now.
    """
    named = {side: name for cut in cuts for side, name in zip(cut.sides, cut.names, strict=False)}
    forms = [passed(cut, clean) for cut in cuts]
    names = [*(cut.activation for cut in cuts), *(named[side] for side in sides)]
    shapes = [*(form[0] for form in forms), *(as_given(side, clean) for side in sides)]
    for position, (cut, form) in enumerate(zip(cuts, forms, strict=True)):
        if cut.grid.layout in ("NCHW", "NCDHW"):
            continue
        # the tail takes [N,K,h,w], and computes the tensor in its own layout from it
        native, activation = tail.inputs[position], ir.Value(name="activation/new")
        tail.inputs[position] = activation
        beside = ir.Value(name="beside/new") if cut.grid.beside else None
        if beside is not None:
            tail.inputs.append(beside)
            names.append(cut.names[-1])
            shapes.append(form[-1])
        again = from_channels_first(Emitter(tail, "tail"), activation, beside, cut.grid)
        native.replace_all_uses_with(again, replace_graph_outputs=True)
        outputs = [(name, source, again if value is native else value) for name, source, value in outputs]
        tail.sort()
    rename(tail, dict(zip(tail.inputs, names, strict=True)))
    for value, (shape, dtype) in zip(tail.inputs, shapes, strict=True):
        _declare(value, shape, dtype, batch_of(clean.graph.inputs[0]))
    return outputs


def whole(
    clean: CleanGraph,
    cut: Cut | None,
    logits: Logits,
    further: ir.Value | None = None,
    chosen: Collection[str] | None = None,
) -> Parts:
    """The network uncut: image -> `logits` and the network's outputs, with the names that they have in the tail.

    Args:
        clean: The graph.
        cut: Where it is cut; None if the bundle holds no cut.
        logits: What is explained.
        further: A tensor that becomes the last output, under its own name.
        chosen: The places of a detector's TopK that it gives; None: all.
    """
    graph = clean.graph
    ends = list(dict.fromkeys([logits.value, *graph.outputs, *([] if further is None else [further])]))
    copy = ir.convenience.extract(graph, graph.inputs, ends)
    copied = dict(zip(ends, copy.outputs, strict=True))
    _declare(copy.inputs[0], clean.image_shape, graph.inputs[0].dtype, batch_of(graph.inputs[0]))
    tensors = _finish_outputs(copy, cut, clean, logits, [(str(v.name), v, copied[v]) for v in graph.outputs])
    if further is not None and copied[further] not in copy.outputs:
        copy.outputs.append(copied[further])
    rows = logits.scores.rows
    names = () if rows is None or rows.chosen_inside else tuple(choices(copy) if chosen is None else chosen)
    give(copy, clean.shapes.two, batch_of(graph.inputs[0]), names)
    return Parts(copy, copy, tensors, chosen=names)


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
    if logits.scores.rows is not None:  # of which detections are made
        results[regions.dense] = DENSE
    for value in results:
        if value is regions.dense:
            _declare(value, logits.scores.shape, ir.DataType.FLOAT, batch)
            continue
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
    reserved = (*RESERVED, *(() if cut is None else cut.taken))
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


def _declare(value: ir.Value, shape: Sequence[int], dtype: ir.DataType | None, batch: int | str) -> None:
    value.shape = ir.Shape([batch, *shape])
    value.type = ir.TensorType(dtype or ir.DataType.FLOAT)


def _replace_outputs(graph: ir.Graph, outputs: Sequence[ir.Value]) -> None:
    graph.outputs.clear()
    graph.outputs.extend(outputs)
