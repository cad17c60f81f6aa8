"""xai-monitor: do explanations still look as they did when the network was deployed? Alarms for pipelines."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..foundation.json_report import PRINTED, require_place, write_json
from ..foundation.printable import printable
from ..foundation.whole_files import write_whole
from ..monitor import Length, Limits, Window, judge, of_files
from ..monitor.prometheus import exposition
from ..monitor.report import html, moment, named, verdict
from ..reports import require as require_reports
from . import examples
from .console import Parser, command, positive, share

PROGRAM = "xai-monitor"
ALARM = 1
EXTRA = "records"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 1 if a window raises an alarm."""
    return command(_parser(), _monitor, argv)


def _monitor(arguments: argparse.Namespace) -> int:
    for path in (arguments.json, arguments.report, arguments.prometheus):
        require_place(path)
    if [arguments.json, arguments.prometheus].count(PRINTED) > 1:
        raise InputError("--json - and --prometheus - would both be printed; name a file for one of them")
    if arguments.report:
        require_reports(EXTRA)
    limits = Limits(arguments.alpha, arguments.max_distance, arguments.max_psi, arguments.min_ndcg, arguments.least)
    length: Length = arguments.window
    if length.records is not None and length.records < limits.least:
        raise InputError(
            f"--window {length.records} is less than the {limits.least} records of --least; give a longer one"
        )
    pairs, notes = of_files(Path(arguments.records), Path(arguments.reference), arguments.model)
    windows, left_out = judge(pairs, length, limits, arguments.last)
    if left_out:
        notes = [*notes, f"{left_out} records in windows of less than {limits.least} (--least)"]
    alarm = any(window.alarms for window in windows)
    if arguments.json:
        report = {
            "alarm": alarm,
            "limits": asdict(limits),
            "left_out": notes,
            "windows": [_as_json(w) for w in windows],
        }
        write_json(report, arguments.json)
    if arguments.report:
        write_whole(Path(arguments.report), html(pairs, windows, limits, notes, arguments.command))
    if arguments.prometheus == PRINTED:
        print(exposition(windows).decode(), end="")
    elif arguments.prometheus:
        write_whole(Path(arguments.prometheus), exposition(windows))
    if PRINTED not in (arguments.json, arguments.prometheus) and not arguments.quiet:
        _print(windows, notes)
    return ALARM if alarm else 0


def _as_json(window: Window) -> dict[str, Any]:
    return {
        "method": window.method,
        "from": moment(window.start),
        "to": moment(window.end),
        "records": window.count,
        "networks": list(window.bundles),
        "alarm": bool(window.alarms),
        "figures": [asdict(figure) for figure in window.figures],
    }


def _print(windows: Sequence[Window], notes: Sequence[str]) -> None:
    for window in windows:
        what = f"ALARM: {named(window.alarms)}" if window.alarms else "silent"
        print(printable(f"{moment(window.start)} to {moment(window.end)}, {window.count} by {window.method}: {what}"))
    for note in notes:
        print(printable(f"left out: {note}"))
    print(printable(verdict(windows)))


def _length(text: str) -> Length:
    """The type of --window: a number of records, or a time."""
    match = re.fullmatch(r"([1-9]\d{0,8})([smhd]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of records (100) and no time (30m, 1h, 7d)")
    number, unit = int(match[1]), match[2]
    return Length(None, float(number * _UNITS[unit])) if unit else Length(number)


def _parser() -> Parser:
    parser = Parser(
        prog=PROGRAM,
        description="Compare windows of records over time with a reference: which classes are predicted, how surely, and where the "
        "maps lie. The exit status is 1 if a window raises an alarm.",
        epilog=examples.MONITOR,
    )
    add, limits = parser.add_argument, Limits()
    add("records", metavar="RECORDS", help="folder or file of records (xai-explain --records, Recorder)")
    add("--model", metavar="NAME", help="of records that xai-serve wrote for several models: those of this one")
    add("--reference", required=True, metavar="REFERENCE", help="records, or a recording (xai-check --record FILE.npz)")
    add(
        "--window",
        type=_length,
        default=Length(),
        metavar="N|TIME",
        help="records in a window, or its time as 1h, 7d (default: 100)",
    )
    add("--last", type=positive, metavar="N", help="judge the last N windows only (default: all)")
    add(
        "--least",
        type=positive,
        default=limits.least,
        metavar="N",
        help="records that a window needs (default: %(default)s)",
    )
    chance = "how probable a false alarm may be, over all tests of the call (default: %(default)s)"
    add("--alpha", type=share, default=limits.alpha, metavar="F", help=chance)
    distance = (
        "Kolmogorov-Smirnov distance from which on a number of each record raises an alarm (default: %(default)s)"
    )
    add("--max-distance", type=share, default=limits.distance, metavar="F", help=distance)
    index = "population stability index from which on class shares raise an alarm (default: %(default)s)"
    add("--max-psi", type=_index, default=limits.psi, metavar="F", help=index)
    order = "nDCG of the regions below which there is an alarm (default: %(default)s)"
    add("--min-ndcg", type=share, default=limits.ndcg, metavar="F", help=order)
    parser.add_json()
    add(
        "--report",
        metavar="FILE.html",
        help="write a page with the windows over time, and pictures of those that moved",
    )
    add(
        "--prometheus",
        metavar="FILE.prom|-",
        help="write the last window's figures as text for Prometheus; - prints it",
    )
    parser.add_common()
    return parser


def _index(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"at least 0, not {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
