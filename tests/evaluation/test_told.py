"""What xai-evaluate tells its user beside the figures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from xai_deploy.cli import evaluate

from . import nets
from .conftest import Refused, interrupt, pictures


@pytest.mark.parametrize("metrics", ["iou", "complexity,iou"])
def test_boxes_of_other_images(desk: Path, refused: Refused, metrics: str) -> None:
    """Told before anything is measured, and never by a column that is not there."""
    (desk / "other.csv").write_text("image,left,top,right,bottom\nelsewhere.png,1,1,5,5\n")
    line = refused("net.xai", "--boxes", "other.csv", "--metrics", metrics, "-o", "out")
    assert (
        "other.csv: it annotates none of the 6 images, for example not 0000.png; the names in it must be those of the image files"
        in line
    )
    assert not Path("out").exists()


def test_masks_of_other_images(desk: Path, refused: Refused) -> None:
    pictures(desk / "masks", 1)
    (desk / "masks" / "0000.png").rename(desk / "masks" / "elsewhere.png")
    line = refused("net.xai", "--masks", "masks", "--metrics", "segmentation", "-o", "out")
    assert "masks: it annotates none of the 6 images" in line


def test_an_undefined_figure_stays_in_the_table(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No box is of the class explained: the column is there, and empty."""
    rows = "".join(f"{number:04}.png,1,1,5,5,nothing we know\n" for number in range(6))
    (desk / "boxes.csv").write_text("image,left,top,right,bottom,label\n" + rows)
    asked = ["--boxes", "boxes.csv", "--boxes-of", "class", "--metrics", "iou", "-m", "reciprocam", "-o", "out"]
    assert evaluate.main(["net.xai", "photos", *asked]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["iou-25", "iou-75", "iou-mean-std"]
    assert lines[1].split() == ["reciprocam", "-", "-", "-"]
    assert "which names 6 of 6 images; those of the class explained" in Path("out/report.html").read_text()


def test_a_warning_of_every_batch_is_told_once(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["net.xai", "photos", "-m", "lime:samples=10", "--metrics", "complexity,max-sensitivity", "-o", "out"]
    assert evaluate.main(asked) == 0
    assert capsys.readouterr().err.count("lime: chance makes more than half of the values") == 1
    assert evaluate.main([*asked, "--overwrite"]) == 0  # the next run says it again
    assert capsys.readouterr().err.count("lime: chance makes more than half of the values") == 1


def test_interrupted(desk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What is kept, and what to do."""
    pictures(desk / "many", 20)
    asked = ["net.xai", "many", "-m", "reciprocam", "--metrics", "complexity", "-o", "out"]
    with monkeypatch.context() as patch:
        interrupt(patch)
        assert evaluate.main(asked) == 130
    assert (
        "16 of 20 images are done in out/journal.jsonl; give the same command again to continue"
        in capsys.readouterr().err
    )
    assert evaluate.main(asked) == 0
    assert "continuing with out/journal.jsonl: 16 of 20 images are done" in capsys.readouterr().err


def test_a_randomised_network_is_told(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = nets.write_randomised(desk / "net.xai", 2)[0]
    asked = ["photos", "-m", "reciprocam", "--metrics", "complexity", "-o", "out"]
    assert evaluate.main([path.name, *asked]) == 0
    assert "have random weights, for the sanity check; its maps explain nothing" in capsys.readouterr().err


def test_nobody_reads_the_list() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    finished = subprocess.run(
        [sys.executable, "-m", "xai_deploy.cli.evaluate", "--list-metrics"],
        env=os.environ | {"PYTHONPATH": str(Path(evaluate.__file__).parents[2])},
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
    )
    os.close(writer)
    assert (finished.returncode, finished.stderr) == (141, b"")
