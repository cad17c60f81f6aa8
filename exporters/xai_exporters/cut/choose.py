"""Choose the scores to explain and the tensor to cut at: as the request names them, or by search."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from ..errors import LayerError, OtherInputError
from ..graph.measure import IMAGE
from ..graph.reading import content_of
from ..passes.clean import CleanGraph
from ..request import Request, layer_names
from .auto import auto_layer, auto_layers
from .costs import candidates, no_cut
from .detector_layers import detector_layers
from .featuremap import find_grid
from .followed import Followed, follow
from .layer import find_layer, is_layer
from .scores.detectors.detector import UNNAMED, Names
from .scores.foreign_outputs import drop_foreign_outputs
from .scores.logits import Logits, find_scores

log = logging.getLogger(__name__)

_TRIES = 3
"""How many of the layers that `auto` would take are measured."""


@dataclass(frozen=True)
class Layer:
    """A layer to cut at: its tensor, its name for the user, and a note about it (None if nothing is unusual)."""

    target: ir.Value
    name: str
    note: str | None


@dataclass(frozen=True)
class Choice:
    """The scores to explain, and the tensors to cut at.

    Attributes:
        target: The tensor to cut at; None: the network stays whole.
        logits: The scores to explain.
        dropped: The names of the outputs that were removed, because they are not one result per image.
        note: A note for the user about the layers; None if nothing is unusual.
        name: The user's name for `target`; None: the request's `split`.
        further: The other layers, if there are several.
    """

    target: ir.Value | None
    logits: Logits
    dropped: tuple[str, ...]
    note: str | None
    name: str | None = None
    further: tuple[Layer, ...] = ()


def choose(graph: CleanGraph, request: Request, taps: Mapping[str, str], whole: bool, names: Names = UNNAMED) -> Choice:
    """Find the scores to explain and the tensors to cut at. Taps and foreign outputs are removed from the graph's outputs.

    If `auto` finds no layer, the network stays whole, and the note says why.

    Args:
        graph: The graph; its outputs change.
        request: The export; its `split` and `output` are read.
        taps: Layer -> name of the output that carries it, for the layers that the source could tap.
        whole: Look for no layer.
        names: How many classes are named.

    Raises:
        LayerError: No layer has that name, or several names are not several layers.
        RequestError, GraphError: See `find_scores`.
    """
    tapped = _take_taps(graph, taps)
    logits = find_scores(graph, request.output, request.task, request.decoder, names)
    dropped = drop_foreign_outputs(graph, logits)
    if whole:
        return Choice(None, logits, dropped, None)
    if request.split == "auto":
        return _auto(graph, logits, dropped)
    first, *further = _layers(graph, request.split, tapped)
    note = "; ".join(one.note for one in (first, *further) if one.note is not None) or None
    return Choice(first.target, logits, dropped, note, first.name, tuple(further))


def _layers(graph: CleanGraph, split: str, tapped: Mapping[str, ir.Value]) -> list[Layer]:
    """The layers that `split` names.

    Args:
        graph: The graph.
        split: The names; see `layer_names`. A tensor whose own name is all of it comes first.
        tapped: Layer -> tensor, for the layers that the source tapped.

    Raises:
        LayerError: A layer does not exist, is named twice, or has no name.
    """
    names = layer_names(split)
    if len(names) > 1 and is_layer(graph.graph, split):
        names = (split,)
    layers: list[Layer] = []
    for name in names:
        if len(names) > 1 and name in ("", "auto"):
            what = "a layer without a name" if not name else "auto, which is one layer, beside others"
            raise LayerError(f"--split {split}: {what}; name each layer")
        layer = Layer(tapped[name], name, None) if name in tapped else Layer(*_found(graph, name))
        if (same := next((one for one in layers if one.target is layer.target), None)) is not None:
            both = f"{name!r} twice" if same.name == name else f"{same.name!r} and {name!r}, which are one tensor"
            raise LayerError(f"--split {split}: {both}; name each layer once")
        layers.append(layer)
    if all(graph.image_of(layer.target) is not graph.graph.inputs[0] for layer in layers):
        _require_explained(graph, layers[0].target, layers[0].name)
    return layers


def _found(graph: CleanGraph, name: str) -> tuple[ir.Value, str, str | None]:
    target, note = find_layer(graph.graph, name)
    return target, name, note


def _require_explained(graph: CleanGraph, target: ir.Value, name: str) -> None:
    """Refuse a layer that does not depend on the image that is explained, but on another one.

    Raises:
        OtherInputError: It does; the error names that image.
    """
    image, own = graph.graph.inputs[0], graph.image_of(target)
    if own is not image:
        other = str(own.name).removeprefix(IMAGE)
        raise OtherInputError(
            f"{name!r} depends on the image {other!r}, not on {image.name!r}; give --explain-input {other}", other
        )


def follow_choice(
    graph: CleanGraph,
    choice: Choice,
    request: Request,
    images: NDArray[Any],
    beside: Mapping[str, NDArray[Any]] | None = None,
) -> Choice:
    """The choice, or the next one of `auto`, whose map was seen to lie as the image does; see `followed`.

    Args:
        graph: The graph.
        choice: The first choice.
        request: The export; its `split` is read.
        images: Two inputs of the network.
        beside: What it takes beside an image: two of each further image, [1, ...] of each array.

    Raises:
        LayerError: A map lies elsewhere; the message says where.
    """
    if choice.target is None:
        return choice
    if choice.further:
        layers = [Layer(choice.target, choice.name or request.split, None), *choice.further]
        given = {str(graph.graph.inputs[0].name): images, **(beside or {})}
        return replace(choice, note=_follow_all(graph, layers, given, choice.note))
    auto, refused = request.split == "auto", None
    first = [(choice.target, choice.note)]
    later = islice(auto_layers(graph, choice.logits), 1, _TRIES) if auto else ()
    for target, note in chain(first, later):
        name = str(target.name) if auto else choice.name or request.split
        seen = follow(graph, target, find_grid(graph, target, name), images, beside)
        if seen is None or not seen.misplaced:
            if refused is not None:
                log.warning("%s", refused)
            return replace(choice, target=target, note=_of_images(graph, target, name, _with_mixing(note, name, seen)))
        refused = refused or LayerError(_elsewhere(name, seen))
    assert refused is not None
    raise refused


def _follow_all(
    graph: CleanGraph,
    layers: Sequence[Layer],
    given: Mapping[str, NDArray[Any]],
    note: str | None,
) -> str | None:
    """The note about several layers, whose maps were all seen to lie as the image does."""
    for layer in layers:
        own = given[str(graph.image_of(layer.target).name)]
        seen = follow(graph, layer.target, find_grid(graph, layer.target, layer.name), own, given)
        if seen is not None and seen.misplaced:
            raise LayerError(_elsewhere(layer.name, seen))
        note = _of_images(graph, layer.target, layer.name, _with_mixing(note, layer.name, seen))
    return note


def _of_images(graph: CleanGraph, target: ir.Value, name: str, note: str | None) -> str | None:
    """The note, with the images that a layer depends on if there are several: its maps are drawn on one of them."""
    inputs = [value for value in graph.graph.inputs if str(value.name) in graph.images and target in content_of(value)]
    if len(inputs) < 2:
        return note
    names = " and ".join(sorted(str(value.name) for value in inputs))
    shared = f"{name!r} depends on the images {names}: its maps show places of all of them, drawn on {inputs[0].name}"
    return shared if note is None else f"{note}; {shared}"


def _elsewhere(name: str, seen: Followed) -> str:
    names = (("slice", "depth"), ("row", "height"), ("column", "width"))[-len(seen.cell) :]
    cell = ", ".join(f"{name} {place}" for (name, _), place in zip(names, seen.cell, strict=True))
    where = [f"{share:.2f} of the {side}" for (_, side), share in zip(names, seen.answers_at, strict=True)]
    return (
        f"{name!r} is no feature map: its cells answer to other parts of an image than those where they would be drawn ({cell} "
        f"answers most to what changes at {', '.join(where[:-1])} and {where[-1]}); split at another layer"
    )


def _with_mixing(note: str | None, name: str, seen: Followed | None) -> str | None:
    if seen is None or not seen.mixed:
        return note
    mixed = (
        f"the cells of {name!r} answer to all parts of noise images alike, because positions are mixed before it: its maps may not "
        "show where; compare with an earlier layer"
    )
    log.warning("%s", mixed)
    return mixed if note is None else f"{note}; {mixed}"


def _take_taps(graph: CleanGraph, taps: Mapping[str, str]) -> dict[str, ir.Value]:
    """Layer -> its tensor; the taps are no longer outputs."""
    return {name: _take_tap(graph, name, output) for name, output in taps.items()}


def _take_tap(graph: CleanGraph, split: str, name: str) -> ir.Value:
    """The tap's tensor, no longer an output. It is named after the layer unless it is an input or output, or the name is taken."""
    tap = next(v for v in graph.graph.outputs if v.name == name)
    graph.graph.outputs.remove(tap)
    # an exporter may put Identities between the layer and the output
    while (
        (producer := tap.producer()) is not None and producer.op_type == "Identity" and producer.inputs[0] is not None
    ):
        tap = producer.inputs[0]
    keeps_its_name = tap.is_graph_output() or tap in graph.graph.inputs
    if not keeps_its_name and split not in {v.name for node in graph.graph for v in node.outputs}:
        graph.shapes.rename(str(tap.name), split)
        tap.name = split
    return tap


def _auto(graph: CleanGraph, logits: Logits, dropped: tuple[str, ...]) -> Choice:
    """The layer that `auto` takes, of a detector those of all levels. If the network can't be cut anywhere, it stays whole."""
    levels = detector_layers(graph, logits) if logits.scores.kind == "rows" else []
    if levels:
        first, *further = (Layer(value, str(value.name), None) for value in levels)
        return Choice(first.target, logits, dropped, None, first.name, tuple(further))
    try:
        target, note = auto_layer(graph, logits)
    except LayerError:
        if candidates(graph, logits):
            raise  # it advises the user to name another layer
        why = f"the network stays whole, for methods that need no layer: {no_cut(graph)}"
        log.warning("%s", why)
        return Choice(None, logits, dropped, why)
    return Choice(target, logits, dropped, note)
