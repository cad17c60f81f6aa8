"""Detectors in a check: which boxes both networks find, and the map of one box that both explain.

A box of the deployed network is the counterpart of one of the reference's if both are of the same class and their intersection over
union is one half at least. Pairs are made from the largest overlap on, each box in one pair at most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..beside import Given
from ..detections import Detection, overlaps
from ..errors import NotPredictedError, TargetError
from ..explainer import Explainer
from ..foundation.options import quoted
from ..preprocess import Prepared
from ..targets import Seed, Settled, Target, read_one
from ..targets.box import BoxTarget

ALIKE = 0.5
"""The least intersection over union of two boxes that count as the same object, as in COCO's AP50."""

Array = NDArray[np.float32]
Found = tuple[Detection, ...]


@dataclass(frozen=True)
class Boxes:
    """What two detectors find in one image.

    Attributes:
        reference, deployed: Their detections, the best one first.
        chosen: Of each the number of the detection that is explained; -1: there is none.
    """

    reference: Found
    deployed: Found
    chosen: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Chosen:
    """What a detector finds in n images, and what of it is explained.

    Attributes:
        detections: Per image, the best one first.
        number: Per image the number of the detection that is explained, [n]; -1: there is none.
    """

    detections: tuple[Found, ...]
    number: tuple[int, ...]

    def rows(self, images: Sequence[int]) -> Chosen:
        """Those of some images."""
        return Chosen(tuple(self.detections[i] for i in images), tuple(self.number[i] for i in images))

    @classmethod
    def join(cls, parts: Sequence[Chosen]) -> Chosen:
        """The images of all parts, in order."""
        return cls(sum((part.detections for part in parts), ()), sum((part.number for part in parts), ()))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it: `boxes` [m,8] of image, row, class, score, left, top, right, bottom; and `chosen` [n]."""
        every = [
            (i, one.row, one.index, one.score, *one.box) for i, found in enumerate(self.detections) for one in found
        ]
        return {"boxes": np.array(every, np.float64).reshape(-1, 8), "chosen": np.array(self.number, np.int64)}

    @classmethod
    def of_arrays(cls, boxes: NDArray[Any], number: NDArray[Any]) -> Chosen | None:
        """What `arrays` gave; None for arrays that it does not give."""
        if boxes.dtype != np.float64 or boxes.ndim != 2 or boxes.shape[1] != 8 or not np.isfinite(boxes).all():
            return None
        if number.dtype != np.int64 or number.ndim != 1 or not len(number):
            return None
        whole, scores = boxes[:, :3], boxes[:, 3]
        if (whole != np.rint(whole)).any() or (whole < 0).any() or (whole[:, 0] >= len(number)).any():
            return None
        if (scores < 0).any() or (scores > 1).any():
            return None
        found: list[list[Detection]] = [[] for _ in number]
        for image, row, index, score, left, top, right, bottom in boxes.tolist():
            found[int(image)].append(Detection(int(row), int(index), score, (left, top, right, bottom)))
        if any(not -1 <= k < len(own) for k, own in zip(number.tolist(), found, strict=True)):
            return None
        return cls(tuple(map(tuple, found)), tuple(number.tolist()))


def check_target(explainer: Explainer, target: Target) -> BoxTarget:
    """The target, read.

    Raises:
        TargetError: It is a side of a box, a contrast, or no target of this detector.
    """
    wanted = read_one(target, 1, explainer.space)
    if (
        not isinstance(wanted, BoxTarget)
        or len(wanted.sides) != 1
        or wanted.sign < 0
        or wanted.sides[0].box.part != "score"
    ):
        raise TargetError(f"target {quoted(target)}: a check takes one detection and the score of its class")
    return wanted


def choose(
    explainer: Explainer, images: Sequence[Any], target: Target | Chosen, inputs: Given | None
) -> tuple[Prepared, Chosen]:
    """The prepared images, what the network finds in them, and which detection is explained.

    Args:
        explainer: The network.
        images: RGB [h,w,3] uint8, or other arrays that `Explainer.explain` takes.
        target: A detection; or what the reference explains, whose counterparts are taken.
        inputs: As for `Explainer.explain`.
    """
    prepared, sizes = explainer.prepare(list(images), inputs), [(image.shape[0], image.shape[1]) for image in images]
    every: list[Found] = []
    for rows, forward in explainer.passes(prepared):
        forward.sizes = sizes[rows.start : rows.stop]
        every += map(tuple, forward.detections())
    if isinstance(target, Chosen):
        pairs = [paired(*found) for found in zip(target.detections, every, strict=True)]
        number = [pair.get(k, (-1, 0.0))[0] for pair, k in zip(pairs, target.number, strict=True)]
    else:
        [side] = check_target(explainer, target).sides
        number = []
        for found in every:
            try:
                number.append(found.index(side.choose(found)))
            except NotPredictedError:
                number.append(-1)
    return prepared, Chosen(tuple(every), tuple(number))


def settled(explainer: Explainer, chosen: Chosen, images: NDArray[np.int64]) -> Settled:
    """The score of the detections that are explained in some images, as a target of their network."""
    rows, scores = explainer.bundle.manifest.scores.rows, explainer.bundle.manifest.scores
    assert rows is not None  # it is a detector
    picked = [chosen.detections[i][chosen.number[i]] for i in images]
    where = np.zeros((len(picked), 1, scores.shape[1]), np.float32)
    where[np.arange(len(picked)), 0, [one.row for one in picked]] = 1
    entries = np.array([0 if rows.labelled else one.index for one in picked], np.int64)
    return Settled(Seed.of_class(entries), where)


def paired(reference: Sequence[Detection], deployed: Sequence[Detection]) -> dict[int, tuple[int, float]]:
    """Number of a detection of the reference -> that of its counterpart, and their intersection over union."""
    near = [
        (float(share), i, j)
        for i, one in enumerate(reference)
        for j, share in enumerate(_overlaps(one, deployed))
        if share >= ALIKE and one.index == deployed[j].index
    ]
    pairs: dict[int, tuple[int, float]] = {}
    taken: set[int] = set()
    for share, i, j in sorted(near, key=lambda one: -one[0]):
        if i not in pairs and j not in taken:
            pairs[i] = j, share
            taken.add(j)
    return pairs


def mean_overlap(boxes: Boxes) -> float:
    """The sum of the pairs' overlaps, as a share of the boxes that either network finds; 1 if neither finds any."""
    pairs = paired(boxes.reference, boxes.deployed)
    every = len(boxes.reference) + len(boxes.deployed) - len(pairs)
    return sum(share for _, share in pairs.values()) / every if every else 1.0


def average_precisions(images: Sequence[Boxes]) -> dict[int, float]:
    """Class -> COCO's average precision (AP50-95) of the deployed network, with the reference's boxes as the truth.

    The mean over ten thresholds of overlap, 0.5 to 0.95, and over 101 values of recall r of the largest precision at a recall of r
    at least (pycocotools' `COCOeval.accumulate`, without its limit of 100 detections). Classes that the reference finds nowhere
    have none.
    """
    classes = sorted({one.index for image in images for one in image.reference})
    return {c: float(np.mean([_precision(images, c, t) for t in np.arange(10) * 0.05 + 0.5])) for c in classes}


def _precision(images: Sequence[Boxes], index: int, threshold: float) -> float:
    """COCO's average precision of one class at one threshold of overlap."""
    scores, hits, wanted = [], [], 0
    for image in images:
        truth = [one for one in image.reference if one.index == index]
        wanted += len(truth)
        free = np.ones(len(truth), bool)
        for one in image.deployed:  # the best one first
            if one.index == index:
                shares = np.where(free, _overlaps(one, truth), -1.0)
                hit = bool(shares.size and shares.max() >= threshold)
                if hit:
                    free[int(shares.argmax())] = False
                scores.append(one.score)
                hits.append(hit)
    order = np.argsort(-np.array(scores), kind="stable")
    right = np.cumsum(np.array(hits, bool)[order])
    recall, precision = right / wanted, right / np.arange(1, len(right) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]  # the largest from each recall on
    at = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
    return float(np.append(best, 0.0)[at].mean())


def _overlaps(one: Detection, others: Sequence[Detection]) -> Array:
    return overlaps(np.array(one.box, np.float32), np.array([other.box for other in others], np.float32).reshape(-1, 4))


def both(reference: Chosen, deployed: Chosen) -> list[Boxes]:
    """What both find in each image."""
    every = zip(reference.detections, deployed.detections, reference.number, deployed.number, strict=True)
    return [Boxes(one, other, (k, m)) for one, other, k, m in every]


def heatmaps(
    explainer: Explainer, prepared: Prepared, chosen: Chosen, methods: Mapping[str, tuple[str, Mapping[str, object]]]
) -> tuple[dict[str, Array], Array]:
    """Method title -> the maps [n,H,W] of what is explained, and the numbers explained, [n]; zeros if nothing is."""
    count, size = len(chosen.number), explainer.bundle.manifest.input.size
    there = np.flatnonzero(np.array(chosen.number) >= 0)
    maps, numbers = {title: np.zeros((count, *size), np.float32) for title in methods}, np.zeros(count, np.float32)
    if len(there):
        target = settled(explainer, chosen, there)
        every = explainer.explain_many(prepared.rows(there), list(methods.values()), [target])
        for title, one in zip(methods, every, strict=True):
            maps[title][there] = one.heatmap
        numbers[there] = every[0].score
    return maps, numbers
