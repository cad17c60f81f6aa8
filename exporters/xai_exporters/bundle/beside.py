"""A bundle's own forward pass when its graphs are checked, and what they take beside the image: the whole image as region, one
reference, a seed that adds nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xai_deploy.format.bundle import (
    BY_SEED,
    CHOICE,
    PREDICTED,
    REFERENCE,
    ROW,
    SEED,
    VERSUS,
    VERSUS_ROW,
    VERSUS_WHERE,
    WHERE,
    FurtherInputs,
    Graph,
    Input,
    Manifest,
    at_level,
    role_at,
)
from xai_deploy.format.rows import Rows

Arrays: TypeAlias = Mapping[str, NDArray[Any]]

_SQUARES = 8  # along a side of an image of coarse squares


def forward(
    manifest: Manifest, run: Callable[[str, Arrays], Arrays], x: NDArray[Any], level: int = 0
) -> tuple[dict[str, NDArray[Any]], Arrays]:
    """Run head and tail; or the network as a whole, if it is not cut.

    Args:
        manifest: The bundle's manifest.
        run: (role, feeds) -> results. It takes those of `feeds` that the graph has inputs for.
        x: The input, [n, ...].
        level: Of several layers the one whose own tail is run.

    Returns:
        What the last graph takes, the image among it, and the places that it chose; and what it gives.
    """
    between = {**network_inputs(manifest, x), **beside(manifest.graphs[manifest.scoring], len(x), manifest.scores.rows)}
    for role in manifest.parts[:-1]:
        between |= run(role, between)
    results = run(role_at(manifest.scoring, level), between)
    return {**{name: value for name, value in results.items() if name.startswith(CHOICE)}, **between}, results


def results_back(graph: Graph, results: Arrays) -> list[NDArray[Any]]:
    """What a graph that propagates back gives at each layer, the first one first."""
    assert graph.propagated is not None
    named = (at_level(graph.propagated, level) for level in range(len(graph.gives)))
    gives = {port.name for port in graph.gives}
    return [results[name] for name in named if name in gives]


def possible_inputs(spec: Input) -> list[Input]:
    """What a network's images may be: as stated. A network of floats that takes values as they are ("none") may get pixels, or what
    its caller made of them, and nothing says which; the second input then takes normalised images, as usual for photos."""
    how = spec.preprocess
    if spec.dtype == "uint8" or how.scale != 1 or any(how.mean) or set(how.std) != {1.0}:
        return [spec]
    usual = replace(how, scale=1 / 255, mean=(0.45,) * spec.channels, std=(0.225,) * spec.channels)
    return [spec, replace(spec, preprocess=usual)]


def noise_images(spec: Input, count: int, seed: int = 0) -> NDArray[Any]:
    """Images of uniform noise as the network would get them, [count, ...]."""
    pixels = np.random.default_rng(seed).integers(0, 256, (count, *spec.size[:-2], spec.channels, *spec.size[-2:]))
    return _as_input(spec, pixels)


def _as_input(spec: Input, pixels: NDArray[Any]) -> NDArray[Any]:
    """Pixels from 0 to 255, [n, ..., C, h, w], as the network takes them."""
    x = spec.preprocess.normalise(pixels.astype(np.float64))
    if spec.dtype == "uint8":
        x = np.clip(np.rint(x), 0, 255)
    return spec.arranged(x)


def patterned_images(spec: Input, seed: int = 0) -> list[NDArray[Any]]:
    """Images that are no noise, [1, ...] each: two of coarse squares, two of low contrast."""
    rng, sides = np.random.default_rng(seed), spec.size[-2:]
    images = []
    for contrast in (1.0, 1.0, 0.1, 0.1):
        squares = rng.random((1, *spec.size[:-2], spec.channels, _SQUARES, _SQUARES))
        fine = rng.random((1, *spec.size[:-2], spec.channels, *sides))
        rows, columns = (np.arange(side) * _SQUARES // side for side in sides)
        drawn = squares[..., rows, :][..., columns] if contrast == 1 else 0.5 + contrast * (fine - 0.5)
        images.append(_as_input(spec, np.rint(255 * drawn)))
    return images


def noise_beside(further: FurtherInputs, seed: int, images: int = 1) -> dict[str, NDArray[Any]]:
    """What a network takes beside one image, of noise, [1, ...] each: images (of these as many as asked for), floats from 0 to 1,
    or integers 0 and 1."""
    feeds: dict[str, NDArray[Any]] = {image.name: noise_images(image, images, seed + 1) for image in further.images}
    rng = np.random.default_rng(seed)
    for port in further.arrays:
        kind, shape = np.dtype(port.dtype), (1, *(size or 1 for size in port.shape))
        drawn = rng.random(shape) if kind.kind == "f" else rng.integers(0, 2, shape)
        feeds[port.name] = np.asarray(drawn).astype(kind)
    return feeds


def network_inputs(manifest: Manifest, x: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Images [n, ...] with what the network takes beside them: noise that is the same whenever an image is the same."""
    rows = [noise_beside(manifest.further, _seed(image)) for image in x] if manifest.further.ports else []
    return {
        manifest.input.name: x,
        **{port.name: np.concatenate([row[port.name] for row in rows]) for port in manifest.further.ports},
    }


def _seed(image: NDArray[Any]) -> int:
    """A number that differs between images of noise, and not between images that differ by float32's rounding."""
    return int(abs(float(np.round(image.reshape(-1)[:16].astype(np.float64).sum(), 2))) * 100)


def asked(manifest: Manifest, logits: NDArray[Any]) -> NDArray[np.int64]:
    """What a graph's input `target` asks about in some images: the predicted class; of a detector the class of the best mean score,
    since coordinates are no scores."""
    rows = manifest.scores.rows
    if rows is None:
        return np.full(len(logits), PREDICTED, np.int64)
    best: NDArray[np.int64] = logits[:, 0, : rows.classes].argmax(axis=1)
    return best


def beside(graph: Graph, images: int, rows: Rows | None) -> dict[str, NDArray[Any]]:
    """A graph's inputs `where`, `row`, `reference`, `seed`, and those of a contrast, for some images, as far as it has them.

    Args:
        graph: The manifest's entry for the graph.
        images: How many.
        rows: What a detector's rows hold. If the graph chooses them by their scores, the best one is looked at: rounding decides
            which rows of low scores are among the others. Of a list that the network suppressed itself every row is.
    """
    feeds: dict[str, NDArray[Any]] = {}
    for port in graph.takes:
        if port.name == WHERE:
            shape = (images, *(1 if size is None else size for size in port.shape))  # one region, its weights sum to 1
            feeds[port.name] = np.full(shape, 1 / math.prod(shape[1:]), np.float32)
            if rows is not None and rows.chosen_inside:  # each row of the list by itself: its order is up to rounding
                feeds[port.name] = np.tile(np.eye(shape[-1], dtype=np.float32), (images, 1, 1))
            elif rows is not None and rows.labelled:
                feeds[port.name][:] = 0
                feeds[port.name][..., 0] = 1
        elif port.name == SEED:  # zeros add nothing to the class asked about
            feeds[port.name] = np.zeros((images, *(1 if size is None else size for size in port.shape)), np.float32)
        elif port.name in (ROW, VERSUS_ROW):
            feeds[port.name] = np.zeros(images, np.int64)  # on noise, rounding decides which row is the best
        elif port.name == VERSUS_WHERE:
            feeds[port.name] = np.ones((images, *(size or 1 for size in port.shape)), np.float32)
        elif port.name == VERSUS:
            feeds[port.name] = np.full(images, BY_SEED, np.int64)  # subtracts nothing
        elif port.name == REFERENCE:
            length = port.shape[0] or 1
            feeds[port.name] = np.tile(np.linspace(-1, 1, length, dtype=np.float32), (images, 1))
    return feeds
