"""What xai-evaluate refuses, and in which words; above all a folder that another evaluation has."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from xai_deploy.evaluation import session

from . import nets
from .conftest import Refused, Run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.xai"], "none.xai: no such folder; a bundle is a folder written by xai-export"),
        (["photos"], "photos: is a folder of images; a bundle or a model file comes first"),
        (["net.xai", "-m", "gradcam"], "no method 'gradcam'"),
        (["net.xai", "-m", "reciprocam,"], "no method ''"),
        (["net.xai", "-m", "reciprocam:mask=circle"], "reciprocam.mask: expected one of 'pixel'"),
        (["net.xai", "-m", "grad-cam"], "grad-cam: this bundle has no 'gradient' graph"),
        (["net.xai", "--metrics", "droop"], "no metric 'droop'"),
        (["net.xai", "--metrics", "deletion:steps=0"], 'deletion: steps are at least 1, or "cells", not 0'),
        (["net.xai", "--metrics", "deletion:step=3"], "deletion: no option 'step'; it has steps, baseline"),
        (["net.xai", "--metrics", "complexity:x=1"], "complexity: no option 'x'; it has none"),
        (
            ["net.xai", "--metrics", "deletion,deletion:steps=9"],
            "deletion: given twice, but results hold a metric's columns only once",
        ),
        (["net.xai", "--metrics", "iou"], "iou: needs boxes; give --boxes, or leave this metric out"),
        (["net.xai", "--metrics", "segmentation"], "segmentation: needs masks; give --masks, or leave this metric out"),
        (["net.xai", "--metrics", "segmentation", "--boxes", "boxes.csv"], "segmentation: needs masks"),
        (["net.xai", "--boxes", "none.json"], "none.json: no such file or folder"),
        (["net.xai", "--masks", "none"], "none: not a folder; give the folder of the masks"),
        (["net.xai", "-t", "5"], "class 5 does not exist; the network has classes 0 to 4"),
        (["net.xai", "-t", "owls"], "no label 'owls'; the nearest are 'owl'"),
        (["net.xai", "plain.xai", "-t", "owl"], "plain: label 'owl': this bundle has no labels"),
        (["net.xai", "-t", "top3"], "target 'top3': a metric takes one class; give its index or its label"),
        (["net.xai", "-t", "top1"], "target 'top1': a metric takes one class"),
        (["net.xai", "-t", "cat vs dog"], "target 'cat vs dog': a metric takes one class"),
        (["net.xai", "-t", "2 vs -1"], "target '2 vs -1': a metric takes one class"),
        (["net.xai", "-o", "boxes.csv"], "boxes.csv: is a file; give a folder for the results"),
        (["net.xai", "-o", "boxes.csv", "--overwrite"], "boxes.csv: is a file; give a folder for the results"),
        (["net.xai", "-o", "boxes.csv/x"], "boxes.csv: is a file; give a folder for the results"),
        (["net.xai", "-b", "onnxruntime,"], "no backend ''"),
        (["net.xai", "-b", "tensorrt"], "no backend 'tensorrt'"),
        (["net.xai", "-d", "npu"], "this ONNX Runtime has no device 'npu'"),
        (["net.xai", "--precision", "bf16"], "computes in f32, not 'bf16'"),
        (["net.xai", "--limit", "0"], "argument --limit: at least 1, not 0"),
        (["net.xai", "--seed", "-1", "--limit", "2"], "argument --seed: at least 0, not -1"),
        (["net.xai", "--boxes-of", "none"], "argument --boxes-of: invalid choice: 'none'"),
        ([], "give BUNDLE and DIR, the folder of images"),
        (["one.xai", "--metrics", "class-sensitivity"], "class-sensitivity: the network has a single class"),
        (
            ["one.xai", "--metrics", "average-drop"],
            "the network has a single output that is not a probability; leave out",
        ),
    ],
)
def test_refused(desk: Path, refused: Refused, arguments: list[str], message: str) -> None:
    nets.write(desk / "plain.xai", 1)
    nets.write(desk / "one.xai", classes=1, activation="none")
    Path("boxes.csv").write_text("image,left,top,right,bottom\n0000.png,2,2,12,12\n")
    assert message in refused(*arguments)
    assert not Path("xai-evaluation").exists()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("nowhere", "nowhere: no such folder"),
        ("net.xai", "net.xai: is a bundle, not an image; a bundle or a model file comes first"),
        ("boxes.csv", "boxes.csv: a file; give the folder of the images"),
    ],
)
def test_refused_images(desk: Path, refused: Refused, images: str, message: str) -> None:
    Path("boxes.csv").write_text("image,left,top,right,bottom\n0000.png,2,2,12,12\n")
    assert message in refused("net.xai", images=images)
    assert not Path("xai-evaluation").exists()


def test_another_evaluation_in_the_folder(desk: Path, run: Run, refused: Refused) -> None:
    """Told what differs, and nothing is lost; nor by an --overwrite that fails."""
    run(out="scores")
    before = {path.name: path.read_bytes() for path in Path("scores").iterdir()}
    same = ("net.xai", "--metrics", "complexity")
    other = nets.write(desk / "other" / "net.xai", 7)
    shutil.copytree("photos", "copied")
    Path("boxes.csv").write_text("image,left,top,right,bottom\n0000.png,2,2,12,12\n")
    for more, what in [
        (("net.xai", "--metrics", "average-drop"), "metrics"),
        ((str(other), "--metrics", "complexity"), "networks"),
        ((*same, "-m", "score-cam"), "methods"),
        ((*same, "-t", "3"), "target"),
        ((*same, "-b", "openvino"), "networks"),
        ((*same, "--batch-size", "3"), "networks"),
        ((*same, "--limit", "4"), "images"),
        ((*same, "--boxes", "boxes.csv"), "boxes"),
        ((*same, "--boxes-of", "class"), "boxes-of"),
        ((*same, "--max-pixels", "9999"), "max-pixels"),
        ((*same, "--masks", "copied"), "masks"),
    ]:
        line = refused(*more, "-o", "scores")
        assert f"scores/journal.jsonl: belongs to an evaluation that differs in {what}; give --overwrite" in line
    os.utime("photos/0000.png", (1, 1))
    assert "differs in images; give --overwrite to begin again, or another folder with -o" in refused(
        *same, "-o", "scores"
    )
    refused(*same, "--overwrite", "-m", "grad-cam", "-o", "scores")
    nets.write(desk / "one.xai", classes=1, activation="none")
    refused("one.xai", "--metrics", "average-drop", "--overwrite", "-o", "scores")  # found out in the first chunk
    assert {path.name: path.read_bytes() for path in Path("scores").iterdir()} == before
    run("-t", "3", "--overwrite", out="scores")
    assert json.loads(Path("scores/results.json").read_bytes())["plan"]["target"] == 3


def test_two_write_the_same_folder(desk: Path, run: Run, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the last result is in its place."""
    replace = Path.replace
    busy = []

    def meanwhile(path: Path, target: Path) -> Path:
        for more in ((), ("--overwrite",)):
            monkeypatch.setattr(Path, "replace", replace)
            busy.append(refused("net.xai", "--metrics", "complexity", "-o", "out", *more))
            monkeypatch.setattr(Path, "replace", meanwhile)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", meanwhile)
    run()
    assert len(busy) == 8
    assert set(busy) == {
        "xai-evaluate: error: out/journal.jsonl: another evaluation is writing there; wait for it, or give another folder "
        "with -o\n"
    }


@pytest.mark.parametrize("package", ["jinja2", "pyarrow"])
def test_missing_package(desk: Path, refused: Refused, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told before anything is computed."""
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(session, "Recipe", None)
    line = refused("net.xai")
    assert package in line
    assert line.endswith('is not installed; pip install "xai-deploy[evaluate]"\n')
