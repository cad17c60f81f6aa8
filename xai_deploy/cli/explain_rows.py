"""`xai-explain --rows`: maps as rows of Parquet files in place of pictures, for data sets of any size, here or on a cluster.

Images are explained in parts of `PART`. A part is one file, written whole or not at all; a journal says which parts are there. So
memory does not grow with the number of images, a killed call goes on, and it does not matter which process makes a part.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import DetectionLimits, Explainer, __version__
from .. import answer as answers
from ..answer import Answer
from ..caveats import warn_of
from ..errors import InputError, NotPredictedError, OptionError, XaiError
from ..evaluation.subjects import Subject, require_same_network
from ..format.places import numbered, require_folder
from ..foundation.cluster import Cluster, require_ray, spread
from ..foundation.journal import Journal, Line
from ..foundation.json_report import PRINTED, as_json, write_json
from ..foundation.options import Named
from ..foundation.printable import printable
from ..foundation.progress import progress
from ..foundation.tables import require_pyarrow, write_parquet
from ..foundation.whole_files import whole_file, write_whole
from ..images import InputRange, state
from ..methods import methods as known_methods
from ..methods.sets import default_method
from ..pictures import OPACITY
from ..targets import Like, Target
from ..targets.box import any_part
from ..targets.one_class import written_class
from .arguments import Bad, at_layers, expand_sets, find_images, parse_methods, read_chunks, with_segments
from .console import silence_opencv
from .going_on import GoingOn
from .model_file import export_of
from .results import REPORT

OUT = Path("xai-output")
ROWS = "explanations.parquet"  # a folder: what reads Parquet files reads folders of them, too
PART = 512  # images; fixed, so that files and batches do not depend on who makes them
GROUP = 64  # rows of a row group; the maps of one group are in memory
JOURNAL = "journal.jsonl"
_CHUNK = 16  # images
COLUMNS = {
    "image": "string",
    "error": "string",
    "method": "string",
    "options": "string",
    "target": "int64",
    "explained": "string",
    "predicted": "int64",
    "label": "string",
    "probability": "float64",
    "logit": "float64",
    "score": "float64",
    "constant": "string",
    "depth": "int64",
    "height": "int64",
    "width": "int64",
    "map": "binary",
}
"""Column -> its type. `map` holds height x width float32 values, little-endian, row by row; of a volume depth x height x width.

`depth` is null for images."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """A part: its number and its images."""

    number: int
    images: tuple[Path, ...]

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"part-{self.number:05}.parquet"

    def __str__(self) -> str:
        return f"{self.file} ({self.images[0]} to {self.images[-1]})"


@dataclass(frozen=True)
class Work:
    """What makes parts: pickled for a cluster, called once in each process.

    Attributes:
        opened: Opens the network.
        identity: What the network has to be, see `Subject.identity`; None: this process has opened it itself.
        methods: Names and options.
        targets: What is explained.
        folder: Where the files go.
        batch_size: The most images that are explained together.
        max_pixels, input_range, skip_bad: As the command has them.
    """

    opened: Callable[[], Explainer]
    identity: Mapping[str, Any] | None
    methods: Sequence[Named]
    targets: Sequence[Target]
    folder: Path
    batch_size: int
    max_pixels: int
    input_range: InputRange | None
    skip_bad: bool

    def __call__(self) -> Callable[[Task], Line]:
        """The function that makes a part and says what it holds."""
        explainer = self.opened()
        if self.identity is not None:
            require_same_network(Subject("the network", explainer), self.identity)
        return partial(self._make, explainer)

    def _make(self, explainer: Explainer, task: Task) -> Line:
        skipped: list[Line] = []
        count = 0

        def rows() -> Iterator[Line]:
            nonlocal count
            for row in self._rows(explainer, task):
                if row["error"] is not None:
                    skipped.append({"file": row["image"], "reason": row["error"]})
                count += 1
                yield row

        with whole_file(self.folder / task.file) as file:
            write_parquet(file, COLUMNS, rows(), "evaluate", GROUP)
        images = len(task.images) - len(skipped)
        return {"file": task.file, "rows": count, "images": images, "skipped": skipped}

    def _rows(self, explainer: Explainer, task: Task) -> Iterator[Line]:
        slow = any(cls.slow for name, _ in self.methods if (cls := known_methods.get(name)))
        step = 1 if slow else min(self.batch_size, _CHUNK)  # as Explanations._chunks
        spec = explainer.bundle.manifest.input
        for chunk in read_chunks(task.images, step, self.max_pixels, spec, self.input_range):
            good = [item for item in chunk if not isinstance(item, Bad)]
            explained = self._explained(explainer, good) if good else {}
            for item in chunk:
                path = item.path if isinstance(item, Bad) else item[0]
                answer = item.reason if isinstance(item, Bad) else explained[path]
                if isinstance(answer, InputError):
                    if not self.skip_bad:
                        raise answer
                    yield dict.fromkeys(COLUMNS) | {"image": str(path), "error": str(answer)}
                else:
                    yield from answer

    def _explained(self, explainer: Explainer, good: Sequence[tuple[Path, Any]]) -> dict[Path, list[Line] | InputError]:
        """The rows of images, or why one has none: the network finds nothing in it of what was asked about."""
        try:
            explanations = explainer.explain_many([pixels for _, pixels in good], self.methods, self.targets)
        except NotPredictedError as error:
            if len(good) == 1:
                return {good[0][0]: type(error)(f"{good[0][0]}: {error}")}
            return {path: rows for one in good for path, rows in self._explained(explainer, [one]).items()}
        found: dict[Path, list[Line] | InputError] = {}
        for i, (path, _) in enumerate(good):
            shown = [answers.answer(explainer, explanation, i) for explanation in explanations]
            best = answers.predicted(explainer, explanations[0], i, shown)
            found[path] = [_row(path, answer, best[0] if best else {}) for answer in shown]
        return found


def _row(path: Path, answer: Answer, best: Mapping[str, Any]) -> Line:
    *deep, height, width = answer.raw.shape
    return {
        "image": str(path),
        "error": None,
        "method": answer.method,
        "options": json.dumps(answer.options, default=str),
        "target": answer.target,
        "explained": answer.caption,
        "predicted": best.get("class"),
        "label": best.get("label"),
        "probability": answer.probability,
        "logit": answer.logit,
        "score": answer.score,
        "constant": answer.constant,
        "depth": deep[0] if deep else None,
        "height": height,
        "width": width,
        "map": np.ascontiguousarray(answer.raw, "<f4").tobytes(),
    }


_REFUSED: dict[str, object] = dict.fromkeys(("report", "records", "input", "colormap", "size"))
_REFUSED |= dict.fromkeys(("records_durable", "records_images", "contours", "grey"), False)
_REFUSED |= {"opacity": OPACITY, "format": "png"}  # option -> its default


def explain_rows(arguments: argparse.Namespace) -> None:
    """The work of `xai-explain --rows`.

    Raises:
        XaiError: An option has no meaning here, something can't be used, or the folder holds other results.
    """
    if refused := next((name for name, usual in _REFUSED.items() if getattr(arguments, name) != usual), None):
        raise OptionError(f"--{refused.replace('_', '-')}: not with --rows, which writes maps alone")
    require_pyarrow("evaluate")
    silence_opencv()
    threads = arguments.threads
    if arguments.ray is not None:
        require_ray()
        threads = threads or 1  # the runtime's own choice differs from machine to machine
    work, explainer = _work(arguments, threads)
    paths = find_images(arguments.image, (Path(arguments.out or OUT), OUT), arguments.recursive)
    plan = _plan(arguments, work, paths, Subject("the network", explainer))
    going_on = GoingOn(arguments.quiet)
    with _opened(arguments, plan) as journal:
        folder = journal.path.parent
        (folder / ROWS).mkdir(parents=True, exist_ok=True)
        tasks = [Task(i, tuple(paths[i * PART : (i + 1) * PART])) for i in range(-(-len(paths) // PART))]
        try:
            _make_parts(arguments, work, explainer, tasks, journal, going_on, threads)
        except KeyboardInterrupt:
            going_on.interrupted()
            raise
        _show(arguments, folder, explainer, journal)


def _work(arguments: argparse.Namespace, threads: int | None) -> tuple[Work, Explainer]:
    """The work, and the network opened for this process; the folder follows."""
    asked = parse_methods(arguments.method or [])
    opened = partial(
        Explainer,
        backend=arguments.backend,
        device=arguments.device,
        precision=arguments.precision,
        threads=threads,
        batch_size=arguments.batch_size,
        cache=arguments.cache,
        detections=DetectionLimits(arguments.detect_score, arguments.detect_overlap),
        trusted_key=arguments.trusted_key,
    )
    explainer = opened(arguments.bundle, export=export_of(arguments, arguments.bundle, asked))
    warn_of(explainer, arguments.bundle)
    targets: list[Target] = [written_class(text, explainer.space) for text in arguments.target or []]
    targets += [Like(reference) for reference in arguments.like or []]
    manifests = [explainer.bundle.manifest]
    asked = asked or parse_methods([default_method(manifests[0])])
    asked = expand_sets(asked, manifests, any_part(targets, explainer.space))
    methods = with_segments(at_layers(asked, arguments.combine, manifests), arguments.segments)
    named: list[Named] = [(method.name, method.options) for method in methods]
    bundle = str(explainer.bundle.path)  # of a model file: where it was exported to
    limits = arguments.max_pixels, arguments.input_range, arguments.skip_bad
    work = Work(partial(opened, bundle), None, named, targets or [None], Path(), arguments.batch_size, *limits)
    return work, explainer


def _plan(arguments: argparse.Namespace, work: Work, paths: Sequence[Path], subject: Subject) -> Line:
    """Everything that the rows depend on."""
    images = hashlib.sha256()
    for path in paths:
        images.update(repr((str(path), state(path))).encode("utf-8", "surrogateescape"))
    return {
        "version": __version__,
        "networks": [subject.identity()],
        "methods": [list(pair) for pair in work.methods],
        "target": [*(arguments.target or []), *(f"like {text}" for text in arguments.like or [])],
        "images": images.hexdigest(),
        "part": PART,
        "max-pixels": work.max_pixels,
        "input-range": list(work.input_range) if work.input_range else None,
    }


def _opened(arguments: argparse.Namespace, plan: Line) -> Journal:
    """The journal in the folder for the results: the one that is named, or the first free one."""
    places = [Path(arguments.out)] if arguments.out else numbered(OUT, [Path(path) for path in arguments.image])
    for folder in places:
        require_folder(folder)
        try:
            if (folder / REPORT).exists() and not ((folder / JOURNAL).exists() or arguments.overwrite):
                raise XaiError(f"{folder / REPORT}: exists; choose another folder with -o, or give --overwrite")
            journal = Journal(folder / JOURNAL, plan, arguments.overwrite, "a call")
            journal.begin()
            return journal
        except XaiError:
            if arguments.out:
                raise
    raise AssertionError("the numbers of folders never end")


def _make_parts(
    arguments: argparse.Namespace,
    work: Work,
    explainer: Explainer,
    tasks: Sequence[Task],
    journal: Journal,
    going_on: GoingOn,
    threads: int | None,
) -> None:
    folder = journal.path.parent / ROWS
    every = sum(len(task.images) for task in tasks)
    done = sum(len(tasks[number].images) for number in journal.chunks)
    if not journal.chunks:  # what --overwrite replaces
        for old in folder.glob("part-*.parquet"):
            old.unlink()
    going_on(journal.path, done, every)
    todo = [task for task in tasks if task.number not in journal.chunks]
    made: Iterator[tuple[Task, Line]]
    if arguments.ray is None:
        make = replace(work, folder=folder, opened=lambda: explainer)()
        made = ((task, make(task)) for task in todo)
    else:
        own = replace(work, folder=folder, identity=Subject("the network", explainer).identity())
        gpus = int(arguments.device.startswith("cuda"))
        made = spread(own, todo, Cluster(arguments.ray, arguments.ray_workers, threads or 1, gpus))
    shown = not arguments.quiet and every > 1
    for task, line in progress(made, every, "images", shown, lambda pair: len(pair[0].images), done):
        journal.append(task.number, [{key: line[key] for key in ("file", "rows", "images")}], line["skipped"])
        done += len(task.images)
        going_on(journal.path, done, every)


def _show(arguments: argparse.Namespace, folder: Path, explainer: Explainer, journal: Journal) -> None:
    """Write results.json, and what --json asks for; print a summary unless --quiet is given."""
    chunks = [journal.chunks[number] for number in sorted(journal.chunks)]
    parts = [row for chunk in chunks for row in chunk["rows"]]
    skipped = [entry for chunk in chunks for entry in chunk["skipped"]]
    images, rows = (sum(part[name] for part in parts) for name in ("images", "rows"))
    for entry in skipped:
        log.error("%s (skipped)", printable(entry["reason"]))
    if not images:
        raise XaiError(f"none of the {len(skipped)} images can be read")
    origin = answers.origin(explainer)
    report = {**origin, "images": images, "rows": rows, "skipped": skipped, "parts": parts}
    write_whole(folder / REPORT, as_json(report))
    if arguments.json:
        write_json(report, arguments.json)
    if arguments.json != PRINTED and not arguments.quiet:
        lost = f", {len(skipped)} skipped" if skipped else ""
        print(printable(f"{images} images{lost}, {rows} rows in {len(parts)} files; see {folder / ROWS}"))
