"""The pictures of the report: images on which the methods do best, worst, and least alike, with all their maps side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..answer import label
from ..errors import InputError
from ..foundation.journal import Line
from ..methods import create
from ..preprocess import as_photo, read_pixels
from ..reports.thumbnails import ColorBar, Shown, color_bar, show, shrink
from .metrics import Column
from .plan import Plan, said
from .subjects import Subject
from .truth import of_class

EXAMPLES = 4  # images of each part
MAPS = 12  # methods shown of an image


@dataclass(frozen=True)
class Example:
    """An image with the maps of the methods.

    Attributes:
        image: Its name.
        label: The class explained.
        photo: The image, with the boxes that are scored.
        maps: The method's title, its value in the judging column as text, and the map over the image.
        left_out: How many methods are not shown.
    """

    image: str
    label: str
    photo: Shown
    maps: Sequence[tuple[str, str, Shown]]
    left_out: int


@dataclass(frozen=True)
class Part:
    """Some images, and why they are shown."""

    title: str
    examples: Sequence[Example]


def parts(subject: Subject, network: int, plan: Plan, rows: Sequence[Line], judge: Column) -> list[Part]:
    """The images of one network that are shown, by the judging column."""
    values: dict[str, dict[int, Line]] = {}
    for row in rows:
        if row["network"] == network and row["values"].get(judge.name) is not None:
            values.setdefault(row["image"], {})[row["method"]] = row
    means = {image: float(np.mean([r["values"][judge.name] for r in by.values()])) for image, by in values.items()}
    ranked = sorted(means, key=lambda image: means[image], reverse=judge.better == "higher")
    count = min(EXAMPLES, len(ranked) // 2)  # at most half, so that no image is among the best and the worst
    chosen = [("best", ranked[:count]), ("worst", ranked[len(ranked) - count :][::-1])]
    if len(plan.methods) > 1:
        rest = ranked[count : len(ranked) - count]
        rest.sort(key=lambda image: -float(np.ptp([r["values"][judge.name] for r in values[image].values()])))
        chosen.append(("methods differ most", rest[:EXAMPLES]))
    made = [
        Part(title, [e for image in images if (e := _example(subject, plan, values[image], judge)) is not None])
        for title, images in chosen
    ]
    return [part for part in made if part.examples]


def _example(subject: Subject, plan: Plan, rows: Mapping[int, Line], judge: Column) -> Example | None:
    """What the page shows of an image; None if the file can no longer be read."""
    first = next(iter(rows.values()))
    path, spec = Path(plan.root, first["image"]), subject.explainer.bundle.manifest.input
    try:
        pixels = read_pixels(path, spec, plan.max_pixels, plan.input_range)
    except InputError:
        return None
    small = shrink(as_photo(pixels, spec))
    maps = []
    # of a network that gives no classes the target of the plan, for it says more than a class
    target = first["target"] if plan.gives == "classes" or plan.target is None else plan.target
    for method, row in list(rows.items())[:MAPS]:
        name, options = plan.methods[method]
        explained = subject.explainer.explain(pixels, name, target, inputs=plan.beside(subject).of([path]), **options)
        title = plan.titles[method]
        over = show(explained.draw(small), f"{first['image']}, its map by {title}")
        maps.append((title, f"{row['values'][judge.name]:.3g}", over))
    boxes = _boxes(subject, plan, path, pixels.shape[:2], first["target"])
    return Example(
        first["image"],
        label(subject.explainer, first["target"])
        if plan.gives in ("classes", "dense", "rows")
        else said(plan.target, plan.gives),
        show(small, first["image"], boxes),
        maps,
        max(len(rows) - MAPS, 0),
    )


def _boxes(
    subject: Subject, plan: Plan, path: Path, size: tuple[int, int], target: int
) -> list[tuple[float, float, float, float]]:
    """The scored boxes of an image as (left, top, width, height), in shares of the picture; none if they can't be read."""
    if plan.boxes is None or not plan.scores_boxes:
        return []
    try:
        boxes = plan.boxes.of(path, *size) or ()
    except InputError:
        return []
    if plan.boxes_of == "class":
        manifest = subject.explainer.bundle.manifest
        boxes = of_class(boxes, target, subject.explainer.labels, manifest.classes)
    return [(box.left, box.top, box.right - box.left, box.bottom - box.top) for box in boxes]


def colorbars(plan: Plan) -> list[ColorBar]:
    """The colours of the maps: a bar for the positive ones, and one for the signed ones, as far as the plan's methods have them."""
    signed = {create(name, options).signed(False) for name, options in plan.methods}
    bars = [color_bar("lowest", "highest")] if False in signed else []
    return bars + ([color_bar("against", "for the class", "0", signed=True)] if True in signed else [])
