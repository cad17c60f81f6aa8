"""What xai-evaluate makes of its ground truth, from the outside."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from xai_deploy.cli import evaluate

from .. import nets
from ..conftest import Refused, Run, interrupt, pictures

HEADER = "image,left,top,right,bottom,label\n"


def test_images_and_masks_and_labels_under_one_root(desk: Path, run: Run, refused: Refused) -> None:
    """Masks named as such are no images; with --limit, an image that is left out is still one."""
    pictures(Path("set/images"), 6)
    shutil.copytree("set/images", "set/masks")
    for image in Path("set/images").iterdir():
        Path("set/labels").mkdir(exist_ok=True)
        Path("set/labels", image.stem + ".txt").write_text("0 0.5 0.5 0.5 0.5\n")
    truth = ["--boxes", "set/labels", "--metrics", "energy-pointing,segmentation", "--masks", "set/masks"]
    for out, more, images in (("all", [], 6), ("some", ["--limit", "2"], 2)):
        figures = run(*truth, *more, images="set", out=out)["results"][0]["figures"]
        assert [figures[name]["count"] for name in ("energy-pointing", "segmentation")] == [images, images]
    pictures(Path("set/more"), 6)
    line = refused("net.xai", *truth, "--limit", "1", "-o", "out", images="set")
    assert "fits the images images/000" in line
    assert " and more/000" in line


@pytest.mark.parametrize("more", [[], ["-b", "onnxruntime,openvino"]])
def test_labels_of_no_class(desk: Path, run: Run, capsys: pytest.CaptureFixture[str], more: list[str]) -> None:
    """Said once, before anything is measured; not if some boxes are of a class."""
    warning = (
        "xai-evaluate: warning: boxes.csv: no label of its boxes is a class of net, for example not 'nosuch'; the "
        "network's labels are 'cat', 'dog', 'owl', ...; use these as the boxes' labels, or take all boxes\n"
    ).replace("of net,", "of net (onnxruntime)," if more else "of net,")
    Path("boxes.csv").write_text(HEADER + "0000.png,1,1,5,5,nosuch\n0001.png,1,1,5,5,none\n")
    asked = ["--boxes", "boxes.csv", "--metrics", "energy-pointing", *more]
    run(*asked, "--boxes-of", "class")
    assert capsys.readouterr().err == warning
    run(*asked, out="all")
    Path("boxes.csv").write_text(HEADER + "0000.png,1,1,5,5,nosuch\n0001.png,1,1,5,5,OWL\n")
    run(*asked, "--boxes-of", "class", out="some")
    assert capsys.readouterr().err == ""


def test_labels_of_no_class_of_the_second_network(desk: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    nets.write(desk / "other.xai")
    Path("boxes.csv").write_text(HEADER + "0000.png,1,1,5,5,owl\n")
    asked = ["--boxes", "boxes.csv", "--boxes-of", "class", "--metrics", "energy-pointing"]
    run(*asked, bundles=("net.xai", "other.xai"))
    assert (
        "of other, for example not 'owl'; the network has no labels, only the numbers 0 to 4; use"
        in capsys.readouterr().err
    )


def test_boxes_that_reach_beyond_their_image(
    desk: Path, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pixels without a stated size: told once the images were read, also those read before an interruption."""
    names = [image.name for image in sorted(pictures(desk / "many", 20).iterdir())]
    rows = [f"{name},1,1,{900 if n in (0, 1, 19) else 9},9,\n{name},1,1,5,9,\n" for n, name in enumerate(names)]
    Path("boxes.csv").write_text(HEADER + "".join(rows))
    asked = ["--boxes", "boxes.csv", "--metrics", "iou"]
    told = "xai-evaluate: warning: boxes.csv: {} boxes reach beyond their image; cut at its border\n"
    run(*asked, images="many")
    assert capsys.readouterr().err == told.format(3)
    with monkeypatch.context() as patch:
        interrupt(patch)
        assert evaluate.main(["net.xai", "many", "-m", "reciprocam", *asked, "-o", "again"]) == 130
    assert told.format(2) in capsys.readouterr().err
    run(*asked, images="many", out="again")
    assert told.format(1) in capsys.readouterr().err
