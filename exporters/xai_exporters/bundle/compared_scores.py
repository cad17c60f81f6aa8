"""Whether a runtime gives the scores that another one gives.

Lists of boxes that a network suppressed itself have to hold the same boxes, in whatever order: rounding decides the order of boxes
that are nearly as probable, which of two stays if they overlap by nearly the threshold, and which is the last that has room.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xai_deploy.faithful import Floats, allowed, how_wrong
from xai_deploy.format.bundle import LOGITS, Manifest

from ..errors import VerificationError
from .chosen import other_choice

log = logging.getLogger(__name__)

_DECIDED = 0.1
"""The part of a difference between two runtimes from which on rounding of the image alone explains it: layer by layer, rounding
adds several times as much."""
_ALONE = 0.05
"""The share of two lists' boxes that may be in one of them alone."""
_TIE = 1e-5
"""Two probabilities that differ by less, as a share of the largest one, are equal but for rounding."""

Arrays: TypeAlias = Mapping[str, NDArray[Any]]


def compare_scores(
    runtime: str, tail: Arrays, reference: str, first: NDArray[Any], manifest: Manifest, moved_by: Callable[[], float]
) -> None:
    """Compare a runtime's logits, and the rows that its TopK choose, with those of the reference.

    Args:
        runtime: Its name.
        tail: What its tail gives.
        reference: The name of the other one.
        first: The logits of the other one, [n, ...].
        manifest: The bundle's manifest.
        moved_by: How far rounding alone moves the logits, or the share of the boxes of a list that it changes.

    Raises:
        VerificationError: They differ; the message says how, and whether rounding explains it.
    """
    if (other := other_choice(tail)) is not None:
        raise VerificationError(f"{runtime} chooses other rows (TopK) than {reference}: {other}")
    if manifest.scores.rows is not None and manifest.scores.rows.chosen_inside:
        _compare_lists(runtime, tail[LOGITS], reference, first, manifest, moved_by)
        return
    if (how := how_wrong(tail[LOGITS], first, manifest)) is None:
        return
    apart, moved = float(np.abs(tail[LOGITS].astype(np.float64) - first).max()), moved_by()
    if moved <= _DECIDED * apart:
        raise VerificationError(f"{runtime} computes head and tail differently from {reference}: {how}")
    changed = "the image or a scale" if manifest.logits_step else "the image"
    raise VerificationError(
        f"float32's rounding decides this network's logits on images of noise: they move by {moved:.3g} if {changed} "
        f"changes by 1e-7 of itself, and {runtime} differs from {reference} by {apart:.3g} (the largest is "
        f"{np.abs(first).max():.3g}); it is untrained, or gets other pixels than in its training (--preprocess)"
    )


def _compare_lists(
    runtime: str,
    got: NDArray[Any],
    reference: str,
    want: NDArray[Any],
    manifest: Manifest,
    moved_by: Callable[[], float],
) -> None:
    """As `compare_scores`, for lists of boxes. If rounding explains it, as where a network finds all boxes equally probable, it is
    a warning and no error: methods look for the same box in each run, wherever it stands."""
    if (apart := lists_apart(got, want, manifest)) <= _ALONE:
        return
    said = f"{100 * apart:.0f} % of the boxes that either finds have no counterpart of the same class, place and score"
    if not np.isfinite(got).all() or (moved := max(moved_by(), _tied(want))) <= _DECIDED * apart:
        raise VerificationError(f"{runtime} finds other boxes than {reference}: {said}")
    log.warning(
        "on images of noise rounding decides which boxes this network's own suppression keeps: %.0f %% of them are as probable as "
        "others, or change if the image changes by 1e-7 of itself. So it is not verified that %s finds the same ones as %s (%s)",
        100 * moved,
        runtime,
        reference,
        said,
    )


def lists_apart(got: NDArray[Any], want: NDArray[Any], manifest: Manifest) -> float:
    """The share of the boxes of two lists [n,rows,6] (score, corners, class) without a counterpart; 1 if one is not finite."""
    if got.shape != want.shape or not np.array_equal(np.isfinite(got), np.isfinite(want)):
        return 1.0
    total = alone = 0
    for images in zip(got.astype(np.float64), want.astype(np.float64), strict=True):
        some, others = (rows.reshape(-1, 6) for rows in images)
        some, others = some[some[:, 0] >= 0], others[others[:, 0] >= 0]
        same = _same(some, others, manifest)
        total += len(some) + len(others)
        alone += int((~same.any(axis=1)).sum() + (~same.any(axis=0)).sum())
    return alone / max(total, 1)


def _tied(lists: NDArray[Any]) -> float:
    """The share of the boxes that are as probable as the next one in their list, but for rounding."""
    total = tied = 0
    for image in lists:
        scores = np.sort(image.reshape(-1, 6)[:, 0].astype(np.float64))
        scores = scores[scores >= 0]
        total += len(scores)
        tied += int((np.diff(scores) <= _TIE * scores.max(initial=0.0)).sum())
    return tied / max(total, 1)


def _same(some: Floats, others: Floats, manifest: Manifest) -> NDArray[np.bool_]:
    """Which rows of [a,6] and [b,6] are the same box, [a,b]."""
    scores = allowed(manifest, float(np.abs(others[:, 0]).max(initial=0.0)))
    places = allowed(manifest, float(np.abs(others[:, 1:5]).max(initial=0.0)))
    apart = np.abs(some[:, None] - others[None])
    same: NDArray[np.bool_] = (
        (apart[..., 0] <= scores) & (apart[..., 1:5] <= places).all(axis=-1) & (apart[..., 5] == 0)
    )
    return same
