"""An evaluation from Python in one call: what xai-evaluate does, with the same files, and its results as data."""

from __future__ import annotations

import csv
import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest

from xai_deploy import Explainer
from xai_deploy.errors import OptionError, TruthError, XaiError
from xai_deploy.evaluation import Plan, Results, Subject, evaluate, evaluate_into
from xai_deploy.explainer import MethodSpec

from ..support.pages import body
from . import nets
from .conftest import Run, interrupt, pictures

FILES = ("journal.jsonl", "images.csv", "images.parquet", "results.json", "report.html")
METHODS: list[MethodSpec] = ["reciprocam", ("score-cam", {"channel_softmax": True, "score": "logit"})]
SOME: tuple[str, dict[str, Any]] = ("score-cam", {"budget": 16})
METRICS: list[MethodSpec] = [("deletion", {"steps": 5}), "iou"]


def files(out: str) -> dict[str, bytes]:
    return {path.name: body(path) if path.name == "report.html" else path.read_bytes() for path in Path(out).iterdir()}


def test_the_same_files_as_the_command(desk: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Options as text there, and as what they are here."""
    nets.write(desk / "other.xai", 1, labels=("cat", "dog", "owl", "elk", "emu"))
    Path("boxes.csv").write_text("image,left,top,right,bottom\n0000.png,2,2,12,12\n0004.png,1,3,9,9\n")
    titles = "reciprocam,score-cam:channel_softmax=true:score=logit"
    given = ["-m", titles, "--metrics", "deletion:steps=5,iou", "--boxes", "boxes.csv", "-t", "owl", "--limit", "5"]
    run(*given, "--seed", "2", bundles=("net.xai", "other.xai"), out="command")
    capsys.readouterr()
    results = evaluate(
        ["net.xai", Path("other.xai")],
        Path("photos"),
        out="python",
        methods=METHODS,
        metrics=METRICS,
        boxes=Path("boxes.csv"),
        target="owl",
        limit=5,
        seed=2,
    )
    assert sorted(files("python")) == sorted([*FILES, "curves.csv"])
    assert files("python") == files("command")
    assert capsys.readouterr() == ("", "")
    assert results.out == Path("python")
    assert results.document == json.loads(Path("python/results.json").read_bytes())
    assert results.networks == ["net", "other"]
    assert results.plan.titles == ["reciprocam", "score-cam+channel_softmax=true+score=logit"]
    with Path("python/images.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    shown = [{key: "" if value is None else str(value) for key, value in row.items()} for row in results.records]
    assert shown == rows
    assert (results.images, len(rows), results.skipped) == (5, 5 * 2 * 2, [])


def test_the_usual_methods_and_metrics(desk: Path, run: Run) -> None:
    """Nothing named: the command's defaults; methods named twice are measured once."""
    results = evaluate("net.xai", "photos", out="python")
    named = [name for name, _ in results.plan.metrics]
    assert named == ["average-drop", "average-increase", "deletion", "insertion", "coherency", "complexity", "adcc"]
    assert results.plan.titles == ["eigen-cam", "reciprocam"]
    again = evaluate("net.xai", "photos", out="again", methods=["reciprocam"] * 2, metrics=["complexity"] * 2)
    assert (again.plan.methods, again.plan.metrics) == ([("reciprocam", {})], [("complexity", {})])


@pytest.mark.parametrize("first", ["command", "python"])
def test_one_goes_on_where_the_other_stopped(desk: Path, run: Run, monkeypatch: pytest.MonkeyPatch, first: str) -> None:
    pictures(desk / "many", 36)
    seen: list[tuple[Path, int, int]] = []

    def from_python(out: str) -> Results:
        given: dict[str, Any] = {"methods": ["reciprocam"], "metrics": ["complexity"]}
        return evaluate("net.xai", "many", out=out, on_chunk=lambda *counts: seen.append(counts), **given)

    from_python("whole")
    assert [(done, images) for _, done, images in seen] == [(0, 36), (16, 36), (32, 36), (36, 36)]
    seen.clear()
    with monkeypatch.context() as patch:
        interrupt(patch)
        if first == "python":
            with pytest.raises(KeyboardInterrupt):
                from_python("out")
            assert [(done, images) for _, done, images in seen] == [(0, 36), (16, 36)]
        else:
            with pytest.raises(AssertionError, match="16 of 36 images are done"):
                run(images="many")
    seen.clear()
    if first == "python":
        run(images="many")
    else:
        from_python("out")
        assert [(done, images) for _, done, images in seen] == [(16, 36), (32, 36), (36, 36)]
    assert files("out") == files("whole")


def test_what_is_open_already(desk: Path) -> None:
    """A program makes the networks and the plan itself; a finished evaluation is read, not measured."""
    subject = Subject("mine", Explainer("net.xai"))
    images = sorted(Path("photos").iterdir())[:2]
    plan = Plan(Path("photos"), images, [("reciprocam", {})], [("complexity", {})])
    results = evaluate_into("out", [subject], plan)
    assert [result["network"] for result in results.document["results"]] == ["mine"]
    before = files("out")
    assert evaluate_into("out", [subject], plan).document == results.document
    assert files("out") == before


def test_what_is_skipped_is_logged(desk: Path, caplog: pytest.LogCaptureFixture) -> None:
    Path("photos/empty.png").touch()
    with caplog.at_level(logging.WARNING, "xai_deploy"):
        results = evaluate("net.xai", "photos", out="out", methods=["reciprocam"], metrics=["complexity"])
    assert [entry["image"] for entry in results.skipped] == ["empty.png"]
    assert results.images == 6
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "photos/empty.png: is empty" in caplog.text


def test_randomised_bundles_are_found(desk: Path) -> None:
    nets.write_randomised(desk / "net.xai", 2)
    results = evaluate("net.xai", "photos", out="out", methods=["reciprocam"], metrics=["sanity"])
    assert [column.name for column in results.columns] == ["sanity-1", "sanity-2"]


def test_refusals(desk: Path) -> None:
    given: list[tuple[dict[str, Any], type[XaiError], str]] = [
        ({"methods": []}, OptionError, "methods are a list of names, or of pairs of a name and options, not []"),
        ({"metrics": []}, OptionError, "metrics are a list of names, or of pairs of a name and options, not []"),
        ({"metrics": [3]}, OptionError, "a metric is a name, or a pair of a name and options, not 3"),
        ({"metrics": ["iou"]}, OptionError, "iou: needs boxes"),
        ({"boxes": "none.csv"}, TruthError, "none.csv: no such file or folder"),
        ({"out": "net.xai/manifest.json"}, XaiError, "is a file; give a folder for the results"),
    ]
    for arguments, kind, message in given:
        with pytest.raises(kind) as caught:
            evaluate("net.xai", "photos", **{"out": "out", **arguments})
        assert message in str(caught.value)
    assert not Path("out").exists()


def test_the_methods_own_figures_are_in_the_results(desk: Path) -> None:
    """Their means over the images, from what explanations of the same images say one by one."""
    found = evaluate(
        ["net.xai"], Path("photos"), out="own", methods=["reciprocam", SOME], metrics=["complexity"], limit=4
    )
    plain, own = found.document["results"]
    explainer = Explainer(Path("net.xai"))
    positions = math.prod(explainer.bundle.manifest.target.shape[1:])  # a run of the tail for each
    ways = {name: figure["mean"] for name, figure in plain["diagnostics"].items()}
    assert ways == {"windows": 0, "share": 1, "passes": positions}
    said = [explainer.explain(path, SOME[0], **SOME[1]).diagnostics for path in sorted(Path("photos").iterdir())[:4]]
    for name in ("passes", "relative_error"):
        values = [one[name][0] for one in said]
        assert own["diagnostics"][name]["mean"] == pytest.approx(sum(values) / 4, rel=1e-3)
        assert own["diagnostics"][name]["count"] == 4
    summed = own["diagnostics"]["passes"]
    assert summed["low"] <= summed["mean"] <= summed["high"]
