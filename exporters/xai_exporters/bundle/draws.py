"""What coarse rounding decides in a map: the same images, with what is rounded moved by about as much as runtimes differ.

1. In a network of integers the scales move, and a few codes fall to the other side of a border. On which side a value lies is up to
   the runtime, and to how many images it computes at once.
2. In a network of half precision, what the layer's graphs take moves by one rounding: a runtime rounds at each operator, or never.

Both results are the network's. A map moves by all of its largest value on some images and by a thousandth on most, so each draw is
of other images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xai_deploy.format.bundle import LOGITS, TARGET, Manifest

from ..graph.measure import OnnxFile
from .beside import asked, beside, forward
from .installed import Arrays, exactly
from .moved import FEW, with_moved_scales


class Draws:
    """Pairs of what a role's graph gives, before and after the move; all on ONNX Runtime without optimisations.

    Args:
        contents: The bundle's graphs, by the names of their files.
        manifest: Its manifest.
        images: The images of each draw, [n, ...].
        chosen: The places that TopK chose, if graphs take them.
    """

    def __init__(
        self, contents: Mapping[str, OnnxFile], manifest: Manifest, images: Sequence[NDArray[Any]], chosen: Arrays
    ) -> None:
        self._contents, self._manifest, self._images, self._chosen = contents, manifest, images, chosen
        self._codes = bool(manifest.logits_step)
        self._between: dict[tuple[int, bool], dict[str, NDArray[Any]]] = {}  # what head and tail give, for all roles

    def __call__(self, role: str, run: Callable[[Arrays], Arrays]) -> Iterator[tuple[Arrays, Arrays]]:
        """The pairs of a role, one for each set of images.

        Args:
            role: The graph's.
            run: The graph, opened so already.
        """
        graph = self._manifest.graphs[role]
        for draw, images in enumerate(self._images):
            given = {**self._given(draw, False), **beside(graph, len(images), self._manifest.scores.rows)}
            results = run(given)
            fixed = {**given, TARGET: classes_of(results, given)}  # the prediction may change with what moves
            if self._codes:
                moved = exactly(with_moved_scales(self._contents[graph.file], draw, FEW), f"the {role} graph")
                after: Arrays = moved({**fixed, **self._given(draw, True), TARGET: fixed[TARGET]})
            else:
                after = run({name: moved_by_epsilon(value, draw) for name, value in fixed.items()})
            yield results, after

    def _given(self, draw: int, moves: bool) -> dict[str, NDArray[Any]]:
        """What the graphs take for the images of a draw."""
        if (draw, moves) not in self._between:
            parts = {role: self._contents[f"{role}.onnx"] for role in self._manifest.parts}
            if moves:
                parts = {role: with_moved_scales(model, draw, FEW) for role, model in parts.items()}

            def run_role(role: str, feeds: Arrays) -> Arrays:
                return exactly(parts[role], f"the {role}")({**feeds, **self._chosen})

            between, tail = forward(self._manifest, run_role, self._images[draw])
            self._between[draw, moves] = {**between, **self._chosen, TARGET: asked(self._manifest, tail[LOGITS])}
        return self._between[draw, moves]


def classes_of(results: Arrays, feeds: Arrays) -> NDArray[np.int64]:
    """The class that each image's map is of: the one asked for, or the predicted one."""
    logits = results[LOGITS]
    predicted = logits.reshape(len(logits), -1).argmax(axis=1)  # of the one region, if the scores are those of regions
    return np.asarray(np.where(feeds[TARGET] < 0, predicted, feeds[TARGET]))


def moved_by_epsilon(value: NDArray[Any], seed: int) -> NDArray[Any]:
    """Floats, each times 1 + epsilon times a normal number, epsilon that of their type; any other tensor itself."""
    if value.dtype.kind != "f":
        return value
    draw = np.random.default_rng(seed).standard_normal(value.shape)
    return (value * (1 + float(np.finfo(value.dtype).eps) * draw)).astype(value.dtype)
