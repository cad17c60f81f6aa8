"""The last window's figures as text for Prometheus (its textfile collector, or a page of a server).

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .judging import Figure, Window

_ESCAPES = {"\\": r"\\", '"': r"\"", "\n": r"\n"}


def exposition(windows: Sequence[Window]) -> bytes:
    """The text, as UTF-8."""
    last = {window.method: window for window in windows}
    per_method = [({"method": method}, window) for method, window in last.items()]
    figures = [
        ({"method": method, "figure": figure.name, "kind": figure.kind}, figure)
        for method, window in last.items()
        for figure in window.figures
    ]
    known = [(labels, figure) for labels, figure in figures if figure.probability is not None]
    families: list[tuple[str, str, Iterable[tuple[dict[str, str], float]]]] = [
        ("windows", "Windows that were judged.", [({}, len(windows))]),
        ("windows_in_alarm", "Windows with an alarm.", [({}, sum(bool(window.alarms) for window in windows))]),
        ("alarm", "1 if the last window has an alarm.", [(at, bool(window.alarms)) for at, window in per_method]),
        ("window_records", "Records in the last window.", [(at, window.count) for at, window in per_method]),
        ("window_end_seconds", "Time of the last record.", [(at, window.end) for at, window in per_method]),
        ("figure", "Distance, stability index or nDCG.", [(at, figure.value) for at, figure in figures]),
        ("figure_probability", "Corrected probability by chance.", [(at, _p(figure)) for at, figure in known]),
        ("figure_alarm", "1 if the figure raises an alarm.", [(at, figure.alarm) for at, figure in figures]),
    ]
    lines = []
    for name, what, samples in families:
        lines += [f"# HELP xai_monitor_{name} {what}", f"# TYPE xai_monitor_{name} gauge"]
        lines += [f"xai_monitor_{name}{_labels(labels)} {float(value)!r}" for labels, value in samples]
    return ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")


def _p(figure: Figure) -> float:
    assert figure.probability is not None
    return figure.probability


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    values = {name: "".join(_ESCAPES.get(c, c) for c in value) for name, value in labels.items()}
    return "{" + ",".join(f'{name}="{value}"' for name, value in values.items()) + "}"
