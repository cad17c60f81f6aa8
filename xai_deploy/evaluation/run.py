"""The measurement: every image, method and network, chunk by chunk, written to the journal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import resample
from ..beside import named
from ..errors import InputError, NotApplicableError, OptionError, TargetError, TruthError, XaiError
from ..explainer import Explainer
from ..explanation import Explanation
from ..foundation.journal import Journal, Line
from ..foundation.options import Named
from ..foundation.progress import progress
from ..methods import create as create_method
from ..methods.across import shown
from ..methods.method import require_roles
from ..preprocess import Prepared, read_pixels
from ..probabilities import decided
from ..settle import Size
from ..similarity import flat, spearman, top_overlap
from ..targets import Settled, read
from ..targets.top import TopTarget
from ..volumes import photo_size
from .metrics import Case
from .other_outputs import check_target, explained_detections, same_positions, settled
from .plan import CORRECT, Plan, relative
from .shards import Shard
from .subjects import Subject
from .truth import Box, class_given, mask_region, matching_box, of_class, region

CHUNK = 16  # images; fixed, because the last bit of a runtime's result may depend on the other images of the batch
Measured = tuple[int, list[Line], list[Line]]
"""A chunk: its number, its rows, the images skipped."""
Measuring = Callable[[Sequence[Subject], Plan, Sequence[int]], Iterator[Measured]]
"""(networks, plan, numbers of chunks) -> the chunks, in any order."""
OnChunk = Callable[[Path, int, int], None]
"""(the journal's file, images that are done, all images) -> None"""


def measure(
    subjects: Sequence[Subject],
    plan: Plan,
    journal: Journal,
    on_chunk: OnChunk | None = None,
    shard: Shard | None = None,
    measuring: Measuring | None = None,
) -> None:
    """Measure what the journal does not hold yet.

    Args:
        subjects: The networks.
        plan: What is measured.
        journal: Takes each chunk of images as soon as it is measured.
        on_chunk: Called at the beginning and after each chunk, with the number of images done and of all images.
        shard: Measure its chunks alone; None: all.
        measuring: Measures chunks; None: in this process, one after the other.

    Raises:
        XaiError: A method or metric is not defined for a network, a ground truth fits none of the images, or a network fails.
            An image that can't be read, or whose annotation does not fit it, is skipped and listed in the journal, unless the
            plan says otherwise.
    """
    tell = on_chunk or (lambda kept, done, images: None)
    numbers = [number for number in range(chunk_count(plan)) if shard is None or shard.takes(number)]
    every = sum(len(images_of(plan, number)) for number in numbers)
    tell(journal.path, done(plan, journal), every)
    check(subjects, plan)
    todo = [number for number in numbers if number not in journal.chunks]
    shown = plan.progress and len(numbers) > 1
    chunks = (measuring or _here)(subjects, plan, todo)
    for number, rows, skipped in progress(
        chunks, every, "images", shown, lambda chunk: len(images_of(plan, chunk[0])), done(plan, journal)
    ):
        journal.append(number, rows, skipped)
        tell(journal.path, done(plan, journal), every)


def _here(subjects: Sequence[Subject], plan: Plan, numbers: Sequence[int]) -> Iterator[Measured]:
    for number in numbers:
        yield number, *measure_chunk(subjects, plan, images_of(plan, number))


def chunk_count(plan: Plan) -> int:
    """How many chunks the images of the plan make."""
    return -(-len(plan.images) // CHUNK)


def done(plan: Plan, journal: Journal) -> int:
    """How many images of the plan the journal holds, including those that were skipped."""
    return sum(len(images_of(plan, number)) for number in journal.chunks)


def images_of(plan: Plan, chunk: int) -> Sequence[Path]:
    """The images of a chunk."""
    return plan.images[chunk * CHUNK : (chunk + 1) * CHUNK]


def check(subjects: Sequence[Subject], plan: Plan) -> None:
    """Refuse what can't be measured, before the measurement begins.

    Raises:
        NotApplicableError: A method needs a graph that a bundle lacks.
        OptionError: A metric needs randomised bundles, and there are none.
        TruthError: None of the images is annotated.
        TargetError: A network has no such class, or the target is not one class; the metrics need the probability of one.
    """
    for subject in subjects:
        try:
            _check_network(subject.explainer, plan)
        except XaiError as error:
            if len(subjects) == 1:
                raise
            raise type(error)(f"{subject.name}: {error}") from None
    for truth in (plan.boxes, plan.masks):
        if truth is not None and not any(map(truth.has, plan.images)):
            raise TruthError(
                f"{truth.path}: it annotates none of the {len(plan.images)} images, for example not {plan.images[0].name}; "
                "the names in it must be those of the image files"
            )
    if not any(subject.randomised for subject in subjects):
        for (name, _), metric in zip(plan.metrics, plan.made, strict=True):
            if "randomised" in metric.needs:
                raise OptionError(
                    f"{name}: needs randomised bundles beside the bundle; export again with xai-export --randomise N"
                )


def _check_network(explainer: Explainer, plan: Plan) -> None:
    manifest = explainer.bundle.manifest
    names = [port.name for port in manifest.further.ports]
    given = {found[0] for text in plan.inputs if (found := named(text, names)) is not None}
    if lacking := [name for name in names if name not in given]:
        raise OptionError(
            f"{explainer.bundle.path}: the network also takes {lacking[0]!r}; give --input {lacking[0]}=FILE"
        )
    if plan.gives != "classes":
        check_target(explainer, plan.target, plan.gives)
    else:
        wanted = read([plan.target], 1, explainer.space)[0]  # "top3" gives three
        if isinstance(wanted, TopTarget) or wanted.classes is None:
            raise TargetError(f"target {plan.target!r}: a metric takes one class; give its index or its label")
    for name, options in plan.methods:
        method = create_method(name, options)
        require_roles(name, method, manifest)
        if (image := shown(method, manifest)) is not None:
            raise NotApplicableError(
                f"{name}: its map shows the image {image!r}, and metrics change {manifest.input.name!r}; leave that image or its "
                "layer out, or evaluate a bundle that explains it (--explain-input)"
            )


@dataclass(frozen=True)
class _Read:
    """One image after reading: its pixels are kept only as the networks' inputs."""

    path: Path
    size: Size
    boxes: tuple[Box, ...] | None
    mask: NDArray[Any] | None  # booleans; the classes, if the plan asks for those of a class
    inputs: list[Prepared]  # one per network, a single row each
    settled: list[Settled] = field(default_factory=list)  # likewise, for networks that give no classes
    labelled: list[int] = field(
        default_factory=list
    )  # likewise, the class that the archive gives, if the plan asks for it


def measure_chunk(subjects: Sequence[Subject], plan: Plan, paths: Sequence[Path]) -> tuple[list[Line], list[Line]]:
    """The rows of some images that are measured together, and the images that are skipped, each with its reason."""
    images, skipped = [], []
    spec = subjects[0].explainer.bundle.manifest.input
    for path in paths:
        try:
            pixels = read_pixels(path, spec, plan.max_pixels, plan.input_range)
            size = photo_size(pixels, spec)
            boxes = plan.boxes.of(path, *size) if plan.boxes and size else None
            mask = _mask(plan, path, pixels.shape[: len(spec.size)] if size else spec.size)
            inputs = [subject.explainer.prepare(pixels, plan.beside(subject).of([path])) for subject in subjects]
            known = [_given(subject.explainer, path) for subject in subjects] if plan.labelled else []
        except InputError as error:  # includes TruthError: the annotation may not fit this image
            if not plan.skip_bad:
                raise
            skipped.append({"image": relative(path, plan.root), "reason": str(error)})
            continue
        images.append(_Read(path, size, boxes, mask, inputs, labelled=known))
    if plan.gives != "classes" and images:
        images = _settle(subjects, plan, images, skipped)
    rows: list[Line] = []
    if images:
        first: list[Explanation] | None = None
        for number, subject in enumerate(subjects):
            x = Prepared.join([image.inputs[number] for image in images])
            wanted = Settled.join([image.settled[number] for image in images]) if images[0].settled else None
            target: Any = plan.target if wanted is None else wanted
            if plan.labelled:
                # the class of a network with one output is that output, also where it is to say no
                single = subject.explainer.bundle.manifest.classes == 1
                target = [0 if single else image.labelled[number] for image in images]
            explained = subject.explainer.explain_many(x, plan.methods, [target])
            if first is None:
                compared: list[dict[str, NDArray[np.float64]]] = [{} for _ in explained]
            elif wanted is None:
                compared = _compare(subject, plan, x, explained, first)
            else:
                compared = _compare_settled((subjects[0], subject), plan, x, explained, first, images, wanted)
            first = first or explained  # later networks are compared with the first
            for m, (explanation, beside) in enumerate(zip(explained, compared, strict=True)):
                case = _case(subject, plan, plan.methods[m], x, explanation, images)
                case.settled = wanted
                values: dict[str, NDArray[np.float64]] = {}
                if plan.labelled:
                    given = np.array([image.labelled[number] for image in images])
                    values[CORRECT.name] = np.where(_decided(explanation) == given, 100.0, 0.0)
                for metric in plan.made:
                    if "randomised" not in metric.needs or subject.randomised:
                        values.update(metric.measure(case))
                rows += _rows(plan, number, m, case, images, {**values, **beside}, explanation)
    return rows, skipped


def _given(explainer: Explainer, path: Path) -> int:
    return class_given(path, explainer.labels, explainer.bundle.manifest.classes)


def _mask(plan: Plan, path: Path, size: tuple[int, ...]) -> NDArray[Any] | None:
    if plan.masks is None:
        return None
    of = plan.masks.of if plan.masks_of == "all" else plan.masks.classes
    return of(path, *size)


def _object(mask: NDArray[Any], target: int) -> NDArray[np.bool_]:
    """The object's pixels: the mask itself, or those of the class explained."""
    return np.asarray(mask if mask.dtype == bool else mask == target)


def _settle(subjects: Sequence[Subject], plan: Plan, images: list[_Read], skipped: list[Line]) -> list[_Read]:
    """The images with what each network explains in them; those in which one has nothing to explain are skipped.

    Raises:
        TargetError: There is such an image, and the plan skips none.
    """
    inputs = [Prepared.join([image.inputs[number] for image in images]) for number in range(len(subjects))]
    sizes = [image.size for image in images]
    kept = []
    answers = settled([subject.explainer for subject in subjects], inputs, plan.target, sizes)
    for image, answer in zip(images, answers, strict=True):
        if not isinstance(answer, TargetError):
            kept.append(replace(image, settled=answer))
        elif plan.skip_bad:
            skipped.append({"image": relative(image.path, plan.root), "reason": f"{image.path}: {answer}"})
        else:
            raise answer
    return kept


def _case(
    subject: Subject, plan: Plan, method: Named, x: Prepared, explanation: Explanation, images: Sequence[_Read]
) -> Case:
    manifest = subject.explainer.bundle.manifest
    spec, labels = manifest.input, subject.explainer.labels
    regions, masks = [], []
    found = explained_detections(explanation) if plan.gives == "rows" else ()
    classes = explanation.target if not found else np.array([one.index for one in found])
    for i, (image, target) in enumerate(zip(images, classes, strict=True)):
        boxes = image.boxes or ()
        if plan.boxes_of == "class":
            boxes = of_class(boxes, int(target), labels, manifest.classes)
            if found and image.size:
                boxes = matching_box(boxes, found[i].box, *image.size, spec)
        inside = region(boxes, *image.size, spec) if boxes and image.size else None
        # An object outside the crop is one that the network can't see: the image counts as one without boxes.
        regions.append(inside if inside is not None and inside.any() else None)
        covered = None if image.mask is None else _object(image.mask, int(target))
        if covered is not None and image.size is not None:  # else the volume was preprocessed, and its mask with it
            covered = mask_region(covered, spec)
        masks.append(covered if covered is not None and covered.any() else None)
    return Case(
        subject.explainer,
        method,
        x.x,
        explanation.logits,
        classes,
        explanation.heatmap,
        regions,
        masks,
        subject.randomised,
        beside=x.beside,
        found=found,
    )


def _compare(
    subject: Subject, plan: Plan, x: Prepared, explained: Sequence[Explanation], first: Sequence[Explanation]
) -> list[dict[str, NDArray[np.float64]]]:
    """The columns `COMPARED`, for each method."""
    figures = []
    same_classes = explained[0].logits.shape[1] == first[0].logits.shape[1]
    by_label = isinstance(plan.target, str)
    if not (same_classes or by_label):  # one class index then means different classes
        return [{} for _ in explained]
    agree = np.where(_decided(explained[0]) == _decided(first[0]), 100.0, 0.0 if same_classes else np.nan)
    for method, own, reference in zip(plan.methods, explained, first, strict=True):
        heat = own.heatmap
        # For images of which this network explained another class (its own prediction), explain the first network's class.
        if not by_label and (other := np.flatnonzero(own.target != reference.target)).size:
            name, options = method
            again = subject.explainer.explain(x.rows(other), name, reference.target[other], **options)
            heat = heat.copy()
            heat[other] = again.heatmap
        figures.append({"same-prediction": agree, **_alike(reference.heatmap, heat)})
    return figures


def _decided(explanation: Explanation) -> NDArray[np.int64]:
    """The predicted classes of a classifier's images."""
    return decided(explanation.logits, explanation.probabilities)


def _compare_settled(
    subjects: tuple[Subject, Subject],
    plan: Plan,
    x: Prepared,
    explained: Sequence[Explanation],
    first: Sequence[Explanation],
    images: Sequence[_Read],
    own: Settled,
) -> list[dict[str, NDArray[np.float64]]]:
    """As `_compare`, for networks that give no classes: the maps for what the first network explains."""
    reference, again = Settled.join([image.settled[0] for image in images]), explained
    rows = own.where is not None and reference.where is not None and own.where.shape[2:] != reference.where.shape[2:]
    if explained[0].logits.shape[1] != first[0].logits.shape[1] or (plan.gives == "rows" and rows):
        return [{} for _ in explained]
    if not own.same(reference):
        again = subjects[1].explainer.explain_many(x, plan.methods, [reference])
    beside = {}
    if plan.gives == "dense":
        explainers = subjects[0].explainer, subjects[1].explainer
        beside = {"same-prediction": same_positions(explainers, (first[0], explained[0]))}
    return [{**beside, **_alike(one.heatmap, other.heatmap)} for one, other in zip(first, again, strict=True)]


def _alike(reference: NDArray[np.float32], heat: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    """The columns that compare two networks' maps."""
    if heat.shape != reference.shape:
        heat = resample.resize(heat, *reference.shape[1:])
    one, other = flat(reference), flat(heat)
    return {"rank-correlation": spearman(one, other), "top10-overlap": top_overlap(one, other)}


def _rows(
    plan: Plan,
    subject: int,
    method: int,
    case: Case,
    images: Sequence[_Read],
    values: Mapping[str, NDArray[np.float64]],
    explanation: Explanation,
) -> list[Line]:
    rows, diagnostics = [], explanation.diagnostics
    predicted = _decided(explanation) if plan.gives == "classes" else explanation.logits.argmax(axis=1)
    for i, image in enumerate(images):
        figures = {name: float(column[i]) for name, column in values.items() if column.ndim == 1}
        # Curves are drawn, not compared: 5 decimals keep the journal small.
        curves = {name: column[i].round(5).tolist() for name, column in values.items() if column.ndim == 2}
        rows.append(
            {
                "image": relative(image.path, plan.root),
                "network": subject,
                "method": method,
                "target": int(case.target[i]),
                "predicted": int(predicted[i] if not case.found else case.target[i]),
                "values": _defined(figures),
                **({"diagnostics": _defined({n: row[i] for n, row in diagnostics.items()})} if diagnostics else {}),
                **({"curves": curves} if curves else {}),
            }
        )
    return rows


def _defined(figures: Mapping[str, float]) -> dict[str, float | None]:
    """Figures for JSON, which has no NaN: one that is not defined is null."""
    return {name: value if np.isfinite(value) else None for name, value in figures.items()}
