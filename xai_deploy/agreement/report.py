"""The report of a check: one HTML page with the verdict, the figures beside their limits, and the images that moved most."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import resample
from ..answer import label, origin
from ..caveats import Gives, gives
from ..explainer import Explainer
from ..format.bundle import Input
from ..pictures import overlay
from ..pictures.detected import framed
from ..preprocess import Pixels
from ..reports import Origin, charts, render
from ..reports.thumbnails import Shown, color_bar, show, shrink
from .boxes import Boxes, Found
from .compare import AT_MOST, Explained, ImageAgreement, JudgedFigure, figures_by_image, precisions
from .networks import described
from .other_outputs import ious

SHOWN = 8  # images
LISTED = 3  # figures in the verdict, and classes of each network below an image
EXPLAINED: Mapping[Gives, str] = {
    "classes": "Both networks explain the class that the reference predicts.",
    "dense": "Both networks explain the same class in the same region; unless another target was given, it is the class that the "
    "reference predicts most often, where it predicts it.",
    "rows": "Both networks explain the same box: that of the reference and its counterpart, of the same class and overlapping it "
    "by one half at least. Maps are compared in the images in which the reference finds a box; if the deployed network does not "
    "find it, their agreement counts as 0.",
    "numbers": "Both networks explain the same number.",
    "embedding": "Both networks explain the cosine to the same reference vector.",
}
"""What the network gives -> what a check explains."""

COUNTED = (
    ("IoU", "IoU of the positions at which the two networks predict a class, over all images."),
    (
        "AP50-95",
        "COCO's average precision of the deployed network's boxes, with the reference's boxes as the truth, over all images.",
    ),
)
"""The figure of each class, and what it is: of dense scores, of detectors."""

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Moved:
    """An image on which the maps differ, small enough to be kept.

    Attributes:
        agreement: Its figures.
        photo: It, shrunk.
        probabilities: Of the reference and of the deployed network, [classes] each; their scores or numbers, if they have none.
        maps: Method -> the maps of the reference and of the deployed network, [H,W] in [0,1], of the reference's size.
        shared: Whether `probabilities` are probabilities.
        size: (height, width) of the photo before it was shrunk.
    """

    agreement: ImageAgreement
    photo: Pixels
    probabilities: tuple[Array, Array]
    maps: Mapping[str, tuple[Array, Array]]
    shared: bool = True
    size: tuple[int, int] = (0, 0)


@dataclass
class MostMoved:
    """Keeps the `SHOWN` images on which the maps differ most: by the least overlap, then the least correlation of a method."""

    _kept: list[tuple[tuple[float, float, int], Moved]] = field(default_factory=list)
    _seen: int = 0

    def add(
        self, agreements: Sequence[ImageAgreement], photos: Sequence[Pixels], reference: Explained, deployed: Explained
    ) -> None:
        """Look at a chunk of images."""
        for i, agreement in enumerate(agreements):
            if not agreement.top_overlap:  # a detector that finds nothing there
                continue
            overlap, correlation = min(agreement.top_overlap.values()), min(agreement.rank_correlation.values())
            key = -overlap, -correlation, -self._seen  # the smallest leaves the heap first; of equals the later image
            self._seen += 1
            if len(self._kept) == SHOWN and key < self._kept[0][0]:
                continue
            maps = {}
            for title, heat in reference.heatmaps.items():
                other = deployed.heatmaps[title][i]
                maps[title] = heat[i], other if other.shape == heat[i].shape else resample.resize(other, *heat[i].shape)
            shared = reference.shared and deployed.shared
            p = reference.probabilities[i], deployed.probabilities[i]
            heapq.heappush(self._kept, (key, Moved(agreement, shrink(photos[i]), p, maps, shared, photos[i].shape[:2])))
            if len(self._kept) > SHOWN:
                heapq.heappop(self._kept)

    @property
    def images(self) -> list[Moved]:
        """The one that moved most is first."""
        return [moved for _, moved in sorted(self._kept, key=lambda entry: entry[0], reverse=True)]


def html(
    reference: Mapping[str, Any],
    deployed: Explainer,
    figures: Sequence[JudgedFigure],
    images: Sequence[ImageAgreement],
    moved: Sequence[Moved],
    command: str = "",
) -> bytes:
    """The page, as UTF-8.

    Args:
        reference: The reference, as `networks.described` gives it.
        deployed: The deployed network; its labels name the classes, and the crop of its input is drawn.
        figures: The figures over all images.
        images: The agreement on each image.
        moved: The images that are shown.
        command: The command line; "" if a program asked.

    Raises:
        BackendNotInstalledError: jinja2 or OpenCV is missing.
    """
    found = {one.index for image in images if image.boxes for side in (0, 1) for one in _side(image.boxes, side)}
    classes = deployed.bundle.manifest.named or max(found, default=0) + 1
    labels = [label(deployed, index) for index in range(classes)]
    spec = deployed.bundle.manifest.input
    values, own = figures_by_image(images), gives(deployed.bundle.manifest)
    each = precisions(images) or ious([image.positions for image in images])
    return render(
        "check",
        Origin("xai-check", command, origin(deployed)["versions"]),
        heading="Check of a deployed network",
        passed=all(figure.passed for figure in figures),
        verdict=verdict(figures, len(images)),
        networks={"reference": reference, "deployed": described(deployed)},
        figures=figures,
        spread=[
            (figure, charts.histogram(values[figure.name], [("mean", figure.value), ("limit", figure.limit)]))
            for figure in figures
            if figure.name in values and figure.worst is not None  # an image has no share
        ],
        count=len(images),
        at_most=AT_MOST,
        explained=EXPLAINED[own],
        by_class=[(label(deployed, index), share) for index, share in each.items()],
        counted=COUNTED[own == "rows"],
        detector=own == "rows",
        shown=[_shown(one, labels, spec, own) for one in moved],
        positive=color_bar("low", "high"),
        signed=color_bar("deployed lower", "deployed higher", "0", signed=True),
    )


def verdict(figures: Sequence[JudgedFigure], images: int) -> str:
    """The verdict in a sentence."""
    counted = f"{images} image{'s' * (images != 1)}"
    missed = [figure for figure in figures if not figure.passed]
    if not missed:
        return f"The networks agree on {counted}: all {len(figures)} figures are within their limits."
    named = "; ".join(f"{figure.name} is {figure.value:.3f}, limit {figure.limit:g}" for figure in missed[:LISTED])
    more = f"; {len(missed) - LISTED} more below" if len(missed) > LISTED else ""
    misses = (
        f"{len(missed)} of {len(figures)} figures {'misses its limit' if len(missed) == 1 else 'miss their limits'}"
    )
    return f"The networks disagree on {counted}: {misses} ({named}{more})."


def _shown(moved: Moved, labels: Sequence[str], spec: Input, own: Gives) -> dict[str, Any]:
    name = moved.agreement.image

    boxes = moved.agreement.boxes

    def over(values: Array, what: str, signed: bool = False, side: int | None = None) -> Shown:
        at_input = resample.resize(values, *spec.size)
        drawn = overlay(moved.photo, at_input, spec, signed)
        return show(
            drawn if boxes is None or side is None else _framed(drawn, boxes, side, moved.size), f"{name}, {what}"
        )

    methods = []
    for title, (one, other) in moved.maps.items():
        pictures = [
            (
                f"{side}{' (the same everywhere)' if np.ptp(heat) == 0 else ''}",
                over(heat, f"{title}, {side}", side=number),
            )
            for number, (side, heat) in enumerate((("reference", one), ("deployed", other)))
        ]
        pictures.append(("difference", over(other - one, f"{title}, deployed minus reference", signed=True)))
        methods.append((title, pictures))
    best = [
        (side, _best(p, labels, moved.shared) if boxes is None else _found(boxes, number, labels))
        for number, (side, p) in enumerate(zip(("reference", "deployed"), moved.probabilities, strict=True))
        if own != "embedding"  # its numbers mean nothing one by one
    ]
    return {
        "image": name,
        "agreement": moved.agreement,
        "photo": show(moved.photo, name),
        "predictions": best,
        "methods": methods,
    }


def _best(p: Array, labels: Sequence[str], shared: bool) -> list[tuple[str, float | None, str]]:
    """The highest probabilities; the highest scores, or numbers, without a bar."""
    best = np.argsort(-p, kind="stable")[:LISTED]
    if not shared:
        return [(labels[i], None, f"{p[i]:.4g}") for i in best]
    return [(labels[i], float(p[i]), f"{100 * p[i]:.1f} %") for i in best]


def _side(boxes: Boxes, side: int) -> Found:
    """What the reference (0) or the deployed network (1) finds."""
    return boxes.deployed if side else boxes.reference


def _found(boxes: Boxes, side: int, labels: Sequence[str]) -> list[tuple[str, float | None, str]]:
    """The best detections of one network."""
    best = _side(boxes, side)[:LISTED]
    return [(labels[one.index], one.score, f"{100 * one.score:.1f} %") for one in best]


def _framed(picture: Pixels, boxes: Boxes, side: int, size: tuple[int, int]) -> Pixels:
    """A map with the frames of what its network finds; the one that is explained is thick."""
    found, number = _side(boxes, side), boxes.chosen[side]
    return framed(picture, found, {found[number].row} if number >= 0 else (), size)
