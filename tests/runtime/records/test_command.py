"""xai-explain --records and xai-records, from the outside: exit statuses, messages, files."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from xai_deploy import read_image
from xai_deploy.cli import explain
from xai_deploy.cli.records import main
from xai_deploy.records import Record, Recorder, records

from .. import tiny
from . import damage


def recorded(*more: str) -> list[Record]:
    arguments = ["net.xai", "photos", "-m", "reciprocam,cam:relu=true", "-t", "beagle", "-t", "top2", "-q", *more]
    assert explain.main([*arguments, "--records", "records"]) == 0
    return [record for _, record in records(Path("records"))]


def test_what_explain_records(work: Path, backend: str) -> None:
    """A record of each image, method and target; results.json says the same."""
    found = recorded("-b", backend)
    report = json.loads(next(Path("xai-output").glob("*/results.json")).read_bytes())
    entries = [(image, entry) for image in report["images"] for entry in image["explanations"]]
    assert len(found) == len(entries) == 3 * 2 * 3
    for record, (image, entry) in zip(found, entries, strict=True):
        assert record.input.file == image["file"]
        assert record.input.sha256 == hashlib.sha256(Path(image["file"]).read_bytes()).hexdigest()
        for key in ("method", "options", "seconds"):
            assert getattr(record, key) == entry[key]
        assert (record.target.index, record.target.label, record.target.logit) == (
            entry["target"],
            entry["label"],
            entry["logit"],
        )
        assert [(p.index, p.probability) for p in record.prediction] == [
            (p["class"], p["probability"]) for p in image["prediction"]
        ]
        raw = np.load(next(Path("xai-output").iterdir()) / entry["raw"])
        np.testing.assert_allclose(record.map.raw, raw, atol=np.abs(raw).max() / 2000)
    assert [record.target.asked for record in found[:6]] == ["beagle", "top2", "top2"] * 2
    assert [record.target.chosen_by for record in found[:3]] == ["caller", "network", "network"]
    assert main(["verify", "records", "-q"]) == 0


def test_the_files_do_not_depend_on_records(work: Path) -> None:
    """A call that was interrupted without --records goes on with it."""
    assert explain.main(["net.xai", "photos/dog.png", "-q", "-o", "a"]) == 0
    arguments = ["net.xai", "photos/dog.png", "-q", "-o", "b", "--records", "records", "--records-images"]
    assert explain.main([*arguments, "--records-durable"]) == 0
    assert read_image("a/contact-sheet.png").tobytes() == read_image("b/contact-sheet.png").tobytes()
    [record] = [record for _, record in records(Path("records"))]
    assert base64.b64decode(record.input.image or "") == Path("photos/dog.png").read_bytes()


@pytest.mark.parametrize("option", ["--records-images", "--records-durable"])
def test_options_without_records(work: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    assert explain.main(["net.xai", "photos", option]) == 2
    assert capsys.readouterr().err == f"xai-explain: error: {option} needs --records DIR\n"
    assert not Path("xai-output").exists()


def test_records_that_can_not_be_written(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("file").touch()
    assert explain.main(["net.xai", "photos", "--records", "file"]) == 2
    assert capsys.readouterr().err == "xai-explain: error: file: is a file; records go into a folder\n"
    assert not Path("xai-output").exists()

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    assert explain.main(["net.xai", "photos", "--records", "records", "-q"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("xai-explain: error: records: records can't be written (No space left on device)")
    assert error.count("\n") == 1
    assert not list(Path().glob("xai-output/*/results.json"))  # nothing is published without its record


def test_verify(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded()
    assert main(["verify", "records", "--json", "heads.json"]) == 0
    chain, verdict = capsys.readouterr().out.splitlines()
    assert verdict == (
        "18 records in 1 chain: in order; keep the heads elsewhere, only they show a rewritten chain or a cut end"
    )
    [file] = damage.files(Path("records"))
    lines = damage.lines_of(file)
    head = hashlib.sha256(lines[-1].rstrip(b"\n")).hexdigest()
    assert chain == f"{file.name[:-12]}: --head {head} --count 18"
    assert main(["verify", "records", "--head", head, "--count", "18"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "18 records in 1 chain: as they were when the heads were kept, and in order since"
    assert main(["verify", "records", "--head", "0" * 64, "--count", "18", "-q"]) == 1
    assert "record 17 is changed: its sha256 is not the head that was kept" in capsys.readouterr().out
    damage.put(file, lines[:-1])
    next(Path("records").glob("*.count")).unlink()
    assert main(["verify", "records", "-q"]) == 0
    assert main(["verify", "records", "--heads", "heads.json", "--json", "-"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["intact"], report["chains"][0]["count"]) == (False, 17)
    assert (report["faults"][0]["file"], report["faults"][0]["line"]) == (str(file), 17)
    damage.put(file, [*lines[:3], lines[4], lines[3], *lines[5:7], lines[7].replace(b"cat", b"cow", 1), lines[8][:-9]])
    assert main(["verify", "records"]) == 1
    *faults, _, last = capsys.readouterr().out.splitlines()
    assert faults == [
        f"{file}, line 9: the line has no end: it is cut off, or its process was killed while it wrote it",
        f"{file}, line 4: record 4 is out of order: record 3 belongs here",
        f"{file}, line 5: record 3 is out of order: record 4 belongs here",
    ]
    assert last == "8 records in 1 chain: 3 faults"  # nothing follows the changed one that could speak against it
    assert main(["verify", "records", "-q", "--head", hashlib.sha256(lines[7][:-1]).hexdigest(), "--count", "8"]) == 1
    assert f"{file}, line 8: record 7 is changed" in capsys.readouterr().out


def test_show(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record, *_ = recorded("--records-images")
    arguments = ["show", "records", record.id, "-o", "map.png", "--image", "image.png"]
    assert main(arguments) == 0
    head, text = capsys.readouterr().out.split("\n", 1)
    assert head == f"beagle by reciprocam, {record.time}, tiny-pooled on onnxruntime"
    document = json.loads(text)
    assert document["id"] == record.id
    assert "data" not in document["map"]
    assert Path("image.png").read_bytes() == Path(record.input.file or "").read_bytes()
    picture = read_image("map.png")
    assert picture.shape == (tiny.HEIGHT, tiny.WIDTH, 3)
    raw = record.map.raw
    bright = picture.astype(int).sum(
        axis=2
    )  # inferno grows lighter: the hottest position is where the map's maximum is
    row, column = np.unravel_index(raw.argmax(), raw.shape)
    top, left = np.unravel_index(bright.argmax(), bright.shape)
    assert (top * raw.shape[0] // tiny.HEIGHT, left * raw.shape[1] // tiny.WIDTH) == (row, column)
    assert main(["show", "records", f"{record.chain}:0", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == record.id


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_export(work: Path, capsys: pytest.CaptureFixture[str], suffix: str) -> None:
    found = recorded()
    assert main(["export", "records", f"out.{suffix}"]) == 0
    assert capsys.readouterr().out == f"18 records in out.{suffix}\n"
    if suffix == "csv":
        with Path("out.csv").open(encoding="utf-8", newline="") as file:
            rows: list[dict[str, Any]] = list(csv.DictReader(file))
    else:
        rows = pyarrow.parquet.read_table("out.parquet").to_pylist()
    assert len(rows) == len(found)
    for row, record in zip(rows, found, strict=True):
        assert (row["id"], row["bundle"], row["method"]) == (record.id, record.source.bundle, record.method)
        assert int(row["target"]) == record.target.index
        assert float(row["probability"]) == record.target.probability
        assert json.loads(row["options"]) == record.options
        assert record.statistics is not None
        energy = [float(row[f"energy_{r}_{c}"]) for r in range(4) for c in range(4)]
        assert tuple(energy) == record.statistics.energy
        assert float(row["entropy"]) == record.statistics.entropy
        assert not row["versus"]
    if suffix == "parquet":
        assert main(["export", "records", "maps.parquet", "--maps", "-q"]) == 0
        maps = pyarrow.parquet.read_table("maps.parquet").column("map").to_pylist()
        for data, record in zip(maps, found, strict=True):
            np.testing.assert_array_equal(np.frombuffer(data, "<f2").reshape(record.map.shape), record.map.numbers)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("verify nothing", "nothing: no such folder; verify takes the folder"),
        ("verify photos", "photos: holds no records; xai-explain --records and Recorder write such folders"),
        ("verify records extra", "verify takes RECORDS alone, not 'extra'"),
        (
            "verify records --count 3",
            "--head and --count belong together: give both, as verify printed them, for each chain",
        ),
        ("verify records --head abc --count 3", "argument --head: 'abc' is no sha256 of 64 hexadecimal digits"),
        ("verify records --count -1", "argument --count: '-1' is no count of records"),
        ("verify records --maps", "--maps is for export, not for verify"),
        ("export records out.csv --allow-unfinished", "--allow-unfinished is for verify, not for export"),
        ("show records", "show takes RECORDS and ID"),
        ("show records abc", "abc: is no record's id (32 hexadecimal digits) and not CHAIN:NUMBER"),
        ("show records x:3", "records: holds no record x:3"),
        (
            "show records FIRST --image a.png",
            "FIRST: its image was not kept (xai-explain --records-images keeps images)",
        ),
        ("show records FIRST -o no/a.png", "no/a.png: its folder does not exist"),
        ("export records", "export takes RECORDS and a file"),
        ("export records out.txt", "out.txt: the file ends in .csv or .parquet"),
        ("export records out.csv --maps", "--maps: a CSV file holds no maps; export to .parquet"),
        ("export records there.csv", "there.csv: exists; choose another name, or give --overwrite"),
        (
            "export bad out.csv",
            "bad/20260101T000000-1-00000000-00000.jsonl, line 1: is no JSON; xai-records verify says more",
        ),
        ("erase records", "argument verify|show|export: invalid choice: 'erase' (choose from"),
    ],
)
def test_refusals(work: Path, capsys: pytest.CaptureFixture[str], arguments: str, message: str) -> None:
    """One line, status 2, and no file."""
    damage.write(Path("records"), 2)
    Path("there.csv").touch()
    Path("bad").mkdir()
    Path("bad/20260101T000000-1-00000000-00000.jsonl").write_bytes(b"x\n")
    first = json.loads(damage.lines_of(damage.files(Path("records"))[0])[0])["id"]
    before = sorted(Path().rglob("*"))
    try:
        status = main(arguments.replace("FIRST", first).split())
    except SystemExit as ended:
        status = int(str(ended.code))
    error = capsys.readouterr().err
    assert status == 2
    assert error.startswith(f"xai-records: error: {message.replace('FIRST', first)}")
    assert error.count("\n") == 1
    assert sorted(Path().rglob("*")) == before


def test_texts_that_no_file_holds(tmp_path: Path) -> None:
    """A byte of a file name stays that byte; a lone surrogate that stands for none becomes its escape."""
    with Recorder(tmp_path / "odd") as recorder:
        recorder.record(damage.deployed(), np.eye(4), np.zeros(3), "odd\ud800 \udfff", file="a\udcff.png")
    assert main(["export", str(tmp_path / "odd"), str(tmp_path / "odd.csv"), "-q"]) == 0
    written = (tmp_path / "odd.csv").read_bytes()
    assert rb"odd\ud800 \udfff" in written
    assert b"a\xff.png" in written
