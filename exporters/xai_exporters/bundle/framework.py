"""Compare outputs with those of the source's own framework."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ..errors import VerificationError
from ..sources import TrainedNetwork
from ..sources.source_file import Further
from .moved import DRAWS, moved_images

log = logging.getLogger(__name__)

_SIGMOID = 2e-7
"""Largest absolute difference that ONNX Runtime's Sigmoid has from the exact one: it gives 0.8e-6 for 8.3e-7."""

_DECIDED = 10
"""A difference from the framework of up to so many times what rounding of the image alone does to an output is rounding: layer by
layer, it adds several times as much."""

_MAGNIFIED = 1e-2
"""The largest difference that is accepted because rounding explains it."""

_MOVING = ("Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


def verify_framework(
    network: TrainedNetwork,
    images: NDArray[Any],
    further: Further,
    outputs: Mapping[str, NDArray[Any]],
    tolerance: float,
    least: Mapping[str, float],
    moved: Callable[[str], float],
) -> float | None:
    """Compare the outputs, by name, with the source framework's own forward pass; None if the source has none.

    Args:
        network: The source.
        images: The images.
        further: What the source takes beside them.
        outputs: What the bundle gives.
        tolerance: The largest relative difference that rounding explains.
        least: What `least_magnitudes` gives.
        moved: Gives the relative difference that rounding of the images alone makes to an output.

    Raises:
        VerificationError: They differ by more than is allowed.
    """
    if network.reference is None:
        return None
    reference = network.reference(images, further)
    allowed = tolerance if network.tolerance is None else network.tolerance
    apart = {
        name: relative_difference(outputs[name], value, name, least.get(name, 0.0))
        for name, value in reference.items()
        if name in outputs
    }
    for name, difference in apart.items():
        if not difference > allowed:
            continue
        by_rounding = 0.0 if network.same_runtime else moved(name)  # other frameworks add up in another order
        said = f"the exported network differs from the source framework's own output by {difference:.1e} in {name!r}"
        if difference > _DECIDED * by_rounding:
            raise VerificationError(
                f"{said} (at most {allowed:.0e} is allowed): the export to ONNX is not faithful; please report it"
            )
        if difference > _MAGNIFIED:
            raise VerificationError(
                f"{said}, and by {by_rounding:.1e} from itself if the images change by 1e-7 of themselves: float32's "
                "rounding decides it on images of noise; it is untrained, or gets other pixels than in its training (--preprocess)"
            )
        log.warning(
            "%s. Rounding explains it: changes of the images by 1e-7 of themselves move it by %.1e", said, by_rounding
        )
    return max(apart.values(), default=0.0)


def moved_by_rounding(output: Callable[[NDArray[Any], str], NDArray[Any]], images: NDArray[Any], name: str) -> float:
    """How far an output moves, relative to its largest magnitude, if float images change by 2^-23 of themselves."""
    random, apart = np.random.default_rng(0), 0.0
    for _ in range(DRAWS if images.dtype.kind == "f" else 0):
        near = moved_images(images, random)
        apart = max(apart, relative_difference(output(near, name), output(images, name), name))
    return apart


def least_magnitudes(source: onnx.ModelProto, tolerance: float) -> dict[str, float]:
    """What differences count relative to if an output is smaller: the outputs that a Sigmoid gives, by name.

    If all values are near 0, the Sigmoid's own rounding is more than `tolerance`, the largest relative difference, of them.
    """
    producer = {name: node for node in source.graph.node for name in node.output}
    found = {}
    for output in source.graph.output:
        node = producer.get(output.name)
        while node is not None and node.op_type in _MOVING:
            node = producer.get(node.input[0])
        if node is not None and node.op_type == "Sigmoid":
            found[output.name] = _SIGMOID / tolerance
    return found


def relative_difference(got: NDArray[Any], want: NDArray[Any], name: str, least: float = 0.0) -> float:
    """Largest difference relative to the largest magnitude wanted, or to `least` if that is smaller."""
    if got.shape != want.shape:
        raise VerificationError(f"output {name!r} has shape {got.shape}, the source gives {want.shape}")
    got, want = got.astype(np.float64), want.astype(np.float64)
    if not np.isfinite(want).all():
        raise VerificationError(
            f"the source's output {name!r} holds NaN or infinity on noise images; is its training finished?"
        )
    scale = max(float(np.abs(want).max()), least)
    # relative to 0 there is no difference: then the absolute one
    apart = float(np.abs(got - want).max()) / scale if scale else float(np.abs(got).max())
    return math.inf if math.isnan(apart) else apart  # NaN is greater than no bound
