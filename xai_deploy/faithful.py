"""Whether a graph computes the network: its own logits against those of head and tail, on the same input and runtime.

A runtime that computes a graph wrongly (OpenVINO 2026.4 did so with quantised networks) raises no error, and the map is that of
another network. Logits may differ by a share of the largest logit: by 1e-3 in float32, by 2e-2 if the network or the runtime
computes in half precision.

In a network of integers they may differ by one quantisation step and the rounding noise of optimised runtimes. These round to other
integers than ONNX's formulas do, and the differences add up, in MobileNetV2 to 4 steps. `xai-export` measures the noise (head and
tail on each runtime against ONNX Runtime without optimisations; at least what the nearest codes change if they fall to their other
side) and records it in the manifest:

    allowed = step + 1e-3 largest + 1.25 noise max(1, largest / largest while it was measured)

but never more than one step or a tenth of the largest logit, whichever is more. If a bundle records no noise, that bound alone
holds. If rounding in float32 alone moves the logits of a network of integers further, because many of its values lie on the border
between two codes, `xai-export` records how far. That counts as the noise then if it is more, and twice that takes the place of the
tenth, at most half of the largest logit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .format.manifest import Manifest

Floats: TypeAlias = NDArray[np.float64]

HALF = "half-precision"
"""The manifest's extension that says that a part of the network is computed in float16 or bfloat16."""

NOISE = "rounding-noise"
"""The extension with the measured noise of a network of integers, and the largest logit in that measurement. A third number says
how far rounding in float32 alone moves the logits; it is there if the noise is large."""

ROUNDING = "rounding"
"""The extension with what rounding decides: "NAME SHARE; NAME SHARE ...". NAME is a role, or `PRODUCTS`. SHARE is the part of a
map's largest value by which two ways of computing it differed on noise images at export; 1: all of it. In a network of integers
the scales of one way are changed by 3e-5 of themselves, so that a few codes fall to their other side."""

PRODUCTS = "gradient-x-activation"
"""The sum over the channels of gradient times activation. It is zero at each position of a layer that a normalisation over the
channels reads, because the normalised result does not change with the size of its input. What is computed there is rounding."""

_MOST, _AT_ALL = 0.1, 0.5
"""The largest difference in a network of integers, relative to the largest logit, and that if rounding alone moves the logits."""

_TIMES = 1.25
"""The safety factor. Photographs gave 1.0 times the noise of the images that it is measured on (MobileNetV1 and V2)."""


def said(noise: float, largest: float, own: float = 0.0) -> str:
    """The measured noise as the manifest holds it; `own`: how far rounding alone moves the logits, if that was measured."""
    return " ".join(f"{number:.9g}" for number in ((noise, largest, own) if own else (noise, largest)))


def rounding_said(shares: Mapping[str, float]) -> str:
    """The shares that rounding decides, as the manifest holds them."""
    return "; ".join(f"{name} {share:.2g}" for name, share in shares.items())


def rounding(manifest: Manifest) -> dict[str, float]:
    """The shares that rounding decides, by role or `PRODUCTS`; entries that make no sense are skipped."""
    shares = {}
    for entry in manifest.extensions.get(ROUNDING, "").split(";"):
        name, _, number = entry.strip().rpartition(" ")
        try:
            share = float(number)
        except ValueError:
            continue
        if name and 0 < share < math.inf:
            shares[name] = min(share, 1.0)
    return shares


def percent(share: float) -> str:
    """A share, 1 at most, as a number of percent of two digits: "0.57", "1.4", "100"."""
    number = 100 * min(share, 1.0)
    return f"{number:.2g}" if number < 99.5 else "100"


def rounding_warning(name: str, share: float, manifest: Manifest) -> str:
    """A sentence for users: what float32 decides, or half precision, or codes on a border in a network of integers."""
    if name == PRODUCTS:
        return (
            "at this layer gradient times activation cancels out over the channels, because a normalisation reads it: maps of "
            "hires-cam hold rounding noise; take another method, or a layer after the normalisation"
        )
    decided = f"{percent(share)} % of their largest value"
    if manifest.logits_step:
        return (
            f"maps of the {name} graph move by up to {decided} if a few codes on a border fall to their other side, as they may in "
            "another runtime or batch (measured at export; the worst of some images of noise)"
        )
    precision = "half precision" if HALF in manifest.extensions else "float32"
    return (
        f"maps of the {name} graph are decided by rounding in {precision} to {decided} (measured at export; the worst of some "
        "images of noise and of patterns)"
    )


def instability(manifest: Manifest) -> str | None:
    """A sentence for users if rounding alone moves the logits of a network of integers by more than a tenth of the largest."""
    known = _noise(manifest, 0.0)
    if known is None or not manifest.logits_step or 2 * known.own <= _MOST * known.largest:
        return None
    return (
        f"rounding decides this network of integers: its logits move by {known.own:.2g} if its scales change by 1e-7 of "
        f"themselves, and the largest is {known.largest:.2g} (measured on noise images at export); predictions "
        "and maps may differ as much between runtimes"
    )


@dataclass(frozen=True)
class _Noise:
    """The recorded noise, what rounding alone does, and the largest logit of the measurement."""

    noise: float
    own: float
    largest: float


def _noise(manifest: Manifest, largest: float) -> _Noise | None:
    """The recorded noise, scaled to logits of this size; None if the manifest holds no sensible noise."""
    try:
        noise, at, *further = map(float, manifest.extensions[NOISE].split())
        own = further[0] if further else 0.0
    except (KeyError, ValueError):
        return None
    if not (all(map(math.isfinite, (noise, at, own))) and noise >= 0 and own >= 0 and at > 0):
        return None
    scale = max(1.0, largest / at)
    return _Noise(noise * scale, own * scale, at)


def allowed(manifest: Manifest, largest: float, precision: str = "f32") -> float:
    """The largest difference of logits that rounding explains.

    Args:
        manifest: The bundle's manifest. One of format 1 does not say whether the network computes in integers.
        largest: The largest magnitude of the logits.
        precision: The arithmetic of the runtime.
    """
    if manifest.logits_step or manifest.format == 1:
        most = max(manifest.logits_step, _MOST * largest)
        known = _noise(manifest, largest) if precision == "f32" else None  # other precisions: the upper bound alone
        if known is None:
            return most
        most = max(most, min(2 * known.own, _AT_ALL * largest))
        noise = max(known.noise, known.own)  # runtimes that agreed on the images of the export need not agree on others
        return min(most, manifest.logits_step + 1e-3 * largest + _TIMES * noise)
    dtypes = manifest.input.dtype, manifest.target.dtype
    half = precision != "f32" or HALF in manifest.extensions or "float16" in dtypes
    return (2e-2 if half else 1e-3) * largest


def how_wrong(
    got: NDArray[Any], want: NDArray[Any], manifest: Manifest, precision: str = "f32", times: float = 1.0
) -> str | None:
    """A message if logits [n,classes] differ by more than `times` what rounding explains; None if they do not."""
    if got.shape != want.shape:
        return f"its logits have the shape {got.shape} instead of {want.shape}"
    for part, own, wanted in _parts(got.astype(np.float64), want.astype(np.float64), manifest):
        largest = float(np.abs(wanted).max(initial=0.0))
        difference = float(np.abs(own - wanted).max(initial=0.0))
        limit = times * allowed(manifest, largest, precision)
        if not difference <= limit:  # so is NaN
            bounds = f"{limit:.2g} is allowed, the largest is {largest:.3g}"
            return f"its {part} differ from those of head and tail by {difference:.3g} ({bounds})"
    return None


def _parts(got: Floats, want: Floats, manifest: Manifest) -> Iterator[tuple[str, Floats, Floats]]:
    """The logits; of the rows of a detector the scores, the coordinates and the objectness, whose sizes differ; not a class."""
    rows = manifest.scores.rows
    if rows is None or got.shape[-1] % rows.entries:
        yield "logits", got, want
        return
    got, want = got.reshape(-1, rows.entries), want.reshape(-1, rows.entries)
    places = {"scores": slice(rows.classes), "coordinates": slice(rows.classes, rows.classes + 4)}
    if rows.objectness:
        places["objectness values"] = slice(-1, None)
    for part, own in places.items():
        yield part, got[:, own], want[:, own]
