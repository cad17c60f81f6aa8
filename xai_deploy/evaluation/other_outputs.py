"""Networks whose output is no classes in an evaluation: what is explained in each image, settled before anything is measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import resample
from ..caveats import GIVES, Gives, gives
from ..dense_scores import own_output, predicted_by
from ..detections import Detection
from ..errors import NotApplicableError, TargetError
from ..explainer import Explainer
from ..explanation import Explanation
from ..foundation.options import quoted
from ..preprocess import Prepared
from ..settle import Size, settle_each
from ..targets import Settled, Target, read_one


def check_target(explainer: Explainer, target: Target, own: Gives) -> None:
    """Refuse a target that a metric can't take.

    Raises:
        TargetError: It does not fit the network; or it is a contrast, or the other direction, of regions: their probabilities are
            no probability of one class.
    """
    if own == "embedding" and target is None:
        raise TargetError("the network gives an embedding: say what is explained, --like FILE")
    if own == "numbers" and target is None and explainer.bundle.manifest.classes > 1:
        raise TargetError(f"the network gives {GIVES[own]}: say which one is explained, -t '#3'")
    wanted = read_one(target, 1, explainer.space)
    if own == "rows":
        sides: Sequence[Any] = getattr(wanted, "sides", ())
        if len(sides) != 1 or getattr(wanted, "sign", 1) < 0 or sides[0].box.part != "score":
            raise TargetError(f"target {quoted(target)}: a metric takes one detection and the score of its class")
    if own == "dense" and (getattr(wanted, "versus", None) is not None or getattr(wanted, "sign", 1) < 0):
        raise TargetError(f"target {quoted(target)}: a metric takes one class in one region")


def settled(
    explainers: Sequence[Explainer], inputs: Sequence[Prepared], target: Target, sizes: Sequence[Size]
) -> list[list[Settled] | TargetError]:
    """What each network explains in each image; the error for an image in which one network has nothing to explain.

    Args:
        explainers: The networks.
        inputs: Of each network its prepared images, [n, ...].
        target: What is explained.
        sizes: (height, width) of each photo; None for preprocessed volumes.
    """
    each = [settle_each(one, x, target, sizes) for one, x in zip(explainers, inputs, strict=True)]
    result: list[list[Settled] | TargetError] = []
    for answers in zip(*each, strict=True):
        own = [answer for answer in answers if isinstance(answer, Settled)]
        errors = [answer for answer in answers if isinstance(answer, TargetError)]
        result.append(errors[0] if errors else own)
    return result


def explained_detections(explanation: Explanation) -> list[Detection]:
    """The detection that is explained in each image: that of its row."""
    pairs = zip(explanation.detections, explanation.rows, strict=True)
    return [next(one for one in found if one.row == rows[0]) for found, rows in pairs]


def same_positions(
    explainers: tuple[Explainer, Explainer], explained: tuple[Explanation, Explanation]
) -> NDArray[np.float64]:
    """The share of positions at which two networks of dense scores predict the same class, in percent, [n].

    NaN if a prediction is not known: codes of a quantised network with a single class.
    """
    maps = []
    for explainer, explanation in zip(explainers, explained, strict=True):
        manifest = explainer.bundle.manifest
        try:
            maps.append(predicted_by(explanation.outputs[own_output(manifest).name], manifest))
        except TargetError:
            return np.full(len(explanation.target), np.nan)
    first, other = maps
    if first.shape != other.shape:
        other = np.asarray(
            resample.resize(other.astype(np.float32), *first.shape[1:], interpolation="nearest"), np.int64
        )
    return np.asarray(100 * (first == other).reshape(len(first), -1).mean(axis=1))


def require_same(explainers: Sequence[Explainer], names: Sequence[str]) -> Gives:
    """What all networks give.

    Raises:
        NotApplicableError: They give different things, or take different ones.
    """
    first, *others = (gives(explainer.bundle.manifest) for explainer in explainers)
    takes, *other_takes = (takes_volumes(explainer) for explainer in explainers)
    for own, volumes, name in zip(others, other_takes, names[1:], strict=True):
        if own != first:
            raise NotApplicableError(f"{names[0]} gives {GIVES[first]}, {name} {GIVES[own]}; they can't be compared")
        if volumes != takes:
            what = ("images", "volumes")
            raise NotApplicableError(f"{names[0]} takes {what[takes]}, {name} {what[volumes]}; they can't be compared")
    return first


def takes_volumes(explainer: Explainer) -> bool:
    """Whether a network takes volumes or films, not images."""
    return explainer.bundle.manifest.input.depth is not None
