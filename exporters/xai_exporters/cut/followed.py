"""Whether a map lies as the image does, measured: change one patch of an image, and see which cells answer.

`graph/positions` follows positions operator by operator. This is the independent check: it knows no operator. For each of 4 x 4
patches p, r_pc is the sum over the channels of |change| at cell c. l = log(r + 0.01 max r), with the mean of each patch and of
each cell taken out, keeps no trace of patches that matter more and of cells that answer more. If the map lies as the image does, l
falls with the distance between patch and cell: `own`, their correlation, is near -0.5 to -0.95. `best` is the same with each
cell at the place that suits it best. In 287 maps of 32 networks, trained and random, best was -0.5 or less in 215. All but one of
these had own of at least 0.43 best; the one is the branch of an attention that looks at neighbours. The same maps mirrored had 0.08
best at most. If best is above -0.5, attention or many layers mixed all positions, and nothing can be said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..graph.emit import Emitter
from ..graph.layouts import Grid, sides, to_channels_first
from ..graph.measure import open_session, run_single
from ..graph.reading import ancestors
from ..graph.writing import IR_VERSION, to_bytes
from ..passes.clean import CleanGraph

Numbers = NDArray[np.float64]

_SIDE = 4  # patches along a side
_SIDE_OF_VOLUMES = 3
_CELLS = 9  # fewer cells are too few for a correlation
_MOST = 1 << 16  # cells; of a larger map as many rows and columns are left out, evenly, as leave no more
_TOGETHER = 1 << 28  # bytes of the maps that one run gives
_CLEAR, _SHARE, _MIXED, _NEARLY = -0.55, 0.3, -0.1, 0.8


@dataclass(frozen=True)
class Followed:
    """How the cells of a map answer to the patches of an image.

    Attributes:
        own: Correlation of the answers with the distances, each cell at its place in the grid.
        best: The same, each cell at the place that suits its own answers best.
        cell: Row and column (in volumes slice, row and column) of the cell whose own place suits it least.
        answers_at: Where that cell answers most, as shares of the image's sides.
    """

    own: float
    best: float
    cell: tuple[int, ...]
    answers_at: tuple[float, ...]

    @property
    def misplaced(self) -> bool:
        """Whether the cells lie elsewhere in the image than in the grid."""
        return self.best <= _CLEAR and self.own > _SHARE * self.best

    @property
    def said(self) -> str:
        """In a word whether the map lies as the image does: yes, no, partly or mixed."""
        if self.misplaced:
            return "no"
        if self.mixed:
            return "mixed"
        return "yes" if self.best <= _CLEAR or self.own <= _NEARLY * self.best else "partly"

    @property
    def mixed(self) -> bool:
        """Whether no place suits the cells' answers: all positions are mixed."""
        return self.best > _CLEAR and self.own > _MIXED


def follow(
    clean: CleanGraph,
    target: ir.Value,
    grid: Grid,
    images: NDArray[Any],
    further: Mapping[str, NDArray[Any]] | None = None,
) -> Followed | None:
    """Measure it; None if the map has too few cells, does not answer at all, or is not finite.

    Args:
        clean: The graph; not changed.
        target: The tensor to cut at.
        grid: How it holds the map.
        images: Two of the target's own image (`CleanGraph.image_of`), [2, ...]: patches of the second replace those of the first.
        further: The network's other inputs, [1, ...] or more each.
    """
    [seen] = follow_together(clean, [(target, grid)], images, further)
    return seen


def follow_together(
    clean: CleanGraph,
    maps: Sequence[tuple[ir.Value, Grid]],
    images: NDArray[Any],
    further: Mapping[str, NDArray[Any]] | None = None,
) -> list[Followed | None]:
    """As `follow`, for several tensors that show one image: the network runs once for each patch."""
    large = [i for i, (_, grid) in enumerate(maps) if math.prod(grid.shape[1:]) >= _CELLS]
    seen: list[Followed | None] = [None] * len(maps)
    while large:
        sizes = np.cumsum([4 * math.prod(maps[i][1].shape) for i in large])
        part = large[: max(1, int(np.searchsorted(sizes, _TOGETHER)))]
        large = large[len(part) :]
        centres, answers = _answers(clean, [maps[i] for i in part], images, further or {})
        for i, changes in zip(part, answers, strict=True):
            flat = changes.reshape(len(changes), -1)
            if np.isfinite(flat).all() and flat.any():
                logs = np.log(flat + 0.01 * flat.max())
                seen[i] = _place(logs - logs.mean(axis=0), centres, maps[i][1].shape[1:])
    return seen


def noise_for(clean: CleanGraph) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
    """Two images of noise for the first input, and what the network takes beside them, if its preprocessing is not known."""
    rng, feeds = np.random.default_rng(0), {}
    for value in clean.graph.inputs:
        shape = (2, *clean.shapes.two[str(value.name)][1:])
        assert value.dtype is not None
        kind = value.dtype.numpy()
        drawn = (
            rng.standard_normal(shape) if kind.kind == "f" else rng.integers(0, 256 if kind == np.uint8 else 2, shape)
        )
        feeds[str(value.name)] = np.asarray(drawn).astype(kind)
    return feeds[str(clean.graph.inputs[0].name)], feeds


def _answers(
    clean: CleanGraph, maps: Sequence[tuple[ir.Value, Grid]], images: NDArray[Any], further: Mapping[str, NDArray[Any]]
) -> tuple[Numbers, list[Numbers]]:
    """The patches' centres [P,2] (in volumes [P,3]), and the change of each cell of each map that `_thinned` leaves, [P,h,w]."""
    targets = [target for target, _ in maps]
    needed, image = ancestors(targets), clean.image_of(targets[0])
    others = [value for value in clean.graph.inputs if value in needed and value is not image]
    inputs = [image, *others]
    further = {str(value.name): further[str(value.name)][:1] for value in others}
    head = ir.convenience.extract(clean.graph, inputs, targets)
    emit, arranged = Emitter(head, "followed"), []
    for output, (target, grid) in zip(list(head.outputs), maps, strict=True):
        activation, *_ = to_channels_first(emit, output, grid)
        if activation is not output:
            activation.type = target.type
        arranged.append(activation)
    head.outputs.clear()
    head.outputs.extend(arranged)
    session = open_session(to_bytes(ir.Model(head, ir_version=IR_VERSION)), "the head", optimise=True)
    names = [str(activation.name) for activation in arranged]
    axes = sides(image, clean.shapes.two[str(image.name)][1:])
    size = [images.shape[axis] for axis in axes]
    counts = _counts(size)
    cells = [(slice(None), slice(None), *_thinned(grid.shape[1:])) for _, grid in maps]
    base = [result.astype(np.float64) for result in _results(session, names, cells, images[:1], further)]
    centres: list[list[float]] = []
    answers: list[list[Numbers]] = [[] for _ in names]
    for place in np.ndindex(*counts):
        where = [slice(None)] * images.ndim
        for axis, k, n, m in zip(axes, place, size, counts, strict=True):
            where[axis] = slice(k * n // m, (k + 1) * n // m)
        changed = images[:1].copy()
        changed[tuple(where)] = images[1:][tuple(where)]
        results = _results(session, names, cells, changed, further)
        for result, before, changes in zip(results, base, answers, strict=True):
            changes.append(np.abs(result - before).sum(axis=(0, 1)))
        centres.append([(k + 0.5) / m for k, m in zip(place, counts, strict=True)])
    return np.array(centres), [np.array(changes) for changes in answers]


def _results(
    session: Any,
    names: Sequence[str],
    cells: Sequence[tuple[slice, ...]],
    image: NDArray[Any],
    further: Mapping[str, Any],
) -> list[NDArray[Any]]:
    """The maps' cells for one image."""
    results = run_single(session, image, further)
    return [results[name][part].copy() for name, part in zip(names, cells, strict=True)]  # a view would keep the whole


def _thinned(shape: Sequence[int]) -> tuple[slice, ...]:
    """Which rows and columns of a map are looked at: all, or every n-th, as many along each axis as `_MOST` allows."""
    most = round(_MOST ** (1 / len(shape)))
    return tuple(slice(None, None, -(-side // most)) for side in shape)


def _counts(size: Sequence[int]) -> list[int]:
    """How many patches lie along each axis: each patch is a run of the head, so volumes have fewer."""
    return [min(_SIDE, n) if len(size) == 2 else min(_SIDE_OF_VOLUMES, n) for n in size]


def _place(logs: Numbers, centres: Numbers, shape: Sequence[int]) -> Followed:
    """Compare the answers [P,cells], each cell's mean taken out, with distances to the cells and to a raster of other places."""
    kept = [np.arange(side)[part] for side, part in zip(shape, _thinned(shape), strict=True)]
    own, raster = _points(shape, kept), _points((2 * _SIDE,) * len(shape))
    there = _distances(centres, raster)
    there -= there.mean(axis=0)
    # correlation of each cell with each place, [cells, places]; a cell without any answer has none
    sizes = np.linalg.norm(logs, axis=0)[:, None] * np.linalg.norm(there, axis=0)
    fits = np.divide(logs.T @ there, sizes, out=np.zeros(sizes.shape), where=sizes > 0)
    best = fits.argmin(axis=1)
    nearest = _distances(own, raster).argmin(axis=1)
    worst = int((fits[np.arange(len(best)), nearest] - fits.min(axis=1)).argmax())
    return Followed(
        _correlation(logs, _distances(centres, own)),
        _correlation(logs, _distances(centres, raster[best])),
        tuple(int(of[i]) for of, i in zip(kept, np.unravel_index(worst, [len(of) for of in kept]), strict=True)),
        tuple(map(float, raster[best[worst]])),
    )


def _points(shape: Sequence[int], kept: Sequence[NDArray[Any]] | None = None) -> Numbers:
    """The centres of a grid's cells, row by row, as shares of the sides, [cells,2] or [cells,3].

    `kept` are the rows and columns that are meant; None: all."""
    kept = [np.arange(side) for side in shape] if kept is None else kept
    centres = np.meshgrid(*((of + 0.5) / side for of, side in zip(kept, shape, strict=True)), indexing="ij")
    return np.stack([each.ravel() for each in centres], axis=1)


def _distances(a: Numbers, b: Numbers) -> Numbers:
    return np.asarray(np.linalg.norm(a[:, None] - b[None], axis=2))


def _correlation(a: Numbers, b: Numbers) -> float:
    """The correlation of two tables, the means of their rows and columns taken out; 0 if one of them is the same everywhere."""
    a, b = (t - t.mean(axis=0) - t.mean(axis=1, keepdims=True) + t.mean() for t in (a, b))
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float((a * b).sum()) / size if size > 0 else 0.0
