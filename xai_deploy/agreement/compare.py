"""Whether a deployed network still predicts what its reference predicts, and for the same pixels. Needs NumPy and one runtime.

Two networks explain the same images, each image for the class that the reference predicts, and their maps are compared. The
reference may be a recording, made on another machine, so that only the deployed network has to run on the device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import resample
from ..beside import Given
from ..caveats import Gives, gives
from ..errors import NotApplicableError, NotPredictedError
from ..explainer import Explainer
from ..probabilities import decided, has_probabilities, probabilities, why_none
from ..similarity import flat, spearman, top_overlap
from ..targets import Settled
from . import boxes
from .boxes import Boxes, Chosen
from .other_outputs import cosines, mean_iou, positions, require_same, settled, shared_positions

TOP1, DIFFERENCE = "top-1 agreement", "probability difference"
IOU, COSINE, LARGEST = "prediction IoU", "cosine", "largest difference"
SCORE = "score difference"
FOUND, PRECISION = "box found", "average precision"
CORRELATION, OVERLAP = "rank correlation", "top 10 % overlap"
_LIMIT = {
    TOP1: "top1",
    FOUND: "top1",
    PRECISION: "average_precision",
    DIFFERENCE: "probability_difference",
    SCORE: "probability_difference",
    LARGEST: "probability_difference",
    IOU: "prediction_iou",
    COSINE: "cosine",
    CORRELATION: "rank_correlation",
    OVERLAP: "top_overlap",
}
AT_MOST = (DIFFERENCE, SCORE, LARGEST)
"""The figures that fail above their limit; the others fail below it."""
WHOLE = (TOP1, FOUND, PRECISION)
"""The figures that one image has none of but yes or no."""

Array = NDArray[np.float32]
Spec = tuple[str, Mapping[str, object]]


@dataclass(frozen=True, eq=False)
class Explained:
    """The logits, probabilities and heatmaps of one network for n images.

    Attributes:
        logits: [n,classes]; of dense scores each class's mean in the region explained; numbers or an embedding, [n,D].
        probabilities: [n,classes], the network's own, or those in the region; the logits if there are none.
        heatmaps: Method title -> [n,H,W].
        gives: What the network gives. Of a detector `logits` and `probabilities` are those of the detection explained, [n,1].
        shared: Whether `probabilities` are probabilities.
        target: What was explained; None for classes: the predicted ones.
        predicted: Of dense scores the class predicted at each position, [n,H,W], -1 for none.
        boxes: What a detector finds, and which detection of each image is explained. An image without one has maps of zeros.
    """

    logits: Array
    probabilities: Array
    heatmaps: Mapping[str, Array]
    gives: Gives = "classes"
    shared: bool = True
    target: Settled | None = None
    predicted: NDArray[np.int64] | None = None
    boxes: Chosen | None = None

    @property
    def wanted(self) -> Any:
        """The target with which a deployed network is asked for the same: the classes [n] predicted, what was settled, or boxes."""
        if self.boxes is not None:
            return self.boxes
        return self.logits.argmax(1) if self.target is None else self.target

    @property
    def classes(self) -> NDArray[np.int64]:
        """The classes explained, [n]; of a contrast the first one."""
        if self.target is None:  # of detections the only entry
            return np.asarray(self.logits.argmax(1), np.int64)
        return np.asarray(self.target.seed.target % self.logits.shape[1], np.int64)


@dataclass(frozen=True)
class ImageAgreement:
    """The agreement on one image.

    Attributes:
        image: Its name.
        reference: Class that the reference predicts, and that both explain. For a network with one output it is 1 if the
            probability is at least one half, else 0. Of dense scores the class that it predicts in the region. None for numbers
            and embeddings.
        deployed: Class that the deployed network predicts.
        probability_difference: |p - p'| of the class explained; None if there are no probabilities.
        rank_correlation: Method -> Spearman's correlation of the two maps; 1 if they are equal, else 0 if one is constant.
        top_overlap: Method -> share of the highest tenth of the pixels that the two maps have in common; also 1 and 0.
        beside: Further figures of the prediction, by name; see `_other_figures`.
        positions: Of dense scores: class -> positions that both networks give to it, and that at least one does.
        magnitude: The largest |y| of the reference's numbers y, to which `LARGEST` is compared.
        boxes: What two detectors find. If the reference has nothing to explain, there are no figures of maps.
    """

    image: str
    reference: int | None
    deployed: int | None
    probability_difference: float | None
    rank_correlation: Mapping[str, float]
    top_overlap: Mapping[str, float]
    beside: Mapping[str, float] = field(default_factory=dict)
    positions: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    magnitude: float = 0.0
    boxes: Boxes | None = None

    def as_json(self) -> dict[str, Any]:
        """The figures as JSON; those that the network has none of are left out. `classes` has the IoU of each class."""
        entry = asdict(self)
        del entry["positions"], entry["magnitude"], entry["beside"]
        if self.boxes is None:
            del entry["boxes"]
        classes = {str(index): both / either for index, (both, either) in self.positions.items()}
        return {
            **entry,
            **({"beside": dict(self.beside)} if self.beside else {}),
            **({"classes": classes} if classes else {}),
        }


def explain(
    explainer: Explainer,
    images: Sequence[NDArray[Any]],
    methods: Mapping[str, Spec],
    target: Any = None,
    inputs: Given | None = None,
) -> Explained:
    """Explain images by several methods, for the predicted classes or for those of a reference.

    Args:
        explainer: The network.
        images: RGB [h,w,3] uint8, or other arrays that `Explainer.explain` takes.
        methods: Title -> name and options.
        target: A reference's `Explained.wanted`; or, for anything but classes, what is explained. None: the predicted classes; of
            dense scores the most frequent class, in its region.
        inputs: What the network takes beside the images, as for `Explainer.explain`.

    Raises:
        NotApplicableError: The network's output is not a probability.
        TargetError: The target does not fit the network.
    """
    manifest = explainer.bundle.manifest
    if manifest.scores.kind == "rows":
        prepared, chosen = boxes.choose(explainer, images, target, inputs)
        maps, numbers = boxes.heatmaps(explainer, prepared, chosen, methods)
        pairs = zip(chosen.detections, chosen.number, strict=True)
        shares = np.array([[found[k].score if k >= 0 else 0] for found, k in pairs], np.float32)
        return Explained(numbers[:, None], shares, maps, "rows", boxes=chosen)
    if manifest.scores.kind != "classes":
        return _explain_other(explainer, images, methods, target, inputs)
    if not has_probabilities(manifest.activation, manifest.classes):
        reason = (
            "the network has a single output without a sigmoid"
            if manifest.activation != "scores"
            else why_none("scores")
        )
        raise NotApplicableError(f"{explainer.bundle.path}: {reason}; there is no probability to compare")
    explained = explainer.explain_many(images, list(methods.values()), [target], inputs)
    logits = explained[0].logits
    own = probabilities(logits, manifest.activation)
    return Explained(logits, own, {title: e.heatmap for title, e in zip(methods, explained, strict=True)})


def _explain_other(
    explainer: Explainer, images: Sequence[Any], methods: Mapping[str, Spec], target: Any, inputs: Given | None
) -> Explained:
    own = target if isinstance(target, Settled) else settled(explainer, images, target, inputs)
    explained = explainer.explain_many(images, list(methods.values()), [own], inputs)
    first, dense = explained[0], own.where is not None
    shares = first.probabilities
    return Explained(
        first.logits,
        first.logits if shares is None else shares,
        {title: e.heatmap for title, e in zip(methods, explained, strict=True)},
        gives(explainer.bundle.manifest),
        shares is not None,
        own,
        positions(explainer, first.outputs) if dense else None,
    )


def compare(names: Sequence[str], reference: Explained, deployed: Explained) -> list[ImageAgreement]:
    """The agreement on each image; both networks have explained the reference's classes.

    Raises:
        NotApplicableError: The networks give different things.
        ShapeError: The networks have different numbers of classes.
    """
    require_same(reference.gives, deployed.gives, (reference.logits.shape[1], deployed.logits.shape[1]))
    correlations, overlaps = {}, {}
    for title, heat in reference.heatmaps.items():
        other = deployed.heatmaps[title]
        if other.shape != heat.shape:  # the two networks may have inputs of different sizes
            other = resample.resize(other, *heat.shape[1:])
        one, other = flat(heat), flat(other)
        # Both measures are NaN if a map is constant; `_defined` makes numbers of them.
        correlations[title] = _defined(spearman(one, other), one, other)
        overlaps[title] = _defined(top_overlap(one, other), one, other)
    target, rows = reference.classes, np.arange(len(names))
    has_classes, shared = reference.gives in ("classes", "dense"), reference.shared and deployed.shared
    # of the reference's class in both, even if the deployed network predicts another
    differences = np.abs(reference.probabilities[rows, target] - deployed.probabilities[rows, target])
    predicted, deployed_classes = (_decided(each) if has_classes else None for each in (reference, deployed))
    beside, counted = _other_figures(reference, deployed)
    agreements = [
        ImageAgreement(
            name,
            None if predicted is None else int(predicted[i]),
            None if deployed_classes is None else int(deployed_classes[i]),
            float(differences[i]) if has_classes and shared else None,
            {title: float(values[i]) for title, values in correlations.items()},
            {title: float(values[i]) for title, values in overlaps.items()},
            {title: float(values[i]) for title, values in beside.items()},
            counted[i] if counted else {},
            0.0 if has_classes else float(np.abs(reference.logits[i]).max()),
        )
        for i, name in enumerate(names)
    ]
    if reference.boxes is None or deployed.boxes is None:
        return agreements
    found = zip(agreements, boxes.both(reference.boxes, deployed.boxes), differences, strict=True)
    return [_of_boxes(agreement, own, float(difference)) for agreement, own, difference in found]


def _of_boxes(agreement: ImageAgreement, found: Boxes, difference: float) -> ImageAgreement:
    """The agreement of two detectors on one image: maps of a box that the deployed network does not find agree in nothing."""
    own, other = found.chosen
    beside = {IOU: boxes.mean_overlap(found)}
    if own < 0:
        return replace(agreement, rank_correlation={}, top_overlap={}, beside=beside, boxes=found)
    kept = float(other >= 0)
    return replace(
        agreement,
        reference=found.reference[own].index,
        deployed=found.deployed[other].index if kept else None,
        probability_difference=difference,
        rank_correlation={title: kept * value for title, value in agreement.rank_correlation.items()},
        top_overlap={title: kept * value for title, value in agreement.top_overlap.items()},
        beside={FOUND: kept, **beside},
        boxes=found,
    )


def _other_figures(
    reference: Explained, deployed: Explained
) -> tuple[dict[str, NDArray[np.float64]], list[dict[int, tuple[int, int]]]]:
    """The figures of predictions that are no classes, [n] each, and for dense scores the positions of each class.

    `IOU`: the mean IoU of the two predictions over the classes. `SCORE`, without probabilities: |s - s'| / max(|s|, |s'|) of the
    class's mean score s in the region. `COSINE` of two embeddings. `LARGEST`: max_d |y_d - y'_d| of numbers y.
    """
    a, b = reference.logits.astype(np.float64), deployed.logits.astype(np.float64)
    if reference.gives == "embedding":
        return {COSINE: cosines(reference.logits, deployed.logits)}, []
    if reference.gives == "rows":
        return {}, []  # see `_of_boxes`
    if reference.gives == "numbers":
        return {LARGEST: np.abs(a - b).max(axis=1)}, []
    beside: dict[str, NDArray[np.float64]] = {}
    if reference.gives == "dense" and not (reference.shared and deployed.shared):
        s, other = (scores[np.arange(len(scores)), reference.classes] for scores in (a, b))
        largest = np.maximum(np.abs(s), np.abs(other))
        beside[SCORE] = np.divide(np.abs(s - other), largest, out=np.zeros(len(s)), where=largest > 0)
    if reference.predicted is None or deployed.predicted is None:
        return beside, []
    counted = shared_positions(reference.predicted, deployed.predicted)
    return {IOU: np.array([mean_iou(one) for one in counted]), **beside}, counted


def _decided(explained: Explained) -> NDArray[np.int64]:
    return decided(explained.logits, explained.probabilities if explained.shared else None)


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
        probability_difference: Mean over the images; also of the other differences.
        rank_correlation: Mean over the images, of each method.
        top_overlap: Mean over the images, of each method.
        prediction_iou: Mean over the images; for dense scores and detectors.
        cosine: Mean over the images; for embeddings.
        average_precision: For detectors.
    """

    top1: float = 0.9
    probability_difference: float = 0.1
    rank_correlation: float = 0.9
    top_overlap: float = 0.75
    prediction_iou: float = 0.75
    cosine: float = 0.9
    average_precision: float = 0.75


@dataclass(frozen=True)
class JudgedFigure:
    """One figure of the check.

    Attributes:
        name: "top-1 agreement" and so on; a figure of a method has the method's title before it.
        value: Mean over all images; of a detector's boxes over those in which there is one to explain.
        worst: Its value at the worst tenth of the images: the 10th percentile, for a difference the 90th; None for `WHOLE`.
        limit: The least value that passes, for a difference the largest.
        passed: Whether the value is within the limit.
    """

    name: str
    value: float
    worst: float | None
    limit: float
    passed: bool


def figures_by_image(images: Sequence[ImageAgreement]) -> dict[str, list[float]]:
    """Figure -> its value on each image that has it, in the order of the report; the top-1 agreement of an image is 0 or 1.

    Raises:
        NotPredictedError: They are those of detectors, and the reference has nothing to explain in any image.
    """
    figures: dict[str, list[float]] = {}
    detectors = images[0].boxes is not None
    if detectors and all(image.reference is None for image in images):
        raise NotPredictedError(
            f"the reference finds no such detection in any of {len(images)} images; lower the score from which a row counts "
            "(--detect-score), or explain another one (-t)"
        )
    if images[0].reference is not None and not detectors:
        figures[TOP1] = [float(image.reference == image.deployed) for image in images]
    if differences := [image.probability_difference for image in images if image.probability_difference is not None]:
        figures[DIFFERENCE] = differences
    largest = max(image.magnitude for image in images) or 1.0
    for name in dict.fromkeys(name for image in images for name in image.beside):
        # Numbers have units of their own: their difference is a share of the largest that the reference gives for any image.
        unit = largest if name == LARGEST else 1.0
        figures[name] = [image.beside[name] / unit for image in images if name in image.beside]
    for title in dict.fromkeys(title for image in images for title in image.rank_correlation):
        explained = [image for image in images if title in image.rank_correlation]
        figures[f"{title}: {CORRELATION}"] = [image.rank_correlation[title] for image in explained]
        figures[f"{title}: {OVERLAP}"] = [image.top_overlap[title] for image in explained]
    return figures


def precisions(images: Sequence[ImageAgreement]) -> dict[int, float]:
    """Of detectors: class -> average precision; none for other networks. See `boxes.average_precisions`."""
    return boxes.average_precisions([image.boxes for image in images if image.boxes is not None])


def judge(images: Sequence[ImageAgreement], limits: Limits) -> list[JudgedFigure]:
    """The figures over all images; the check passes if every figure passes.

    Raises:
        NotPredictedError: As `figures_by_image`.
    """
    by_image = figures_by_image(images)
    if own := precisions(images):
        by_image = {PRECISION: list(own.values()), **by_image}  # the mean over the classes
    judged = []
    for name, values in by_image.items():
        kind = name.rpartition(": ")[2]
        limit: float = getattr(limits, _LIMIT[kind])
        mean = float(np.mean(values))
        worst = None if kind in WHOLE else float(np.percentile(values, 90 if kind in AT_MOST else 10))
        judged.append(JudgedFigure(name, mean, worst, limit, mean <= limit if kind in AT_MOST else mean >= limit))
    return judged
