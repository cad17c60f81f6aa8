"""Tables that take hours: results kept line by line, limits for each measurement, and rows of earlier runs that stay on a page."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import psutil

PAUSE = 0.1
"""Seconds between two looks at a process."""
TABLE = re.compile(r"(?:^\|.*\n?)+", re.MULTILINE)
"""A table of a page of Markdown."""
Key = TypeVar("Key")
Result = dict[str, Any]


def read(journal: Path, key: Callable[[Result], Key]) -> dict[Key, Result]:
    """The last result for each key in a journal, one line of JSON for each. A last line that was cut off does not count."""
    results = {}
    for line in journal.read_text(encoding="utf-8").splitlines() if journal.exists() else ():
        try:
            result = json.loads(line)
        except ValueError:
            continue
        results[key(result)] = result
    return results


def keep(journal: Path, result: Mapping[str, Any]) -> Result:
    """Append a result to a journal, with the day on which it was measured (UTC)."""
    dated = {**result, "measured": f"{datetime.now(UTC):%Y-%m-%d}"}
    journal.parent.mkdir(parents=True, exist_ok=True)
    with open(journal, "a", encoding="utf-8") as file:
        file.write(json.dumps(dated) + "\n")
    return dated


def watch(pid: int, alive: Callable[[], bool], seconds: float, gigabytes: float) -> tuple[str, int]:
    """Wait for a process; end it and its children at a limit.

    Args:
        pid: The process.
        alive: Whether it still runs.
        seconds: Processor time that it and its children may take.
        gigabytes: Resident memory that they may take together.

    Returns:
        Why it was ended, "" if it ended by itself; and the most resident memory seen, in bytes.
    """
    most = 0
    while alive():
        try:
            tree = [psutil.Process(pid)]
            tree += tree[0].children(recursive=True)
            most = max(most, sum(process.memory_info().rss for process in tree))
            used = sum(sum(process.cpu_times()[:4]) for process in tree[:1])  # of its children that have ended, too
            used += sum(sum(process.cpu_times()[:2]) for process in tree[1:])
        except psutil.Error:
            time.sleep(PAUSE)  # it has ended, or a child has
            continue
        over = [
            f"stopped after {seconds:g} s of processor time" * (used > seconds),
            f"stopped at {gigabytes:g} GB" * (most > gigabytes * 1e9),
        ]
        if any(over):
            for process in reversed(tree):
                with contextlib.suppress(psutil.Error):  # it has ended by itself
                    process.kill()
            return next(filter(None, over)), most
        time.sleep(PAUSE)
    return "", most


def run(command: Sequence[str], marker: str, seconds: float, gigabytes: float) -> Result:
    """Run a command within limits, and read the JSON after `marker` from its output.

    Returns:
        The object; {"reason": why there is none} if the command was ended or failed.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        with subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:
            stopped, _ = watch(process.pid, lambda: process.poll() is None, seconds, gigabytes)
        output.seek(0)
        lines = output.read().splitlines()
    found = [line.removeprefix(marker) for line in lines if line.startswith(marker)]
    if stopped or not found:
        said = next((line for line in reversed(lines) if line.strip()), "nothing said")
        return {"reason": stopped or f"ended with status {process.returncode}: {said.strip()}"[:300]}
    result: Result = json.loads(found[-1])
    return result


def merged(page: str, number: int, head: str, rows: Mapping[str, str], order: Sequence[str]) -> str:
    """A page whose table has other rows.

    Args:
        page: Markdown.
        number: Which of its tables, from 0.
        head: The titles of its columns. Rows that the page keeps get empty cells at their end if they are shorter.
        rows: First cell -> the row that takes the place of the one that begins with it.
        order: First cells of the rows that come first; others follow as they stand.
    """
    table = list(TABLE.finditer(page))[number]
    kept = {cells(line)[0]: line for line in table[0].splitlines()[2:]}
    width = len(cells(head))
    all_rows = {name: padded(line, width) for name, line in (kept | dict(rows)).items()}
    names = dict.fromkeys([*(name for name in order if name in all_rows), *all_rows])
    lines = [head, "|" + "-|" * width, *(all_rows[name] for name in names)]
    return page[: table.start()] + "\n".join(lines) + "\n" + page[table.end() :]


def padded(row: str, width: int) -> str:
    """A row of a Markdown table with empty cells at its end, up to a number of cells."""
    return row.rstrip() + " |" * (width - len(cells(row)))


def cells(row: str) -> list[str]:
    """The cells of a row of a Markdown table."""
    return [cell.strip() for cell in row.strip().removeprefix("|").removesuffix("|").split("|")]
