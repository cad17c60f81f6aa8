"""Transparent images: said once for a run, and for each image in results.json."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xai_deploy import read_image
from xai_deploy.cli import explain

from .. import tiny


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    tiny.write(tmp_path / "net.xai")
    rgba = np.random.default_rng(0).integers(0, 256, (20, 24, 4), np.uint8)
    for name, alpha in (("a", 255), ("b", 0), ("c", 128), ("d", 255)):
        rgba[..., 3] = alpha
        Image.fromarray(rgba).save(f"{name}.png")
    return tmp_path


def test_said_once_and_in_the_report(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["a.png", "b.png", "c.png", "d.png"]
    assert explain.main(["net.xai", *files, "-o", "out"]) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "transparent" in line]
    assert warnings == [
        "xai-explain: warning: b.png: transparent in places; the transparency is ignored and the stored colours are used "
        "(so for all transparent images of this run)"
    ]
    images = json.loads(Path("out/results.json").read_text())["images"]
    assert {image["file"]: image["transparent"] for image in images} == {
        "a.png": False, "b.png": True, "c.png": True, "d.png": False,
    }  # fmt: skip


def test_said_for_each_from_python(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("b.png", "c.png", "a.png"):
        read_image(name)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["b.png", "c.png"]
