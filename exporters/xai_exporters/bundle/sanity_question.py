"""What the sanity check asks fused graphs about an image, for each kind of scores. Random weights get the same question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xai_deploy.detections import best_scores, scores_of
from xai_deploy.format.bundle import (
    BY_SEED,
    DENSE,
    LOGITS,
    PREDICTED,
    REFERENCE,
    ROW,
    TARGET,
    VERSUS,
    VERSUS_ROW,
    VERSUS_WHERE,
    WHERE,
    Manifest,
)

from ..errors import VerificationError
from ..graph.measure import open_session, run_taken
from .beside import Arrays, forward

Question: TypeAlias = dict[str, NDArray[Any]]
"""What a fused graph takes beside one image."""

_SAME = 1 - 1e-5
"""The cosine from which on two embeddings are one: the slope at an image that is compared with itself is rounding alone."""


def questions(manifest: Manifest, model: Callable[[str], bytes], images: Sequence[NDArray[Any]]) -> list[Question]:
    """What is asked about each image.

    - A score for each class: the class that the network predicts.
    - Scores at each position: the class whose mean score over the whole image is the highest, in the whole image.
    - Rows of a detector: the best row of the image, and the class that is the best one in it.
    - Numbers: the first one.
    - An embedding: that of the next image that is not embedded alike. Random weights get the same vector: they embed all images
      nearly alike, and a map of what is compared with itself is rounding.

    Args:
        manifest: The bundle's.
        model: Gives the file of a role, of the trained network.
        images: Inputs of the network, [1, ...] each.

    Raises:
        VerificationError: An embedding is the same for all images.
    """
    parts = {role: open_session(model(role), f"the {role}", optimise=True) for role in manifest.parts}

    def run_role(role: str, feeds: Arrays) -> Arrays:
        return run_taken(parts[role], feeds, f"the {role}")

    outputs = [forward(manifest, run_role, image)[1] for image in images]
    if not manifest.scores.normalised:
        return [_question(manifest, one) for one in outputs]
    embeddings = np.concatenate([one[LOGITS].reshape(1, -1) for one in outputs]).astype(np.float32)
    return [{REFERENCE: embeddings[[_next_other(embeddings, i)]]} for i in range(len(images))]


def _question(manifest: Manifest, outputs: Arrays) -> Question:
    scores, rows = manifest.scores, manifest.scores.rows
    nothing = {VERSUS: np.array([BY_SEED])}  # no contrast
    if rows is not None:
        row = int(best_scores(outputs[DENSE], manifest)[0].argmax())
        # a row that states its class is asked about as it is: with random weights it states another
        best = PREDICTED if rows.labelled else int(scores_of(outputs[DENSE], manifest)[0, row].argmax())
        return {TARGET: np.array([best]), ROW: np.array([row]), VERSUS_ROW: np.array([row]), **nothing}
    target = np.array([0 if scores.kind == "vector" else outputs[LOGITS].reshape(-1).argmax()], np.int64)
    everywhere = np.ones((1, *scores.shape[1:]), np.float32)
    return {TARGET: target, WHERE: everywhere, VERSUS_WHERE: everywhere, **nothing}


def _next_other(embeddings: NDArray[np.float32], image: int) -> int:
    """The next image, the first one after the last, that is not embedded as this one is."""
    order = np.roll(np.arange(len(embeddings)), -image - 1)
    others = order[embeddings[order] @ embeddings[image] < _SAME]
    if not len(others):
        raise VerificationError(
            "--require-sanity: the network embeds all images of the folder alike, and an image that is compared with itself has no "
            "map; give images that differ"
        )
    return int(others[0])
