"""`xai-explain --rows`: the maps and figures are those that xai-explain writes as files, whoever makes a part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from xai_deploy.cli import explain, explain_rows

from .conftest import pictures
from .test_ray import with_threads

MANY = 23
ASKED = ("-m", "reciprocam,score-cam", "-t", "top2", "--threads", "1", "-q")


@pytest.fixture
def many(desk: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images for three parts, one of them damaged."""
    pictures(desk / "many", MANY)
    Path("many/0010-cut.png").write_bytes(Path("many/0001.png").read_bytes()[:-40])
    monkeypatch.setattr(explain_rows, "PART", 9)
    monkeypatch.setattr("xai_deploy.cli.explain_rows.require_ray", lambda: None)
    return desk


def rows(out: str) -> list[dict[str, Any]]:
    table: list[dict[str, Any]] = pq.read_table(Path(out, explain_rows.ROWS)).to_pylist()
    return table


def parts(out: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(out, explain_rows.ROWS).iterdir())}


def test_same_maps_as_files(many: Path) -> None:
    assert explain.main(["net.xai", "many", *ASKED, "--skip-bad", "-o", "files"]) == 0
    assert explain.main(["net.xai", "many", *ASKED, "--skip-bad", "-o", "rows", "--rows"]) == 0
    report = json.loads(Path("files/results.json").read_bytes())
    bad = [row for row in rows("rows") if row["error"] is not None]
    assert [(row["image"], row["error"]) for row in bad] == [(one["file"], one["reason"]) for one in report["skipped"]]
    assert all(value is None for name, value in bad[0].items() if name not in ("image", "error"))
    good = {(row["image"], row["method"], row["target"]): row for row in rows("rows") if row["error"] is None}
    assert len(good) == 4 * MANY
    assert {row["depth"] for row in good.values()} == {None}
    for image in report["images"]:
        for entry in image["explanations"]:
            row = good[image["file"], entry["method"], entry["target"]]
            raw = np.load(Path("files", entry["raw"]))
            np.testing.assert_array_equal(np.frombuffer(row["map"], "<f4").reshape(row["height"], row["width"]), raw)
            assert (row["probability"], row["logit"]) == (entry["probability"], entry["logit"])
            assert row["predicted"] == image["prediction"][0]["class"]
            assert json.loads(row["options"]) == entry["options"]
    whole = json.loads(Path("rows/results.json").read_bytes())
    assert (whole["images"], whole["rows"], len(whole["parts"])) == (MANY, 4 * MANY + 1, 3)
    assert whole["skipped"] == report["skipped"]


def test_a_killed_call_goes_on(many: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Also on a cluster, of which a worker dies: the files are the same bytes."""
    asked = ["net.xai", "many", *ASKED[:-1], "--skip-bad"]
    assert explain.main([*asked, "-o", "whole", "--rows"]) == 0
    told = capsys.readouterr().out
    assert told == f"{MANY} images, 1 skipped, {4 * MANY + 1} rows in 3 files; see whole/explanations.parquet\n"
    make = explain_rows.Work._make
    calls: list[int] = []

    def interrupted(self: explain_rows.Work, *given: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return make(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(explain_rows.Work, "_make", interrupted)
        assert explain.main([*asked, "-o", "again", "--rows"]) == 130
    assert "9 of 24 images are done" in capsys.readouterr().err
    assert list(parts("again")) == ["part-00000.parquet"]
    with_threads(monkeypatch, lambda call, item: call == 1)
    assert explain.main([*asked, "-o", "again", "--ray", "local"]) == 0
    assert "continuing with" in capsys.readouterr().err
    assert parts("again") == parts("whole")
    assert Path("again/results.json").read_bytes() == Path("whole/results.json").read_bytes()


def test_refusals(many: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def line(*arguments: str) -> str:
        capsys.readouterr()
        assert explain.main(["net.xai", "many", "-m", "reciprocam", "--rows", *arguments]) == 2
        return capsys.readouterr().err.strip().removeprefix("xai-explain: error: ")

    for option, *value in (
        *(("--report", "card.html"), ("--records", "kept"), ("--records-images",), ("--input", "x=1")),
        *(
            ("--colormap", "viridis"),
            ("--size", "100"),
            ("--format", "jpg"),
            ("--opacity", "0"),
            ("--grey",),
            ("--contours",),
        ),
    ):
        assert line(option, *value) == f"{option}: not with --rows, which writes maps alone"
    assert line("-o", "out") == "many/0010-cut.png: the image is truncated or damaged; copy or save it again"
    assert not list(Path("out", explain_rows.ROWS).glob("part-00001*"))  # nothing half-written
    assert not Path("out/results.json").exists()
    assert explain.main(["net.xai", "many", "-m", "reciprocam", "--rows", "-o", "done", "--skip-bad", "-q"]) == 0
    assert "belongs to a call that differs in methods" in line("-m", "eigen-cam", "-o", "done", "--skip-bad")
    assert explain.main(["net.xai", "photos", "-m", "reciprocam", "-o", "pictures", "-q"]) == 0
    assert line("-o", "pictures") == (
        "pictures/results.json: exists; choose another folder with -o, or give --overwrite"
    )
