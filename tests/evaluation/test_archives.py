"""An evaluation on archives has the figures of the same images in a folder."""

from __future__ import annotations

import csv
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xai_deploy import Explainer, read_image
from xai_deploy.cli import evaluate as command
from xai_deploy.cli import explain

from . import nets
from .conftest import Refused, Run, pictures
from .test_ray import with_threads

LABELS = ("cat", "dog", "owl", "elk", "emu")
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


def labelled(files: list[Path]) -> None:
    """The images of a folder with a class each, as an index, a text and an object of JSON, in a tar file and in a Parquet file."""
    with tarfile.open("labelled.tar", "w") as tar:
        for number, file in enumerate(files):
            tar.add(file, file.name)
            ending, text = (
                (".cls", f"{number % 5}\n"),
                (".cls", LABELS[number % 5]),
                (".json", f'{{"label": {number % 5}}}'),
            )[number % 3]
            Path("own").write_text(text)
            tar.add("own", file.stem + ending)
    images = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    pq.write_table(
        pa.table({"image": images, "label": [number % 5 for number in range(len(files))]}), "labelled.parquet"
    )


def table(folder: str) -> dict[str, dict[str, str]]:
    """The rows of images.csv by the image's name."""
    with Path(folder, "images.csv").open(newline="") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


def test_the_class_that_an_archive_gives(desk: Path, run: Run) -> None:
    """Its map is that of this class, asked for by its index."""
    files = sorted(pictures(desk / "set", 10).iterdir())
    labelled(files)
    ask = ("--metrics", "complexity,average-drop", "--threads", "1", "-q")
    of_class = {}
    for index in range(5):
        run(*ask, "-t", str(index), images="set", out=f"class-{index}")
        of_class[index] = table(f"class-{index}")
    for archive in ("labelled.tar", "labelled.parquet"):
        results = run(*ask, "--labelled", images=archive, out=f"{archive}-out")
        rows, right = table(f"{archive}-out"), []
        for number, file in enumerate(files):
            row, want = rows[file.name], of_class[number % 5][file.name]
            right.append(row["predicted"] == row["target"])
            assert row.pop("correct") == ("100.0" if right[-1] else "0.0")
            assert row == want
        (group,) = results["results"]
        assert group["figures"]["correct"]["mean"] == pytest.approx(100 * sum(right) / len(right))
        assert 0 < sum(right) < len(right)


def test_the_answers_to_a_network_with_one_output(desk: Path, run: Run) -> None:
    """Yes by 1 and by the label, no by 0; any other is skipped. The map is that of the output in all of them."""
    files = sorted(pictures(desk / "set", 12).iterdir())
    weights = nets.write(desk / "one.xai", 3, classes=1, activation="sigmoid", labels=("fault",))
    texts, right = ("1", "0", "fault", "Fault", "2"), []
    with tarfile.open("answers.tar", "w") as tar:
        for number, file in enumerate(files):
            tar.add(file, file.name)
            Path("own").write_text(texts[number % 5])
            tar.add("own", f"{file.stem}.cls")
    ask = ("--metrics", "complexity", "--threads", "1", "-q")
    run(*ask, bundles=("one.xai",), images="set", out="all")
    run(*ask, "--labelled", bundles=("one.xai",), images="answers.tar", out="answered")
    maps, rows = table("all"), table("answered")
    for number, file in enumerate(files):
        if number % 5 == 4:
            assert rows[file.name]["target"] == ""
            continue
        yes = float(Explainer(weights).predict(read_image(file))[0, 0]) >= 0
        right.append(yes == (number % 5 != 1))
        assert rows[file.name].pop("correct") == ("100.0" if right[-1] else "0.0")
        assert rows[file.name] == maps[file.name]
    assert 0 < sum(right) < len(right)


def test_the_classes_on_a_cluster(desk: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each worker reads the classes of its images itself."""
    labelled(sorted(pictures(desk / "set", 40).iterdir()))
    ask = ("--metrics", "complexity", "--threads", "1", "-q", "--labelled")
    run(*ask, images="labelled.tar", out="whole")
    monkeypatch.setattr("xai_deploy.evaluation.session.require_ray", lambda: None)
    ray = with_threads(monkeypatch)
    run(*ask, "--ray", "local", images="labelled.tar", out="spread")
    assert ray.calls > 1
    for name in ("results.json", "images.csv"):
        assert Path("spread", name).read_bytes() == Path("whole", name).read_bytes()
    assert {row["correct"] for row in table("spread").values()} == {"0.0", "100.0"}


def test_no_class(desk: Path, run: Run, refused: Refused) -> None:
    """Images without a class of the network are skipped, each with its reason."""
    files = sorted(pictures(desk / "set", 6).iterdir())
    given = {
        0: (".cls", b"2"),
        1: (".cls", b"fox"),
        2: (".cls", b"7"),
        3: (".json", b"[1"),
        4: (".json", b'{"label": [1]}'),
    }
    with tarfile.open("some.tar", "w") as tar:
        for number, file in enumerate(files):
            tar.add(file, file.name)
            if number in given:
                ending, text = given[number]
                Path("own").write_bytes(text)
                tar.add("own", file.stem + ending)
    results = run("-q", "--labelled", images="some.tar", out="some-out")
    assert results["images"] == 1
    reasons = [one["reason"].partition(": ")[2] for one in results["skipped"]]
    assert reasons[:2] == [f"its label {own!r} is no class of the network, which has 5" for own in ("fox", "7")]
    assert reasons[2] == "is no text; a label is an index or a class's label"
    assert reasons[3] == "its label is list; it is an index or a class's label"
    assert reasons[4].startswith("has no class; --labelled takes KEY.cls or KEY.json of a tar file")
    assert "--labelled: the archives give what is explained; leave -t and --like out" in refused(
        "net.xai", "--labelled", "-t", "1"
    )
    assert "has no class" in refused("net.xai", "--labelled", "--no-skip-bad")


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
