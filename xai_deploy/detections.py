"""Rows of a detector -> detections: probabilities, boxes on the photo, and non-maximum suppression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import NotApplicableError, OptionError
from .format.image_input import Input
from .format.manifest import Manifest
from .format.rows import Rows
from .images.module import opencv
from .preprocess import resized
from .probabilities import probabilities

Array = NDArray[np.float32]
Index = NDArray[np.int64]
Box = tuple[float, float, float, float]
_BLOCK = 1000


@dataclass(frozen=True)
class Detection:
    """One object that a detector found.

    Attributes:
        row: Its row in the network's output.
        index: Its class.
        score: Its probability, in [0,1].
        box: (left, top, right, bottom) in pixels of the photo; of a prepared input in those of the network's input. It may reach
            over the border.
    """

    row: int
    index: int
    score: float
    box: Box

    def as_json(self, label: str) -> dict[str, Any]:
        """All of it, for JSON."""
        return {"row": self.row, "class": self.index, "label": label, "score": self.score, "box": list(self.box)}

    @classmethod
    def of_json(cls, entry: Mapping[str, Any]) -> Detection:
        """What `as_json` gave."""
        left, top, right, bottom = entry["box"]
        return cls(entry["row"], entry["class"], entry["score"], (left, top, right, bottom))


@dataclass(frozen=True)
class DetectionLimits:
    """Which rows count as detections.

    Attributes:
        score: The lowest probability, 0 to 1.
        overlap: Of two boxes of one class whose intersection over union is above this, 0 to 1, the better one is kept.
        most: The largest number of detections of an image.
    """

    score: float = 0.25
    overlap: float = 0.7
    most: int = 300

    def __post_init__(self) -> None:
        """Raises: OptionError: A value lies outside its range."""
        for name, value in (("score", self.score), ("overlap", self.overlap)):
            if not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise OptionError(f"detections: {name} is a number from 0 to 1, not {value!r}")
        if type(self.most) is not int or self.most < 1:
            raise OptionError(f"detections: most is 1 or more, not {self.most!r}")


def detect(
    rows: Array, manifest: Manifest, sizes: Sequence[tuple[int, int] | None], limits: DetectionLimits
) -> list[list[Detection]]:
    """The detections of n images, the best one first.

    Args:
        rows: [n,entries,R], the rows as the tail gives them.
        manifest: The bundle's manifest.
        sizes: (height, width) of each photo; None: boxes stay in pixels of the network's input.
        limits: Which rows count.
    """
    placed = (
        (one, on_photo(one.boxes, manifest.input, size))
        for one, size in zip(found(rows, manifest, limits), sizes, strict=True)
    )
    return [
        [
            Detection(int(row), int(index), float(score), tuple(map(float, box)))  # type: ignore[arg-type]
            for row, index, score, box in zip(one.rows, one.index, one.score, boxes, strict=True)
        ]
        for one, boxes in placed
    ]


@dataclass(frozen=True, eq=False)
class Found:
    """The k rows of one image that are detections, the best one first.

    Attributes:
        rows: Which, [k].
        index: The class of each, [k].
        score: Its probability, [k].
        boxes: Left, top, right, bottom in pixels of the network's input, [k,4].
        shares: The probability of every class, [k,classes].
        objectness: How likely each is any object, [k]; 1 for detectors without one.
    """

    rows: Index
    index: Index
    score: Array
    boxes: Array
    shares: Array
    objectness: Array


def found(rows: Array, manifest: Manifest, limits: DetectionLimits) -> list[Found]:
    """The detections of n images; `rows` and `limits` as for `detect`."""
    best = best_scores(rows, manifest)
    return [_of_image(rows[i], np.flatnonzero(best[i] >= limits.score), manifest, limits) for i in range(len(rows))]


def best_scores(rows: Array, manifest: Manifest) -> Array:
    """The largest probability of each row, [n,R]."""
    spec = manifest.scores.rows
    assert spec is not None  # only detectors have rows
    if spec.background is None and manifest.activation in ("sigmoid", "independent"):  # they grow with the score
        best = rows[:, : spec.classes].max(axis=1)[..., None]
        return np.asarray(probabilities(best, manifest.activation)[..., 0], np.float32)
    return np.asarray(scores_of(rows, manifest).max(axis=2), np.float32)


def scores_of(rows: Array, manifest: Manifest) -> Array:
    """The probability of each class in each row, [n,R,classes]; that of the background is 0."""
    spec = manifest.scores.rows
    assert spec is not None
    shares = probabilities(np.moveaxis(rows[:, : spec.classes], 1, 2), manifest.activation)
    if spec.background is not None:
        shares = shares.copy()
        shares[..., spec.background] = 0
    return np.asarray(shares, np.float32)


def classes_of(rows: Array, spec: Rows) -> Index | None:
    """The class that each row states, [n,R]; None if its scores say it."""
    return np.rint(rows[:, -1]).astype(np.int64) if spec.labelled else None


def objectness_of(rows: Array, spec: Rows) -> Array:
    """How likely each row is any object, [n,R]; 1 for detectors without objectness."""
    return np.asarray(rows[:, -1] if spec.objectness else np.ones(rows[:, -1].shape), np.float32)


def why_no_cells(manifest: Manifest) -> str | None:
    """Why a detector has no scores of classes in cells, see `in_cells`; None if it has."""
    rows = manifest.scores.rows
    if rows is None:
        return "it shows where a detector or a segmenter sees a class, and the network is neither"
    if not rows.grids:
        return (
            f"the rows of this detector ({rows.decoder}) are no cells of its levels: they are queries, or the graph chose them; a "
            "detector with a score for each class at each place has cells, if a new enough xai-export wrote the bundle"
        )
    return None


def require_cells(manifest: Manifest) -> Manifest:
    """The manifest of a network that has cells.

    Raises:
        NotApplicableError: It has none; the message says why.
    """
    if (why := why_no_cells(manifest)) is not None:
        raise NotApplicableError(f"class-map: {why}")
    return manifest


def in_cells(manifest: Manifest, rows: Array) -> list[Array]:
    """The probability of each class in the cells of each level of a detector, [n,classes,anchors,h,w]; see `Rows.grids`."""
    spec = manifest.scores.rows
    assert spec is not None  # only detectors have rows
    shares, levels, start = np.moveaxis(scores_of(rows, manifest), 1, 2), [], 0  # [n,classes,R]
    for grid in spec.grids:
        own = shares[..., start : start + grid.count].reshape(*shares.shape[:2], *grid.shape)
        # [n,classes,outer,h,w,inner]
        levels.append(np.moveaxis(own, 5, 3).reshape(*shares.shape[:2], -1, grid.height, grid.width))
        start += grid.count
    return levels


def corners(rows: Array, spec: Rows, image: Input) -> Array:
    """The boxes as left, top, right, bottom in pixels of the network's input, [n,R,4]."""
    places = np.moveaxis(rows[:, spec.classes : spec.classes + 4], 1, 2)
    if spec.form == "centre":
        centre, half = places[..., :2], places[..., 2:] / 2
        places = np.concatenate([centre - half, centre + half], axis=2)
    if spec.unit == "fractions":
        places = places * np.array([image.width, image.height] * 2, np.float32)
    return np.asarray(places, np.float32)


def overlaps(box: Array, boxes: Array) -> Array:
    """Intersection over union of a box [4] with each of some boxes [R,4]; all as left, top, right, bottom."""
    one, others = box.astype(np.float64), boxes.astype(np.float64)  # areas may pass the range of float32
    shared = np.minimum(one[2:], others[:, 2:]) - np.maximum(one[:2], others[:, :2])
    inside = np.maximum(shared, 0).prod(axis=1)
    area = np.maximum(others[:, 2:] - others[:, :2], 0).prod(axis=1) + np.maximum(one[2:] - one[:2], 0).prod() - inside
    return np.asarray(np.divide(inside, area, out=np.zeros_like(inside), where=area > 0), np.float32)


def _of_image(rows: Array, some: Index, manifest: Manifest, limits: DetectionLimits) -> Found:
    """The detections among some rows of one image [entries,R], all of them above the lowest probability."""
    spec = manifest.scores.rows
    assert spec is not None
    own = rows[None, :, some]
    shares, labels = scores_of(own, manifest)[0], classes_of(own, spec)
    boxes = corners(own, spec, manifest.input)[0]
    score, index = shares.max(axis=1), shares.argmax(axis=1) if labels is None else labels[0]
    kept = np.flatnonzero(np.isfinite(boxes).all(axis=1))
    if spec.suppress and len(kept):
        kept = kept[suppressed(boxes[kept], score[kept], index[kept], limits)]
    kept = kept[np.argsort(-score[kept], kind="stable")][: limits.most]
    objectness = objectness_of(own, spec)[0]
    return Found(some[kept], index[kept], score[kept], boxes[kept], shares[kept], objectness[kept])


def suppressed(boxes: Array, scores: Array, classes: NDArray[np.int64], limits: DetectionLimits) -> NDArray[np.int64]:
    """Which of some boxes stay after non-maximum suppression within each class, by OpenCV: `limits.most` or more.

    OpenCV compares each box with all that it keeps: 100,000 boxes that lie apart would take minutes. So the best ones go first, a
    block at a time, each with those kept before it, until there are enough. What a box is compared with stays the same.

    Raises:
        BackendNotInstalledError: OpenCV is not installed.
    """
    extents = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    order = np.argsort(-scores, kind="stable")
    kept = order[:0]
    for start in range(0, len(order), _BLOCK):
        if len(kept) >= limits.most:
            break
        some = np.concatenate([kept, order[start : start + _BLOCK]])
        given = (values[some].tolist() for values in (extents, scores, classes))
        chosen = opencv().dnn.NMSBoxesBatched(*given, 0.0, limits.overlap)
        kept = some[np.sort(np.asarray(chosen, np.int64).reshape(-1))]
    return np.asarray(kept, np.int64)


def on_photo(boxes: Array, image: Input, size: tuple[int, int] | None) -> Array:
    """Boxes [k,4] in pixels of the network's input as pixels of the photo; the inverse of resize and crop."""
    if size is None:
        return boxes
    (height, width), (top, left) = resized(*size, image)
    scale = np.array([size[1] / width, size[0] / height] * 2, np.float32)
    moved: Array = (boxes + np.array([left, top] * 2, np.float32)) * scale
    return moved


def in_input(box: Box, image: Input, size: tuple[int, int] | None) -> Array:
    """A box in pixels of the photo as pixels of the network's input, [4]; the inverse of `on_photo`."""
    given = np.array(box, np.float32)
    if size is None:
        return given
    (height, width), (top, left) = resized(*size, image)
    scale = np.array([width / size[1], height / size[0]] * 2, np.float32)
    moved: Array = given * scale - np.array([left, top] * 2, np.float32)
    return moved
