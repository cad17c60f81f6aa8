"""The scripts in examples/ run as they stand."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from xai_deploy import Explainer, read_image, write_image

from .evaluation import nets

LABELS = ("cat", "dog", "owl", "elk", "emu")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: `net.xai` and `photos` of three images."""
    monkeypatch.chdir(tmp_path)
    nets.write(tmp_path / "net.xai", labels=LABELS)
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        pixels = rng.integers(0, 256, (nets.HEIGHT, nets.WIDTH, 3), dtype=np.uint8)
        write_image(tmp_path / "photos" / f"{number}.png", pixels)
    return tmp_path


def run(script: Path, *arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(script), *arguments])
        runpy.run_path(str(script), run_name="__main__")


def test_each_script_has_a_test(root: Path) -> None:
    assert sorted(path.name for path in (root / "examples").glob("*.py")) == ["evaluate.py", "explain.py"]


def test_evaluate(root: Path, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(root / "examples" / "evaluate.py", "net.xai", "photos", "scores")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    results = json.loads(Path("scores/results.json").read_bytes())["results"]
    printed = {(method, name): float(mean) for method, name, mean, _, _ in lines}
    assert printed == {(r["method"], name): f["mean"] for r in results for name, f in r["figures"].items()}
    assert {method for method, _ in printed} == {"reciprocam", "reciprocam+score=softmax"}
    assert Path("scores/report.html").is_file()


def test_explain(root: Path, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(root / "examples" / "explain.py", "net.xai", "photos/1.png", "overlay.png")
    found = json.loads(capsys.readouterr().out)
    best = int(Explainer("net.xai").predict(read_image("photos/1.png")).argmax())
    assert found["explanation"]["target"] == found["prediction"][0]["class"] == best
    assert found["explanation"]["label"] == LABELS[best]
    assert found["explanation"]["overlay"] == "overlay.png"
    assert read_image("overlay.png").shape == (nets.HEIGHT, nets.WIDTH, 3)
