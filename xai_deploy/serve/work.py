"""A batch of requests through the network: predictions, or explanations with the predictions from the same run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..answer import Answer, answer, detected, predicted, prediction
from ..explainer import Explainer
from ..pictures.thumbnail import small
from .asked import Asked
from .versions import Version

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Result:
    """The answer to one request.

    Attributes:
        predictions: For each image, what the network says of it.
        answers: For each image, one answer per target; empty for predictions.
        outputs: The network's own outputs by name, [n, ...].
    """

    predictions: Sequence[list[dict[str, Any]]]
    answers: Sequence[Sequence[Answer]]
    outputs: Mapping[str, NDArray[Any]]


def run(requests: Sequence[Asked], version: Version, alone: bool) -> list[Result]:
    """Run requests that ask for the same thing in one batch.

    Args:
        requests: They name one method with the same options, or none.
        version: The bundle.
        alone: There is one request, whose target stands for several, or whose network takes more than the images.
    """
    images = [image for asked in requests for image in asked.images]
    inputs = requests[0].inputs if alone else None
    if requests[0].method is None:
        whole = _predict(version.explainer, images, inputs)
    else:
        targets = [target for asked in requests for target in asked.targets]
        whole = _explain(version.explainer, images, requests[0].method, requests[0].options, targets, inputs)
    results, start = [], 0
    for asked in requests:
        rows = slice(start, start + len(asked.images))
        outputs = {name: values[rows] for name, values in whole.outputs.items()}
        results.append(Result(whole.predictions[rows], whole.answers[rows], outputs))
        start += len(asked.images)
    return results


def _predict(explainer: Explainer, images: Sequence[Any], inputs: Mapping[str, Any] | None) -> Result:
    manifest, parts = explainer.bundle.manifest, []
    for rows, forward in explainer.passes(explainer.prepare(images, inputs)):
        forward.sizes = [small(image, manifest.input)[0] for image in images[rows.start : rows.stop]]
        parts.append(forward)
    outputs = {one.name: np.concatenate([part.outputs[one.tensor] for part in parts]) for one in manifest.outputs}
    if manifest.scores.rows is not None:
        found = [detected(explainer, one) for part in parts for one in part.detections()]
        return Result(found, [()] * len(images), outputs)
    logits = np.concatenate([part.logits for part in parts])
    shares = [part.shares for part in parts if part.shares is not None]
    of_each: Array | None = np.concatenate(shares) if shares and manifest.scores.kind == "dense" else None
    said = [
        [] if manifest.scores.kind == "vector" else prediction(explainer, one, None if of_each is None else of_each[i])
        for i, one in enumerate(logits)
    ]
    return Result(said, [()] * len(images), outputs)


def _explain(
    explainer: Explainer,
    images: Sequence[Any],
    method: str,
    options: Mapping[str, Any],
    targets: Sequence[Any],
    inputs: Mapping[str, Any] | None,
) -> Result:
    explanations = explainer.explain_many(images, [(method, options)], [_together(targets)], inputs)
    answers = [[answer(explainer, one, i) for one in explanations] for i in range(len(images))]
    said = [predicted(explainer, explanations[0], i, own) for i, own in enumerate(answers)]
    return Result(said, answers, explanations[0].outputs)


def _together(targets: Sequence[Any]) -> Any:
    """The targets of the images as one of `explain_many`'s: weights as an array, one for all as it is, else a list."""
    if isinstance(targets[0], np.ndarray):
        return np.stack(targets)
    if all(target is targets[0] or (isinstance(target, str) and target == targets[0]) for target in targets):
        return targets[0]
    return list(targets)


def shares_a_batch(asked: Asked, counts: Sequence[int]) -> bool:
    """Whether a request may run with others: one target for each image, no weights, nothing beside the images."""
    weights = any(isinstance(target, np.ndarray) for target in asked.targets)
    return asked.inputs is None and not weights and all(count == 1 for count in counts)
