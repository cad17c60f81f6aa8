"""A picture of a report: ratio to plain inference, and peak memory, one row of panels per backend (extra `evaluate`)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..errors import BackendNotInstalledError, OptionError
from .jobs import PLAIN
from .results import Report, Result

_TIME, _MEMORY = "#3b6ea5", "#8a8f98"
_LOGARITHMIC = 20  # above this ratio the bars of cheap methods are too short on a linear axis, so it is logarithmic


def require_matplotlib(path: str | os.PathLike[str]) -> Any:
    """The class of matplotlib's figures, if matplotlib is installed and can write a file with this ending.

    Raises:
        BackendNotInstalledError: matplotlib is missing.
        OptionError: The file's ending belongs to no format that matplotlib writes.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise BackendNotInstalledError('a plot needs matplotlib; pip install "xai-deploy[evaluate]"') from None
    endings = sorted(FigureCanvasAgg.get_supported_filetypes())
    if Path(path).suffix.lower().removeprefix(".") not in endings:
        raise OptionError(f"{os.fspath(path)}: the plot's file ends in one of {', '.join(endings)}")
    return Figure


def plot(report: Report, path: str | os.PathLike[str]) -> None:
    """Draw a report.

    Args:
        report: The result of `benchmark`.
        path: The file to write; its ending sets the format.

    Raises:
        BackendNotInstalledError: matplotlib is missing.
        OptionError: The file's ending belongs to no format that matplotlib writes.
        OSError: The file can't be written.
    """
    figure_class = require_matplotlib(path)
    panels: dict[str, list[Result]] = {}
    for result in report.results:
        panels.setdefault(result.backend, []).append(result)
    rows = max(map(len, panels.values()))
    wide = 1 if report.no_memory else 2
    figure = figure_class(figsize=(7 * wide, len(panels) * (1.4 + 0.26 * rows)), layout="constrained")
    axes = figure.subplots(len(panels), wide, squeeze=False)
    for (backend, results), line in zip(panels.items(), axes, strict=True):
        _ratios(line[0], report, backend, [r for r in results if r.method != PLAIN])
        if wide == 2:
            _peaks(line[1], report, backend, results)
    names = ", ".join(dict.fromkeys(tested.name for tested in report.bundles))
    figure.suptitle(_literal(f"{names} on {report.device}; plain inference: {report.plain}"), fontsize=11)
    figure.savefig(path, dpi=120)


def _ratios(axis: Any, report: Report, backend: str, results: list[Result]) -> None:
    ratios = [result.ratio for result in results]
    spread = [(result.ratio_iqr or 0) / 2 for result in results]  # to each side; the whisker is as long as the range
    axis.barh(_names(report, results), ratios, xerr=spread, color=_TIME, error_kw={"elinewidth": 1, "capsize": 2})
    axis.axvline(1, color="black", linewidth=0.8)
    if max(ratios, default=1) > _LOGARITHMIC:
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
    axis.set_title(f"{backend}: time", fontsize=10)
    axis.set_xlabel("times plain inference (median; whisker: interquartile range)")
    axis.invert_yaxis()  # the first result on top


def _peaks(axis: Any, report: Report, backend: str, results: list[Result]) -> None:
    known = [result for result in results if result.peak_bytes is not None]
    axis.barh(_names(report, known), [(result.peak_bytes or 0) / 1e6 for result in known], color=_MEMORY)
    axis.set_title(f"{backend}: memory", fontsize=10)
    axis.set_xlabel("peak of the process, MB")
    axis.invert_yaxis()


def _names(report: Report, results: list[Result]) -> list[str]:
    """One name per result, all distinct: bars with the same name would be drawn over each other."""
    columns = report.columns()
    said = [[(heading, cell(result)) for heading, cell in columns.items()] for result in results]
    return [
        _literal(", ".join(c if h in ("method", "cut at") else f"{h} {c}" for h, c in row if c != "-")) for row in said
    ]


def _literal(text: str) -> str:
    return text.replace("$", r"\$")  # matplotlib reads text between two "$" as a formula
