"""What `scripts/check_fused` computes and writes, and one true run of its worker."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

OUTPUTS = {"case": {"logits": np.array([[1, -4]], np.float32)}}
MAP = np.array([[[0, 1], [0.5, 0.25]]], np.float32)

Load = Callable[[str], ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, root: Path) -> Load:
    """Imports a module of the script."""
    monkeypatch.syspath_prepend(root / "scripts")
    return lambda name: importlib.import_module(f"runtimes.{name}")


@pytest.fixture
def row(load: Load, tmp_path: Path) -> Any:
    """A row of one case."""
    return load("rows").Row("x", tmp_path / "x.onnx", tmp_path, OUTPUTS, {"case": [MAP, MAP]}, 0.0)


def test_map_is_compared_with_the_nearer_backend_image_by_image(load: Load) -> None:
    one, other = np.zeros((2, 2, 2), np.float32), np.full((2, 2, 2), 0.5, np.float32)
    found = np.stack([one[0] + np.float32(0.125), other[0] - np.float32(0.0625)])
    assert load("measure").of_map(found, [one, other]) == 0.125
    assert load("measure").of_map(found, [one]) == 0.4375


def test_eight_bit_map_may_round(load: Load) -> None:
    expected = np.array([[[0, 0.5, 1]]], np.float32)  # 127.5 of 255
    for value, excess in ((127, 0), (128, 0), (129, 1), (126, 1)):
        found = np.array([[[0, value, 255]]], np.uint8)
        assert load("measure").of_map(found, [expected]) == excess / 255


def test_output_in_parts_of_its_largest_magnitude(load: Load) -> None:
    assert load("measure").of_output(np.array([[1.5, -4]]), np.array([[1, -4]])) == 0.125


def test_compare_takes_the_worst(load: Load, row: Any, tmp_path: Path) -> None:
    good = {"logits": OUTPUTS["case"]["logits"], "saliency_map": MAP}
    save_file(good, tmp_path / "case.safetensors")
    assert load("measure").compare(row, tmp_path, 1e-5).difference == 0
    save_file({**good, "logits": good["logits"] + np.float32(2)}, tmp_path / "case.safetensors")
    cell = load("measure").compare(row, tmp_path, 1e-5)
    assert cell.difference == 0.5
    assert cell.wrong
    assert not load("measure").compare(row, tmp_path, 0.5).wrong


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"logits": None}, "case: no output 'logits'"),
        ({"saliency_map": np.zeros((1, 4), np.float32)}, "case: 'saliency_map' has shape [1, 4], not [1, 2, 2]"),
        ({"saliency_map": np.full((1, 2, 2), np.nan, np.float32)}, "case: 'saliency_map' holds NaN or infinity"),
    ],
)
def test_compare_says_why_not(load: Load, row: Any, tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    found = {"logits": OUTPUTS["case"]["logits"], "saliency_map": MAP, **change}
    save_file({k: v for k, v in found.items() if v is not None}, tmp_path / "case.safetensors")
    cell = load("measure").compare(row, tmp_path, 1e-5)
    assert cell.failed == reason
    assert not cell.wrong  # it is told as a reason, not as a difference


def test_compare_tells_the_runtimes_own_words(load: Load, row: Any, tmp_path: Path) -> None:
    message = "RuntimeError: \x1b[31mno kernel\n  for Abs | in /opt/some/where/abs.cc:12\x1b[0m"
    (tmp_path / "case.error").write_text(message, encoding="utf-8")
    cell = load("measure").compare(row, tmp_path, 1e-5)
    assert cell.failed == "case: RuntimeError: no kernel for Abs / in .../abs.cc:12"
    assert len(load("measure").shortened("word " * 100)) == 200


def test_table(load: Load, tmp_path: Path) -> None:
    Cell, Runtime = load("measure").Cell, load("environments").Runtime
    runtimes = [Runtime("a", "A"), Runtime("b", "B"), Runtime("c", "C", missing="no wheel")]
    gone = Cell(failed="not installed: no wheel")
    rows = {
        "`cam`": [Cell(2e-6, 1e-5, version="1.0"), Cell(3e-4, 1e-4, version="2.0"), gone],
        "`gradient`": [Cell(2e-6, 0.5), Cell(3e-4, 0.5), gone],
        "`lrp`": [Cell(0.0, 1e-5), Cell(failed="case: no Abs"), gone],
    }
    made = load("table").Table(
        "Net", rows, {"`cam`": 0.0, "`gradient`": 0.5, "`lrp`": 5e-7}, {"score-cam": "too many channels"}
    )
    text = load("table").compose("scripts/check_fused", "2000-01-01", runtimes, [made])
    assert text.splitlines() == [
        "Written by `scripts/check_fused`, 2000-01-01: A 1.0, B 2.0, C not installed.",
        "",
        "### Net",
        "",
        "| | A | B | C | engine moves |",
        "|---|---|---|---|---|",
        "| `cam` | 2e-06 | **3e-04** | no (1) | 0 |",
        "| `gradient` | 2e-06 | (3e-04) | no (1) | 5e-01 |",
        "| `lrp` | 0 | no (2) | no (1) | 5e-07 |",
        "",
        "`score-cam` is left out: too many channels.",
        "",
        "### Why not",
        "",
        "1. C: not installed: no wheel",
        "2. B: case: no Abs",
    ]
    page = tmp_path / "page.md"
    page.write_text("# Title\n<!-- check_fused -->\nold\n<!-- /check_fused -->\nafter\n", encoding="utf-8")
    load("table").write(page, "new\n")
    assert page.read_text(encoding="utf-8") == ("# Title\n<!-- check_fused -->\nnew\n<!-- /check_fused -->\nafter\n")


def test_runtime_without_its_tools_says_so(load: Load, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environments = load("environments")
    monkeypatch.setattr(environments.shutil, "which", lambda name: None)
    runtime = environments.prepare("onnxruntime_web", tmp_path)
    assert (runtime.title, runtime.missing) == ("onnxruntime-web", "node or npm is missing")
    cell = load("measure").run(runtime, None, 1)
    assert cell.failed == "not installed: node or npm is missing"


def test_worker_runs_a_file(load: Load, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    networks, rows, measure = load("networks"), load("rows"), load("measure")
    small = networks.networks(tmp_path)[2]
    monkeypatch.setattr(rows, "fused", ["grad-cam"])
    [row] = rows.method_rows(small, tmp_path)
    assert sorted(row.maps) == ["batch1-given", "batch1-predicted", "batch3-given", "batch3-predicted"]
    command = (sys.executable, "-m", "runtimes.worker", "onnxruntime")
    runtime = load("environments").Runtime("onnxruntime", "onnxruntime", command)
    cell = measure.run(runtime, row, 60)
    assert (cell.failed, cell.tolerance) == ("", 1e-5)
    assert cell.version
    assert cell.difference < 1e-5
    assert 0 < row.moves < 1e-4
    # a mirrored map is another one: the comparison sees it
    maps = {case: [one[..., ::-1] for one in both] for case, both in row.maps.items()}
    assert measure.run(runtime, replace(row, maps=maps), 60).wrong
    assert measure.run(runtime, replace(row, moves=0.5), 60).tolerance == 0.5
    assert measure.run(runtime, row, 0.01).failed == "it takes more than 0 s"
