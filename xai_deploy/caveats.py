"""The warnings that a user of a bundle should see before believing its maps."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal, TypeAlias

from .explainer import Explainer
from .faithful import instability
from .format.bundle import Manifest
from .foundation.printable import printable

log = logging.getLogger(__name__)


Gives: TypeAlias = Literal["classes", "dense", "numbers", "embedding", "rows"]

GIVES: Mapping[Gives, str] = {
    "classes": "a score for each class",
    "dense": "scores at each position",
    "numbers": "numbers that are no classes",
    "embedding": "an embedding",
    "rows": "detections",
}
"""What a network gives -> how messages say it."""


def gives(manifest: Manifest) -> Gives:
    """What a network gives."""
    scores = manifest.scores
    if scores.kind == "vector":
        return "embedding" if scores.normalised else "numbers"
    return scores.kind


def warn_of(explainer: Explainer, bundle: str) -> None:
    """Log a warning if the preprocessing was assumed, if rounding decides the logits, or if weights are random.

    Args:
        explainer: The explainer of the bundle.
        bundle: The bundle's name in messages.
    """
    manifest = explainer.bundle.manifest
    if (unstable := instability(manifest)) is not None:
        log.warning("%s: %s", printable(bundle), unstable)
    if manifest.input.preprocess.assumed:
        log.warning(
            "%s: the bundle's preprocessing was assumed at export, not stated; if predictions look wrong, export again with "
            "the network's own mean, std and resize",
            printable(bundle),
        )
    if manifest.randomised is not None:
        log.warning(
            "%s: %d of its layers have random weights, for the sanity check; its maps explain nothing",
            printable(bundle),
            len(manifest.randomised.layers),
        )
