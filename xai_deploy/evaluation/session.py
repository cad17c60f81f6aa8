"""One evaluation from beginning to end: networks, plan, measurement with a resumable journal, results in a folder.

`xai-evaluate` is the command line of `evaluate`. A program that has opened its networks already makes the `Subject`s and the
`Plan` itself and calls `evaluate_into`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ..detections import DetectionLimits
from ..errors import ImageFileError, NotABundleError, OptionError, XaiError
from ..explainer import Explainer
from ..format.places import numbered, require_folder
from ..foundation.cluster import Cluster, require_ray
from ..foundation.journal import Journal, Line
from ..foundation.options import Named
from ..foundation.paths import path_of, paths_of
from ..foundation.printable import printable
from ..foundation.whole_files import write_whole
from ..images import MAX_PIXELS, InputRange
from ..targets import One
from ..targets.one_class import written_class
from . import dataset, report, summary, tables
from .metrics import Column
from .metrics import metrics as known_metrics
from .other_outputs import require_same, takes_volumes
from .plan import NO_BOXES, Plan, choose_methods, choose_metrics, without_randomised
from .ray import Recipe, measuring
from .run import Measuring, OnChunk, chunk_count, done, measure
from .shards import Shard, journals, take_over
from .subjects import Subject, warn_of_classes
from .summary import Group
from .truth import Boxes, read_boxes, read_masks, unknown

OUT = Path("xai-evaluation")  # in it, results lie in a folder for each folder of images
JOURNAL = "journal.jsonl"
RESULTS = "results.json"

Location = str | os.PathLike[str]

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Results:
    """The results of an evaluation; its folder holds the same.

    Attributes:
        out: The folder: `results.json`, `images.csv`, `images.parquet`, `report.html`, the journal; `curves.csv` if a metric has
            curves.
        document: The content of `results.json`: the plan, the images skipped, and for each network and method the figures of
            the data set with their 95 % intervals.
        records: One row per image, network and method, as in `images.csv`; None if a figure is not defined. Behind them one row
            per image that was skipped, with its reason as `error`.
        images: How many images were measured.
        skipped: The images that can't be measured, each with its reason.
        plan: What was measured.
        networks: Their names; `Group.network` is an index into this list.
        columns: The columns of the figures.
        groups: The figures of each network and method.
    """

    out: Path
    document: dict[str, Any]
    records: Sequence[Line]
    images: int
    skipped: Sequence[Line]
    plan: Plan
    networks: Sequence[str]
    columns: Sequence[Column]
    groups: Sequence[Group]


def evaluate(
    bundles: Location | Sequence[Location],
    images: Location,
    *,
    out: Location | None = None,
    methods: Sequence[str | Named] | None = None,
    metrics: Sequence[str | Named] | None = None,
    target: One = None,
    boxes: Location | None = None,
    boxes_of: Literal["all", "class"] = "all",
    masks: Location | None = None,
    masks_of: Literal["all", "class"] = "all",
    recursive: bool = True,
    skip_bad: bool = True,
    limit: int | None = None,
    seed: int = 0,
    max_pixels: int = MAX_PIXELS,
    input_range: InputRange | None = None,
    backends: Sequence[str] | None = None,
    device: str = "cpu",
    precision: Literal["f32", "tf32", "f16", "bf16"] = "f32",
    threads: int | None = None,
    batch_size: int = 16,
    cache: str | None = None,
    overwrite: bool = False,
    progress: bool = False,
    on_chunk: OnChunk | None = None,
    command: str = "",
    inputs: Sequence[str] = (),
    trusted_key: Location | None = None,
    shard: str | None = None,
    parts: Sequence[Location] = (),
    detections: DetectionLimits | None = None,
    ray: str | None = None,
    ray_workers: int | None = None,
    labelled: bool = False,
) -> Results:
    """Measure explanations of deployed networks on a folder of images, and write the results: all that `xai-evaluate` does.

    An interrupted evaluation continues where it stopped if the same call is made again. What a user should know is logged, for
    example that an image is skipped.

    (Most of the length of this function is its arguments.)

    Args:
        bundles: A bundle, or several that are compared with the first.
        images: Folder of images, of `.npy` files for networks of volumes.
        out: Folder for the results; None: in `OUT`, a folder named after that of the images, with a number if it holds another
            evaluation.
        methods: Names, or pairs of a name and its options; None: all that the bundles' graphs allow, except the slow ones.
        metrics: Names, or pairs of a name and its options, "trusted" being a set of them; None: the usual ones.
        target: The class explained; None: each image's predicted class, of dense scores where it is predicted. A region, an output
            ("#3") or a `Like` for other networks.
        boxes: The objects' boxes: COCO json, csv, or a folder of YOLO txt or Pascal VOC xml files.
        boxes_of: "all" boxes, or those of the "class" explained.
        masks: Folder of PNG masks with the images' names, for volumes of `.npy` arrays [D,h,w].
        masks_of: "all" that is not black in them, or the pixels of the "class" explained: those with its index as grey value.
        recursive: Take the images in sub folders, too.
        skip_bad: Skip and list images that can't be read, instead of stopping at the first one.
        limit: Take this many of the images, drawn at random with `seed`; None: all.
        seed: Seed of that draw.
        max_pixels: Larger images are skipped.
        input_range: As for `read_image`: the values of black and white in images of more than 8 bits.
        backends: Names of backends; every bundle runs on each of them. None: the first that is installed.
        device: As for `Explainer`; precision, threads, batch_size and cache likewise.
        overwrite: Begin again if `out` holds an evaluation.
        progress: Show a progress bar at a terminal.
        on_chunk: See `run.measure`.
        command: The command line, which the report then names.
        inputs: What the networks take beside the images, as `NAME=FILE`, `NAME=FOLDER` or `NAME=NUMBER`.
        detections: Which rows of a detector are detections.
        trusted_key: As for `Explainer`; it must have signed the randomised bundles, too.
        shard: "I/N": measure the I-th of N parts, and write its journal into `out`, which has to be given, instead of the results.
        parts: Folders of the journals of all shards: take over what they measured.
        ray: Measure on a Ray cluster: "local" starts one of this machine's cores, else its address. `threads` is then 1, not the
            runtime's choice, which differs from machine to machine.
        ray_workers: How many worker processes; None: as many as the cluster's cores allow.
        labelled: Explain the class that each image's archive gives (WebDataset's `.cls` or `.json`, Parquet's column of labels).

    Raises:
        XaiError: Something that an argument names does not exist or does not apply, or `out` holds another evaluation.
        OSError: The results can't be written.
    """
    require()
    if ray is not None:
        if shard is not None:
            raise OptionError(f"shard {shard}: not with --ray, which spreads the whole over its workers")
        require_ray()
        threads = threads or 1
    asked = choose_metrics(metrics, boxes is not None, masks is not None)
    opened = partial(
        Explainer,
        device=device,
        precision=precision,
        threads=threads,
        batch_size=batch_size,
        cache=cache,
        trusted_key=trusted_key,
        detections=detections,
    )
    listed = paths_of(bundles, "a bundle", NotABundleError)
    recipe = Recipe([str(path) for path in listed], backends or [None], opened, _randomised(asked))
    subjects = recipe.subjects()
    own = require_same([subject.explainer for subject in subjects], [subject.name for subject in subjects])
    asked = choose_metrics(metrics, boxes is not None, masks is not None, own)
    asked = without_randomised(metrics, asked, masks is not None, subjects)
    if isinstance(target, str) and not any(subject.explainer.space.is_label(target) for subject in subjects):
        target = written_class(target, subjects[0].explainer.space)  # an index: the same class in all of them
    if not isinstance(target, str):
        warn_of_classes(subjects)
    root = path_of(images, "the images' folder", ImageFileError)
    given = (("the masks' folder", masks), ("the folder of the results", out or OUT))
    apart = [path_of(folder, what) for what, folder in given if folder]
    volumes = takes_volumes(subjects[0].explainer)
    if volumes and boxes is not None:
        raise OptionError(f"--boxes {os.fspath(boxes)}: {NO_BOXES}")
    covered = None if masks is None else read_masks(masks, root, apart=apart, volumes=volumes)
    boxed = None if boxes is None else _read_boxes(boxes, root, apart, subjects if boxes_of == "class" else ())
    plan = Plan(
        root,
        dataset.find(root, limit, seed, apart, recursive, volumes),
        choose_methods(methods, subjects),
        asked,
        target,
        boxed,
        covered,
        boxes_of,
        masks_of,
        max_pixels,
        input_range,
        progress=progress,
        skip_bad=skip_bad,
        gives=own,
        inputs=inputs,
        volumes=volumes,
        labelled=labelled,
    )
    cluster = None if ray is None else Cluster(ray, ray_workers, threads or 1, gpus=int(device.startswith("cuda")))
    chunks = None if cluster is None else measuring(cluster, recipe)
    return evaluate_into(out, subjects, plan, overwrite, on_chunk, command, shard, parts, chunks)


def require() -> None:
    """Refuse a missing package before hours of work, not after them.

    Raises:
        BackendNotInstalledError: A package of the extra `evaluate` is missing.
    """
    report.require()
    tables.require()


def evaluate_into(
    out: Location | None,
    subjects: Sequence[Subject],
    plan: Plan,
    overwrite: bool = False,
    on_chunk: OnChunk | None = None,
    command: str = "",
    shard: str | None = None,
    parts: Sequence[Location] = (),
    measuring: Measuring | None = None,
) -> Results:
    """Measure what the folder's journal does not hold yet, and write the results.

    Args:
        out: The folder; None: see `evaluate`.
        subjects: The networks.
        plan: What is measured.
        overwrite: Begin again if the folder holds an evaluation.
        on_chunk: See `run.measure`.
        command: The command line, which the report then names.
        shard: See `evaluate`; the results are those of its own images, and none if there are none.
        parts: See `evaluate`.
        measuring: See `run.measure`.

    Raises:
        XaiError: The folder holds another evaluation, or is a file; something in the plan does not apply; every image is skipped; a
            shard is not complete, or belongs to another evaluation.
        OSError: The results can't be written.
    """
    described = plan.describe(subjects)
    part = None if shard is None else Shard.parse(shard)
    if part is not None and (out is None or parts):
        raise OptionError(f"shard {part}: give the folder of all shards (-o OUT); it is measured, not merged")
    own = journals([Path(folder) for folder in parts]) if parts else []
    name = JOURNAL if part is None else part.journal
    with _opened(out, name, plan.root, described, overwrite) as journal:  # its lock protects the results too
        folder = journal.path.parent
        take_over(journal, own, described, chunk_count(plan))
        try:
            measure(subjects, plan, journal, on_chunk, part, measuring)
        finally:  # also after an error: the boxes that were cut so far
            for problem in plan.boxes.cut if plan.boxes else ():
                log.warning("%s", printable(problem))
        if part is not None:
            journal.begin()  # a shard that has no chunk has a journal, too
            return _results(folder, subjects, plan, described, journal)
        return _write(folder, subjects, plan, described, journal, command)


def _opened(out: Location | None, name: str, root: Path, described: dict[str, Any], overwrite: bool) -> Journal:
    """The journal of this name in the folder for the results, see `evaluate`."""
    places = numbered(OUT, [root]) if out is None else iter([Path(out)])
    for folder in places:
        require_folder(folder)
        try:
            return Journal(folder / name, described, overwrite)
        except XaiError:
            if out is not None:
                raise
    raise AssertionError("the numbers of folders never end")


def _write(
    out: Path, subjects: Sequence[Subject], plan: Plan, described: dict[str, Any], journal: Journal, command: str
) -> Results:
    """The results of a complete journal, written as files and returned as data."""
    results = _results(out, subjects, plan, described, journal)
    if not results.images:
        journal.discard()  # images that are mended later are measured then
        raise XaiError(f"all {len(plan.images)} images are skipped, for the reasons above")
    rows, groups = summary.rows(journal), results.groups
    curves = tables.of_curves(summary.curves(rows, groups), groups, results.networks, plan.titles)
    page = report.html(subjects, plan, rows, groups, results.columns, results.skipped, command)
    for name, data in {
        "images.csv": tables.as_csv(results.records),
        "images.parquet": tables.as_parquet(results.records),
        **({"curves.csv": tables.as_csv(curves)} if curves else {}),
        "report.html": page,
        RESULTS: tables.as_json(results.document),
    }.items():
        write_whole(out / name, data)
    return results


def _results(
    out: Path, subjects: Sequence[Subject], plan: Plan, described: dict[str, Any], journal: Journal
) -> Results:
    """What a journal holds, as data. Names the images that were skipped."""
    rows, skipped = summary.rows(journal), summary.skipped(journal)
    for entry in skipped:
        log.error("%s (skipped)", printable(entry["reason"]))
    columns = plan.columns(subjects)
    groups = summary.summarise(rows, columns)
    networks = [subject.name for subject in subjects]
    records = tables.long(rows, skipped, networks, plan.titles, columns)
    images = done(plan, journal) - len(skipped)
    document = tables.document(described, groups, networks, plan.titles, skipped, images)
    return Results(out, document, records, images, skipped, plan, networks, columns, groups)


def _randomised(metrics: Sequence[Named]) -> bool:
    """Whether a metric needs the randomised bundles."""
    classes = (known_metrics.get(name) for name, _ in metrics)
    return any(cls is not None and "randomised" in cls.needs for cls in classes)


def _read_boxes(boxes: Location, root: Path, apart: Sequence[Path], subjects: Sequence[Subject]) -> Boxes:
    """The boxes. Logs their problems, and which of the networks `subjects` have no class among the boxes' labels.

    Networks with the same labels and number of classes are named once."""
    read = read_boxes(boxes, root, apart)
    # Reversed, because the last entry of a key stays: the message then names the first of several equal networks.
    networks = {(tuple(s.explainer.labels), s.explainer.bundle.manifest.classes): s.name for s in reversed(subjects)}
    strangers = [text for known, name in networks.items() if (text := unknown(read, name, *known))]
    for problem in (*read.problems, *strangers):
        log.warning("%s", printable(problem))
    return read
