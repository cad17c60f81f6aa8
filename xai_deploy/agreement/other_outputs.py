"""Networks whose output is no classes in a check: what both networks explain, and how alike their predictions are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import resample
from ..beside import Given
from ..caveats import GIVES, Gives
from ..dense_scores import own_output, predicted_by
from ..errors import NotApplicableError, NotPredictedError, ShapeError, TargetError
from ..explainer import Explainer
from ..settle import settle_each
from ..targets import One, Settled
from ..targets.everywhere import everywhere

Array = NDArray[np.float32]
Index = NDArray[np.int64]


def settled(explainer: Explainer, images: Sequence[Any], target: One, inputs: Given | None = None) -> Settled:
    """What the reference explains, so that the deployed network can be asked for the same: its regions, classes and vectors.

    An image in which the network predicts a class nowhere is explained as a whole: the class's mean score everywhere.

    Raises:
        TargetError: The target does not fit the network or an image.
    """
    prepared, sizes = explainer.prepare(list(images), inputs), [(image.shape[0], image.shape[1]) for image in images]
    each = settle_each(explainer, prepared, target, sizes)
    parts = []
    for i, answer in enumerate(each):
        one = answer
        if isinstance(one, NotPredictedError):
            row = prepared.rows(slice(i, i + 1))
            [one] = settle_each(explainer, row, everywhere(target, explainer.space), sizes[i : i + 1])
        if isinstance(one, TargetError):
            raise one
        parts.append(one)
    return Settled.join(parts)


def positions(explainer: Explainer, outputs: Mapping[str, NDArray[Any]]) -> Index | None:
    """The class that a network of dense scores predicts at each position, [n,H,W], -1 for none; None if that is not known.

    Args:
        explainer: The network.
        outputs: Its outputs for n images, by name.
    """
    manifest = explainer.bundle.manifest
    try:
        return predicted_by(outputs[own_output(manifest).name], manifest)
    except TargetError:  # codes of a quantised network with a single class
        return None


def shared_positions(reference: Index, deployed: Index) -> list[dict[int, tuple[int, int]]]:
    """Of each image: class -> how many positions both networks give to it, and how many at least one of them does.

    Args:
        reference: [n,H,W], -1 for no class.
        deployed: [n,h,w], laid on the reference's positions by the nearest neighbour.
    """
    if deployed.shape[1:] != reference.shape[1:]:
        laid = resample.resize(deployed.astype(np.float32), *reference.shape[1:], interpolation="nearest")
        deployed = np.asarray(laid, np.int64)
    counted = []
    for one, other in zip(reference, deployed, strict=True):
        classes = [int(index) for index in np.union1d(one, other) if index >= 0]
        counted.append(
            {c: (int(((one == c) & (other == c)).sum()), int(((one == c) | (other == c)).sum())) for c in classes}
        )
    return counted


def mean_iou(counted: Mapping[int, tuple[int, int]]) -> float:
    """The mean IoU over the classes that at least one network predicts in an image; 1 if neither predicts any."""
    return float(np.mean([both / either for both, either in counted.values()])) if counted else 1.0


def ious(images: Sequence[Mapping[int, tuple[int, int]]]) -> dict[int, float]:
    """Class -> its IoU over all images: the positions of all images are counted together. Lower classes first."""
    classes = sorted({index for counted in images for index in counted})
    sums = {c: np.sum([counted.get(c, (0, 0)) for counted in images], axis=0) for c in classes}
    return {c: float(both / either) for c, (both, either) in sums.items()}


def cosines(reference: Array, deployed: Array) -> NDArray[np.float64]:
    """The cosine of two embeddings of each image, [n]; 0 if one is zero."""
    a, b = reference.astype(np.float64), deployed.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine: NDArray[np.float64] = np.divide((a * b).sum(axis=1), lengths, out=np.zeros(len(a)), where=lengths > 0)
    return cosine


def require_same(reference: Gives, deployed: Gives, classes: tuple[int | None, int | None]) -> None:
    """Refuse two networks that give different things, or different numbers of classes (reference and deployed; None: not known).

    Raises:
        NotApplicableError, ShapeError: They do.
    """
    if reference != deployed:
        raise NotApplicableError(
            f"the reference gives {GIVES[reference]}, the deployed network {GIVES[deployed]}; they can't be compared"
        )
    if None not in classes and classes[0] != classes[1]:
        raise ShapeError(
            f"the reference has {classes[0]} classes, the deployed network {classes[1]}; they can't be compared"
        )
