"""xai-explain: likelihoods by the network's own activation, and what becomes of earlier results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xai_deploy import Explainer
from xai_deploy.answer import likelihood
from xai_deploy.cli import explain
from xai_deploy.cli.drawing import likelihood as likelihood_in_words

from .. import tiny
from .test_cli import report
from .test_cli_refusals import bad


def test_sigmoid_network(work: Path) -> None:
    tiny.write(work / "multi.xai", changes={"activation": "sigmoid"})
    assert explain.main(["multi.xai", "photos/cat.png", "-t", "top2"]) == 0
    (image,) = report()["images"]
    for entry in (*image["prediction"], *image["explanations"]):
        assert entry["probability"] == pytest.approx(1 / (1 + np.exp(-entry["logit"])))


def test_likelihood_of_one_class_without_activation(work: Path) -> None:
    tiny.write(work / "raw.xai", changes={"activation": "none"})
    found = likelihood(Explainer("raw.xai"), np.array([1.25], np.float32), 0)
    assert found == {"probability": None, "logit": 1.25}
    assert likelihood_in_words(found) == "logit 1.25"


def test_bundle_is_checked_before_earlier_results(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("out").mkdir()
    Path("out/results.json").touch()
    assert "none.xai: no such folder" in bad(["none.xai", "photos", "-o", "out"], capsys)
    assert "results.json: exists" in bad(["net.xai", "photos", "-o", "out"], capsys)


def test_overwriting_leaves_nothing_stale(work: Path) -> None:
    assert explain.main(["net.xai", "photos", "-m", "cam", "-o", "out"]) == 0
    assert explain.main(["net.xai", "photos/dog.png", "-t", "1", "--overwrite", "-o", "out"]) == 0
    wanted = ["contact-sheet.png", "dog--reciprocam--1.npy", "dog--reciprocam--1.png", "report.html", "results.json"]
    assert sorted(path.name for path in Path("out").iterdir()) == wanted


def test_failing_part_way_leaves_the_earlier_results(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain.main(["net.xai", "photos/dog.png", "-o", "out"]) == 0
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    capsys.readouterr()
    Path("photos/z.png").write_bytes(Path("photos/cat.png").read_bytes()[:-20])
    bad(["net.xai", "photos", "-o", "out", "--overwrite", "--batch-size", "1"], capsys)
    kept = Path("out/unfinished")  # the images before the bad one
    assert (kept / "journal.jsonl").is_file()
    assert {path.name: path.read_bytes() for path in Path("out").iterdir() if path != kept} == before
