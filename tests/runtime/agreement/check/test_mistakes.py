"""What xai-check refuses, and in which words."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from xai_deploy.cli import check_images
from xai_deploy.cli.check import main

from ... import tiny
from .running import Capture, bad

MISTAKES: dict[str, tuple[list[str], str]] = {
    "nothing": ([], "the following arguments are required: REFERENCE, DEPLOYED IMAGE ..."),
    "reference alone": (["net.xai"], "give REFERENCE, DEPLOYED and at least one image"),
    "no image": (["net.xai", "near.xai"], "give REFERENCE, DEPLOYED and at least one image"),
    "deployed forgotten": (["net.xai", "photos"], "give REFERENCE, DEPLOYED and at least one image"),
    "an image for deployed": (
        ["net.xai", "photos/0.png", "photos/1.png"],
        "photos/0.png: is an image; a bundle or a model file comes first, then the images",
    ),
    "a folder for deployed": (
        ["net.xai", "photos", "photos/1.png"],
        "photos: is a folder of images; a bundle or a model file comes first, then the images",
    ),
    "three bundles": (
        ["net.xai", "near.xai", "far.xai", "photos"],
        "far.xai: is a bundle, but an image is expected here; give one REFERENCE and one DEPLOYED, then images",
    ),
    "no reference": (["none.npz", "net.xai", "photos"], "none.npz: no such file or folder"),
    "reference is an image": (
        ["photos/0.png", "net.xai", "photos"],
        "photos/0.png: is an image; a bundle or a model file comes first, then the images",
    ),
    "reference is a folder": (["photos", "net.xai", "photos"], "photos: is a folder of images; a bundle or"),
    "no deployed": (["net.xai", "none.xai", "photos"], "none.xai: no such folder; a bundle is a folder"),
    "recording last": (["net.xai", "good.npz", "photos"], "good.npz: is a file; a bundle is a folder"),
    "empty folder": (["net.xai", "near.xai", "empty"], "empty: no image files (.avif, .bmp, "),
    "no such image": (["net.xai", "near.xai", "photos/7.png"], "photos/7.png: no such file"),
    "no image file": (["net.xai", "near.xai", "photos/0.png", "text.png"], "text.png: not a PNG, JPEG"),
    "large image": (["net.xai", "near.xai", "photos", "--max-pixels", "99"], "photos/0.png: its header announces"),
    "classes": (
        ["net.xai", "five.xai", "photos"],
        "the reference has 4 classes, the deployed network 5; they can't be compared",
    ),
    "recorded classes": (
        ["good.npz", "five.xai", "photos"],
        "the reference has 4 classes, the deployed network 5; they can't be compared",
    ),
    "method": (["net.xai", "near.xai", "photos", "-m", "gradcam"], "no method 'gradcam' (did you mean 'grad-cam'?)"),
    "option": (["net.xai", "near.xai", "photos", "-m", "cam:x=1"], "cam: no option 'x'; it has relu"),
    "missing graph": (
        ["net.xai", "forward.xai", "photos", "-m", "grad-cam"],
        "grad-cam: this bundle has no 'gradient' graph; ",
    ),
    "not recorded": (
        ["good.npz", "near.xai", "photos", "-m", "layer-cam"],
        "layer-cam: not recorded; the recording has reciprocam, grad-cam, relevance-cam",
    ),
    "above 1": (
        ["net.xai", "near.xai", "photos", "--min-top1", "1.1"],
        "argument --min-top1: between 0 and 1, not 1.1",
    ),
    "percent": (["net.xai", "near.xai", "photos", "--min-overlap", "75"], "argument --min-overlap: between 0 and 1"),
    "below 0": (
        ["net.xai", "near.xai", "photos", "--max-difference=-0.1"],
        "argument --max-difference: between 0 and 1",
    ),
    "nan": (
        ["net.xai", "near.xai", "photos", "--min-correlation", "nan"],
        "argument --min-correlation: between 0 and 1",
    ),
    "word": (["net.xai", "near.xai", "photos", "--min-top1", "all"], "argument --min-top1: invalid share value: 'all'"),
    "device": (["net.xai", "near.xai", "photos", "-d", "no-such"], "this ONNX Runtime has no device 'no-such'"),
    "precision": (
        ["net.xai", "near.xai", "photos", "--precision", "int8"],
        "argument --precision: invalid choice: 'int8'",
    ),
    "json folder": (
        ["net.xai", "near.xai", "photos", "--json", "photos"],
        "photos: is a folder; give the name of a file",
    ),
    "json nowhere": (
        ["net.xai", "near.xai", "photos", "--json", "none/r.json"],
        "none/r.json: its folder does not exist",
    ),
    "overwrite": (
        ["net.xai", "near.xai", "photos", "--overwrite"],
        "--overwrite: it is only for replacing a recording",
    ),
    "runtime of a recording": (
        ["good.npz", "near.xai", "photos", "--reference-backend", "openvino"],
        "--reference-backend: the reference is a recording and does not run",
    ),
    "device of a recording": (
        ["good.npz", "near.xai", "photos", "--reference-device", "cuda"],
        "--reference-device: the reference is a recording and does not run",
    ),
    "record without images": (["--record", "r.npz", "net.xai"], "with --record give REFERENCE and at least one image"),
    "record without a name": (["--record", "net.xai", "photos"], "with --record give REFERENCE and at least one image"),
    "record into a bundle": (
        ["--record", "net.xai", "photos", "photos"],
        "net.xai: the file that --record writes must end in .npz; choose such a name",
    ),
    "record into an image": (
        ["--record", "photos/0.png", "net.xai", "photos", "--overwrite"],
        "photos/0.png: the file that --record writes must end in .npz; choose such a name",
    ),
    "record to -": (["--record", "-", "net.xai", "photos"], "-: the file that --record writes must end in .npz"),
    "record into a folder": (
        ["--record", "folder.npz", "net.xai", "photos", "--overwrite"],
        "folder.npz: exists; choose",
    ),
    "record nowhere": (["--record", "none/r.npz", "net.xai", "photos"], "none/r.npz: its folder does not exist"),
    "record two bundles": (
        ["--record", "r.npz", "net.xai", "near.xai", "photos"],
        "near.xai: is a bundle, but an image is expected here; with --record give one REFERENCE, then images",
    ),
    "record a recording": (["--record", "r.npz", "good.npz", "photos"], "good.npz: is a file; a bundle is a folder"),
    "record on the deployed's runtime": (
        ["--record", "r.npz", "net.xai", "photos", "-b", "openvino"],
        "--backend: nothing is compared with --record; the reference has its own --reference-... options",
    ),
    "record in the deployed's precision": (
        ["--record", "r.npz", "net.xai", "photos", "--precision", "bf16"],
        "--precision: nothing is compared with --record",
    ),
    "record with a limit": (
        ["--record", "r.npz", "net.xai", "photos", "--min-top1", "1"],
        "--min-top1: nothing is compared with --record",
    ),
    "record with a report": (
        ["--record", "r.npz", "net.xai", "photos", "--json", "-"],
        "--json: nothing is compared with --record",
    ),
    "record with a page": (
        ["--record", "r.npz", "net.xai", "photos", "--report", "page.html"],
        "--report: nothing is compared with --record",
    ),
    "a page in no folder": (["net.xai", "near.xai", "photos", "--report", "no/page.html"], "no/page.html: its folder"),
    "a page onto a folder": (["net.xai", "near.xai", "photos", "--report", "photos"], "photos: is a folder"),
    "record two of one name": (
        ["--record", "r.npz", "net.xai", "photos", "more"],
        "2.png: two images have this name, and a recording finds an image by its name; rename one",
    ),
    "record an unknown method": (["--record", "r.npz", "net.xai", "photos", "-m", "x"], "no method 'x'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told_in_one_line(here: Path, mistake: str, capsys: Capture) -> None:
    for folder in ("empty", "more", "folder.npz"):
        Path(folder).mkdir()
    shutil.copy("photos/2.png", "more")
    Path("text.png").write_text("text")
    if "good.npz" in MISTAKES[mistake][0]:
        assert main(["--record", "good.npz", "net.xai", "photos", "-q"]) == 0
    before = sorted(here.rglob("*"))
    arguments, message = MISTAKES[mistake]
    assert bad(arguments, capsys).startswith(message)
    assert sorted(here.rglob("*")) == before


def test_a_broken_image_among_many(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """Also where it comes late: no report, no verdict."""
    monkeypatch.setattr(check_images, "_CHUNK", 2)
    Path("photos/9.png").write_bytes(Path("photos/1.png").read_bytes()[:-20])
    message = bad(["net.xai", "near.xai", "photos", "--json", "report.json"], capsys)
    assert message == "photos/9.png: the image is truncated or damaged; copy or save it again"
    assert not Path("report.json").exists()


def test_names_that_a_terminal_would_obey(here: Path, capsys: Capture) -> None:
    os.rename("photos", "ph\x1b[31motos")
    assert main(["net.xai", "far.xai", "ph\x1b[31motos"]) == 1
    assert "\x1b" not in capsys.readouterr().out


def test_a_damaged_bundle(here: Path, capsys: Capture) -> None:
    tiny.write(here / "torn.xai")
    with (here / "torn.xai" / "head.onnx").open("ab") as file:
        file.write(b"x")
    assert bad(["net.xai", "torn.xai", "photos"], capsys).startswith("torn.xai/head.onnx: ")


def test_help_shows_both_uses(capsys: Capture) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    usage = capsys.readouterr().out.splitlines()[:2]
    assert usage[0] == "usage: xai-check [options] REFERENCE DEPLOYED IMAGE [IMAGE ...]"
    assert usage[1].strip() == "xai-check [options] --record FILE.npz REFERENCE IMAGE [IMAGE ...]"
