"""An evaluation on archives has the figures of the same images in a folder."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xai_deploy.cli import evaluate as command
from xai_deploy.cli import explain

from .conftest import Refused, Run, pictures

ASKED = ("--metrics", "complexity,segmentation", "--threads", "1", "-q")


def masked(desk: Path) -> None:
    """Twenty images and their masks in folders, in a tar file and in a Parquet file."""
    pictures(desk / "set", 20)
    pictures(desk / "masks", 20)
    files = sorted(Path("set").iterdir())
    with tarfile.open("set.tar", "w") as tar:
        for file in files:
            tar.add(file, file.name)
            tar.add(Path("masks", file.name), f"{file.stem}.mask.png")
    images = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    truth = [Path("masks", file.name).read_bytes() for file in files]
    pq.write_table(pa.table({"image": images, "mask": truth}), "set.parquet", row_group_size=6)


def test_same_figures(desk: Path, run: Run) -> None:
    masked(desk)
    whole = run(*ASKED, "--masks", "masks", images="set", out="folder")
    for archive in ("set.tar", "set.parquet"):
        for masks in (archive, "masks"):
            own = run(*ASKED, "--masks", masks, images=archive, out=f"{archive}-{masks}-out")
            assert own["results"] == whole["results"], (archive, masks)
            assert Path(f"{archive}-{masks}-out/images.csv").read_bytes() == Path("folder/images.csv").read_bytes()
    Path("shards").mkdir()
    Path("set.tar").rename("shards/1.tar")
    own = run(*ASKED, "--masks", "shards", images="shards", out="shards-out")
    assert own["results"] == whole["results"]


def test_a_truncated_shard(desk: Path, run: Run, refused: Refused) -> None:
    masked(desk)
    Path("cut.tar").write_bytes(Path("set.tar").read_bytes()[:-20_000])
    own = run("-q", images="cut.tar", out="cut-out")
    assert 0 < own["images"] < 20
    (bad,) = own["skipped"]
    assert "before this entry does; copy or download it again" in bad["reason"]
    assert "cut.tar" in refused("net.xai", "--no-skip-bad", "--metrics", "complexity", images="cut.tar")
    assert "set.tar.gz: is a compressed tar file" in refused("net.xai", images="set.tar.gz")
    line = refused("net.xai", "--masks", "cut.parquet", images="cut.tar")
    assert "cut.parquet: not a folder" in line


def test_explain(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masked(desk)
    assert explain.main(["net.xai", "set", "-m", "reciprocam", "-o", "one", "-q", "--threads", "1"]) == 0
    for archive in ("set.tar", "set.parquet"):
        assert (
            explain.main(["net.xai", archive, "-m", "reciprocam", "-o", archive + ".out", "-q", "--threads", "1"]) == 0
        )
        one, other = (json.loads(Path(out, "results.json").read_bytes())["images"] for out in ("one", archive + ".out"))
        assert [image["prediction"] for image in other] == [image["prediction"] for image in one]
        for file in Path("one").glob("*--*"):
            assert file.read_bytes() == Path(archive + ".out", file.name).read_bytes()
    assert (
        command.main(["net.xai", "set.tar", "-m", "reciprocam", "--metrics", "complexity", "-q", "--boxes", "b.csv"])
        == 2
    )
