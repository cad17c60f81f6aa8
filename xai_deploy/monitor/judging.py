"""Windows of records over time, their figures beside the reference's, and which of them raise an alarm."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..records.statistics import GRID
from ..similarity import spearman
from .drift import holm, homogeneity, ks_distance, ks_probability, ndcg, ndcg_by_chance, pooled, psi
from .observations import UNKNOWN, Numbers, Observed, mean_map

Kind = Literal["ks", "psi", "ndcg"]
OF_A_CLASS = 5  # maps of a class in the reference that a class's mean needs; of a rarer class the mean of all is taken
MOVED = 5  # classes that are named
_DRAWS = 50_000  # parts of the reference, at most, that say how far the regions' order changes by chance
REGIONS, CLASSES, CONSTANT = "regions", "class shares", "maps that are the same everywhere"


@dataclass(frozen=True)
class Limits:
    """When a figure raises an alarm.

    Attributes:
        alpha: How probable any alarm of a call may be if nothing has changed: of the tests, and of the regions' nDCG.
        distance: The least Kolmogorov-Smirnov distance; a smaller one does not matter, however certain it is.
        psi: The least population stability index, likewise.
        ndcg: The regions' nDCG, below which there is an alarm if chance does not explain it.
        least: How many records a window has at least.
    """

    alpha: float = 0.01
    distance: float = 0.1
    psi: float = 0.25
    ndcg: float = 0.9
    least: int = 30


@dataclass(frozen=True)
class Figure:
    """One figure of a window.

    Attributes:
        name: What it compares.
        kind: "ks": a number of each record, by the Kolmogorov-Smirnov distance. "psi": a category of each record, by the population
            stability index. "ndcg": the order of the regions.
        value: The distance, the index, or nDCG.
        probability: How probable such a value is by chance, corrected for all tests of the call, or for all windows (nDCG); None
            for nDCG above its limit.
        limit: Above it (below it for nDCG), and improbable enough, there is an alarm.
        alarm: There is.
        usual: The mean of the reference; None for class shares and regions.
        here: The same of the window.
    """

    name: str
    kind: Kind
    value: float
    probability: float | None
    limit: float
    alarm: bool
    usual: float | None
    here: float | None


@dataclass(frozen=True, eq=False)
class Window:
    """The records of one method in a stretch of time.

    Attributes:
        method: The method's title.
        start, end: Times of the first and the last record, seconds since 1970.
        count: How many records.
        bundles: The networks, by name and digest.
        figures: See `Figure`.
        mean: The mean map [SIDE,SIDE].
        classes: The classes whose shares moved most: label, the reference's share, the window's.
    """

    method: str
    start: float
    end: float
    count: int
    bundles: Sequence[str]
    figures: Sequence[Figure]
    mean: NDArray[np.float32]
    classes: Sequence[tuple[str, float, float]]

    @property
    def alarms(self) -> list[Figure]:
        """The figures that raise an alarm."""
        return [figure for figure in self.figures if figure.alarm]


@dataclass(frozen=True)
class Length:
    """How long a window is.

    Attributes:
        records: So many records; None if it is a time.
        seconds: So many seconds, from multiples of it since 1970 on; None if it is a number of records.
    """

    records: int | None = 100
    seconds: float | None = None


def judge(
    pairs: Mapping[str, tuple[Observed, Observed]], length: Length, limits: Limits, last: int | None = None
) -> tuple[list[Window], int]:
    """Compare each window with the reference.

    Args:
        pairs: Method -> (reference, records), see `of_files`.
        length: Of a window.
        limits: See `Limits`.
        last: Judge only so many windows of each method, the last ones.

    Returns:
        The windows, by method and time; and how many records lie in windows that are too small, and were not judged.

    Raises:
        InputError: The reference or every window is too small.
    """
    chosen: list[tuple[_Expected, Observed, NDArray[np.intp]]] = []
    left_out = 0
    for usual, observed in pairs.values():
        if len(usual) < limits.least:
            raise InputError(
                f"the reference has {len(usual)} map{'s' * (len(usual) != 1)} by {usual.title}, and needs {limits.least} (--least)"
            )
        expected = _Expected(usual)
        own = list(_windows(observed, length))
        large = [rows for rows in own if len(rows) >= limits.least]
        left_out += sum(len(rows) for rows in own if len(rows) < limits.least)
        chosen += [(expected, observed, rows) for rows in large[-last if last else None :]]
    if not chosen:
        raise InputError(
            f"no window has the {limits.least} records that it needs (--least); give a longer one (--window)"
        )
    judged = [_compare(*one, limits, len(chosen)) for one in chosen]
    corrected = iter(holm([p for _, probabilities in judged for p in probabilities]))
    return [replace(window, figures=_alarms(window.figures, corrected, limits)) for window, _ in judged], left_out


def _alarms(figures: Sequence[Figure], corrected: Iterator[float], limits: Limits) -> list[Figure]:
    """The figures with their corrected probabilities, and the alarms that follow."""
    done = []
    for figure in figures:
        if figure.kind == "ndcg":
            done.append(figure)
        else:
            p = next(corrected)
            done.append(replace(figure, probability=p, alarm=p < limits.alpha and figure.value >= figure.limit))
    return done


class _Expected:
    """The reference, and the maps that its classes have in the mean."""

    def __init__(self, usual: Observed) -> None:
        self.usual = usual
        self._all = usual.maps.sum(axis=0, dtype=np.float64)
        kinds, counts = np.unique(usual.explained[~usual.constant], return_counts=True)
        self._of = {
            int(kind): usual.maps[(usual.explained == kind) & ~usual.constant].sum(axis=0, dtype=np.float64)
            for kind, count in zip(kinds, counts, strict=True)
            if count >= OF_A_CLASS and kind != UNKNOWN
        }
        self._by_chance: dict[int, Numbers] = {}
        self._rows: dict[str, list[int]] = {}
        for row, image in enumerate(usual.inputs.tolist()):
            self._rows.setdefault(image, []).append(row)
        rows = np.arange(len(usual))
        self.numbers = numbers(usual, rows, self.alike(usual, rows))

    def alike(self, observed: Observed, rows: NDArray[np.intp]) -> Numbers:
        """The rank correlation of each map with the mean map of its class, NaN for a map that is the same everywhere.

        The mean is that of the reference's other images. A map is part of its own mean, and would be alike to itself: in the
        reference, and in a window that holds an image of the reference again.

        Args:
            observed: The reference, or records.
            rows: Which of them.
        """
        if len(rows) == 0:
            return np.empty(0)
        maps = observed.maps[rows].astype(np.float64)
        others = [self._others(observed.inputs[row], int(observed.explained[row])) for row in rows]
        return spearman(maps, np.stack(others))  # a sum has the same ranks as a mean

    def order(self, energy: Numbers, limits: Limits, windows: int) -> Figure:
        """The regions' nDCG of a window. If it is low, parts of the reference say how probable that is by chance.

        Args:
            energy: [n,regions] of the window's maps.
            limits: See `Limits`.
            windows: How many the call has; each may be low by chance.
        """
        known = self.usual.energy[~np.isnan(self.usual.energy).any(axis=1)]
        value, probability, alarm = float(ndcg(known.mean(axis=0), energy.mean(axis=0))), None, False
        if value < limits.ndcg:
            level = max(limits.alpha, windows / _DRAWS)  # so many draws can't show less
            draws = math.ceil(windows / level)
            if len(energy) not in self._by_chance:
                self._by_chance[len(energy)] = ndcg_by_chance(known, len(energy), draws)
            low = int(np.searchsorted(self._by_chance[len(energy)], value, side="right"))
            probability = min(windows * (low + 1) / (draws + 1), 1.0)
            alarm = len(known) > 1 and probability < level
        return Figure(REGIONS, "ndcg", value, probability, limits.ndcg, alarm, None, None)

    def _others(self, image: str, kind: int) -> Numbers:
        """The sum of the reference's maps of a class, or of all, without those of an image."""
        own, of_class = self._rows.get(image, []), self._of.get(kind)
        if of_class is not None:
            own = [row for row in own if self.usual.explained[row] == kind and not self.usual.constant[row]]
        whole = self._all if of_class is None else of_class
        return np.asarray(whole - self.usual.maps[own].sum(axis=0, dtype=np.float64))


def numbers(observed: Observed, rows: NDArray[np.intp], alike: Numbers) -> dict[str, Numbers]:
    """Name -> a number of each record; those that are not defined are left out."""
    named = {
        "confidence": observed.confidence[rows],
        "score": observed.score[rows],
        "border": observed.border[rows],
        "entropy": observed.entropy[rows],
        "highest tenth": observed.top[rows],
        "rank correlation": alike,
        **{f"region {i // GRID + 1},{i % GRID + 1}": observed.energy[rows, i] for i in range(GRID**2)},
    }
    return {name: values[~np.isnan(values)] for name, values in named.items()}


def _windows(observed: Observed, length: Length) -> Iterator[NDArray[np.intp]]:
    """The rows of each window, in the order of time."""
    rows = np.arange(len(observed))
    if length.records is not None:
        starts = rows[length.records :: length.records]
    else:
        assert length.seconds is not None
        starts = 1 + np.flatnonzero(np.diff(np.floor(observed.time / length.seconds)))
    yield from np.split(rows, starts)


def _compare(
    expected: _Expected, observed: Observed, rows: NDArray[np.intp], limits: Limits, windows: int
) -> tuple[Window, list[float]]:
    """A window without its alarms, and the probabilities of its tests as they are."""
    usual = expected.usual
    figures: list[Figure] = []
    probabilities: list[float] = []

    def add(figure: Figure, probability: float) -> None:
        figures.append(figure)
        probabilities.append(probability)

    for name, values in numbers(observed, rows, expected.alike(observed, rows)).items():
        known = expected.numbers[name]
        if len(known) == 0 or len(values) == 0:
            continue
        distance = ks_distance(known, values)
        means = float(known.mean()), float(values.mean())
        add(
            Figure(name, "ks", distance, None, limits.distance, False, *means),
            ks_probability(distance, len(values), len(known)),
        )
    for name, a, b in (
        (CLASSES, usual.predicted, observed.predicted[rows]),
        (CONSTANT, usual.constant, observed.constant[rows]),
    ):
        own, other = pooled(a, b)
        if len(own) > 1 and not (name == CLASSES and (a == UNKNOWN).all()):
            shares = (float(a.mean()), float(b.mean())) if name == CONSTANT else (None, None)
            add(Figure(name, "psi", psi(own, other), None, limits.psi, False, *shares), homogeneity(own, other))
    here, there = (energy[~np.isnan(energy).any(axis=1)] for energy in (observed.energy[rows], usual.energy))
    if len(here) and len(there):
        figures.append(expected.order(here, limits, windows))
    time = observed.time[rows]
    names = sorted(set(observed.bundles[rows].tolist()))
    mean, moved = mean_map(observed.maps[rows]), _moved(usual, observed, rows)
    return Window(
        observed.title, float(time[0]), float(time[-1]), len(rows), names, figures, mean, moved
    ), probabilities


def _moved(usual: Observed, observed: Observed, rows: NDArray[np.intp]) -> list[tuple[str, float, float]]:
    """The classes whose shares moved most."""
    here = observed.predicted[rows]
    kinds = sorted(({*usual.predicted.tolist(), *here.tolist()}) - {UNKNOWN})
    shares = [(kind, float((usual.predicted == kind).mean()), float((here == kind).mean())) for kind in kinds]
    labels = {**usual.labels, **observed.labels}
    most = sorted(shares, key=lambda one: -abs(one[1] - one[2]))[:MOVED]
    return [(labels.get(kind, f"class {kind}"), before, now) for kind, before, now in most]
