"""How many ONNX files each package opens and explains, and gradient graphs beside onnx-ad's: the rows and the table."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import measuring
import numpy as np

from . import files
from .counterpart import TORCH
from .opening import MARKER, SAME

PACKAGES = {"ours": "xai-deploy", "onnx2torch": "onnx2torch, pytorch-grad-cam", "onnx_ad": "onnx-ad"}
REQUIREMENTS = {
    "onnx2torch": (*TORCH, "onnx2torch==1.5.15", "grad-cam==1.5.7"),
    "onnx_ad": ("onnx-ad==0.3.0", "onnxruntime==1.31.1"),
}
BEGIN, END = "<!-- bench_files -->", "<!-- /bench_files -->"
SECONDS, GIGABYTES = 240.0, 6.0
"""Processor time and memory that a package gets for one file."""
ROUNDS = 7
SCRIPTS = Path(__file__).resolve().parents[1]
PATHS = {"ours": f"{SCRIPTS}:{files.ROOT}:{files.ROOT / 'exporters'}"}
Row = dict[str, Any]


def measure(name: str, pythons: Mapping[str, Path | str]) -> Row:
    """What each package makes of one file."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        file = files.obtain(name, folder)
        if file is None:
            return {"name": name, "absent": "needs XAI_TEST_DATA"}
        row: Row = {"name": name, "bytes": file.stat().st_size}
        try:
            _reference(file, folder)
        except Exception as error:  # ONNX Runtime's own, undocumented types
            return {**row, "absent": f"ONNX Runtime: {' '.join(str(error).split())[:120]}"}
        for package in PACKAGES:
            python = pythons.get(package, Path(sys.executable))
            if isinstance(python, str):
                row[package] = {"opened": False, "explained": False, "said": f"not installed: {python}"}
                continue
            paths = f"PYTHONPATH={PATHS.get(package, SCRIPTS)}"
            command = [
                "env",
                paths,
                "OMP_NUM_THREADS=1",
                str(python),
                "-m",
                "peers.opening",
                package,
                str(file),
                scratch,
            ]
            facts = measuring.run(command, MARKER, SECONDS, GIGABYTES)
            row[package] = (
                {"opened": False, "explained": False, "said": facts["reason"]} if "reason" in facts else facts
            )
        ours, theirs = folder / "ours.onnx", folder / "onnx_ad.onnx"
        if row["onnx_ad"]["explained"] and ours.exists():
            row |= beside(file, ours, theirs, folder)
        return row


def _reference(file: Path, folder: Path) -> None:
    """Keep what the packages are given, and what ONNX Runtime gives for it: the file's first output of floats."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    x = files.given(file)
    results = session.run(None, {session.get_inputs()[0].name: x})
    np.save(folder / "input.npy", x)
    np.save(folder / "output.npy", next((one for one in results if one.dtype.kind == "f"), results[0]))


def beside(file: Path, ours: Path, theirs: Path, folder: Path) -> Row:
    """Two gradient graphs and the plain file on ONNX Runtime, one thread, in turn.

    Returns:
        "ours_ms", "theirs_ms", "plain_ms": medians; "ratio": theirs over ours. "ours_off" and "theirs_off": how far
        the gradient of the largest output is from torch's of the converted network, as a share of the largest value; only if there
        is one, and if ours differentiates the file's own output.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = {
        key: onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for key, path in {"plain": file, "ours": ours, "theirs": theirs}.items()
    }
    x, output = np.load(folder / "input.npy"), np.load(folder / "output.npy")
    image = sessions["plain"].get_inputs()[0].name
    seed = np.zeros((*output.shape, 1), output.dtype)
    seed.reshape(-1)[int(output.argmax())] = 1
    adjoint = next(port.name for port in sessions["theirs"].get_inputs() if port.name.startswith("adj_"))
    scores = sessions["ours"].get_inputs()[-1].shape[-1]
    feeds = {
        "plain": {image: x},
        "theirs": {image: x, adjoint: seed},
        "ours": {
            image: x,
            "target": np.zeros(1, np.int64) + int(output.argmax()),
            "seed": np.zeros((1, scores), np.float32),
        },
    }
    known = {port.name for port in sessions["ours"].get_inputs()}
    if known != set(feeds["ours"]) or output.ndim != 2 or output.shape[-1] != scores:
        return {}
    times: dict[str, list[float]] = {key: [] for key in sessions}
    results: dict[str, Any] = {}
    for number in range(ROUNDS + 2):
        for key, session in sessions.items():
            began = time.process_time()
            results[key] = session.run(None, feeds[key])
            if number >= 2:
                times[key].append(1e3 * (time.process_time() - began))
    row = {f"{key}_ms": statistics.median(values) for key, values in times.items()}
    row["ratio"] = statistics.median(b / a for a, b in zip(times["ours"], times["theirs"], strict=True))
    logits, gradient = (results["ours"][i] for i in _places(sessions["ours"], "logits", "gradient"))
    if not (folder / "torch.npy").exists():
        return row
    wanted = np.load(folder / "torch.npy")
    if np.allclose(logits, output, rtol=1e-3, atol=1e-3 * float(np.abs(output).max())):
        for key, own in (("ours_off", gradient), ("theirs_off", np.load(folder / "onnx_ad.npy"))):
            row[key] = float(np.abs(own - wanted).max() / np.abs(wanted).max())
    return row


def _places(session: Any, *names: str) -> list[int]:
    outputs = [port.name for port in session.get_outputs()]
    return [outputs.index(name) for name in names]


def table(rows: Sequence[Row], command: str, versions: str) -> str:
    """The section of the page."""
    there = [row for row in rows if "absent" not in row]

    def count(package: str, what: str) -> int:
        return sum(bool(row[package][what]) for row in there)

    both = [row for row in there if "ratio" in row]
    lines = [
        "## Beside a conversion to torch, and beside onnx-ad",
        "",
        f"Written by `{command}` ({versions}). {len(there)} ONNX files: trained ones of XAI_TEST_DATA, exports of torchvision "
        "and timm with random weights (torch's exporter, an open batch). Each package gets the file as it is, with "
        f"{SECONDS:.0f} s of processor time and {GIGABYTES:.0f} GB.",
        "",
        "| | opens | explains |",
        "|-|-|-|",
        "| xai-deploy: `xai-export`, then Grad-CAM, or the first quick method where it is not defined | "
        f"{count('ours', 'opened')} | {count('ours', 'explained')} |",
        f"| onnx2torch: the same output to {SAME:g}; pytorch-grad-cam's GradCAM at the last convolution over positions | "
        f"{count('onnx2torch', 'opened')} | {count('onnx2torch', 'explained')} |",
        f"| onnx-ad: a gradient graph to the image that runs on ONNX Runtime (sizes fixed) | {count('onnx_ad', 'opened')} | "
        f"{count('onnx_ad', 'explained')} |",
        "",
        "A map that is the same everywhere is none. `off`: how far the gradient of the largest output, ours and onnx-ad's, is from "
        "torch's of the network that onnx2torch made, as a share of the largest value (where ours differentiates the file's own "
        "output, not logits before a softmax). `time`: onnx-ad's gradient graph over ours, processor time on ONNX Runtime, one "
        f"thread, {ROUNDS} rounds in turn.",
        "",
        "| file | xai-deploy | onnx2torch, pytorch-grad-cam | onnx-ad | nodes: ours | onnx-ad | time | off: ours | onnx-ad |",
        "|-|-|-|-|-|-|-|-|-|",
        *(_line(row) for row in there),
    ]
    if both:
        ratios = sorted(row["ratio"] for row in both)
        lines += [
            "",
            f"Of the {len(both)} networks that both differentiate, onnx-ad's graph takes {statistics.median(ratios):.2f} times "
            f"ours (median; {ratios[0]:.2f} to {ratios[-1]:.2f}).",
        ]
    absent = [f"{row['name']} ({row['absent']})" for row in rows if "absent" in row]
    if absent:
        lines += ["", f"Not measured: {'; '.join(absent)}."]
    return "\n".join([*lines, ""])


def _line(row: Row) -> str:
    cells = [row["name"].rpartition("/")[2], *(_cell(row[package]) for package in PACKAGES)]
    cells += [str(row[package].get("nodes", "")) for package in ("ours", "onnx_ad")]
    cells.append(f"{row['ratio']:.2f}" if "ratio" in row else "")
    cells += [f"{row[key]:.0e}" if key in row else "" for key in ("ours_off", "theirs_off")]
    return f"| {' | '.join(cells)} |"


def _cell(facts: Mapping[str, Any]) -> str:
    said = str(facts["said"]).replace("|", "/").replace("<", "&lt;")
    if facts["explained"]:
        method = facts.get("method", "")
        return "yes" if method in ("", "grad-cam") else f"yes, {method}"
    return f"{'opens; ' if facts['opened'] else '**no**: '}{said[:110]}"


def write(page: Path, text: str) -> None:
    """Put the section between its markers, or append it."""
    before, marker, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2] if marker else "\n"
    page.write_text(
        f"{before if marker else before.rstrip() + chr(10) * 2}{BEGIN}\n{text}{END}{after}", encoding="utf-8"
    )


def run(names: Sequence[str], journal: Path, pythons: Mapping[str, Path | str], again: bool) -> list[Row]:
    """Measure the files that the journal does not hold; the rows of all of them."""
    known = measuring.read(journal, lambda result: result["name"])
    for name in names:
        if name not in known or again:
            known[name] = measuring.keep(journal, measure(name, pythons))
            print(json.dumps(known[name]), file=sys.stderr, flush=True)
    return [known[name] for name in names]
