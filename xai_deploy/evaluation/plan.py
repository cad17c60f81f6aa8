"""The plan of an evaluation: images, methods, metrics, ground truth. Everything that its figures depend on is here."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .. import __version__
from ..beside import ByPath, named
from ..caveats import Gives
from ..errors import OptionError
from ..foundation.options import Named, options_of, specs, title_of
from ..images import MAX_PIXELS, InputRange, state
from ..methods import applicable
from ..methods import create as create_method
from ..methods.sets import expanded, rows
from ..targets import Like, One
from . import metrics as _metrics
from .metrics import Column, Metric
from .other_outputs import takes_volumes
from .subjects import Subject
from .truth import Boxes, Masks

log = logging.getLogger(__name__)

ALL = ("average-drop", "average-increase", "deletion", "insertion", "coherency", "complexity", "adcc")
WITH_BOXES = ("energy-pointing", "argmax-pointing", "iou")
WITH_MASKS = ("segmentation",)
WITH_REGIONS = ("region",)
WITH_DETECTIONS = ("detection",)
TRUSTED = "trusted"  # a set of metrics that a user may name: those that literature trusts now
TRUSTED_ALWAYS = ("srg", "road", "infidelity", "sensitivity-n", "max-sensitivity", "monotonicity")
TRUSTED_MASKS = ("mass-accuracy", "rank-accuracy")
TRUSTED_RANDOMISED = ("emprt",)
WITH_REGIONS_AND_MASKS = ("region-truth",)

_NEEDS = {
    "region": "needs scores at each position, as segmentation has; leave this metric out",
    "detection": "needs a detector, whose boxes it looks into; leave this metric out",
    "images": "is defined for images, and the network takes volumes; leave this metric out",
}
NO_BOXES = "boxes lie in images, and the network takes volumes; give --masks, a folder of .npy arrays [D,h,w]"

CORRECT = Column("correct", "higher", percent=True)
"""The images whose labelled class is the predicted one."""

COMPARED = (
    Column("same-prediction", "higher", percent=True),
    Column("rank-correlation", "higher"),
    Column("top10-overlap", "higher"),
)
"""Columns of every network except the first: its maps compared with the first network's, for the class that the first explains.

They are not defined between networks with different numbers of classes, unless the class is given by its label."""


@dataclass(frozen=True)
class Plan:
    """The plan of an evaluation.

    Attributes:
        root: The folder of the images.
        images: Their paths, inside `root`.
        methods: Names and options.
        metrics: Names and options.
        target: The class explained; None: each network's own predicted class.
        boxes: The objects' boxes, or None.
        masks: The objects' masks, or None.
        boxes_of: "all" boxes of an image, or those of the "class" explained, by its label or index. An image without
            such a box does not count. Of a detection the box of its class that it overlaps most, by `truth.MATCH` at least.
        masks_of: "all" that is not black in a mask, or the pixels of the "class" explained: those with its index as grey value.
        max_pixels: Larger images are skipped.
        input_range: As for `read_image`: the values of black and white in images of more than 8 bits.
        progress: Show a progress bar at a terminal.
        skip_bad: Skip and list images that can't be read, instead of stopping at the first one.
        gives: What the networks give.
        inputs: What they take beside the images, as `NAME=FILE`; see `ByPath`.
        volumes: The images are volumes, `.npy` files.
        labelled: Explain the class that an image's archive gives, in place of the predicted one; see `truth.labels.class_given`.
        made: The metrics with their options.
    """

    root: Path
    images: Sequence[Path]
    methods: Sequence[Named]
    metrics: Sequence[Named]
    target: One = None
    boxes: Boxes | None = None
    masks: Masks | None = None
    boxes_of: Literal["all", "class"] = "all"
    masks_of: Literal["all", "class"] = "all"
    max_pixels: int = MAX_PIXELS
    input_range: InputRange | None = None
    progress: bool = False
    skip_bad: bool = True
    gives: Gives = "classes"
    inputs: Sequence[str] = ()
    volumes: bool = False
    labelled: bool = False
    made: tuple[Metric, ...] = field(init=False)
    _beside: dict[str, ByPath] = field(init=False, default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        # A frozen dataclass can be assigned to only in this way.
        object.__setattr__(self, "made", tuple(_metrics.create(name, options) for name, options in self.metrics))
        # A plan does not know its networks, so `run.check` refuses a metric whose randomised bundles are missing.
        dense = self.gives == "dense"
        there = {
            "boxes": self.boxes is not None,
            "masks": self.masks is not None,
            "randomised": True,
            "region": dense,
            "detection": self.gives == "rows",
            "images": not self.volumes,
        }
        if self.labelled and self.target is not None:
            raise OptionError("--labelled: the archives give what is explained; leave -t and --like out")
        if self.labelled and self.gives != "classes":
            raise OptionError(
                "--labelled: an archive gives a class of the whole image, and the network is no classifier; leave it out"
            )
        if self.gives in ("numbers", "embedding") and "class" in (self.boxes_of, self.masks_of):
            raise OptionError("--boxes-of class, --masks-of class: the network gives no classes; leave them out")
        for (name, _), metric in zip(self.metrics, self.made, strict=True):
            for need in metric.needs:
                if there[need]:
                    continue
                if need == "boxes" and self.volumes:
                    raise OptionError(f"{name}: {NO_BOXES}; 'mass-accuracy' and 'segmentation' take them")
                lacks = _NEEDS.get(need, f"needs {need}; give --{need}, or leave this metric out")
                raise OptionError(f"{name}: {lacks}")

    @property
    def scores_boxes(self) -> bool:
        """Whether a metric compares maps with boxes."""
        return any("boxes" in metric.needs for metric in self.made)

    @property
    def titles(self) -> list[str]:
        """The methods' names in tables, each with the options that were given: "reciprocam+score=softmax"."""
        return [title_of(name, options) for name, options in self.methods]

    def beside(self, subject: Subject) -> ByPath:
        """What a network takes beside the images. Files of numbers are read once.

        Raises:
            InputError: See `of_commands`.
        """
        manifest = subject.explainer.bundle.manifest
        if manifest.digest not in self._beside:
            self._beside[manifest.digest] = ByPath(self.inputs, self.images, manifest)
        return self._beside[manifest.digest]

    def describe(self, subjects: Sequence[Subject]) -> dict[str, Any]:
        """Everything that the figures depend on, as JSON."""
        methods = [(name, options_of(create_method(name, options))) for name, options in self.methods]
        labels = {str(own["segments"]) for _, own in methods if "segments" in own}
        files = [Path(one) for one in sorted(labels) if Path(one).is_file()]
        return {
            "version": __version__,
            "networks": [subject.identity() for subject in subjects],
            "methods": [[name, own] for name, own in methods],
            "metrics": [[name, options_of(metric)] for (name, _), metric in zip(self.metrics, self.made, strict=True)],
            "target": self.target if isinstance(self.target, (int, str, type(None))) else repr(self.target),
            "images": _fingerprint(self.root, self.images),
            "boxes": self.boxes.digest if self.boxes else None,
            "boxes-of": self.boxes_of,
            **({"masks-of": self.masks_of} if self.masks_of != "all" else {}),
            "masks": _fingerprint(self.masks.path, self.masks.files) if self.masks else None,
            **({"segments": [_digest(one) for one in files]} if files else {}),
            **({"inputs": self._inputs(subjects)} if self.inputs else {}),
            **({"labelled": True} if self.labelled else {}),
            "max-pixels": self.max_pixels,
            "input-range": list(self.input_range) if self.input_range else None,
        }

    def _inputs(self, subjects: Sequence[Subject]) -> list[list[str]]:
        """What is given beside the images, each with a digest of its file, or of the names and times in its folder."""
        names = {port.name for one in subjects for port in one.explainer.bundle.manifest.further.ports}
        given = []
        for text in self.inputs:
            place = Path((named(text, names) or ("", ""))[1])
            files = sorted(place.iterdir()) if place.is_dir() else []
            own = _fingerprint(place, files) if files else _digest(place) if place.is_file() else ""
            given.append([text, own])
        return given

    def columns(self, subjects: Sequence[Subject]) -> list[Column]:
        """The columns of the results, each once, in the order of the metrics."""
        columns: dict[str, Column] = {}
        for metric in self.made:
            for column in metric.columns(max(len(subject.randomised) for subject in subjects)):
                columns.setdefault(column.name, column)
        if self.labelled:
            columns[CORRECT.name] = CORRECT
        if len(subjects) > 1:
            compared = COMPARED[self.gives in ("numbers", "embedding") :]  # which predict no class
            columns.update((column.name, column) for column in compared)
        return list(columns.values())


def choose_methods(given: Sequence[str | Named] | None, subjects: Sequence[Subject]) -> list[Named]:
    """The methods given, each once, "all" and "fast" being sets of them; None: the fast ones, without a word on the others.

    If the first bundle has several layers, a method stands for itself at each of them, and for all of them together.

    Raises:
        OptionError: The list is empty, or holds something that is not a method.
    """
    manifests = [subject.explainer.bundle.manifest for subject in subjects]
    return rows(expanded(specs("method", applicable(manifests) if given is None else given), manifests), manifests[0])


def choose_metrics(
    given: Sequence[str | Named] | None, boxes: bool, masks: bool, own: Gives = "classes"
) -> list[Named]:
    """The metrics given; None: the usual ones, and with boxes, masks, dense scores or detections those that compare maps with them.

    Raises:
        OptionError: The list is empty, or holds something that is not a metric, or one metric with two sets of options.
    """
    if given is None:
        dense = own == "dense"
        with_both = WITH_REGIONS_AND_MASKS * (dense and masks)
        given = [
            *ALL,
            *WITH_BOXES * boxes,
            *WITH_MASKS * masks,
            *WITH_REGIONS * dense,
            *WITH_DETECTIONS * (own == "rows"),
            *with_both,
        ]  # a tuple times False is empty
    chosen = _once(_expanded(specs("metric", given), masks))
    names = [name for name, _ in chosen]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise OptionError(
            f"{twice}: given twice, but results hold a metric's columns only once; evaluate it again with another folder (-o)"
        )
    return chosen


def _expanded(given: Sequence[Named], masks: bool) -> list[Named]:
    """The metrics, the set `TRUSTED` replaced by those of its members that are not named themselves.

    Raises:
        OptionError: The set is given options.
    """
    named = [name for name, _ in given]
    pairs: list[Named] = []
    for name, options in given:
        if name != TRUSTED:
            pairs.append((name, options))
            continue
        if options:
            raise OptionError(f"{TRUSTED}: is a set of metrics and takes no options; name the metric")
        members = [*TRUSTED_ALWAYS, *TRUSTED_MASKS * masks, *TRUSTED_RANDOMISED]
        pairs += [(member, {}) for member in members if member not in named]
    return pairs


def without_randomised(
    given: Sequence[str | Named] | None, asked: Sequence[Named], masks: bool, subjects: Sequence[Subject]
) -> list[Named]:
    """The metrics without those that only the set `TRUSTED` asks for and that need randomised bundles, if there are none.

    What the set leaves out for lack of these or of masks is logged.
    """
    named = [] if given is None else [name for name, _ in specs("metric", given)]
    if TRUSTED not in named:
        return list(asked)
    lacking: dict[str, str] = {} if masks else dict.fromkeys(TRUSTED_MASKS, "give --masks")
    if any(takes_volumes(subject.explainer) for subject in subjects):
        of_images = (n for n in TRUSTED_ALWAYS if "images" in _metrics.create(n, {}).needs)
        lacking |= dict.fromkeys(of_images, "it is defined for images")
    if not any(subject.randomised for subject in subjects):
        lacking |= dict.fromkeys(TRUSTED_RANDOMISED, "export with xai-export --randomise N")
    out = {name: advice for name, advice in lacking.items() if name not in named}
    if out:
        parts = "; ".join(f"{name} ({advice})" for name, advice in out.items())
        log.warning("%s metrics: left out are %s", TRUSTED, parts)
    return [pair for pair in asked if pair[0] not in out]


def _once(pairs: Sequence[Named]) -> list[Named]:
    return [pair for number, pair in enumerate(pairs) if pair not in pairs[:number]]


def said(target: One, own: Gives) -> str:
    """What is explained in a network that gives no classes, for people."""
    if isinstance(target, Like):
        return f"like {target.reference}" if isinstance(target.reference, (str, os.PathLike)) else "like a reference"
    if own == "rows":
        return "the best detection of each image" if target is None else str(target)
    if target is None:
        return "output 0" if own == "numbers" else "the class predicted most often, where it is predicted"
    if isinstance(target, int):
        return f"output {target}" if own == "numbers" else f"class {target}, where it is predicted"
    return str(target)


P = {
    "classes": "p is the network's own probability",
    "dense": "p is the class's mean probability in the region, or its mean score if the network has no probabilities",
    "numbers": "p is the number itself",
    "embedding": "p is the cosine",
    "rows": "p is D-RISE's score: the best detection's intersection over union times the cosine of the probabilities, and "
    "times its objectness if it has one",
}
"""What the network gives -> what the metrics call p, for people."""


def relative(path: Path, root: Path) -> str:
    """An image's name in the results."""
    return path.relative_to(root).as_posix()


def _digest(path: Path) -> str:
    """A digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fingerprint(root: Path, paths: Sequence[Path]) -> str:
    """A digest of the files' names, sizes and modification times: a digest of all contents would take too long."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(repr((relative(path, root), state(path))).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
