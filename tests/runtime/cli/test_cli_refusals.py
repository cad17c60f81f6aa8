"""What xai-explain refuses, with one line and status 2, and what a failure leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from xai_deploy import Explainer
from xai_deploy.cli import explain

from .test_cli import report


def bad(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run what must fail with one line; return that line."""
    assert explain.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    line: str = captured.err
    assert line.startswith("xai-explain: error: ")
    assert line.count("\n") == 1
    return line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.xai", "photos"], "none.xai: no such folder"),
        (["photos", "photos"], "photos: is a folder of images; a bundle or a model file comes first"),
        (["net.xai", "none.png"], "none.png: no such file"),
        (["net.xai", "photos", "-m", "cam", "grad-cam"], "grad-cam: is a method, not an image; several are given as"),
        (["net.xai", "photos/notes.txt"], "photos/notes.txt: not a PNG, JPEG"),
        (["net.xai", "net.xai"], "net.xai: is a bundle, not an image; a bundle or a model file comes first"),
        (["net.xai", "photos", "-m", "gradcam"], "no method 'gradcam'"),
        (["net.xai", "photos", "-m", "cam,"], "no method ''"),
        (["net.xai", "photos", "-m", "cam:relu"], "an option is written METHOD:NAME=VALUE, not 'relu'"),
        (["net.xai", "photos", "-m", "cam:relu=perhaps"], "cam.relu: expected bool, got str"),
        (["net.xai", "photos", "-m", "cam:mask=pixel"], "cam: no option 'mask'; it has relu"),
        (["net.xai", "photos", "-t", "5"], "class 5 does not exist"),
        (["net.xai", "photos", "-t", "beagel"], "the nearest are 'beagle'"),
        (["net.xai", "photos", "-t", "crane"], "label 'crane' stands for classes 3, 4"),
        (["net.xai", "photos", "-t", "top6"], "target 'top6': the network has 5 classes"),
        (["net.xai", "photos", "-d", "cuda", "-b", "openvino"], "this OpenVINO has no device 'cuda'"),
        (["net.xai", "photos", "-d", "npu"], "this ONNX Runtime has no device 'npu'"),
        (["net.xai", "photos", "--precision", "bf16"], "computes in f32, not 'bf16'"),
        (
            ["net.xai", "photos", "--max-pixels", "1999"],
            "photos/cat.bmp: its header announces 64 x 64 pixels, the limit",
        ),
        (["net.xai", "photos", "-o", "photos"], "the results would be written among the images"),
        (
            ["net.xai", "photos", "-o", "photos/notes.txt"],
            "photos/notes.txt: is a file; give a folder for the results with -o",
        ),
        (["net.xai", "photos", "-o", "photos/notes.txt/x"], "photos/notes.txt: is a file"),
    ],
)
def test_bad_input(work: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in bad(arguments, capsys)
    assert not Path("xai-output").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["net.xai"],
        ["net.xai", "photos", "--opacity", "1.5"],
        ["net.xai", "photos", "--batch-size", "0"],
        ["net.xai", "photos", "--backend", "tensorflow"],
        ["net.xai", "photos", "--nonsense"],
    ],
)
def test_bad_usage(work: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        explain.main(arguments)
    assert caught.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith("xai-explain: error: ")
    assert line.count("\n") == 1


def test_bad_image_among_good_ones(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = Path("photos/cat.png").read_bytes()
    Path("photos/broken.png").write_bytes(data[:-20])
    Path("photos/empty.jpg").touch()
    assert "photos/broken.png: the image is truncated or damaged" in bad(["net.xai", "photos"], capsys)
    assert not Path("xai-output").exists()
    assert explain.main(["net.xai", "photos", "--skip-bad"]) == 0
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        "xai-explain: error: photos/broken.png: the image is truncated or damaged; copy or save it again (skipped)",
        "xai-explain: error: photos/empty.jpg: is empty; copy or download it again (skipped)",
    ]
    assert "3 images, 2 skipped in " in captured.out
    found = report()
    assert [image["file"] for image in found["images"]] == ["photos/cat.bmp", "photos/cat.png", "photos/dog.png"]
    assert [skipped["file"] for skipped in found["skipped"]] == ["photos/broken.png", "photos/empty.jpg"]


def test_nothing_but_bad_images(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.png").touch()
    assert explain.main(["net.xai", "a.png", "none.png", "--skip-bad"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "xai-explain: error: none of the 2 images can be read"
    assert not Path("xai-output").exists()


def test_results_are_not_overwritten_unasked(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain.main(["net.xai", "photos/cat.png", "-o", "out"]) == 0
    before = Path("out/results.json").read_bytes()
    capsys.readouterr()
    line = bad(["net.xai", "photos/dog.png", "-o", "out"], capsys)
    assert "out/results.json: exists; choose another folder with -o, or give --overwrite" in line
    assert Path("out/results.json").read_bytes() == before
    assert explain.main(["net.xai", "photos/dog.png", "-o", "out", "--overwrite"]) == 0
    assert [image["name"] for image in report(Path("out"))["images"]] == ["dog"]


def test_interrupted(work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Explainer, "explain_many", interrupt)
    assert explain.main(["net.xai", "photos"]) == 130
    assert capsys.readouterr().err == "xai-explain: interrupted\n"


def test_a_failed_write_leaves_no_fragment(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        assert "No space left on device" in bad(["net.xai", "photos", "-o", "out"], capsys)
    assert [path.name for path in Path("out").iterdir()] == ["unfinished"]
    assert explain.main(["net.xai", "photos", "-o", "out", "-q"]) == 0
    assert len(report(Path("out"))["images"]) == 3
