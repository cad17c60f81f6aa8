"""The images that a bundle's graphs are measured on: noise that a network of integers tells apart.

Such a network states the range of its images: codes from `least` to `greatest` mean (least - zero) scale to (greatest - zero)
scale. Values outside saturate. If the stated preprocessing gives most of its values there ("none" for a network that takes
normalised images), all noise becomes one image of the outermost codes, and what is measured on it says nothing about other images.
Noise within the range takes its place, and the range is told.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from xai_deploy.format.bundle import Input

from ..graph.reading import constant_of
from .beside import noise_images, possible_inputs

log = logging.getLogger(__name__)

_VIEWS = {"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}

_MOST = 0.5
"""The share of noise that may saturate; images of few contrasts may be calibrated to a part of the range of pixels."""


def measuring_images(graph: ir.Graph, spec: Input, count: int) -> NDArray[Any]:
    """Images of noise as the network would get them, [count, ...]; within its range, if most of the values saturate.

    Args:
        graph: The network, clean; its first input is the image.
        spec: The bundle's input.
        count: How many.
    """
    images = noise_images(spec, count)
    bounds = coded_range(graph.inputs[0]) if images.dtype.kind == "f" else None
    if bounds is None or _saturated(images, bounds) <= _MOST:
        return images
    drawn = np.random.default_rng(0).random(images.shape)
    return np.asarray(bounds[0] + (bounds[1] - bounds[0]) * drawn, images.dtype)


def sets_of(graph: ir.Graph, spec: Input, images: NDArray[Any], count: int) -> list[NDArray[Any]]:
    """Four sets of `count` images: those of the draws that show what coarse rounding decides.

    Args:
        graph: The network, clean.
        spec: The bundle's input. If images may be normalised or not, the last two sets are normalised.
        images: What `measuring_images` gave, 4 `count` of them or more.
        count: How many images a set has.
    """
    sets = [images[i * count :][:count] for i in range(4)]
    for other in possible_inputs(spec)[1:]:
        if coded_range(graph.inputs[0]) is None:
            drawn = noise_images(other, 2 * count)
            sets[2:] = drawn[:count], drawn[count:]
    return sets


def warn_of_saturation(graph: ir.Graph, spec: Input) -> None:
    """Log a warning if most of an image's values saturate: the preprocessing is not what the network was calibrated with."""
    images = noise_images(spec, 1)
    bounds = coded_range(graph.inputs[0]) if images.dtype.kind == "f" else None
    if bounds is not None and (share := _saturated(images, bounds)) > _MOST:
        log.warning(
            "the stated preprocessing gives values from %.3g to %.3g, and this quantised network tells those from %.3g to %.3g "
            "apart: %.0f %% of the values of noise saturate. Compare it with the images that the network was calibrated with",
            images.min(),
            images.max(),
            *bounds,
            100 * share,
        )


def coded_range(image: ir.Value) -> tuple[float, float] | None:
    """The least and the greatest value that the quantiser of an image tells apart; None if it is not quantised at once."""
    ranges: list[tuple[float, float]] = []
    values = [image]
    while values:
        for node, position in values.pop().uses():
            if node.op_type in _VIEWS and position == 0:
                values.append(node.outputs[0])
                continue
            if node.op_type == "Shape":
                continue
            own = _range(node) if node.op_type == "QuantizeLinear" and position == 0 else None
            if own is None:
                return None  # something reads the values themselves
            ranges.append(own)
    return (min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else None


def _range(node: ir.Node) -> tuple[float, float] | None:
    """The range of a QuantizeLinear with one scale."""
    scale, zero = constant_of(node.inputs[1]), constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
    if scale is None or scale.size > 1 or zero is None or zero.dtype.kind not in "iu":
        return None
    limits = np.iinfo(zero.dtype)
    s, z = float(scale.reshape(())), int(zero.reshape(()))
    return (limits.min - z) * s, (limits.max - z) * s


def _saturated(images: NDArray[Any], bounds: tuple[float, float]) -> float:
    """The share of values outside."""
    return float(np.mean((images < bounds[0]) | (images > bounds[1])))
