"""Whether a deployed network still predicts what its reference predicts, and for the same pixels. Needs NumPy and one runtime.

Two networks explain the same images, each image for the class that the reference predicts, and their maps are compared. The
reference may be a recording, made on another machine, so that only the deployed network has to run on the device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import resample
from ..errors import NotApplicableError, ShapeError
from ..explainer import Explainer
from ..probabilities import has_probabilities, probabilities, why_none
from ..similarity import spearman, top_overlap

TOP1, DIFFERENCE = "top-1 agreement", "probability difference"
CORRELATION, OVERLAP = "rank correlation", "top 10 % overlap"
_LIMIT = {TOP1: "top1", DIFFERENCE: "probability_difference", CORRELATION: "rank_correlation", OVERLAP: "top_overlap"}

Array = NDArray[np.float32]
Spec = tuple[str, Mapping[str, object]]


@dataclass(frozen=True, eq=False)
class Explained:
    """The logits, probabilities and heatmaps of one network for n images.

    Attributes:
        logits: [n,classes].
        probabilities: [n,classes], the network's own.
        heatmaps: Method title -> [n,H,W].
    """

    logits: Array
    probabilities: Array
    heatmaps: Mapping[str, Array]


@dataclass(frozen=True)
class ImageAgreement:
    """The agreement on one image.

    Attributes:
        image: Its name.
        reference: Class that the reference predicts, and that both explain. For a network with one output it is 1 if the
            probability is at least one half, else 0.
        deployed: Class that the deployed network predicts.
        probability_difference: |p - p'| of the reference's class.
        rank_correlation: Method -> Spearman's correlation of the two maps; 1 if they are equal, else 0 if one is constant.
        top_overlap: Method -> share of the highest tenth of the pixels that the two maps have in common; also 1 and 0.
    """

    image: str
    reference: int
    deployed: int
    probability_difference: float
    rank_correlation: Mapping[str, float]
    top_overlap: Mapping[str, float]


def explain(
    explainer: Explainer, images: Sequence[NDArray[Any]], methods: Mapping[str, Spec], target: Any = None
) -> Explained:
    """Explain images by several methods, for the predicted classes or for those of a reference.

    Args:
        explainer: The network.
        images: RGB [h,w,3] uint8, or other arrays that `Explainer.explain` takes.
        methods: Title -> name and options.
        target: The classes [n]; None for the predicted ones.

    Raises:
        NotApplicableError: The network's output is not a probability.
    """
    manifest = explainer.bundle.manifest
    if not has_probabilities(manifest.activation, manifest.classes):
        reason = (
            "the network has a single output without a sigmoid"
            if manifest.activation != "scores"
            else why_none("scores")
        )
        raise NotApplicableError(f"{explainer.bundle.path}: {reason}; there is no probability to compare")
    explained = explainer.explain_many(images, list(methods.values()), [target])
    logits = explained[0].logits
    own = probabilities(logits, manifest.activation)
    return Explained(logits, own, {title: e.heatmap for title, e in zip(methods, explained, strict=True)})


def compare(names: Sequence[str], reference: Explained, deployed: Explained) -> list[ImageAgreement]:
    """The agreement on each image; both networks have explained the reference's classes.

    Raises:
        ShapeError: The networks have different numbers of classes.
    """
    classes, others = reference.logits.shape[1], deployed.logits.shape[1]
    if classes != others:
        raise ShapeError(f"the reference has {classes} classes, the deployed network {others}; they can't be compared")
    correlations, overlaps = {}, {}
    for title, heat in reference.heatmaps.items():
        other = deployed.heatmaps[title]
        if other.shape != heat.shape:  # the two networks may have inputs of different sizes
            other = resample.resize(other, *heat.shape[1:])
        # Both measures are NaN if a map is constant; `_defined` makes numbers of them.
        correlations[title] = _defined(spearman(heat, other), heat, other)
        overlaps[title] = _defined(top_overlap(heat, other), heat, other)
    target = reference.logits.argmax(1)
    predicted, deployed_classes = _predicted(reference), _predicted(deployed)
    return [
        ImageAgreement(
            name,
            int(predicted[i]),
            int(deployed_classes[i]),
            # of the reference's class in both, even if the deployed network predicts another
            float(abs(reference.probabilities[i, target[i]] - deployed.probabilities[i, target[i]])),
            {title: float(values[i]) for title, values in correlations.items()},
            {title: float(values[i]) for title, values in overlaps.items()},
        )
        for i, name in enumerate(names)
    ]


def _predicted(explained: Explained) -> NDArray[np.int64]:
    """The predicted classes; for a single output 1 if its probability is at least one half, else 0."""
    if explained.logits.shape[1] == 1:
        return np.asarray(explained.probabilities[:, 0] >= 0.5, dtype=np.int64)
    return np.asarray(explained.logits.argmax(1), dtype=np.int64)


def _defined(values: NDArray[np.float64], a: Array, b: Array) -> NDArray[np.float64]:
    """The values, with 1 for equal maps and 0 for NaN: the agreement of two maps of which one is constant is not defined.

    Equal maps give exactly 1, without a rounding error, so that a limit of 1 can be met."""
    equal = (a == b).all(axis=(1, 2))  # also two equal constant maps
    return np.where(equal, 1.0, np.where(np.isnan(values), 0.0, values))


@dataclass(frozen=True)
class Limits:
    """The limits of agreement: a figure below its limit fails; the probability difference fails above its limit.

    Attributes:
        top1: Share of the images where both predict the same class.
        probability_difference: Mean over the images.
        rank_correlation: Mean over the images, of each method.
        top_overlap: Mean over the images, of each method.
    """

    top1: float = 0.9
    probability_difference: float = 0.1
    rank_correlation: float = 0.9
    top_overlap: float = 0.75


@dataclass(frozen=True)
class JudgedFigure:
    """One figure of the check.

    Attributes:
        name: "top-1 agreement" and so on; a figure of a method has the method's title before it.
        value: Mean over all images.
        worst: Its value at the worst tenth of the images: the 10th percentile, for a difference the 90th; None for top-1.
        limit: The least value that passes, for a difference the largest.
        passed: Whether the value is within the limit.
    """

    name: str
    value: float
    worst: float | None
    limit: float
    passed: bool


def figures_by_image(images: Sequence[ImageAgreement]) -> dict[str, list[float]]:
    """Figure -> its value on each image, in the order of the report; the top-1 agreement of an image is 0 or 1."""
    figures = {
        TOP1: [float(image.reference == image.deployed) for image in images],
        DIFFERENCE: [image.probability_difference for image in images],
    }
    for title in images[0].rank_correlation:
        figures[f"{title}: {CORRELATION}"] = [image.rank_correlation[title] for image in images]
        figures[f"{title}: {OVERLAP}"] = [image.top_overlap[title] for image in images]
    return figures


def judge(images: Sequence[ImageAgreement], limits: Limits) -> list[JudgedFigure]:
    """The figures over all images; the check passes if every figure passes."""
    judged = []
    for name, values in figures_by_image(images).items():
        kind = name.rpartition(": ")[2]
        limit: float = getattr(limits, _LIMIT[kind])
        mean = float(np.mean(values))
        worst = None if kind == TOP1 else float(np.percentile(values, 90 if kind == DIFFERENCE else 10))
        judged.append(JudgedFigure(name, mean, worst, limit, mean <= limit if kind == DIFFERENCE else mean >= limit))
    return judged
