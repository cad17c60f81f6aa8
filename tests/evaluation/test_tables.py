"""CSV, Parquet and JSON say what the journal says, whatever the images are called."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from xai_deploy.evaluation import summary, tables
from xai_deploy.evaluation.metrics import Column
from xai_deploy.evaluation.session import JOURNAL

from .conftest import Run

STRANGE = [
    "a\nb.png",
    "a\rb.png",
    "猫 é.png",
    "-x.png",
    "=cmd|'x'!A0.png",
    'q",;.png',
    "\x1b[31m.png",
    "\u2028.png",
    " .png",
]


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / JOURNAL).read_bytes().splitlines()]


def of_csv(data: bytes) -> list[dict[str, Any]]:
    text = io.StringIO(data.decode("utf-8", "surrogateescape"), newline="")
    return [{k: None if v == "" else v for k, v in record.items()} for record in csv.DictReader(text, strict=True)]


def in_csv(name: str) -> str:
    """A name as CSV has it: no control characters, and no formula."""
    for character in "\n\r\x1b\u2028":
        name = name.replace(character, f"\\u{ord(character):04x}")
    return "'" + name if name[0] in "=+-@" else name


def typed(record: dict[str, Any]) -> dict[str, Any]:
    kinds = {"image": str, "network": str, "method": str, "target": int, "predicted": int, "error": str}
    return {k: None if v is None else kinds.get(k, float)(v) for k, v in record.items()}


def test_all_agree(desk: Path, run: Run) -> None:
    """Strange names, sub folders, equal stems, links; a row per image, network and method, and one for a broken file."""
    for name in STRANGE:
        shutil.copy("photos/0000.png", Path("photos", name))
    for name in ("sub/0000.png", "sub/deep/0000.png"):
        Path("photos", name).parent.mkdir(exist_ok=True)
        shutil.copy("photos/0001.png", Path("photos", name))
    shutil.copy("photos/0002.png", "photos/0002.BMP.png")
    Path("photos/link.png").symlink_to("0003.png")
    Path("photos/broken.png").write_bytes(Path("photos/0000.png").read_bytes()[:-30])
    shutil.copytree("net.xai", "same.xai")
    run("-m", "reciprocam,score-cam", "--metrics", "complexity,class-sensitivity,adcc", bundles=("net.xai", "same.xai"))
    wanted = []
    journal = lines(Path("out"))
    for chunk in journal[1:]:
        for row in chunk["rows"]:
            figures = {name: row["values"].get(name) for name in COLUMNS}
            keys = ("image", "network", "method", "target", "predicted")
            wanted.append({key: row[key] for key in keys} | figures | {"error": None})
    count = 6 + len(STRANGE) + 4
    assert len(wanted) == count * 4
    assert len({(row["image"], row["network"], row["method"]) for row in wanted}) == count * 4
    names, methods = ["net", "same"], ["reciprocam", "score-cam"]
    wanted = [row | {"network": names[row["network"]], "method": methods[row["method"]]} for row in wanted]
    # a row for the image that can't be read, behind all others
    broken = "photos/broken.png: the image is truncated or damaged; copy or save it again"
    wanted.append(dict.fromkeys(wanted[0]) | {"image": "broken.png", "error": broken})
    data = Path("out/images.csv").read_bytes()
    assert [typed(record) for record in of_csv(data)] == [row | {"image": in_csv(row["image"])} for row in wanted]
    assert all(line.isprintable() for line in data.decode().split("\n"))
    assert pyarrow.parquet.read_table("out/images.parquet").to_pylist() == wanted
    assert {row["image"] for row in wanted} >= {*STRANGE, "sub/deep/0000.png", "link.png", "0002.BMP.png"}
    assert any(row["rank-correlation"] is not None for row in wanted)
    assert any(row["rank-correlation"] is None for row in wanted)


COLUMNS = ["complexity", "class-sensitivity", "adcc", "adcc:coherency", "adcc:complexity", "adcc:drop"]
COLUMNS += ["same-prediction", "rank-correlation", "top10-overlap"]


def test_results(desk: Path, run: Run) -> None:
    """The figures are the means of the rows; undefined ones are not counted; the plan is the journal's."""
    Path("photos/broken.png").touch()
    found = run("--metrics", "complexity,adcc", "-m", "reciprocam,reciprocam:score=softmax")
    records = pyarrow.parquet.read_table("out/images.parquet").to_pylist()
    assert found["plan"] == lines(Path("out"))[0]["plan"]
    assert found["images"] == 6
    assert [entry["image"] for entry in found["skipped"]] == ["broken.png"]
    assert [result["method"] for result in found["results"]] == ["reciprocam", "reciprocam+score=softmax"]
    for result in found["results"]:
        mine = [record for record in records if record["method"] == result["method"]]
        for name in ("complexity", "adcc"):
            values = [record[name] for record in mine]
            assert result["figures"][name]["mean"] == pytest.approx(sum(values) / 6)
            assert result["figures"][name]["count"] == 6
        c, x, d = (sum(r[f"adcc:{n}"] for r in mine) / 6 for n in ("coherency", "complexity", "drop"))
        assert result["figures"]["adcc-of-means"]["mean"] == pytest.approx(3 / (1 / c + 1 / (1 - x) + 1 / (1 - d)))


def test_names_that_are_not_utf8(desk: Path, run: Run) -> None:
    """CSV keeps the bytes; Parquet, which can't, writes them out; JSON keeps them as Python does. So for a bundle's name."""
    image, bundle = os.fsdecode(b"caf\xe9.png"), os.fsdecode(b"n\xe9t.xai")
    shutil.copy("photos/0000.png", Path("photos", image))
    shutil.copytree("net.xai", bundle)
    found = run(bundles=("net.xai", bundle))
    assert b"caf\xe9.png,n\xe9t," in Path("out/images.csv").read_bytes()
    records = pyarrow.parquet.read_table("out/images.parquet").to_pylist()
    assert {(r["image"], r["network"]) for r in records} >= {(r"caf\udce9.png", r"n\udce9t"), (r"caf\udce9.png", "net")}
    assert os.fsencode(found["results"][1]["network"]) == b"n\xe9t"
    assert b"caf" in Path("out/report.html").read_bytes()


def test_columns_of_means_are_no_cells() -> None:
    columns = [Column("a", "higher"), Column("b", "", of_means=lambda means: means["a"])]
    row = {"image": "x", "network": 0, "method": 0, "target": 1, "predicted": 2, "values": {"a": 0.5}}
    (record,) = tables.long([row], [], ["n"], ["m"], columns)
    assert record == {"image": "x", "network": "n", "method": "m", "target": 1, "predicted": 2, "a": 0.5, "error": None}
    assert tables.as_csv([record]) == b"image,network,method,target,predicted,a,error\nx,n,m,1,2,0.5,\n"


def test_undefined_everywhere() -> None:
    """A column without a single figure is a column of numbers all the same."""
    records = [dict.fromkeys(("target", "predicted"), 0) | {"image": "i", "network": "n", "method": "m", "a": None}]
    table = pyarrow.parquet.read_table(pyarrow.BufferReader(tables.as_parquet(records)))
    assert str(table.schema.field("a").type) == "double"
    assert str(table.schema.field("target").type) == "int64"


def test_floats_survive(tmp_path: Path) -> None:
    """All 17 digits, also the smallest."""
    values = [0.1, 1 / 3, 5e-324, -1.7976931348623157e308, 2.0]
    base = {"image": "i", "network": "n", "method": "m", "target": 0, "predicted": 0}
    records = [base | {"a": value} for value in values]
    assert [typed(r)["a"] for r in of_csv(tables.as_csv(records))] == values
    table = pyarrow.parquet.read_table(pyarrow.BufferReader(tables.as_parquet(records)))
    assert table["a"].to_pylist() == values
    group = summary.Group(0, 0, {"a": summary.Figure(1 / 3, 5e-324, None, 2)})
    document = tables.document({}, [group], ["n"], ["m"], [], 2)
    assert document["results"][0]["figures"]["a"] == {"mean": 1 / 3, "low": 5e-324, "high": None, "count": 2}
