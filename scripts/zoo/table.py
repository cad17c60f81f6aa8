"""The journal -> the table of docs/zoo.md."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from . import checks
from .runner import EXPORTERS, Case

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
FOLLOWED = 8
"""Of 9 places of a patch, those that the cell which changes most has to follow, in rows of the earlier check."""

FOLLOW, UNDECIDED, ELSEWHERE = "follow", "undecided", "elsewhere"

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
  judged. **n of 9**: rows of the earlier check, which moved one patch to 9 places and counted how often the cell that changes most
  lay at the patch or beside it. It missed right maps: cells that answer more to every patch won (those at a zero-padded border),
  and what changes all cells hid the patch (squeeze and excitation, norms over positions).
- **drawn**: the statistics were drawn too, as an earlier version of the script did. Through some such networks no signal passes
  (gradients of 1e-14), and others are chaotic (ConvMixer: gradients of 1e4); every cell then answers alike.
- **relevance**: largest difference between the runtimes, relative to the largest magnitude. *said*: the export says that rounding
  decides so much of it.

"""


def line(result: Mapping[str, Any]) -> str:
    """One network in one line, for the terminal."""
    how = f"{result['name']} ({result.get('variant', '?')}, {result['exporter']}, {result.get('seconds', '?')} s)"
    return f"{how}: {' | '.join(_cells(result))}"


def page(results: Mapping[Case, Mapping[str, Any]], every: Sequence[str]) -> str:
    """The page.

    Args:
        results: What is known.
        every: The names of all networks; those without a result are named.
    """
    rows = ["| network | input | exporter | layer | gradient | positions | relevance |", "|-|-|-|-|-|-|-|"]
    shown = ""
    for (name, exporter), result in sorted(results.items()):
        title = f"{name.replace(':', ' ')}<br>{result.get('variant', '')}" if name != shown else ""
        shown = name
        size = f"{result.get('side', '')}{'' if result.get('fitted') or 'side' not in result else ', drawn'}"
        rows.append(f"| {' | '.join((title, size, exporter, *_cells(result)))} |")
    missing = [name.replace(":", " ") for name in every if all(name != tried for tried, _ in results)]
    rest = f"Not tried yet ({len(missing)} of {len(every)}): {', '.join(missing)}.\n\n" if missing else ""
    return _HEAD + _summary(list(results.values())) + "\n" + rest + "\n".join(rows) + "\n"


def _summary(results: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for exporter in EXPORTERS:
        ones = [one for one in results if one["exporter"] == exporter]
        if not ones:
            continue
        by_torch = [one for one in ones if "error" not in one and "torch" not in one]
        done = [one for one in by_torch if "cut" in one]
        right = [one for one in done if gradient_right(one)]
        places = [_place(one) for one in done]
        relevance = [one for one in done if one.get("relevance", {}).get("differ", 99) <= APART]
        single = [one for one in done if one["one_because"]]
        lines.append(
            f"{exporter}: {len(ones)} networks tried, {len(by_torch)} written by torch, {len(done)} exported ({len(single)} for "
            f"one image at a time), gradient right in {len(right)}, positions followed in {places.count(FOLLOW)} "
            f"(mixed or too few cells in {places.count(UNDECIDED)}, not followed in {places.count(ELSEWHERE)}), "
            f"relevance alike on both runtimes in {len(relevance)}.\n"
        )
    return "\n".join(lines)


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
    near = found[runtime] <= max(checks.DISPUTED, TIMES * found.get("float32", 0))
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
    if worst <= checks.DISPUTED:
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
    if "followed" in found:
        return FOLLOW if found["followed"] >= FOLLOWED else ELSEWHERE
    if "own" not in found:
        return UNDECIDED if "too few" in found.get("error", "") else ""
    if found["own"] <= min(CLEAR, found["turned"], found["shuffled"]):
        return FOLLOW
    return ELSEWHERE if found["turned"] <= CLEAR or found["best"] <= ARRANGED else UNDECIDED


def _positions(one: Mapping[str, Any]) -> str:
    found, place = one.get("positions", {}), _place(one)
    if "followed" in found:
        text = f"{found['followed']} of {found['of']}"
    elif "own" in found:
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
