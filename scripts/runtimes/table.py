"""The tables, in Markdown, and their place in a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .environments import Runtime
from .measure import Cell

BEGIN, END = "<!-- check_fused -->", "<!-- /check_fused -->"


@dataclass(frozen=True)
class Table:
    """Results on one network.

    Attributes:
        title: Its heading.
        rows: Label -> one cell per runtime.
        moves: Label -> how far the engine's own map moves; see `rows.Row`.
        without: Method left out -> why.
    """

    title: str
    rows: Mapping[str, Sequence[Cell]]
    moves: Mapping[str, float]
    without: Mapping[str, str]


def compose(command: str, date: str, runtimes: Sequence[Runtime], tables: Sequence[Table]) -> str:
    """All tables, with the reasons for every "no"."""
    versions = []
    for column, runtime in enumerate(runtimes):
        known = [cells[column].version for table in tables for cells in table.rows.values() if cells[column].version]
        versions.append(f"{runtime.title} {known[0] if known else 'not installed'}")
    reasons: dict[str, int] = {}
    parts = [f"Written by `{command}`, {date}: {', '.join(versions)}.", ""]
    for table in tables:
        parts += [f"### {table.title}", ""]
        parts += [
            f"| | {' | '.join(runtime.title for runtime in runtimes)} | engine moves |",
            f"|---|{'---|' * len(runtimes)}---|",
        ]
        for label, cells in table.rows.items():
            row = [_cell(runtime, cell, reasons) for runtime, cell in zip(runtimes, cells, strict=True)]
            parts.append(f"| {label} | {' | '.join(row)} | {_number(table.moves[label])} |")
        parts.append("")
        if table.without:
            parts += [" ".join(f"`{name}` is left out: {reason}." for name, reason in table.without.items()), ""]
    if reasons:
        parts += ["### Why not", ""]
        parts += [f"{number}. {reason}" for reason, number in reasons.items()] + [""]
    return "\n".join(parts)


def _cell(runtime: Runtime, cell: Cell, reasons: dict[str, int]) -> str:
    """A difference, in bold if it is too large, in brackets if it passes only by an allowance; or "no" and a reason."""
    if cell.failed:
        return f"no ({reasons.setdefault(f'{runtime.title}: {cell.failed}', len(reasons) + 1)})"
    number = _number(cell.difference)
    if cell.wrong:
        return f"**{number}**"
    return f"({number})" if cell.difference > runtime.tolerance else number


def _number(value: float) -> str:
    return f"{value:.0e}" if value else "0"


def write(path: Path, text: str) -> None:
    """Put the text between the page's markers, or at its end; the rest of the page is kept."""
    page = path.read_text(encoding="utf-8") if path.exists() else "# Fused graphs\n\n"
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2] or "\n"
    path.write_text(f"{before}{BEGIN}\n{text}{END}{after}", encoding="utf-8")
