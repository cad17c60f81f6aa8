"""xai-check against a recording, where the reference can't run."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from xai_deploy import Explainer
from xai_deploy.cli.check import main

from .running import Capture, bad, figures, record


def test_a_recording_stands_for_its_network(here: Path, backend: str, capsys: Capture) -> None:
    arguments = ["--record", "ref.npz", "net.xai", "photos", "-m", "grad-cam,reciprocam:score=softmax"]
    assert main([*arguments, "--reference-backend", backend]) == 0
    assert capsys.readouterr() == ("4 images recorded in ref.npz\n", "")
    by_recording = figures("ref.npz", "near.xai", "photos")
    header = Explainer("net.xai", backend)
    report = json.loads(Path("report.json").read_text())
    assert report["reference"] == {
        "name": header.bundle.manifest.name,
        "digest": header.bundle.manifest.digest,
        "layer": "r2",
        "runtime": f"{backend} on cpu, f32",
    }
    assert list(report["methods"]) == ["grad-cam", "reciprocam+score=softmax"]
    assert [image["image"] for image in report["images"]] == [f"{i}.png" for i in range(4)]
    methods = ["-m", "grad-cam,reciprocam:score=softmax"]
    by_bundle = figures("net.xai", "near.xai", "photos", *methods, "--reference-backend", backend)
    assert list(by_bundle) == list(by_recording)
    for name, figure in by_bundle.items():
        assert figure["value"] == pytest.approx(by_recording[name]["value"], abs=1e-6)
    shutil.copytree("photos", "elsewhere")
    chosen = figures("ref.npz", "near.xai", "elsewhere/3.png", "elsewhere/1.png", "-m", "grad-cam")
    assert list(chosen) == ["top-1 agreement", "probability difference", *list(by_recording)[2:4]]


def test_a_recording_finds_the_wrong_network(here: Path) -> None:
    record("net.xai", "photos")
    figures("ref.npz", "far.xai", "photos", status=1)


def test_recorded_methods_without_graphs_are_left_out(here: Path, capsys: Capture) -> None:
    record("net.xai", "photos")
    assert main(["ref.npz", "forward.xai", "photos"]) == 0
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        f"xai-check: warning: {method}: recorded, but the deployed network's bundle has no graph for it; left out"
        for method in ("grad-cam", "relevance-cam")
    ]
    assert "reciprocam: rank correlation" in captured.out
    assert "grad-cam" not in captured.out
    assert "grad-cam: this bundle has no 'gradient' graph" in bad(
        ["ref.npz", "forward.xai", "photos", "-m", "grad-cam"], capsys
    )
    record("net.xai", "photos", "-m", "grad-cam", "--overwrite")
    message = bad(["ref.npz", "forward.xai", "photos", "-q"], capsys)
    assert message.startswith("grad-cam: this bundle has no 'gradient' graph; ")


def test_a_recording_is_replaced_when_asked_for(here: Path, capsys: Capture) -> None:
    record("net.xai", "photos")
    before = Path("ref.npz").read_bytes()
    message = bad(["--record", "ref.npz", "far.xai", "photos"], capsys)
    assert message == "ref.npz: exists; choose another name, or give --overwrite"
    assert Path("ref.npz").read_bytes() == before
    record("far.xai", "photos", "--overwrite")
    figures("ref.npz", "far.xai", "photos", "--min-correlation", "1")
    assert {path.name for path in here.glob("*ref*")} == {"ref.npz"}
    assert not list(here.glob(".*"))


def test_nothing_is_left_of_a_recording_that_fails(here: Path, capsys: Capture) -> None:
    Path("photos/9.png").write_bytes(Path("photos/1.png").read_bytes()[:-20])
    assert "photos/9.png: the image is truncated or damaged" in bad(
        ["--record", "ref.npz", "net.xai", "photos"], capsys
    )
    assert not list(here.glob("*.npz*"))
    assert not list(here.glob(".*"))


def test_another_image_under_a_recorded_name(here: Path, capsys: Capture) -> None:
    record("net.xai", "photos")
    os.replace("photos/1.png", "photos/0.png")
    message = bad(["ref.npz", "net.xai", "photos/0.png"], capsys)
    assert message.startswith("0.png: its pixels differ from those recorded under this name; give the same file")
    os.replace("photos/2.png", "photos/two.png")
    message = bad(["ref.npz", "net.xai", "photos/two.png"], capsys)
    assert message == "two.png: not among the 4 images that were recorded; record it too"
