"""The report of xai-monitor: one HTML page with the windows over time, what moved, and the mean maps of the windows that moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import resample
from ..pictures import colorize
from ..reports import Origin, charts, render
from ..reports.thumbnails import Shown, color_bar, show
from ..version import __version__
from .judging import REGIONS, Figure, Limits, Window
from .observations import Observed, mean_map

SHOWN = 12  # windows with pictures
LISTED = 3  # figures in the verdict, and in a row of the table
DRAWN = ("confidence", "border", "entropy", "highest tenth", "rank correlation")
_SIDE = 128  # pixels of a mean map


def html(
    pairs: Mapping[str, tuple[Observed, Observed]],
    windows: Sequence[Window],
    limits: Limits,
    notes: Sequence[str],
    command: str = "",
) -> bytes:
    """The page, as UTF-8.

    Args:
        pairs: Method -> (reference, records).
        windows: What `judge` gave.
        limits: See `Limits`.
        notes: What was left out.
        command: The command line; "" if a program asked.

    Raises:
        BackendNotInstalledError: jinja2 or OpenCV is missing.
    """
    usual = {reference.title: reference for reference, _ in pairs.values()}
    moved = [window for window in windows if window.alarms]
    return render(
        "monitor",
        Origin("xai-monitor", command, {"xai-deploy": __version__, "numpy": np.__version__}),
        heading="Drift of explanations",
        passed=not moved,
        verdict=verdict(windows),
        limits=limits,
        notes=notes,
        methods=[_method(usual[title], [w for w in windows if w.method == title]) for title in dict.fromkeys(usual)],
        shown=[_shown(window, usual[window.method]) for window in moved[:SHOWN]],
        more=max(len(moved) - SHOWN, 0),
        positive=color_bar("no share of the map", "largest share"),
        signed=color_bar("less than the reference", "more than the reference", "0", signed=True),
    )


def verdict(windows: Sequence[Window]) -> str:
    """What was found, in a sentence."""
    counted = f"{len(windows)} window{'s' * (len(windows) != 1)}"
    moved = [window for window in windows if window.alarms]
    if not moved:
        return f"No alarm in {counted}: the explanations are as in the reference."
    first = moved[0]
    return (
        f"{len(moved)} of {counted} {'differs' if len(moved) == 1 else 'differ'} from the reference, the first from "
        f"{moment(first.start)} to {moment(first.end)} ({first.method}: {named(first.alarms)})."
    )


def named(figures: Sequence[Figure]) -> str:
    """The figures that differ most, with their values."""
    most = sorted(figures, key=lambda figure: (figure.kind != "ndcg", figure.probability or 0.0, -figure.value))
    texts = [f"{figure.name} {figure.value:.3f}" for figure in most[:LISTED]]
    more = f", {len(figures) - LISTED} more" if len(figures) > LISTED else ""
    return ", ".join(texts) + more


def moment(seconds: float) -> str:
    """A time in UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _method(usual: Observed, windows: Sequence[Window]) -> dict[str, Any]:
    """A method's windows as a table and as lines over time."""
    x = [float(number) for number in range(1, len(windows) + 1)]
    ticks = [(value, f"{value:.0f}") for value in (x[0], x[-1])] if len(x) > 1 else [(x[0], "1")] if x else []

    def line(name: str) -> charts.Line:
        by_window = [{figure.name: figure.value for figure in window.figures} for window in windows]
        return charts.Line(name, [values.get(name) for values in by_window])

    regions = [f.name for f in windows[0].figures if f.name.startswith("region ")] if windows else []
    largest = [max((f.value for f in window.figures if f.name in regions), default=None) for window in windows]
    lines = [*(line(name) for name in DRAWN), charts.Line("largest of the regions", largest)]
    titles = ("window", "distance from the reference, 0 to 1")
    drawn = [charts.line_chart("Kolmogorov-Smirnov distance", lines, x, ticks, titles, (0, 1), mark=True)] if x else []
    if x:
        titles = ("window", "1: the regions rank as in the reference")
        drawn.append(charts.line_chart("nDCG of the regions", [line(REGIONS)], x, ticks, titles, (0.8, 1), mark=True))
    rows = [
        {
            "from": moment(window.start),
            "to": moment(window.end),
            "count": window.count,
            "bundles": ", ".join(window.bundles),
            "alarm": bool(window.alarms),
            "what": named(window.alarms),
        }
        for window in windows
    ]
    return {"title": usual.title, "count": len(usual), "bundles": _bundles(usual), "rows": rows, "charts": drawn}


def _bundles(observed: Observed) -> str:
    return ", ".join(sorted(set(observed.bundles.tolist())))


def _shown(window: Window, usual: Observed) -> dict[str, Any]:
    """A window that moved: its mean map beside the reference's, and its figures."""
    before, now = mean_map(usual.maps), window.mean
    largest = float(max(before.max(), now.max())) or 1.0
    difference = now - before
    most = float(np.abs(difference).max()) or 1.0
    name = f"{window.method}, {moment(window.start)}"
    return {
        "title": f"{moment(window.start)} to {moment(window.end)}, {window.method}",
        "pictures": [
            ("reference", _picture(before / largest, f"{name}, mean map of the reference")),
            ("this window", _picture(now / largest, f"{name}, mean map")),
            ("difference", _picture(difference / most, f"{name}, difference of the mean maps", signed=True)),
        ],
        "figures": sorted(
            window.figures, key=lambda f: (not f.alarm, f.probability if f.probability is not None else 0)
        ),
        "classes": [
            (label, share, f"{100 * share:.1f} % (reference {100 * before:.1f} %)")
            for label, before, share in window.classes
        ],
    }


def _picture(values: NDArray[np.float32], alt: str, signed: bool = False) -> Shown:
    large = np.clip(resample.resize(values, _SIDE, _SIDE), -1, 1)
    return show(colorize(large, signed=signed), alt)
