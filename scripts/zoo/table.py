"""The journal -> the table of docs/zoo.md."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import measuring

from .cases import DISPUTED, EXPORTERS, Case

RUNTIMES = ("onnxruntime", "openvino")
GRADIENT = 1e-3
"""Largest difference from autograd, or along a direction from central differences, relative to the gradient."""
TIMES = 5.0
"""Times the distance of torch's own gradient in float32 from that in float64 which the bundle's may have. Both take the wrong side
of kinks that are nearer than rounding, but not of the same ones."""
APART = 1e-2
"""Largest difference of relevance between the runtimes, relative to its largest magnitude, and of what counts as conditioned."""
CLEAR = -0.3
"""Correlation of answers and distances that a map has to have, at most, to follow the image."""
ARRANGED = -0.45
"""The same with each cell at the place that suits it best, above which a map that does not follow shows no positions at all."""
FOLLOW, UNDECIDED, ELSEWHERE = "follow", "undecided", "elsewhere"

ALIKE = re.compile(r"\d+e[+-]\d+")
"""What a cell of relevance holds if the runtimes agree within `APART`."""
_WORDS = {"error": "not built", "torch": "torch", "refused": "refused", "crashed": "crashed"}

_HEAD = """# timm's and transformers' networks

One network of every timm family and of every transformers image classifier: the smallest, of 4 blocks if it takes their number,
with random weights and with the statistics of random images, at the smallest input that it takes. Each was written by a plain
`torch.onnx.export(network, (x,), file)`, by the exporter of torch that the row names, and exported from there without options for
the layer. Made by `scripts/check_zoo`; rows of one page may come from several runs.

- **layer**: what `auto` cuts at, K x h x w. **one**: the bundle takes one image at a time, because the file's batch is fixed.
- **gradient**: at the image, largest difference from torch autograd in float64, relative to the gradient's largest magnitude; the
  larger of ONNX Runtime's and OpenVINO's. *central*: autograd differs, and central differences in float64 agree with the bundle.
  *float32*: torch's own gradient in float32 differs from float64 as much (at least a fifth): rounding decides sides of kinks.
  *said*: so does the export, which measures on two runtimes how much of the largest value rounding decides. It counts as right only
  if neither runtime is right: if one is, the other computes the graph wrongly.
- **positions**: one of 5 x 5 patches of a grey image becomes noise; the correlation of the logarithm of each cell's change with
  its distance from the patch, the means of each cell and of each patch taken out. They follow the image if it is -0.3 or less and
  below that of the map turned, of the map mirrored, and of 99 % of its shuffles. *best*: the same with each cell at the place that
  suits it best; if this is above -0.45, too, all positions are *mixed*, and nothing can be said. Maps of fewer than 9 cells are not
  judged.
- **relevance**: largest difference between the runtimes, relative to the largest magnitude. *said*: the export says that rounding
  decides so much of it.
- **measured**: the day (UTC); rows without one are older.

"""


@dataclass(frozen=True)
class Row:
    """A row of the page, as text.

    Attributes:
        variant: Which network of the family.
        size: Of its images.
        cells: Layer, gradient, positions and relevance.
        measured: The day (UTC); "" in rows of earlier versions of the script.
    """

    variant: str
    size: str
    cells: Sequence[str]
    measured: str

    @property
    def exported(self) -> bool:
        """Whether there is a bundle."""
        return self.cells[0].startswith("`")


def line(result: Mapping[str, Any]) -> str:
    """One network in one line, for the terminal."""
    how = f"{result['name']} ({result.get('variant', '?')}, {result['exporter']}, {result.get('seconds', '?')} s)"
    return f"{how}: {' | '.join(_cells(result))}"


def of_result(result: Mapping[str, Any]) -> Row:
    """The row of a result of the journal."""
    return Row(result.get("variant", ""), str(result.get("side", "")), _cells(result), result["measured"])


def kept(page: str) -> dict[Case, Row]:
    """The rows of a page."""
    found, name, variant = {}, "", ""
    for text in page.splitlines():
        if not text.startswith("|") or (cells := measuring.cells(text))[2] not in EXPORTERS:
            continue
        if cells[0]:
            title, _, variant = cells[0].partition("<br>")
            name = title.replace(" ", ":", 1)
        found[name, cells[2]] = Row(variant, cells[1], cells[3:7], (*cells[7:], "")[0])
    return found


def page(results: Mapping[Case, Mapping[str, Any]], every: Sequence[str], before: str) -> str:
    """The page.

    Args:
        results: What is known.
        every: The names of all networks; those without a row are named.
        before: The page as it stands. Its rows stay where there is no result.
    """
    rows = kept(before) | {case: of_result(result) for case, result in results.items()}
    lines = ["| network | input | exporter | layer | gradient | positions | relevance | measured |", "|" + "-|" * 8]
    shown = ""
    for (name, exporter), row in sorted(rows.items()):
        title = f"{name.replace(':', ' ')}<br>{row.variant}" if name != shown else ""
        shown = name
        lines.append(f"| {' | '.join((title, row.size, exporter, *row.cells, row.measured))} |")
    missing = [name.replace(":", " ") for name in every if all(name != tried for tried, _ in rows)]
    rest = f"Not tried yet ({len(missing)} of {len(every)}): {', '.join(missing)}.\n\n" if missing else ""
    return _HEAD + _summary(rows) + "\n" + rest + "\n".join(lines) + "\n"


def _summary(rows: Mapping[Case, Row]) -> str:
    lines = []
    for exporter in EXPORTERS:
        ones = [row for (_, by), row in rows.items() if by == exporter]
        if not ones:
            continue
        done = [row.cells for row in ones if row.exported]
        by_torch = [row for row in ones if not row.cells[0].startswith(("torch: ", "not built: "))]
        places = [_followed(cells[2]) for cells in done]
        lines.append(
            f"{exporter}: {len(ones)} networks tried, {len(by_torch)} written by torch, {len(done)} exported "
            f"({sum(cells[0].endswith(', one') for cells in done)} for one image at a time), "
            f"gradient right in {sum(_right(cells[1]) for cells in done)}, positions followed in {places.count(FOLLOW)} "
            f"(mixed or too few cells in {places.count(UNDECIDED)}, not followed in {places.count(ELSEWHERE)}), "
            f"relevance alike on both runtimes in {sum(bool(ALIKE.fullmatch(cells[3])) for cells in done)}.\n"
        )
    return "\n".join(lines)


def _right(gradient: str) -> bool:
    """Whether a cell says that the gradient is right."""
    return gradient[:1].isdigit() and "**" not in gradient


def _followed(positions: str) -> str:
    """What a cell says of the positions; see `_place`."""
    if "**" in positions:
        return ELSEWHERE
    if "*mixed*" in positions or "too few" in positions:
        return UNDECIDED
    return FOLLOW if positions[:1].isdigit() or positions[:1] == "-" else ""


def gradient_right(one: Mapping[str, Any]) -> bool:
    """Whether the gradient agrees with autograd or central differences, as far as rounding lets torch's own in float32 do so."""
    found = one.get("gradient", {})
    if not found or "error" in found:
        return False
    right = [_runtime_right(found, name) for name in RUNTIMES]
    return all(right) or (not any(right) and _said(one, found))


def _said(one: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Whether the export says that rounding decides as much of the gradient as it differs by."""
    said = one.get("rounding", {}).get("input-gradient", 0)
    return all(found[name] <= TIMES * said for name in RUNTIMES)


def _runtime_right(found: Mapping[str, Any], runtime: str) -> bool:
    near = found[runtime] <= max(DISPUTED, TIMES * found.get("float32", 0))
    return bool(near or found.get(f"central_{runtime}", 1) <= GRADIENT)


def _cells(result: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Layer, gradient, positions, relevance; or why there is none."""
    for key in ("error", "torch", "refused", "crashed"):
        if key in result:
            return _clean(f"{_WORDS[key]}: {result[key]}"), "", "", ""
    if "cut" not in result:
        return _clean(f"{result.get('stopped', '?')} ({result['step']})"), "", "", ""
    layer = f"`{result['cut']}` {' x '.join(map(str, result['shape']))}" + (", one" if result["one_because"] else "")
    return _clean(layer), _gradient(result), _positions(result), _relevance(result)


def _gradient(one: Mapping[str, Any]) -> str:
    found = one.get("gradient", {})
    if "error" in found or not found:
        return _clean(one.get("without") or found.get("error", one.get("stopped", "not reached")))
    worst = max(found[name] for name in RUNTIMES)
    if worst <= DISPUTED:
        return f"{worst:.0e}"
    ours, autograd = max(found[f"central_{name}"] for name in RUNTIMES), found["central_autograd"]
    how = "*central*" if gradient_right(one) else "**wrong**"
    if worst <= TIMES * found.get("float32", 0):
        return f"{worst:.0e}, *float32*: torch's {found['float32']:.0e}"
    if gradient_right(one) and _said(one, found):
        return f"{worst:.0e}, *said*: {one['rounding']['input-gradient']:.0e}"
    return f"{worst:.0e}, {how}: {ours:.0e}, autograd {autograd:.0e}"


def _place(one: Mapping[str, Any]) -> str:
    """Whether a map's cells follow the image: `FOLLOW`, `UNDECIDED`, `ELSEWHERE`, or "" if it was not looked at."""
    found = one.get("positions", {})
    if "own" not in found:
        return UNDECIDED if "too few" in found.get("error", "") else ""
    if found["own"] <= min(CLEAR, found["turned"], found["shuffled"]):
        return FOLLOW
    return ELSEWHERE if found["turned"] <= CLEAR or found["best"] <= ARRANGED else UNDECIDED


def _positions(one: Mapping[str, Any]) -> str:
    found, place = one.get("positions", {}), _place(one)
    if "own" in found:
        text = f"{found['own']:.2f}" + ("" if place == FOLLOW else f", *best* {found['best']:.2f}")
    else:
        return _clean(found.get("error", one.get("stopped", "not reached")))
    return f"**{text}**" if place == ELSEWHERE else text + (", *mixed*" if place == UNDECIDED else "")


def _relevance(one: Mapping[str, Any]) -> str:
    found = one.get("relevance", {})
    if "error" in found or not found:
        return _clean(found.get("error", one.get("stopped", "not reached")))
    if not found["finite"]:
        return "**not finite**"
    if found["differ"] <= APART:
        return f"{found['differ']:.0e}"
    said = one.get("rounding", {}).get(found["role"], 0)
    if found["differ"] <= TIMES * said:
        return f"{found['differ']:.0e}, *said*: {said:.0e}"
    return f"**{found['differ']:.0e}**"


def _clean(text: str) -> str:
    return re.sub(r"\x1b\[\d+m", "", text).replace("|", "/").replace("\n", " ")[:220]
