"""Upper bounds of a manifest's numbers, lists and texts: far above those of any network, far below what fills the memory."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from .graphs import (
    ACTIVATION,
    FULL_GRADIENT,
    GRADIENT,
    LOGITS,
    PIXEL_LOGITS,
    RELEVANCE,
    SCORE_GRADIENT,
    SEED,
    SHARES,
    TARGET,
    Port,
    fused_method,
)
from .layers import at_level
from .manifest import Manifest, regions

SIDE = 65_535
"""The most pixels, positions and channels along an axis."""
_ELEMENTS = 1 << 26  # numbers in one tensor of one image: 256 MiB in float32
_CLASSES = 1 << 20
_TABLE = 1 << 27  # numbers in a table of classes by channels, or by positions
_MOST = 1024  # entries of a list: graphs, files, outputs, side tensors
_RANK = 8
MOST_LAYERS = 32
"""The most layers at which a network is cut."""
_NUMBERS = (
    *("bool", "bfloat16", "float16", "float32", "float64"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
)
_TEXT = 4096  # characters
_LONG_TEXT = 1 << 20  # characters of an extension, which may hold a signature
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # C0, DEL, C1: control a terminal; surrogates: unprintable


def text_fault(document: Any) -> str | None:
    """Find a text in the manifest's JSON that is too long or can't be printed.

    Args:
        document: The decoded JSON.

    Returns:
        The text's place and what is wrong with it; None if all texts are fine.
    """
    pending: list[tuple[str, Any]] = [("manifest", document)]
    while pending:
        where, value = pending.pop()
        if isinstance(value, dict):
            pending += [(f"{where}: a key", key) for key in value]
            # Only printable keys become part of a place. The others are refused themselves, by the line above.
            pending += [(f"{where}.{key[:60]}", inner) for key, inner in value.items() if not _CONTROL.search(key)]
        elif isinstance(value, list):
            pending += [(f"{where}[{i}]", inner) for i, inner in enumerate(value)]
        elif isinstance(value, str):
            limit = _LONG_TEXT if where.startswith("manifest.extensions") else _TEXT
            if len(value) > limit:
                return f"{where}: a text of {len(value)} characters; {limit} are allowed"
            if _CONTROL.search(value):
                return f"{where}: a text with control characters or halves of characters"
    return None


def list_fault(manifest: Manifest) -> str | None:
    """Find what is out of bounds in the list of layers; None if nothing is."""
    if len(manifest.layers) > MOST_LAYERS:
        return f"manifest.levels: {len(manifest.layers)} layers are more than the {MOST_LAYERS} that are allowed"
    return None


def number_fault(manifest: Manifest) -> str | None:
    """Find a number or a list that is out of bounds.

    Args:
        manifest: A manifest whose types have been checked.

    Returns:
        Its place and what is wrong with it; None if all are within their bounds.
    """
    for where, value, most in _numbers(manifest):
        if value > most:
            return f"{where}: {value} is more than the {most} that are allowed"
    for where, port in _tensors(manifest):
        if len(port.shape) > _RANK or any(size is not None and not 0 <= size <= _ELEMENTS for size in port.shape):
            return f"{where}: impossible sizes {list(port.shape[: _RANK + 1])}"
        if math.prod(size or 1 for size in port.shape) > _ELEMENTS:  # an open size (None) counts as 1
            return f"{where}: {list(port.shape)} is more than the {_ELEMENTS} numbers that are allowed"
        if port.dtype is not None and port.dtype not in _NUMBERS:
            return f"{where}: {port.dtype!r} is no type of numbers"
    tokens = manifest.target.prefix_tokens, manifest.target.suffix_tokens
    if min(tokens) < 0 or min((graph.opset for graph in manifest.graphs.values()), default=1) < 1:
        return "a negative number of tokens, or an opset below 1"
    return None


def port_fault(manifest: Manifest, level: int = 0) -> str | None:
    """Find a port whose sizes contradict the rest of the manifest.

    Args:
        manifest: A manifest, as one layer sees it.
        level: The number of that layer.

    Returns:
        The graph, the port and both sizes; None if nothing contradicts.
    """
    classes, scores = manifest.classes, manifest.seed_shape
    known: dict[str, tuple[int | None, ...]] = {
        at_level(ACTIVATION, level): manifest.target.shape,
        LOGITS: scores,
        PIXEL_LOGITS: (math.prod(manifest.target.shape[1:]), classes),
        TARGET: (),
        SEED: scores,
        SHARES: scores,
        FULL_GRADIENT: manifest.input.size,
        **{port.name: port.shape for port in manifest.inputs},
        **{port.name: port.shape for port in regions(manifest)},
        **{side.name: side.shape for side in manifest.side},
        **{output.tensor: output.shape for output in manifest.outputs},
    }
    for role, graph in manifest.graphs.items():
        if (
            fused_method(role) is not None
        ):  # its outputs keep the source network's names, which may equal the names above
            continue
        if (GRADIENT in role or RELEVANCE in role) and graph.propagated is None:
            return f"the graph {role!r} takes no {SEED!r}, or gives neither {GRADIENT!r} nor {RELEVANCE!r}"
        # What is propagated back ends at the graph's own start, so it has the shape of that start.
        start = manifest.image(graph.input).image_shape if graph.start == "image" else manifest.target.shape
        number = 0 if graph.start == "image" else level
        expected = known | {at_level(name, number): start for name in (GRADIENT, RELEVANCE)}
        if graph.input is not None:
            expected[FULL_GRADIENT] = manifest.image(graph.input).size
        if role == SCORE_GRADIENT and manifest.scores.rows is not None:
            expected |= dict.fromkeys((LOGITS, SEED), (None, manifest.scores.rows.classes))
        for port in (*graph.takes, *graph.gives):
            if port.name in expected and port.shape != expected[port.name]:
                said, expected_shape = list(port.shape), list(expected[port.name])
                return f"the graph {role!r} has {port.name!r} of shape {said}, but the rest of the manifest says {expected_shape}"
    return None


def _numbers(manifest: Manifest) -> Iterator[tuple[str, int, int]]:
    """Yield (place, number, the largest value allowed) for each bounded number."""
    image, (channels, *places) = manifest.input, manifest.target.shape
    yield "manifest.input.channels", image.channels, SIDE
    yield "manifest.input.height", image.height, SIDE
    yield "manifest.input.width", image.width, SIDE
    yield "manifest.input.depth", image.depth or 1, SIDE
    yield "manifest.input: channels x height x width", math.prod(image.image_shape), _ELEMENTS
    yield "manifest.further: entries", len(manifest.further.ports) + len(manifest.further.order), _MOST
    for one in manifest.further.images:
        most = max(*one.image_shape, *(one.preprocess.resized_sides or ()))
        yield f"manifest.further: {one.name!r}", most, SIDE
    for side in image.preprocess.resized_sides or ():
        yield "manifest.input.preprocess.resize", side, SIDE
    for size in (channels, *places):
        yield "manifest.target.shape", size, SIDE
    yield "manifest.target.prefix_tokens", manifest.target.prefix_tokens, SIDE
    yield "manifest.target.suffix_tokens", manifest.target.suffix_tokens, SIDE
    yield "manifest.classes", manifest.classes, _CLASSES
    yield "manifest.explained: entries", len(manifest.explained), _MOST
    yield "manifest.explained: sizes", math.prod(manifest.scores.shape), _ELEMENTS
    if "pixelwise-tail" in manifest.graphs:
        yield "manifest: classes x channels of the target", manifest.classes * channels, _TABLE
        yield "manifest: classes x positions of the target", manifest.classes * math.prod(places), _TABLE
    for name in ("outputs", "graphs", "left_out", "side", "composites", "files", "requires", "extensions"):
        yield f"manifest.{name}: entries", len(getattr(manifest, name)), _MOST
    for role, graph in manifest.graphs.items():
        yield f"manifest.graphs[{role!r}]: ports", len(graph.takes) + len(graph.gives), 4 * _MOST
        yield f"manifest.graphs[{role!r}].opset", graph.opset, _MOST
    if manifest.randomised is not None:
        yield "manifest.randomised.of", manifest.randomised.of, SIDE
        yield "manifest.randomised.seed", manifest.randomised.seed, (1 << 64) - 1
        yield "manifest.randomised.layers: entries", len(manifest.randomised.layers), SIDE


def _tensors(manifest: Manifest) -> Iterator[tuple[str, Port]]:
    yield "manifest.target.shape", Port("", manifest.target.shape, None)
    for i, side in enumerate(manifest.side):
        yield f"manifest.side[{i}]", Port(side.name, side.shape, side.dtype)
    for i, output in enumerate(manifest.outputs):
        yield f"manifest.outputs[{i}].shape", Port(output.name, output.shape, None)
    for port in manifest.further.ports:
        yield f"manifest.further: {port.name!r}", port
    for role, graph in manifest.graphs.items():
        for port in (*graph.takes, *graph.gives):
            yield f"manifest.graphs[{role!r}]: the port {port.name!r}", port
