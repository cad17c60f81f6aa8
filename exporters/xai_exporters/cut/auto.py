"""`--split auto`: the last feature map that leads to the logits alone, before the pooling and the operators that belong to it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from itertools import chain

import onnx_ir as ir

from ..errors import LayerError
from ..graph.reading import ancestors, attribute, content_of, descendants, signals
from ..passes.clean import CleanGraph
from .activated import is_activated
from .featuremap import is_feature_map
from .normalised import is_normalised
from .plan import side_tensors, without_batch
from .pooling import before_pooling
from .scores.logits import Logits

log = logging.getLogger(__name__)

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)
_ONE_BY_ONE = (
    *("Concat", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"),
    *("Cast", "DequantizeLinear", "QuantizeLinear", "Add", "Div", "Mul", "Sub", "Clip"),
)
"""What moves elements or changes each by constants alone."""
_ROUNDING = ("Round", "Floor", "Ceil", "Max", "Min")
_NO_MAP = (
    "auto: {!r} is the image itself, scaled or rounded: no feature map leads to the logits, so maps show its pixels"
)
_SELECTING = ("Gather", "GatherElements", "GatherND", "Slice", "Split")


def auto_layer(clean: CleanGraph, logits: Logits) -> tuple[ir.Value, str | None]:
    """The first of `auto_layers`; its note is logged.

    Raises:
        LayerError: There is none.
    """
    chosen, note = next(auto_layers(clean, logits))
    if note is not None:
        log.warning("%s", note)
    return chosen, note


def auto_layers(clean: CleanGraph, logits: Logits) -> Iterator[tuple[ir.Value, str | None]]:
    """The last feature map that leads to the logits without side tensors, then those that `auto` takes if that one is refused.

    A map whose cells are the scores themselves, in another order, comes after all others: it says nothing of where they come from.
    So does the image itself, scaled or rounded, as in a network without a feature map (an MLP).

    If the network attends between tokens after it, the result is the last normalised tokens that attention reads. (After the last
    attention, the patch tokens of a ViT lead nowhere: only the class token is read.)

    Yields:
        A tensor, and a note for the user if positions are mixed once more after it, else None.

    Raises:
        LayerError: There is no such tensor.
    """
    leading = ancestors([logits.value])
    image = clean.graph.inputs[0]
    own = content_of(image) | {image}  # what other images' branches give may pass beside any layer; sizes may, too
    pixels = _pixels(image)
    order = _in_order(clean, (leading & own) - {logits.value}, pixels, _themselves(logits.value))
    softmaxes = [v for v in order if _op(v) == "Softmax"]
    mixing = ancestors(v for v in softmaxes if _mixes(clean, v))  # an attention between tokens follows
    reading = ancestors(v for v in softmaxes if _reads(clean, v))  # some attention follows, if only a class token's
    pooled = _pooled(clean, leading)
    if logits.is_dense:
        yield from ((value, None) for value in _coarsest(clean, logits.value, order, reading, pooled))
        return

    def straight(value: ir.Value) -> bool:
        return value not in mixing and own.isdisjoint(side_tensors(clean, value, [logits.value]))

    def of_each_image(value: ir.Value) -> bool:
        return without_batch(clean, side_tensors(clean, value, [logits.value, *clean.graph.outputs])) is None

    # rank: 2 for tokens [T,K], 3 for maps
    def first(value: ir.Value, rank: int) -> bool:
        if value in reading and rank == 2 and is_normalised(clean, value, by_length=False):
            return of_each_image(value)
        return (rank == 3 or not mixing) and straight(value) and (rank == 3 or value in pooled)

    def second(value: ir.Value, rank: int) -> bool:
        return straight(value) and value in pooled

    def third(value: ir.Value, rank: int) -> bool:
        return value in reading and rank == 2 and is_normalised(clean, value, by_length=True) and of_each_image(value)

    # The second choice also takes tokens after the last attention, if all positions are pooled. Tokens in another order than the
    # image's come after it: a network brings them back into the image's order in its last maps. The third choice also takes
    # tokens that attention reads divided by their length.
    ways = [(way, any_order) for ways in ((first, second), (third,)) for any_order in (False, True) for way in ways]
    given: set[ir.Value] = set()
    for last in chain.from_iterable(_from_last(clean, order, *way) for way in ways):
        chosen = before_pooling(clean, last)
        if chosen in pixels and chosen not in given:
            yield chosen, _NO_MAP.format(chosen.name)
        elif chosen not in given:
            yield chosen, None if chosen in reading else _mixed_after(clean, chosen, leading)
        given.add(chosen)
    if not given:
        raise _no_layer(clean, "straight to the logits, and no tokens of patches")


def _no_layer(clean: CleanGraph, where: str) -> LayerError:
    rank = len(clean.image_shape) + 1
    return LayerError(f"no {rank}-D activation leads {where}; name a layer with --split (--list-layers shows them)")


def _in_order(
    clean: CleanGraph, between: set[ir.Value], pixels: set[ir.Value], scores: set[ir.Value]
) -> list[ir.Value]:
    """Tensors in the graph's order, but those of the image and of the scores themselves first: the last one is tried first."""
    order = [v for node in clean.graph for v in node.outputs if v in between]
    return sorted(order, key=lambda v: 0 if v in pixels else 1 if v in scores else 2)


def _themselves(scores: ir.Value) -> set[ir.Value]:
    """The tensors whose elements are the scores in another order, one by one, up to constants: anchors' scores as [A,h,w]."""
    pending, seen = [scores], {scores}
    while pending:
        node = pending.pop().producer()
        before = signals(node) if node is not None and node.op_type in _ONE_BY_ONE else []
        if len(before) == 1 or (node is not None and node.op_type == "Concat"):
            pending += [value for value in before if value not in seen]
            seen.update(before)
    return seen


def _pixels(image: ir.Value) -> set[ir.Value]:
    """The tensors whose elements are those of an input one by one, up to constants and rounding."""
    pending, seen = [image], {image}
    for value in pending:
        for node, _ in value.uses():
            if (node.op_type in _ONE_BY_ONE or node.op_type in _ROUNDING) and signals(node) == [value]:
                pending += [own for own in node.outputs if own not in seen]
                seen.update(node.outputs)
    return seen


def _read(clean: CleanGraph, order: list[ir.Value], reading: set[ir.Value], pooled: set[ir.Value]) -> list[ir.Value]:
    """Those of the tensors whose positions scores without positions read; all tensors if none is known to be read.

    YOLOS reads its detection tokens alone. Its last tokens of patches that count are the normalised ones that attention reads.

    Args:
        clean: The graph.
        order: The tensors.
        reading: Those that an attention after them reads.
        pooled: Those of which all positions are read.
    """

    def is_read(value: ir.Value) -> bool:
        return value in pooled or (value in reading and is_normalised(clean, value, by_length=False))

    return list(filter(is_read, order)) or order


def _coarsest(
    clean: CleanGraph, scores: ir.Value, order: list[ir.Value], reading: set[ir.Value], pooled: set[ir.Value]
) -> Iterator[ir.Value]:
    """For dense scores: the last activations of the coarsest maps, where the network has seen the most of its image.

    In the finest maps before the scores, what is explained at a position lies at that position.
    """
    maps = []
    read = order if _has_places(clean, scores) else _read(clean, order, reading, pooled)
    for value in reversed(read):
        grid = is_feature_map(clean, value) if value.dtype in FLOATS else None
        if grid is not None and min(grid.shape[1:]) > 1 and grid.order is None:
            maps.append((math.prod(grid.shape[1:]), value))
    if not maps:
        raise _no_layer(clean, "to the scores")
    fewest = min(count for count, _ in maps)
    coarse = [value for count, value in maps if count == fewest]
    # an activation function's result, if there is one: what a linear layer gives has not been decided upon yet
    yield from sorted(coarse, key=lambda value: not is_activated(value))


def _from_last(
    clean: CleanGraph, order: list[ir.Value], wanted: Callable[[ir.Value, int], bool], any_order: bool
) -> Iterator[ir.Value]:
    for value in reversed(order):
        if value.dtype not in FLOATS:
            continue
        grid = is_feature_map(clean, value)
        # a map of one position shows nothing
        if grid is None or math.prod(grid.shape[1:]) < 2 or (grid.order is not None and not any_order):
            continue
        if wanted(value, 2 if grid.layout == "NTC" else 3):
            yield value


def _op(value: ir.Value) -> str:
    producer = value.producer()
    return "" if producer is None else producer.op_type


def _mixes(clean: CleanGraph, softmax: ir.Value) -> bool:
    """Whether a Softmax weighs positions for each position; one that can't be followed counts as if it did."""
    traced = clean.positions.get(softmax)
    return traced is not None and (len(traced.strands) > 1 or "can't be followed" in traced.why)


def _reads(clean: CleanGraph, softmax: ir.Value) -> bool:
    """Whether a Softmax weighs positions, even if only for one query."""
    traced, producer = clean.positions.get(softmax), softmax.producer()
    if traced is None or producer is None:
        return False
    axis = attribute(producer, "axis", -1) % max(len(clean.shapes.two[str(softmax.name)]), 1)
    return any(axis in strand.axes for strand in traced.strands)


def _has_places(clean: CleanGraph, value: ir.Value) -> bool:
    """Whether it is known where in the image the elements come from."""
    traced = clean.positions.get(value)
    return traced is not None and bool(traced.strands)


def _pooled(clean: CleanGraph, leading: set[ir.Value]) -> set[ir.Value]:
    """The tensors of which all positions are read in the end, not one token alone.

    Args:
        clean: The graph.
        leading: The tensors that lead to the scores.
    """
    pooled: set[ir.Value] = set()
    for node in reversed(clean.graph):
        # Without positions a path ends: in the selection of some tokens, or else in a sum over all of them.
        if any(
            output in pooled if _has_places(clean, output) else node.op_type not in _SELECTING
            for output in node.outputs
            if output in leading
        ):
            pooled.update(value for value in node.inputs if value is not None)
    return pooled


def _mixed_after(clean: CleanGraph, value: ir.Value, leading: set[ir.Value]) -> str | None:
    """A note for the user if positions are mixed once more between a tensor and the logits; else None."""
    after = descendants([value]) & leading - {value}
    windows = [
        node
        for node in clean.graph
        if node.outputs[0] in after and clean.positions[node.outputs[0]].strands and _window(clean, node) > 1
    ]
    if not windows:
        return None
    last = windows[-1]
    return (
        f"auto: {str(value.name)!r} lies before the last spatial mixing, {str(last.outputs[0].name)!r} ({last.op_type}): "
        "after that no tensor is a feature map that leads to the logits alone; --list-layers shows the other cuts"
    )


def _window(clean: CleanGraph, node: ir.Node) -> int:
    """The largest side of a node's window, in positions; 1 for a node without a window."""
    if node.op_type in ("Conv", "ConvTranspose", "ConvInteger", "QLinearConv"):
        weight = node.inputs[3 if node.op_type == "QLinearConv" else 1]
        return max(clean.shapes.dims(weight)[2:] if weight is not None else (), default=1) or 1  # type: ignore[type-var]
    return max(attribute(node, "kernel_shape", (1,))) if node.op_type in ("MaxPool", "AveragePool", "LpPool") else 1
