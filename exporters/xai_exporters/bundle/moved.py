"""How far rounding in float32 alone moves a network's logits: what no runtime can be held to.

A float network is measured by moving its image by about one rounding. In a network of integers that does nothing, because the first
quantisation takes it away. What moves there are values on the border between two codes, and their scales move them: x / scale and
code * scale are rounded once, in every runtime in its own way. A vision transformer of random weights, quantised to 8 bits, has
logits that move by a tenth of the largest so, as far as runtimes differ.

In a small network of integers few values lie on a border: on some images none does, on the next one does, and runtimes then differ
by what that code changes. A larger change of the scales (`NEARBY`) finds such a value on any image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray

from ..graph.measure import OnnxFile

STEP = 2.0**-23
"""One rounding of float32, relative."""

DRAWS = 8
"""How often an image is moved: where gates have kinks, few draws show what rounding can do."""

NEARBY = 32 * STEP
"""A relative change of the scales that takes the nearest of some ten thousand values across its border."""

FEW = 256 * STEP
"""A relative change of the scales that takes a few of some ten thousand values across their borders."""

_SCALED = ("QuantizeLinear", "DequantizeLinear")
_SCALES = 3  # draws of the scales: each opens head and tail again

Contents: TypeAlias = Mapping[str, OnnxFile]
LogitsOf: TypeAlias = Callable[[Contents, NDArray[Any]], NDArray[np.float64]]


def moved_images(images: NDArray[Any], random: np.random.Generator, step: float = STEP) -> NDArray[Any]:
    """Images of floats, each value times 1 + or - `step`."""
    moved: NDArray[Any] = (images * (1 + random.choice([-step, step], images.shape))).astype(images.dtype)
    return moved


def moved_by_image(
    logits: LogitsOf, contents: Contents, images: NDArray[Any], apart: Callable[[Any, Any], float] | None = None
) -> float:
    """How far the logits move, at most, if float images change by 2^-23 of themselves; 0 for images of integers.

    Args:
        logits: (graphs, images) -> logits [n,classes].
        contents: Head and tail, by the names of their files.
        images: The input, [n, ...].
        apart: How far two results are from each other; None: by their largest difference.
    """
    if images.dtype.kind != "f":
        return 0.0
    random, exact = np.random.default_rng(0), logits(contents, images)
    apart = apart or (lambda one, other: float(np.abs(one - other).max(initial=0.0)))
    return max(apart(logits(contents, moved_images(images, random)), exact) for _ in range(DRAWS))


def moved_by_scales(logits: LogitsOf, contents: Contents, images: NDArray[Any], step: float = STEP) -> float:
    """How far the logits move, at most, if the scales of a network of integers change by `step` of themselves.

    Args:
        logits: (graphs, images) -> logits [n,classes].
        contents: Head and tail, by the names of their files.
        images: The input, [n, ...].
        step: The relative change.
    """
    exact, moved = logits(contents, images), 0.0
    for seed in range(_SCALES):
        others = {name: with_moved_scales(model, seed, step) for name, model in contents.items()}
        moved = max(moved, float(np.abs(logits(others, images) - exact).max(initial=0.0)))
    return moved


def with_moved_scales(model: OnnxFile, seed: int, step: float = STEP) -> bytes:
    """A graph whose quantisers have scales times 1 + or - about `step`, each one its own.

    Were it `step` itself, two scales in a row could move alike, and no code would move. Draws 1, 3, 5, ... move each scale the
    other way than the draw before: a value beside a border crosses it in one of the two.

    Args:
        model: The graph.
        seed: Which draw.
        step: The relative change.
    """
    proto = onnx.load_model_from_string(model) if isinstance(model, bytes) else onnx.load(model)
    weights, random = {weight.name: weight for weight in proto.graph.initializer}, np.random.default_rng(seed // 2)
    step *= (-1) ** seed
    for index, node in enumerate(proto.graph.node):
        scale = weights.get(node.input[1]) if node.op_type in _SCALED else None
        if scale is None or scale.data_type != onnx.TensorProto.FLOAT:
            continue
        node.input[1] = f"{scale.name}/moved/{index}"  # a scale may have several readers, and each rounds for itself
        value = moved_images(onnx.numpy_helper.to_array(scale), random, step * random.uniform(0.75, 1.5))
        proto.graph.initializer.append(onnx.numpy_helper.from_array(value, node.input[1]))
    return bytes(proto.SerializeToString())
