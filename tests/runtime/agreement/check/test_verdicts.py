"""xai-check from the outside: verdicts, report, exit statuses."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest

from xai_deploy import Explainer, read_image
from xai_deploy.cli import check, check_images
from xai_deploy.cli.check import main
from xai_deploy.format.bundle import Bundle, Preprocess

from ... import small, tiny
from .running import Capture, bad, figures, record


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
        "4 images; the maps have the same peaks on all",
        "the networks agree",
    ]


def test_assumed_preprocessing_is_told_of_either(here: Path, tmp_path: Path, capsys: Capture) -> None:
    for name in ("guess.xai", "surmise.xai"):
        tiny.write(tmp_path / name, preprocess=Preprocess(scale=tiny.SCALE, assumed=True))
    assert main(["guess.xai", "surmise.xai", "photos", "-m", "reciprocam", "-q"]) == 0
    assert main(["guess.xai", "surmise.xai", "photos", "-m", "reciprocam"]) == 0
    assert main(["guess.xai", "guess.xai", "photos", "-m", "reciprocam"]) == 0
    lines = capsys.readouterr().err.splitlines()
    told = "the bundle's preprocessing was assumed at export"
    assert [line.partition(told)[0] for line in lines] == [
        f"xai-check: warning: {name}: " for name in ("guess.xai", "surmise.xai", "guess.xai")
    ]


def test_what_makes_maps_differ_that_are_right(here: Path, capsys: Capture) -> None:
    tiny.write(here / "left.xai")
    tiny.write(here / "right.xai", labels=tiny.LABELS[::-1])
    assert main(["left.xai", "right.xai", "photos", "-m", "reciprocam"]) == 0
    said = "xai-check: warning: the networks' labels differ: a class of one may not be the same class of the other\n"
    assert capsys.readouterr().err == said
    target = Bundle.open("left.xai").manifest.target
    tiny.write(here / "other.xai", changes={"target": replace(target, asked="stage1", shape=(6, 8, 10))})
    with contextlib.suppress(SystemExit):
        main(["left.xai", "other.xai", "photos", "-m", "reciprocam"])
    said = f"the reference is cut at {target.asked}, the deployed network at stage1, so their maps differ for that reason alone"
    assert said in capsys.readouterr().err


REPORT = ["net.xai", "net.xai", "photos", "-m", "reciprocam", "-q", "--json"]


def test_a_report_is_replaced_whole(here: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("real.json").touch()
    Path("real.json").chmod(0o600)
    Path("report.json").symlink_to("real.json")
    assert main([*REPORT, "report.json"]) == 0
    whole = Path("real.json").read_bytes()
    assert json.loads(whole)["passed"]
    assert (Path("report.json").is_symlink(), Path("real.json").stat().st_mode & 0o777) == (True, 0o600)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert main([*REPORT, "report.json"]) == 2
    message = f"xai-check: error: {here.resolve() / 'real.json'}: can't be written (No space left on device)\n"
    assert capsys.readouterr().err == message
    assert Path("real.json").read_bytes() == whole
    assert not list(here.glob(".*"))


@pytest.mark.skipif(sys.platform == "win32", reason="has no such files")
def test_a_report_to_a_pipe(here: Path) -> None:
    """Process substitution, and /dev/stdout where it is a pipe, name what no link leads to."""
    reading, writing = os.pipe()
    with open(reading, "rb") as end:
        assert main([*REPORT, f"/dev/fd/{writing}"]) == 0
        os.close(writing)
        assert json.loads(end.read())["passed"]


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
    assert set(report) == {"passed", "reference", "deployed", "methods", "figures", "images", "skipped"}
    assert report["passed"] is False
    explainers = Explainer("net.xai"), Explainer("far.xai", backend)
    for side, explainer in zip(("reference", "deployed"), explainers, strict=True):
        manifest = explainer.bundle.manifest
        runtime = f"{explainer.backend} on cpu, f32"
        expected = {"name": manifest.name, "digest": manifest.digest, "layer": "r2", "runtime": runtime}
        assert report[side] == expected
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


def test_one_network_in_two_precisions(here: Path, capsys: Capture) -> None:
    """bf16 has eight bits: near, and not the same. A CPU without it says so."""
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        line = bad(["net.xai", "net.xai", "photos", "-b", "openvino", "--precision", "bf16"], capsys)
        assert line == "OpenVINO on CPU computes in f32 instead of 'bf16'; give a precision that the device has"
        return
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


@pytest.mark.parametrize(("asked", "held"), [((), 4), (("--batch-size", "1"), 1), (("--batch-size", "3"), 3)])
def test_no_more_images_are_held_than_a_batch(
    here: Path, monkeypatch: pytest.MonkeyPatch, asked: tuple[str, ...], held: int
) -> None:
    sizes: list[int] = []
    chunks = check_images.chunks

    def counted(*args: Any) -> Any:
        for paths, pictures in chunks(*args):
            sizes.append(len(pictures))
            yield paths, pictures

    monkeypatch.setattr(check, "chunks", counted)
    figures("net.xai", "far.xai", "photos", *asked, status=1)
    assert (max(sizes), sum(sizes)) == (held, 4)


def test_chunks_change_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures("net.xai", "far.xai", "photos", status=1)
    whole = json.loads(Path("report.json").read_text())["images"]
    monkeypatch.setattr(check_images, "_CHUNK", 3)
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
    """One says yes, the other no."""
    assert figures("one.xai", "one.xai", "photos", "--max-difference", "0")["top-1 agreement"]["value"] == 1
    small.write(here / "other.xai", classes=1, activation="Sigmoid", seed=9)
    found = figures(
        "one.xai", "other.xai", "photos", "-m", "reciprocam", "--min-correlation", "0", "--min-overlap", "0", status=1
    )
    assert found["top-1 agreement"]["value"] == 0
    assert found["probability difference"]["value"] > 0.1
    pictures = [read_image(f"photos/{i}.png") for i in range(4)]
    one, other = (Explainer(f"{name}.xai").predict(pictures) > 0 for name in ("one", "other"))
    assert (one != other).all()


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
