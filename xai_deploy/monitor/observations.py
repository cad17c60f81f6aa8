"""What the monitor sees of each explanation, read from records or from a recording of xai-check."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..agreement import recording
from ..errors import InputError, RecordsError, XaiError
from ..foundation.options import options_of, title_of
from ..foundation.paths import path_of
from ..methods import create
from ..records import Record, Statistics, records
from ..records.statistics import CELLS, GRID, cells, measure, shown

Numbers = NDArray[np.float64]

SIDE = 16  # of the maps that are kept
UNKNOWN = -1  # the class of a network that has none
_MODEL = "model"  # the field in which xai-serve says which of its models answered


@dataclass(frozen=True, eq=False)
class Observed:
    """The explanations by one method, in the order of their times.

    Attributes:
        title: The method and its options.
        time: [n] seconds since 1970; NaN if they are not known.
        predicted: [n] the class that is predicted, -1 if there is none.
        explained: [n] the class that is explained, -1 if there is none.
        confidence: [n] the probability of the class that is predicted, or its score if the network has none; NaN if neither.
        score: [n] the number that is explained; NaN if it is not known.
        energy: [n,16] the share of each region; NaN for a map that is the same everywhere, here and below.
        border, entropy, top: [n], see `Statistics`.
        maps: [n,SIDE,SIDE] float32, the share of each cell.
        inputs: What image each is of: equal texts are the same image.
        bundles: The name and the digest of each network.
        labels: Class -> label.
        signed: Some of the maps are.
    """

    title: str
    time: Numbers
    predicted: NDArray[np.int64]
    explained: NDArray[np.int64]
    confidence: Numbers
    score: Numbers
    energy: Numbers
    border: Numbers
    entropy: Numbers
    top: Numbers
    maps: NDArray[np.float32]
    inputs: NDArray[np.str_]
    bundles: NDArray[np.str_]
    labels: Mapping[int, str]
    signed: bool

    def __len__(self) -> int:
        return len(self.time)

    @property
    def names_classes(self) -> bool:
        """Whether a class is predicted in any."""
        return bool((self.predicted != UNKNOWN).any())

    @property
    def constant(self) -> NDArray[np.bool_]:
        """[n] the map is the same everywhere."""
        own: NDArray[np.bool_] = np.isnan(self.entropy)
        return own


@dataclass
class _Columns:
    """The rows of one method as they are read."""

    time: list[float] = field(default_factory=list)
    predicted: list[int] = field(default_factory=list)
    explained: list[int] = field(default_factory=list)
    confidence: list[float] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    statistics: list[Statistics | None] = field(default_factory=list)
    maps: list[NDArray[np.float32]] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    bundles: list[str] = field(default_factory=list)
    labels: dict[int, str] = field(default_factory=dict)
    signed: bool = False

    def observed(self, title: str) -> Observed:
        """The columns as arrays, in the order of time."""
        order = np.argsort(self.time, kind="stable")
        nothing = Statistics((np.nan,) * GRID**2, np.nan, np.nan, np.nan)
        stated = [one or nothing for one in self.statistics]
        rows = np.array([(*one.energy, one.border, one.entropy, one.top) for one in stated], np.float64)[order]
        return Observed(
            title,
            np.array(self.time)[order],
            np.array(self.predicted, np.int64)[order],
            np.array(self.explained, np.int64)[order],
            np.array(self.confidence)[order],
            np.array(self.score)[order],
            rows[:, :-3],
            rows[:, -3],
            rows[:, -2],
            rows[:, -1],
            np.stack(self.maps)[order],
            np.array(self.inputs)[order],
            np.array(self.bundles)[order],
            self.labels,
            self.signed,
        )


def read_records(
    path: Path, beside_recording: bool = False, model: str | None = None
) -> tuple[dict[str, Observed], int]:
    """The records of a folder or a file, by method.

    Args:
        path: The folder or file.
        beside_recording: They are compared with a recording of xai-check: leave out what explains another class than the predicted
            one, or what speaks against it; and tell images by their files' names, since a recording has no sha256 of the files.
        model: Leave out what xai-serve recorded for other models (the field `model`). Records that name none are taken.

    Returns:
        Key -> what was observed, and how many records were left out. The key is the method with all its options.

    Raises:
        RecordsError: There are none, or a line is no record.
        InputError: They are of several models and none is named, or none of them is of the model.
    """
    columns: dict[str, _Columns] = {}
    served: set[str] = set()
    left_out = 0
    for place, record in records(path):
        own = record.fields.get(_MODEL)
        if isinstance(own, str):
            served.add(own)
            if model not in (None, own):
                continue
        if beside_recording and not _explains_the_predicted(record):
            left_out += 1
            continue
        try:
            _add(columns.setdefault(_key(record.method, record.options), _Columns()), record, beside_recording)
        except ValueError as error:
            raise InputError(f"{place}: {error}") from None
    if model is None and len(served) > 1:
        raise InputError(f"{path}: holds records of {', '.join(sorted(served))}; name one of these models (--model)")
    if served and model is not None and model not in served:
        raise InputError(f"{path}: holds no record of the model {model!r}, but of {', '.join(sorted(served))}")
    return {key: rows.observed(_title(key)) for key, rows in columns.items()}, left_out


def _explains_the_predicted(record: Record) -> bool:
    target = record.target
    best = record.prediction[0].index if record.prediction else None
    return target.index == best and target.versus is None and target.sign == 1


def _add(columns: _Columns, record: Record, by_name: bool) -> None:
    size, best = record.source.size, record.prediction[0] if record.prediction else None
    weights = shown(record.map.raw, record.map.signed, size)
    confidence = None if best is None else best.logit if best.probability is None else best.probability
    columns.time.append(_seconds(record.time))
    columns.predicted.append(UNKNOWN if best is None or best.index is None else best.index)
    columns.explained.append(UNKNOWN if best is None or best.index is None else record.target.index)
    columns.confidence.append(np.nan if confidence is None else confidence)
    columns.score.append(np.nan if record.target.score is None else record.target.score)
    columns.statistics.append(record.statistics)
    columns.maps.append(_small(weights))
    image = record.input.file if by_name else record.input.sha256 if record.input.of is not None else None
    columns.inputs.append(record.map.sha256 if image is None else image)  # an image that was not given: by its map
    columns.bundles.append(f"{record.source.bundle} {record.source.digest[:16]}")
    columns.signed |= record.map.signed
    if best is not None and best.index is not None:
        columns.labels[best.index] = best.label


def read_recording(path: Path) -> dict[str, Observed]:
    """What xai-check --record wrote of a classifier, by method; see `read_records`.

    Raises:
        RecordingError: It can't be read.
        InputError: It is not of a classifier.
    """
    recorded = recording.read(path)
    header, own = recorded.header, recorded.explained
    if header.gives != "classes":
        raise InputError(
            f"{path}: records no classes but {header.gives}; give records (xai-explain --records) as the reference"
        )
    best = own.logits.argmax(axis=1)
    scores = own.probabilities if header.shared else own.logits
    observed = {}
    for title, heat in own.heatmaps.items():
        asked = header.methods[title]
        rows = _Columns(
            [np.nan] * len(best),
            best.tolist(),
            best.tolist(),
            scores[np.arange(len(best)), best].astype(np.float64).tolist(),
            score=[np.nan] * len(best),
            inputs=list(header.images),
            bundles=[f"{header.network} {header.digest[:16]}"] * len(best),
        )
        for one in heat:
            weights = cells(one if one.ndim == 2 else one.mean(axis=0))
            rows.statistics.append(measure(weights))
            rows.maps.append(_small(weights))
        key = _key(asked.name, options_of(create(asked.name, asked.options)))
        observed[key] = rows.observed(_title(key))
    return observed


def of_files(
    path: str | os.PathLike[str], reference: str | os.PathLike[str], model: str | None = None
) -> tuple[dict[str, tuple[Observed, Observed]], list[str]]:
    """Records and their reference, by method.

    Args:
        path: A folder or a file of records.
        reference: The same, or a recording of xai-check.
        model: See `read_records`.

    Returns:
        Key -> (reference, records); and a line for each thing that was left out.

    Raises:
        XaiError: One of them can't be read, or they have no method in common, or are of networks of two kinds.
    """
    path, reference = path_of(path, "the records", RecordsError), path_of(reference, "the reference", RecordsError)
    is_recording = reference.is_file() and reference.suffix == ".npz"
    if is_recording:
        usual = read_recording(reference)
    else:
        usual, _ = read_records(reference, model=model)
    observed, left_out = read_records(path, beside_recording=is_recording, model=model)
    notes = [f"{left_out} records that explain another class than the predicted one: the recording has none"] * (
        left_out > 0
    )
    common = [key for key in observed if key in usual]
    for key in observed:
        if key not in usual:
            notes.append(f"{len(observed[key])} records of {observed[key].title}: the reference has none")
    if not common:
        there = ", ".join(one.title for one in usual.values()) or "nothing"
        here = ", ".join(one.title for one in observed.values()) or "nothing"
        raise InputError(
            f"{reference}: holds {there}, and {path} holds {here}; explain both by the same method and options"
        )
    for key in common:
        if usual[key].names_classes != observed[key].names_classes:
            with_classes, without = (reference, path) if usual[key].names_classes else (path, reference)
            raise InputError(
                f"{with_classes}: predicts classes, and {without} predicts none ({observed[key].title}); give records of one kind "
                "of network"
            )
        if is_recording and observed[key].signed:
            raise InputError(
                f"{reference}: a recording does not say where 0 is in the signed maps of {observed[key].title}; give records as "
                "the reference"
            )
    return {key: (usual[key], observed[key]) for key in common}, notes


def _small(weights: Numbers) -> NDArray[np.float32]:
    """Cells [CELLS,CELLS] -> their shares in [SIDE,SIDE]; zeros for a map of zeros."""
    step, whole = CELLS // SIDE, weights.sum()
    blocks = weights.reshape(SIDE, step, SIDE, step).sum(axis=(1, 3))
    return np.asarray(blocks / (whole if whole > 0 else 1), np.float32)


def _key(name: str, options: Mapping[str, Any]) -> str:
    return json.dumps([name, dict(sorted(options.items()))])


def _title(key: str) -> str:
    """The method, with the options that differ from their defaults."""
    name, options = json.loads(key)
    try:
        usual = options_of(create(name, {}))
    except XaiError:  # a method of another program
        usual = {}
    return title_of(name, {option: value for option, value in options.items() if usual.get(option) != value})


def _seconds(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is no time") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def mean_map(maps: Sequence[Any] | NDArray[Any]) -> NDArray[np.float32]:
    """The mean of maps [n,SIDE,SIDE]."""
    return np.asarray(np.mean(maps, axis=0), np.float32)
