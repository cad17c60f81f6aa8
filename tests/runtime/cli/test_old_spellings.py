"""Old spellings of options still work, with a warning; images are positional and folders recursive in every command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from xai_deploy.cli import bench, check, explain

from .test_cli import report


def test_methods(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for spelling in (["--methods", "cam"], ["--methods=cam"]):
        assert explain.main(["net.xai", "photos/cat.png", "-o", "out", "--overwrite", *spelling]) == 0
        assert capsys.readouterr().err == "xai-explain: warning: --methods is the old spelling of --method\n"
        assert report(Path("out"))["images"][0]["explanations"][0]["method"] == "cam"
    assert check.main(["net.xai", "net.xai", "photos", "--methods", "cam", "-q"]) == 0
    assert capsys.readouterr().err == ""


def test_json_without_a_value(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain.main(["net.xai", "photos/cat.png", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == report()
    assert captured.err == "xai-explain: warning: --json without a value is the old spelling; write --json -\n"


def test_json_does_not_write_over_an_image(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path("photos/cat.png").read_bytes()
    with pytest.raises(SystemExit):
        explain.main(["net.xai", "photos", "--json", "photos/cat.png"])
    wanted = (
        "xai-explain: error: argument --json: 'photos/cat.png' is no file for JSON; give FILE.json, or - to print\n"
    )
    assert capsys.readouterr().err == wanted
    assert Path("photos/cat.png").read_bytes() == before


def test_json_to_a_file(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain.main(["net.xai", "photos/cat.png", "--json", "mine.json"]) == 0
    assert json.loads(Path("mine.json").read_bytes()) == report()
    assert capsys.readouterr().out.count("\n") == 2
    assert explain.main(["net.xai", "photos/cat.png", "--json", "none/mine.json"]) == 2
    assert "none/mine.json: its folder does not exist" in capsys.readouterr().err


def test_the_image_of_bench(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fast = ["-m", "cam", "-b", "onnxruntime", "--runs", "1", "--warmup", "1", "--no-memory", "--json", "-"]
    for images in (["photos/cat.png"], ["--image", "photos/cat.png"]):
        assert bench.main(["net.xai", *images, *fast]) == 0
        captured = capsys.readouterr()
        assert json.loads(captured.out)["input"] == "photos/cat.png"
        assert ("--image is the old spelling" in captured.err) == (len(images) > 1)
    assert bench.main(["net.xai", "photos/cat.png", "photos/dog.png", *fast]) == 2
    assert "photos/dog.png: one image fills the batch" in capsys.readouterr().err
    assert bench.main(["photos/cat.png", *fast]) == 2
    assert "photos/cat.png: is an image; give a bundle before it" in capsys.readouterr().err


def test_sub_folders(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Taken unless --no-recursive; earlier results are left out, hidden folders too."""
    for folder in ("photos/more", "photos/.hidden"):
        shutil.copytree("photos", folder, ignore=shutil.ignore_patterns("more", ".hidden"))
    command = ["net.xai", "photos", "-q", "-o", "photos/out"]
    assert explain.main(command) == 0
    assert len(report(Path("photos/out"))["images"]) == 6
    assert explain.main([*command, "--overwrite"]) == 0
    assert len(report(Path("photos/out"))["images"]) == 6
    assert explain.main([*command, "--overwrite", "--no-recursive"]) == 0
    assert len(report(Path("photos/out"))["images"]) == 3
    assert check.main(["net.xai", "net.xai", "photos/more", "--json", "check.json", "-q"]) == 0
    assert len(json.loads(Path("check.json").read_bytes())["images"]) == 3


def test_check_skips_bad_images(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("photos/empty.png").touch()
    command = ["net.xai", "net.xai", "photos", "--json", "check.json"]
    assert check.main(command) == 2
    assert "photos/empty.png" in capsys.readouterr().err
    assert check.main([*command, "--skip-bad"]) == 0
    assert "(skipped)" in capsys.readouterr().err
    found = json.loads(Path("check.json").read_bytes())
    assert ([skipped["file"] for skipped in found["skipped"]], len(found["images"])) == (["photos/empty.png"], 3)
    assert check.main(["net.xai", "net.xai", "photos/empty.png", "--skip-bad", "-q"]) == 2
    assert "none of the 1 images can be read" in capsys.readouterr().err
