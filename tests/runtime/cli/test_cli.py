"""xai-explain from the outside: files, report, exit statuses, messages."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xai_deploy import Explainer, read_image, write_image
from xai_deploy.cli import explain
from xai_deploy.cli.contact_sheet import TILE, ContactSheet, Tile
from xai_deploy.format import bundle

from .. import tiny


def folder() -> Path:
    """The only folder of results that no -o named."""
    [out] = Path("xai-output").iterdir()
    return out


def report(out: Path | None = None) -> dict[str, Any]:
    out = out or folder()
    loaded: dict[str, Any] = json.loads((out / "results.json").read_bytes())
    return loaded


def test_folder(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain.main(["net.xai", "photos"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = captured.out.splitlines()
    assert [line.partition(":")[0] for line in lines[:3]] == ["photos/cat.bmp", "photos/cat.png", "photos/dog.png"]
    assert lines[3].startswith("3 images in ")
    assert lines[3].endswith("; compare xai-output/photos/contact-sheet.png, all in xai-output/photos/results.json")
    found = report()
    assert [image["name"] for image in found["images"]] == ["cat", "cat-2", "dog"]
    explainer = Explainer("net.xai", "onnxruntime")
    wanted = {"contact-sheet.png", "report.html", "results.json"}
    for image in found["images"]:
        pixels = read_image(image["file"])
        e = explainer.explain(pixels)
        best = image["prediction"][0]
        assert best["class"] == e.logits[0].argmax() == e.target[0]
        assert best["label"] == tiny.LABELS[best["class"]]
        assert best["logit"] == pytest.approx(float(e.logits[0].max()), abs=1e-4)
        assert best["probability"] == pytest.approx(float(e.outputs["scores"][0].max()), abs=1e-5)
        assert len(image["prediction"]) == 5
        (entry,) = image["explanations"]
        assert (entry["method"], entry["target"]) == ("reciprocam", best["class"])
        assert entry["options"] == {"score": "logit", "mask": "pixel"}
        assert entry["seconds"] > 0
        assert entry["overlay"] == f"{image['name']}--reciprocam--{best['class']}.png"
        np.testing.assert_allclose(np.load(folder() / entry["raw"]), e.raw[0], atol=1e-5)
        overlay = read_image(folder() / entry["overlay"]).astype(int)
        assert np.abs(overlay - e.overlay(pixels)[0]).max() <= 3
        wanted |= {entry["overlay"], entry["raw"]}
    assert {path.name for path in folder().iterdir()} == wanted
    assert found["backend"] == "onnxruntime"
    assert found["device"] == "cpu"
    assert found["bundle"]["name"] == "tiny-pooled"
    assert set(found["versions"]) == {"xai-deploy", "python", "numpy", "onnxruntime"}
    assert found["skipped"] == []
    assert found["contact_sheets"] == ["contact-sheet.png"]


def test_methods_and_targets(work: Path, backend: str) -> None:
    arguments = ["net.xai", "photos/dog.png", "-m", "cam,reciprocam:score=softmax:mask=gaussian", "-m", "reciprocam"]
    arguments += ["--method", "score-cam", "-t", "beagle", "-t", "0", "-t", "top2", "--target", "-1", "-b", backend]
    assert explain.main([*arguments, "-o", "out", "-q", "--batch-size", "3", "--threads", "1"]) == 0
    (image,) = report(Path("out"))["images"]
    entries = image["explanations"]
    order = [prediction["class"] for prediction in image["prediction"]]
    assert [entry["target"] for entry in entries] == [2, 0, order[0], order[1], order[0]] * 4
    assert [entry["method"] for entry in entries[::5]] == ["cam", "reciprocam", "reciprocam", "score-cam"]
    assert entries[5]["options"] == {"score": "softmax", "mask": "gaussian"}
    assert entries[5]["raw"] == "dog--reciprocam+mask=gaussian+score=softmax--2.npy"
    assert entries[10]["raw"] == "dog--reciprocam--2.npy"
    e = Explainer("net.xai", backend).explain(
        read_image("photos/dog.png"), "reciprocam", 2, score="softmax", mask="gaussian"
    )
    np.testing.assert_allclose(np.load("out/dog--reciprocam+mask=gaussian+score=softmax--2.npy"), e.raw[0], atol=1e-5)
    assert np.load("out/dog--score-cam--2.npy").shape == (tiny.HEIGHT, tiny.WIDTH)
    assert entries[0]["label"] == "beagle"
    assert report(Path("out"))["backend"] == backend
    sheet = read_image("out/contact-sheet.png")
    assert sheet.shape[1] == 6 * (TILE + 16) - 16 + 2 * 24  # twenty maps in four lines of five
    assert sheet.shape[0] > 4 * 168  # a picture of 300 x 400 is 168 pixels high


def test_the_other_direction(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the report, in file names and on the sheet; targets are repeated, since a label may hold a comma."""
    captions, add = [], ContactSheet.add

    def kept(sheet: ContactSheet, image: Tile, maps: Sequence[Tile], predicted: str) -> None:
        captions.append(maps)
        add(sheet, image, maps, predicted)

    monkeypatch.setattr(ContactSheet, "add", kept)
    labels = ["tabby, tom", "not beagle", "beagle", "crane", "heron"]
    shutil.rmtree("net.xai")
    tiny.write(Path("net.xai"), labels=tuple(labels))
    targets = ["-t", "not tabby, tom", "-t", "not beagle", "-t", "not 2", "-t", "tabby, tom vs heron"]
    assert explain.main(["net.xai", "photos/cat.png", "-m", "cam", *targets]) == 0
    entries = report()["images"][0]["explanations"]
    assert [(entry["target"], entry["sign"], entry["versus"]) for entry in entries] == [
        (0, -1, None),
        (1, 1, None),  # the label of that name
        (2, -1, None),
        (0, 1, 4),
    ]
    names = ["not-0", "1", "not-2", "0-vs-4"]
    assert [entry["raw"] for entry in entries] == [f"cat--cam--{name}.npy" for name in names]
    [tiles] = captions
    assert [tile.caption for tile in tiles] == ["not tabby, tom", "not beagle", "not beagle", "tabby, tom vs heron"]
    assert [entry["label"] for entry in entries] == ["tabby, tom", "not beagle", "beagle", "tabby, tom"]
    logit = Explainer("net.xai").predict(read_image("photos/cat.png"))[0, 2]
    assert entries[2]["logit"] == pytest.approx(float(logit), abs=1e-4)  # of the class, not of its absence


def test_json(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain.main(["net.xai", "photos/cat.png", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == report()


def test_quiet(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    level = logging.getLogger("xai_deploy").level
    assert explain.main(["net.xai", "photos/cat.png", "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    assert logging.getLogger("xai_deploy").level == level, "whoever calls it from Python is silenced, too"


def test_classes_without_labels(work: Path, tmp_path: Path) -> None:
    tiny.write(tmp_path / "bare.xai", labels=())
    assert explain.main(["bare.xai", "photos/cat.png", "-t", "3"]) == 0
    (image,) = report()["images"]
    assert image["explanations"][0]["label"] == "class 3"
    assert image["prediction"][0]["label"] == f"class {image['prediction'][0]['class']}"


def test_assumed_preprocessing_is_told(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.write(tmp_path / "guess.xai", preprocess=bundle.Preprocess(scale=tiny.SCALE, assumed=True))
    assert explain.main(["guess.xai", "photos/cat.png"]) == 0
    assert "the bundle's preprocessing was assumed at export" in capsys.readouterr().err
    assert explain.main(["guess.xai", "photos/cat.png", "--overwrite", "-q"]) == 0
    assert capsys.readouterr().err == ""


def test_crop_and_small_images(work: Path, tmp_path: Path) -> None:
    tiny.write(tmp_path / "crop.xai", preprocess=bundle.Preprocess(resize=24, scale=tiny.SCALE))
    assert explain.main(["crop.xai", "photos/cat.bmp"]) == 0
    (image,) = report()["images"]
    assert read_image(folder() / image["explanations"][0]["overlay"]).shape == (64, 64, 3)
    assert image["crop"] == {"top": 11, "left": 5, "height": 43, "width": 53}  # 64 / 24 pixels for each of 16 x 20
    sheet = read_image(folder() / "contact-sheet.png")
    assert sheet.shape[1] == 2 * TILE + 16 + 2 * 24  # tiles are of one width however small the image
    assert sheet.std(axis=(0, 1)).min() > 20


def test_options_between_the_images(work: Path) -> None:
    assert explain.main(["net.xai", "photos/dog.png", "-q", "photos/cat.png", "-o", "out", "photos/dog.png"]) == 0
    assert [image["name"] for image in report(Path("out"))["images"]] == ["dog", "cat"]


def test_many_images_in_pages_and_chunks(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifteen images beside two maps: two pages, and never more than four of them at a time in the engine."""
    rng = np.random.default_rng(1)
    Path("many").mkdir()
    for number in range(15):
        write_image(f"many/{number:02}.png", rng.integers(0, 256, (20, 25, 3), dtype=np.uint8))
    sizes: list[int] = []
    explain_many = Explainer.explain_many

    def watch(self: Explainer, images: Any, *rest: Any) -> Any:
        sizes.append(len(images))
        return explain_many(self, images, *rest)

    monkeypatch.setattr(Explainer, "explain_many", watch)
    assert explain.main(["net.xai", "many", "-t", "top2", "--batch-size", "4", "-q"]) == 0
    assert sizes == [4, 4, 4, 3]
    found = report()
    assert found["contact_sheets"] == ["contact-sheet.png", "contact-sheet-2.png"]
    first, second = (read_image(folder() / page) for page in found["contact_sheets"])
    assert first.shape[1] == second.shape[1]
    assert first.shape[0] > 3 * second.shape[0]


def test_chunks_are_bounded_in_pixels(work: Path) -> None:
    from xai_deploy.cli.arguments import Bad, read_chunks

    paths = [Path("photos/dog.png")] * 5 + [Path("none.png"), Path("photos/cat.png")]
    spec = Explainer("net.xai").bundle.manifest.input
    chunks = list(read_chunks(paths, 16, 10**9, spec, pixels=300_000))
    assert [len(chunk) for chunk in chunks] == [2, 2, 3]
    assert isinstance(chunks[2][1], Bad)


def test_odd_names(work: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Names with line ends, terminal codes, other scripts, broken encodings, and 200 letters."""
    names = [b"a\nb.png", b"\x1b[31mred.png", "猫 é.png".encode(), b"caf\xe9.png", b"x" * 200 + b".png"]
    for name in names:
        shutil.copy("photos/cat.png", os.fsdecode(name))
    assert explain.main(["net.xai", *(os.fsdecode(name) for name in names)]) == 0
    out = capfdbinary.readouterr().out
    assert out.count(b"\n") == len(names) + 1
    assert b"\x1b" not in out
    images = report()["images"]
    assert [os.fsencode(image["file"]) for image in images] == names
    for image in images:
        assert (folder() / image["explanations"][0]["overlay"]).is_file()


@pytest.mark.parametrize("arguments", [["--list-methods", "-v"], ["-v", "--list-methods"]])
def test_list_methods(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        explain.main(arguments)
    assert not caught.value.code
    lines = capsys.readouterr().out.splitlines()
    wanted = [
        "cam",
        "  cam:relu=true|false  (default true)",
        "reciprocam",
        "  reciprocam:score=logit|probability|softmax  (default logit)",
        "  reciprocam:mask=pixel|gaussian|gaussian-centre  (default pixel)",
        "score-cam",
        "  score-cam:score=probability|logit|softmax  (default probability)",
        "  score-cam:baseline=zeros|none  (default none)",
        "  score-cam:channel_softmax=true|false  (default false)",
        "  score-cam:budget=int|none  (default none)",
        "  score-cam:tolerance=float|none  (default none)",
        "grad-cam++",
        "  grad-cam++:eps=float|none  (default none)",
        "  gradient:channels=max-abs|sum-abs|sum  (default max-abs)",
    ]
    assert [line for line in lines if line in wanted] == sorted(wanted, key=lines.index)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        explain.main(["--version"])
    assert capsys.readouterr().out == "xai-explain 0.1.0\n"


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    root = str(Path(explain.__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root}
    command = [sys.executable, "-W", "error", "-m", "xai_deploy.cli.explain", *arguments]
    return subprocess.run(command, env=environment, text=True, check=False, timeout=60, capture_output=True, **options)


def test_as_a_process(work: Path) -> None:
    finished = run("net.xai", "photos", "--method", "reciprocam,score-cam")
    assert finished.returncode == 0
    assert finished.stderr == ""
    assert finished.stdout.count("\n") == 4
    assert len(report()["images"]) == 3
    finished = run("net.xai", "photos/notes.txt", "-o", "other")
    assert finished.returncode == 2
    assert finished.stderr.startswith("xai-explain: error: photos/notes.txt: not a PNG")
    assert finished.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["--json", "-"]])
def test_terminal_without_unicode(work: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.write(work / "odd.xai", labels=("猫", "犬", "é", "\U0001f600", "x"))
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    finished = run("odd.xai", "photos", *arguments)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout.isascii()
    if arguments:
        assert json.loads(finished.stdout) == report()


def test_broken_pipe(work: Path) -> None:
    root = str(Path(explain.__file__).parents[2])
    reader, writer = os.pipe()
    os.close(reader)
    finished = subprocess.run(
        [sys.executable, "-m", "xai_deploy.cli.explain", "net.xai", "photos"],
        env=os.environ | {"PYTHONPATH": root},
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
    )
    os.close(writer)
    assert finished.returncode == 141
    assert finished.stderr == b""
    assert report()["images"]


def test_sheet_with_too_many_maps(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xai_deploy.cli.contact_sheet._TALLEST", 3 * (TILE + 160))
    methods = ",".join(
        f"reciprocam:score={score}:mask={mask}"
        for score in ("logit", "softmax")
        for mask in ("pixel", "gaussian", "gaussian-centre")
    )
    assert explain.main(["net.xai", "photos/cat.png", "-m", methods, "-t", "top5"]) == 0
    assert "the contact sheet has no room for all 30 maps" in capsys.readouterr().err
    assert len(report()["images"][0]["explanations"]) == 30
    assert read_image(folder() / "contact-sheet.png").shape[1] == 6 * (TILE + 16) - 16 + 48
