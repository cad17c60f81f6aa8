"""Whether a graph computes the network: its own logits against those of head and tail, on the same input and runtime.

A runtime that computes a graph wrongly (OpenVINO 2026.4 did so with quantised networks) says nothing, and the map is of another
network. Allowed are, of the largest logit: 1e-3 in float32, 2e-2 where the network or the runtime computes in half precision. In a
network of integers it is one quantisation step, or a tenth of the largest logit, where that is more: integers that are rounded the
other way on the way add up, in MobileNetV2 to 6 % (a network cut in two differs from the whole as much).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .manifest import Manifest

HALF = "half-precision"
"""The manifest's extension that says that something in the network is computed in float16 or bfloat16."""


def allowed(manifest: Manifest, largest: float, precision: str = "f32") -> float:
    """The largest difference of logits that rounding explains.

    Args:
        manifest: Of the bundle; of one of format 1 it is not known whether the network computes in integers.
        largest: The largest magnitude of the logits.
        precision: What the runtime computes in.
    """
    if manifest.logits_step or manifest.format == 1:
        return max(manifest.logits_step, 0.1 * largest)
    dtypes = manifest.input.dtype, manifest.target.dtype
    half = precision != "f32" or HALF in manifest.extensions or "float16" in dtypes
    return (2e-2 if half else 1e-3) * largest


def how_wrong(
    got: NDArray[Any], want: NDArray[Any], manifest: Manifest, precision: str = "f32", times: float = 1.0
) -> str | None:
    """In words, by how much too much logits [n,classes] differ; None where rounding, `times` over, explains it."""
    if got.shape != want.shape:
        return f"its logits have the shape {got.shape} instead of {want.shape}"
    got, want = got.astype(np.float64), want.astype(np.float64)
    largest = float(np.abs(want).max(initial=0.0))
    difference = float(np.abs(got - want).max(initial=0.0))
    limit = times * allowed(manifest, largest, precision)
    if difference <= limit:  # not so for NaN
        return None
    told = f"{limit:.2g} is allowed, the largest is {largest:.3g}"
    return f"its logits differ from those of head and tail by {difference:.3g} ({told})"
