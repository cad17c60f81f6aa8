"""The table, in Markdown."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from .counterpart import PLAIN, Case
from .ours import METHODS
from .rounds import OURS, Entry, Group, adapter, agreement

BEGIN, END = "<!-- bench_peers -->", "<!-- /bench_peers -->"

INTRODUCTION = """\
## Beside other packages

Written by `{command}` on {cpus} CPUs ({machine}), {threads} for each package, batch 1, {date}.

Networks of torchvision, seeded, BatchNorm statistics and scales drawn at random (speed and agreement need no training); the target
layer is `{layer}`, the image a sample of `models/clutter_digits` at 224 x 224, the class the predicted one. Each package runs in an
environment and a process of its own; a round runs each method of each package once, all others idle, and the first rounds are not
counted. {disturbance}

- **ms**: median over rounds (and quartiles). **x plain**: median ratio to the same package's own forward pass in that round.
- **x ours**: its time over ours in the same round (median), ours on ONNX Runtime / on OpenVINO. Above 1 ours is faster, below 1 the
  peer is (in bold). Ours includes the heatmap at the input's size; of the peers, pytorch-grad-cam resizes its map, too.
- **correlation** and **difference** with our map on ONNX Runtime, before any resizing. The difference is the largest, in parts of
  our largest magnitude; "(scaled)": after both are stretched to [0,1].
- RISE takes {masks} masks (too few for a good map, enough to time), integrated gradients {steps} steps. Masks are random: our row
  on OpenVINO has another seed than that on ONNX Runtime, so its correlation is that of two seeds, a
  yardstick for the others. torch-cam and pytorch-grad-cam know Score-CAM with a softmax over the channels; ours is
  compared with that option.
"""


def write(path: Path, text: str) -> None:
    """Put the text between the page's markers, or append it; the rest of the page is kept."""
    page = path.read_text(encoding="utf-8") if path.exists() else "# Performance\n"
    before, marker, rest = page.partition(BEGIN)
    after = rest.partition(END)[2] if marker else "\n"
    path.write_text(f"{before if marker else before + chr(10)}{BEGIN}\n{text}{END}{after}", encoding="utf-8")


def compose(
    command: str, date: str, groups: Sequence[tuple[Group, Case, Sequence[Entry]]], versions: Mapping[str, str]
) -> str:
    """The whole section."""
    _, case, _ = groups[0]
    parts = [
        INTRODUCTION.format(
            command=command,
            cpus=os.cpu_count(),
            machine=platform.machine(),
            date=date,
            disturbance=_disturbance([entry for _, _, entries in groups for entry in entries]),
            threads=f"{case.threads} thread{'s' * (case.threads > 1)}{', processor time' * (case.clock == 'processor')}",
            **{field: getattr(case, field) for field in ("layer", "masks", "steps")},
        )
    ]
    parts += [_table(group, case, entries) for group, case, entries in groups]
    listed = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    parts.append(f"Python {platform.python_version()}; {listed}.\n")
    return "\n".join(parts)


def _disturbance(entries: Sequence[Entry]) -> str:
    """How far the times of the plain forward passes, which do the same each time, spread over the rounds."""
    spreads = [1.0]
    for entry in entries:
        if entry.job == PLAIN and len(entry.seconds) >= 4:
            low, _, high = statistics.quantiles(entry.seconds, n=4)
            spreads.append(high / low)
    sentence = f"The upper quartile of the plain forward passes is up to {max(spreads):.1f} times the lower one"
    if max(spreads) < 1.5:
        return f"{sentence}."
    busy = "the machine was busy, which slows torch most (its threads wait for each other)"
    return f"**{sentence}: {busy}. Read only the orders of magnitude.**"


def _table(group: Group, case: Case, entries: Sequence[Entry]) -> str:
    lines = [
        f"### {case.arch}: {', '.join(group.methods)}",
        "",
        f"{group.rounds} rounds after {group.warmup} to warm up.",
        "",
        "| method | package | ms | x plain | x ours | correlation | difference | remarks |",
        "|---|---|---|---|---|---|---|---|",
    ]
    plain = {entry.adapter: entry for entry in entries if entry.counterpart is None}
    for method in (None, *group.methods):
        rows = [entry for entry in entries if (entry.counterpart and entry.counterpart.method) == method]
        lines += [_row(entry, plain[entry.adapter], entries) for entry in rows]
    return "\n".join(lines) + "\n"


def _row(entry: Entry, plain: Entry, entries: Sequence[Entry]) -> str:
    counterpart = entry.counterpart
    title = adapter(entry.adapter).TITLE
    remarks = counterpart.note if counterpart else ""
    if counterpart is None:
        method = "plain forward"
    else:
        method = f"`{entry.job}`" if entry.adapter in OURS else f"{entry.job} (`{counterpart.ours}`)"
        if counterpart.ours not in METHODS:
            method = entry.job
    if entry.failed:
        return f"| {method} | {title} | - | - | - | - | - | failed: {entry.failed.replace('|', '/')} |"
    peers = [_ours(entry, name, entries) for name in OURS]
    ratios = "-"
    if entry.adapter not in OURS:
        ratios = " / ".join("-" if other is None else _factor(_ratio(entry, other)) for other in peers)
    correlation = difference = "-"
    reference = peers[0]
    if reference is not None and reference is not entry and reference.result is not None and entry.result is not None:
        scaled = counterpart is not None and counterpart.compare == "scaled"
        try:
            r, d = agreement(reference.result, entry.result, scaled)
            correlation = f"{r:.6f}" if r > 0.999 else f"{r:.3f}"
            if counterpart is None or counterpart.compare:
                difference = f"{d:.1e}" + (" (scaled)" if scaled else "")
        except ValueError as error:
            remarks = f"{remarks}; {error}"
    cells = (
        method,
        title,
        _ms(entry.seconds),
        "1" if entry.job == PLAIN else f"{_ratio(entry, plain):.2f}" if plain.seconds else "-",
        ratios if ratios != "- / -" else "-",
        correlation,
        difference,
        remarks,
    )
    return f"| {' | '.join(cells)} |"


def _ours(entry: Entry, name: str, entries: Sequence[Entry]) -> Entry | None:
    """Our entry on a runtime that this one is compared with."""
    wanted = PLAIN if entry.counterpart is None else entry.counterpart.ours
    matching = [e for e in entries if e.adapter == name and e.job == wanted and not e.failed]
    return matching[0] if matching else None


def _ratio(entry: Entry, other: Entry) -> float:
    return statistics.median(a / b for a, b in zip(entry.seconds, other.seconds, strict=True))


def _factor(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio >= 1 else f"**{ratio:.2f}**"


def _ms(seconds: Sequence[float]) -> str:
    """The median, and the quartiles if there are enough rounds for them."""

    def written(value: float) -> str:
        return f"{1e3 * value:.1f}" if value < 1 else f"{1e3 * value:.0f}"

    if len(seconds) < 4:
        return written(statistics.median(seconds))
    low, middle, high = statistics.quantiles(seconds, n=4)
    return f"{written(middle)} ({written(low)}-{written(high)})"
