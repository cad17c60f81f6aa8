"""xai-check from the outside: verdicts, report, recordings, exit statuses, messages."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xai_deploy import Explainer, read_image, write_image
from xai_deploy.cli import check
from xai_deploy.cli.check import main

from . import small, tiny

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network, and others that differ from it in one respect each."""
    folder = tmp_path_factory.mktemp("nets")
    small.write(folder / "net.xai")
    small.write(folder / "larger.xai", size=(48, 64))
    small.write(folder / "near.xai", noise=0.002)
    small.write(folder / "far.xai", seed=3)
    small.write(folder / "five.xai", classes=5)
    small.write(folder / "one.xai", classes=1, activation="Sigmoid")
    small.write(folder / "sigmoid.xai", activation="Sigmoid")
    small.write(folder / "forward.xai", roles=("pixelwise-tail",))
    return folder


@pytest.fixture
def here(nets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The networks, as links, and `photos` of four images; the working directory."""
    monkeypatch.chdir(tmp_path)
    for bundle in nets.glob("*.xai"):
        (tmp_path / bundle.name).symlink_to(bundle)
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(3)
    for i in range(4):
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        write_image(tmp_path / "photos" / f"{i}.png", coarse.repeat(8, axis=0).repeat(8, axis=1))
    return tmp_path


def figures(*arguments: str, status: int = 0) -> dict[str, dict[str, Any]]:
    """The report's figures by name."""
    assert main(["-q", "--json", "report.json", *arguments]) == status
    report = json.loads(Path("report.json").read_text())
    assert report["passed"] is (status == 0)
    return {figure["name"]: figure for figure in report["figures"]}


def bad(arguments: list[str], capsys: Capture) -> str:
    """Run what must fail with one line; return that line."""
    try:
        status = main(arguments)
    except SystemExit as exit_:
        status = int(str(exit_.code))
    assert status == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    line: str = captured.err
    assert line.startswith("xai-check: error: ")
    assert line.count("\n") == 1
    return line.removeprefix("xai-check: error: ").rstrip("\n")


def record(*arguments: str) -> None:
    assert main(["--record", "ref.npz", *arguments, "-q"]) == 0


def test_the_same_network_agrees_with_itself(here: Path, capsys: Capture) -> None:
    limits = ["--min-top1", "1", "--max-difference", "0", "--min-correlation", "1", "--min-overlap", "1"]
    assert main(["net.xai", "net.xai", "photos", "-m", "reciprocam", *limits]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.splitlines() == [
        "                               value  worst tenth  limit",
        "top-1 agreement                1.000               1.000",
        "probability difference         0.000        0.000  0.000",
        "reciprocam: rank correlation   1.000        1.000  1.000",
        "reciprocam: top 10 % overlap   1.000        1.000  1.000",
        "4 images; the maps peak alike on all",
        "the networks agree",
    ]


def test_networks_that_disagree(here: Path, capsys: Capture) -> None:
    assert main(["net.xai", "far.xai", "photos"]) == 1
    captured = capsys.readouterr()
    assert captured.err == ""
    *table, images, verdict = captured.out.splitlines()
    assert images.startswith("4 images; the maps differ most on photos/")
    assert verdict == "the networks DISAGREE"
    assert len(table) == 1 + 2 + 2 * 3  # by default three methods
    assert all(line.endswith("  FAILED") for line in table[1:])


@pytest.mark.parametrize(("deployed", "status"), [("near.xai", 0), ("far.xai", 1)])
def test_quiet_says_it_by_the_status_alone(here: Path, deployed: str, status: int, capsys: Capture) -> None:
    assert main(["net.xai", deployed, "photos", "-q"]) == status
    assert capsys.readouterr() == ("", "")


def test_report(here: Path, backend: str) -> None:
    arguments = ["net.xai", "far.xai", "photos/2.png", "photos/0.png", "-m", "reciprocam:score=softmax,grad-cam"]
    assert main([*arguments, "-b", backend, "--max-difference", "1", "--json", "out.json", "-q"]) == 1
    report = json.loads(Path("out.json").read_text())
    assert set(report) == {"passed", "reference", "deployed", "methods", "figures", "images"}
    assert report["passed"] is False
    explainers = Explainer("net.xai"), Explainer("far.xai", backend)
    for side, explainer in zip(("reference", "deployed"), explainers, strict=True):
        manifest = explainer.bundle.manifest
        runtime = f"{explainer.backend} on cpu, f32"
        assert report[side] == {"name": manifest.name, "digest": manifest.digest, "runtime": runtime}
    titles = ["reciprocam+score=softmax", "grad-cam"]
    assert report["methods"] == {titles[0]: ["reciprocam", {"score": "softmax"}], "grad-cam": ["grad-cam", {}]}
    names = ["top-1 agreement", "probability difference"]
    names += [f"{title}: {what}" for title in titles for what in ("rank correlation", "top 10 % overlap")]
    assert [figure["name"] for figure in report["figures"]] == names
    assert [figure["limit"] for figure in report["figures"]] == [0.9, 1, 0.9, 0.75, 0.9, 0.75]
    for figure in report["figures"]:
        assert set(figure) == {"name", "value", "worst", "limit", "passed"}
        within = figure["value"] <= 1 if "difference" in figure["name"] else figure["value"] >= figure["limit"]
        assert figure["passed"] is within
    assert [image["image"] for image in report["images"]] == ["photos/2.png", "photos/0.png"]
    for image in report["images"]:
        assert set(image) == {
            "image",
            "reference",
            "deployed",
            "probability_difference",
            "rank_correlation",
            "top_overlap",
        }
        first, second = (explainer.predict(read_image(image["image"]))[0].argmax() for explainer in explainers)
        assert (image["reference"], image["deployed"]) == (first, second)
        assert set(image["rank_correlation"]) == set(image["top_overlap"]) == set(titles)
    mean = np.mean([image["rank_correlation"]["grad-cam"] for image in report["images"]])
    assert report["figures"][4]["value"] == pytest.approx(mean)


def test_printed_report(here: Path, capsys: Capture) -> None:
    assert main(["net.xai", "far.xai", "photos", "--json", "written.json"]) == 1
    capsys.readouterr()
    assert main(["net.xai", "far.xai", "photos", "--json", "-"]) == 1
    assert json.loads(capsys.readouterr().out) == json.loads(Path("written.json").read_text())


def test_one_network_on_two_runtimes(here: Path) -> None:
    found = figures(
        "net.xai", "net.xai", "photos", "--reference-backend", "onnxruntime", "-b", "openvino", "--min-overlap", "0.95"
    )
    assert found["top-1 agreement"]["value"] == 1
    assert found["probability difference"]["value"] < 1e-4
    assert all(figure["value"] > 0.99 for name, figure in found.items() if "correlation" in name)


def test_one_network_in_two_precisions(here: Path) -> None:
    """bf16 has eight bits: near, and not the same."""
    found = figures("net.xai", "net.xai", "photos", "-b", "openvino", "--precision", "bf16")
    report = json.loads(Path("report.json").read_text())
    assert report["deployed"]["runtime"] == "openvino on cpu, bf16"
    assert report["reference"]["runtime"].endswith("on cpu, f32")
    assert found["top-1 agreement"]["value"] == 1
    assert 0.9 < found["reciprocam: rank correlation"]["value"] < 1


@pytest.mark.parametrize("size", ["1", "3"])
def test_batches_change_nothing(here: Path, size: str) -> None:
    whole = figures("net.xai", "far.xai", "photos", status=1)
    parts = figures("net.xai", "far.xai", "photos", "--batch-size", size, status=1)
    for name, figure in whole.items():
        assert parts[name]["value"] == pytest.approx(figure["value"], abs=1e-3)


def test_chunks_change_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures("net.xai", "far.xai", "photos", status=1)
    whole = json.loads(Path("report.json").read_text())["images"]
    monkeypatch.setattr(check, "_CHUNK", 3)
    figures("net.xai", "far.xai", "photos", status=1)
    parts = json.loads(Path("report.json").read_text())["images"]
    assert [image["image"] for image in parts] == [f"photos/{i}.png" for i in range(4)]
    for one, other in zip(whole, parts, strict=True):
        assert (one["image"], one["reference"]) == (other["image"], other["reference"])
        assert one["rank_correlation"] == pytest.approx(other["rank_correlation"], abs=1e-3)
    record("net.xai", "photos")
    assert figures("ref.npz", "net.xai", "photos")["grad-cam: rank correlation"]["value"] > 0.999


@pytest.mark.parametrize("pair", [("net.xai", "larger.xai"), ("larger.xai", "net.xai")])
def test_networks_of_different_input_sizes(here: Path, pair: tuple[str, str]) -> None:
    """The same weights on a grid twice as fine: their maps are of one region, if not the same."""
    found = figures(*pair, "photos", "--min-correlation", "0.6", "--min-overlap", "0.4")
    assert found["top-1 agreement"]["value"] == 1
    assert 0.6 < found["grad-cam: rank correlation"]["value"] < 0.95


def test_a_network_of_one_class(here: Path) -> None:
    """Its prediction can't differ, its probability can."""
    assert figures("one.xai", "one.xai", "photos", "--max-difference", "0")["top-1 agreement"]["value"] == 1
    small.write(here / "other.xai", classes=1, activation="Sigmoid", seed=9)
    found = figures(
        "one.xai", "other.xai", "photos", "-m", "reciprocam", "--min-correlation", "0", "--min-overlap", "0", status=1
    )
    assert found["top-1 agreement"]["value"] == 1
    assert found["probability difference"]["value"] > 0.1


def test_sigmoid_against_softmax(here: Path) -> None:
    """One network's logits under two activations: the maps are the same, the probabilities are not."""
    found = figures("net.xai", "sigmoid.xai", "photos", "--max-difference", "0.0000001", status=1)
    assert [name for name, figure in found.items() if not figure["passed"]] == ["probability difference"]


@pytest.mark.parametrize("both", [("net.xai", "forward.xai"), ("forward.xai", "net.xai")])
def test_by_default_the_methods_that_both_allow(here: Path, both: tuple[str, str]) -> None:
    figures(*both, "photos")
    assert list(json.loads(Path("report.json").read_text())["methods"]) == ["reciprocam"]


@pytest.mark.parametrize(
    ("option", "value", "name"),
    [
        ("--min-top1", "1", "top-1 agreement"),
        ("--max-difference", "0", "probability difference"),
        ("--min-correlation", "1", "reciprocam: rank correlation"),
        ("--min-overlap", "1", "reciprocam: top 10 % overlap"),
    ],
)
def test_each_limit_is_obeyed(here: Path, option: str, value: str, name: str) -> None:
    generous = ["--min-top1", "0", "--max-difference", "1", "--min-correlation", "0", "--min-overlap", "0"]
    deployed = "far.xai" if option == "--min-top1" else "larger.xai"  # the larger one's predictions are the same
    arguments = ["net.xai", deployed, "photos", "-m", "reciprocam", *generous]
    figures(*arguments)
    found = figures(*arguments, option, value, status=1)
    failed = [figure for figure, entry in found.items() if not entry["passed"]]
    assert failed == [name]
    assert found[name]["limit"] == float(value)


def test_options_stand_anywhere(here: Path) -> None:
    orders = [
        ["-m", "reciprocam", "net.xai", "far.xai", "photos/1.png", "photos/0.png"],
        ["net.xai", "-m", "reciprocam", "far.xai", "photos/1.png", "photos/0.png"],
        ["net.xai", "far.xai", "photos/1.png", "-m", "reciprocam", "photos/0.png"],
        ["net.xai", "far.xai", "-m", "reciprocam", "--", "photos/1.png", "photos/0.png"],
    ]
    reports = []
    for order in orders:
        figures(*order, status=1)
        reports.append(json.loads(Path("report.json").read_text()))
    assert all(report == reports[0] for report in reports)
    assert [image["image"] for image in reports[0]["images"]] == ["photos/1.png", "photos/0.png"]


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
    assert message.startswith("0.png: not the pixels that were recorded under this name; give the same file")
    os.replace("photos/2.png", "photos/two.png")
    message = bad(["ref.npz", "net.xai", "photos/two.png"], capsys)
    assert message == "two.png: not among the 4 images that were recorded; record it too"


MISTAKES: dict[str, tuple[list[str], str]] = {
    "nothing": ([], "the following arguments are required: REFERENCE, DEPLOYED IMAGE ..."),
    "reference alone": (["net.xai"], "give REFERENCE, DEPLOYED and at least one image"),
    "no image": (["net.xai", "near.xai"], "give REFERENCE, DEPLOYED and at least one image"),
    "deployed forgotten": (["net.xai", "photos"], "give REFERENCE, DEPLOYED and at least one image"),
    "an image for deployed": (
        ["net.xai", "photos/0.png", "photos/1.png"],
        "photos/0.png: is a file; a bundle is a folder written by xai-export",
    ),
    "a folder for deployed": (
        ["net.xai", "photos", "photos/1.png"],
        "photos: no manifest.json in it; a bundle is a folder written by xai-export",
    ),
    "three bundles": (
        ["net.xai", "near.xai", "far.xai", "photos"],
        "far.xai: is a bundle, among the images; one REFERENCE and one DEPLOYED are compared",
    ),
    "no reference": (["none.npz", "net.xai", "photos"], "none.npz: no such file or folder"),
    "reference is an image": (
        ["photos/0.png", "net.xai", "photos"],
        "photos/0.png: neither a bundle's folder nor a recording of xai-check --record, or damaged; record again",
    ),
    "reference is a folder": (["photos", "net.xai", "photos"], "photos: no manifest.json in it; a bundle is"),
    "no deployed": (["net.xai", "none.xai", "photos"], "none.xai: no such folder; a bundle is a folder"),
    "recording last": (["net.xai", "good.npz", "photos"], "good.npz: is a file; a bundle is a folder"),
    "empty folder": (["net.xai", "near.xai", "empty"], "empty: no image files directly in this folder"),
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
    "device": (["net.xai", "near.xai", "photos", "-d", "no-such"], "ONNX Runtime here has no device 'no-such'"),
    "precision": (
        ["net.xai", "near.xai", "photos", "--precision", "int8"],
        "argument --precision: invalid choice: 'int8'",
    ),
    "json folder": (["net.xai", "near.xai", "photos", "--json", "photos"], "photos: is a folder; the report is a file"),
    "json nowhere": (
        ["net.xai", "near.xai", "photos", "--json", "none/r.json"],
        "none/r.json: its folder does not exist",
    ),
    "overwrite": (["net.xai", "near.xai", "photos", "--overwrite"], "--overwrite: only a recording is kept"),
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
        "net.xai: --record takes the name of the file to write, which ends in .npz",
    ),
    "record into an image": (
        ["--record", "photos/0.png", "net.xai", "photos", "--overwrite"],
        "photos/0.png: --record takes the name of the file to write, which ends in .npz",
    ),
    "record to -": (["--record", "-", "net.xai", "photos"], "-: --record takes the name of the file"),
    "record into a folder": (
        ["--record", "folder.npz", "net.xai", "photos", "--overwrite"],
        "folder.npz: exists; choose",
    ),
    "record nowhere": (["--record", "none/r.npz", "net.xai", "photos"], "none/r.npz: its folder does not exist"),
    "record two bundles": (
        ["--record", "r.npz", "net.xai", "near.xai", "photos"],
        "near.xai: is a bundle, among the images; --record takes the REFERENCE alone",
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
    "record two of one name": (
        ["--record", "r.npz", "net.xai", "photos", "more"],
        "2.png: two images have this name, by which a recording knows them; rename one",
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
    monkeypatch.setattr(check, "_CHUNK", 2)
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
