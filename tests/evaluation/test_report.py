"""The page: self-contained, well-formed, holding the figures and the pictures, whatever names say."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from scipy.stats import bootstrap  # type: ignore[import-untyped]

from xai_deploy import Explainer, __version__, read_image, write_image
from xai_deploy.errors import BackendNotInstalledError
from xai_deploy.evaluation import Journal, report
from xai_deploy.methods.reciprocam import ReciproCam

from ..support.pages import HOSTILE, Page, alike, body, check_self_contained, picture
from . import nets
from .conftest import Run, pictures


def page(out: str = "out") -> Page:
    return Page(Path(out, "report.html").read_bytes())


def test_self_contained(desk: Path, run: Run) -> None:
    nets.write(desk / "other.xai", 1)
    run("-m", "reciprocam,score-cam", bundles=("net.xai", "other.xai"))
    check_self_contained(page())


def test_figures(desk: Path, run: Run) -> None:
    """Those of results.json; as many cells in each row; the choices beside them; of six images nothing is best."""
    nets.write(desk / "other.xai", 1)
    metrics = "complexity,average-drop:masked=image,adcc"
    results = run("-m", "reciprocam,score-cam", "--metrics", metrics, "-t", "2", bundles=("net.xai", "other.xai"))
    found = page()
    table = found.cells[:5]
    assert {len(row) for row in table} == {len(table[0])}
    assert table[0][:2] == ["network", "method"]
    heads = ["complexity ↓", "average-drop, % ↓", "adcc ↑", "adcc-of-means ↑", "same-prediction, % ↑"]
    assert table[0][2:7] == heads
    assert not any(":" in head for head in table[0])  # the parts of others are in the files alone
    for row, result in zip(table[1:], results["results"], strict=True):
        assert row[:2] == [result["network"], result["method"]]
        for head, cell in zip(table[0][2:], row[2:], strict=True):
            name = re.split(r"[ ,]", head)[0]
            figure = result["figures"].get(name)
            if figure is None:
                assert cell == "\N{EN DASH}"
                continue
            mean, low, high = ("%.2f %.1f %.1f" if "%" in head else "%.4f %.3f %.3f").split()
            expected = f"{mean % figure['mean']}{low % figure['low']} … {high % figure['high']}"
            assert cell == expected + (f" n={figure['count']}" if figure["count"] < 6 else "")
    choices = found.of("li")
    assert choices[:2] == ["complexity: no options", "average-drop: masked=image"]
    assert choices[3] == "class explained: class 2; p is the network's own probability"
    assert choices[4] == "intervals: 95 %, percentile bootstrap over the images, 1000 resamples"
    assert found.of("p")[0] == "On 6 images: too few to call a method best, which takes 10."
    assert "best" not in [attributes.get("class") for attributes in found.attributes("td")]
    tracks = [a for a in found.attributes("svg") if a.get("class") == "track"]
    assert len(tracks) == 4 * (len(table[0]) - 2)
    for result, track in zip(results["results"], tracks, strict=False):  # the first chart
        figure = result["figures"]["complexity"]
        name = f"{result['method']} on {result['network']}"
        assert track["aria-label"] == f"{name}: {figure['mean']:.4g}, from {figure['low']:.4g} to {figure['high']:.4g}"


def test_maps_side_by_side(desk: Path, run: Run) -> None:
    """Images by the first metric, the mean of the methods; each beside its maps, as xai-explain shows them."""
    shutil.rmtree("photos")
    pictures(desk / "photos", 11)
    run("-m", "reciprocam,score-cam", "--metrics", "complexity,class-sensitivity")
    records = pyarrow.parquet.read_table("out/images.parquet").to_pylist()
    values = {(r["image"], r["method"]): r["complexity"] for r in records}
    images = sorted({r["image"] for r in records}, key=lambda i: values[i, "reciprocam"] + values[i, "score-cam"])
    apart = sorted(images[4:-4], key=lambda i: -abs(values[i, "reciprocam"] - values[i, "score-cam"]))
    shown = [*images[:4], *images[:-5:-1], *apart]  # lower is better
    found = page()
    assert found.of("strong") == ["best", "worst", "methods differ most"]
    explainer = Explainer("net.xai")
    target = {r["image"]: r["target"] for r in records}
    assert [h for h in found.of("h3") if ".png" in h] == [f"{i}: {explainer.labels[target[i]]}" for i in shown]
    shots = found.attributes("img")[1:]  # after the colour bar
    assert len(shots) == 3 * len(shown)
    captions = found.of("figcaption")
    for place, image in enumerate(shown):
        photo, *maps = shots[3 * place : 3 * place + 3]
        pixels = read_image(f"photos/{image}")
        assert photo["alt"] == image
        assert alike(picture(photo["src"]), pixels)
        for number, (method, over) in enumerate(zip(("reciprocam", "score-cam"), maps, strict=True)):
            assert captions[2 * place + number] == f"{method}: {values[image, method]:.3g}"
            assert over["alt"] == f"{image}, its map by {method}"
            [expected] = explainer.explain(pixels, method, target[image]).overlay(pixels)
            assert alike(picture(over["src"]), expected)


def test_each_kind_of_map_has_its_colour_bar(desk: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundle has no graph of a signed method, so one method says that it is signed."""
    monkeypatch.setattr(ReciproCam, "signed", lambda self, contrast: self.score == "softmax")
    run("-m", "reciprocam,reciprocam:score=softmax", "--metrics", "complexity")
    alts = [a["alt"] for a in page().attributes("img")]
    bars = ["The colours from lowest to highest", "The colours from against to for the class"]
    assert alts[:2] == bars
    run("-m", "reciprocam:score=softmax", "--metrics", "complexity", out="signed")
    alts = [a["alt"] for a in page("signed").attributes("img")]
    assert alts.count(bars[0]) == 0
    assert alts.count(bars[1]) == 1


def test_many_methods(desk: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line says how many of an image's maps are not shown."""
    monkeypatch.setattr("xai_deploy.evaluation.pictures.MAPS", 1)
    run("-m", "reciprocam,score-cam,reciprocam:score=softmax")
    found = page()
    assert len(found.attributes("img")) == 1 + 2 * 6
    assert found.of("p").count("2 more methods are not shown.") == 6


def test_boxes_are_drawn(desk: Path, run: Run) -> None:
    """Where they are scored, and only with boxes."""
    boxes = {"0000.png": (2, 4, 12, 10), "0001.png": (0, 0, 5, 16)}
    lines = [",".join(map(str, (name, *edges))) for name, edges in boxes.items()]
    Path("boxes.csv").write_text("\n".join(["image,left,top,right,bottom", *lines]))
    run("--boxes", "boxes.csv", "--metrics", "energy-pointing")
    found = page()
    rects = [a for a in found.attributes("rect") if a.get("class") == "box"]
    drawn = {tuple(round(float(a[k] or ""), 6) for k in ("x", "y", "width", "height")) for a in rects}
    wanted = {
        tuple(round(v, 6) for v in (x / nets.WIDTH, y / nets.HEIGHT, (x1 - x) / nets.WIDTH, (y1 - y) / nets.HEIGHT))
        for x, y, x1, y1 in boxes.values()
    }
    assert drawn == wanted
    assert "Boxes are those that are scored." in found.text
    run("--boxes", "boxes.csv", out="without")  # boxes that no metric compares with
    assert page("without").attributes("rect") == []


def test_boxes_of_the_class(desk: Path, run: Run) -> None:
    """The other boxes are not scored, so they are not drawn."""
    Path("boxes.csv").write_text(
        "image,left,top,right,bottom,label\n0000.png,1,2,9,10,owl\n0000.png,0,0,3,3,cat\n0001.png,4,4,8,8,cat\n"
    )
    run("--boxes", "boxes.csv", "--boxes-of", "class", "--metrics", "complexity,energy-pointing", "-t", "owl")
    drawn = [a for a in page().attributes("rect") if a.get("class") == "box"]
    assert {float(a["x"] or "") for a in drawn} == {1 / nets.WIDTH}
    run("--boxes", "boxes.csv", "--metrics", "complexity,energy-pointing", "-t", "owl", out="all")
    drawn = [a for a in page("all").attributes("rect") if a.get("class") == "box"]
    assert {float(a["x"] or "") for a in drawn} == {x / nets.WIDTH for x in (0, 1, 4)}


def test_hostile_names(desk: Path, run: Run) -> None:
    """Of images, bundles, labels and broken files: text and nothing else; the plots are not put off by them either."""
    shutil.rmtree("photos")
    folder = pictures(desk / ("photos " + HOSTILE.replace("/", "")), 3)
    image = HOSTILE + "\n\x1b[0m.png"
    Path(folder, "0000.png").rename(folder / image)
    Path(folder, HOSTILE + ".broken.png").touch()
    bundle, label = HOSTILE + "\x1b[0m\n.xai", f"</figcaption><b>{HOSTILE}"
    nets.write(desk / bundle, labels=(label,) * 5)
    run(bundles=(bundle, "net.xai"), images=folder.name)
    found = page()
    names = {name for name, _ in found.tags}
    assert not names & {"script", "b"}
    text = " ".join(text for _, text in found.texts)
    assert text.count("alert(1)") >= 8
    headings = found.of("h3")
    assert "49" not in "".join(headings)
    assert f"{image}: {label}" in headings
    assert bundle.removesuffix(".xai") in [row[0] for row in found.cells]
    (skipped,) = [text for text in found.of("li") if "broken" in text]
    assert HOSTILE in skipped


def test_large_and_narrow_pictures(desk: Path, run: Run) -> None:
    """A photograph is shrunk for the page, and so is a strip, of which a JPEG has no room for more than 65,500 pixels."""
    rng = np.random.default_rng(0)
    Path("wide").mkdir()
    write_image("wide/a.png", rng.integers(0, 256, (900, 1200, 3), dtype=np.uint8))
    write_image("wide/b.png", rng.integers(0, 256, (2, 65_535, 3), dtype=np.uint8))
    run(images="wide")
    shapes = {picture(attributes["src"]).shape for attributes in page().attributes("img")[1:]}
    assert shapes == {(192, 256, 3), (1, 256, 3)}


def test_images_that_have_gone(desk: Path, run: Run) -> None:
    """Since they were measured: the page does without them."""
    append = Journal.append

    def remove(self: Journal, *arguments: Any) -> None:
        append(self, *arguments)
        for name in ("0000", "0001", "0002", "0003", "0004"):
            Path(f"photos/{name}.png").unlink()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "append", remove)
        run()
    found = page()
    assert [h.partition(":")[0] for h in found.of("h3") if ".png" in h] == ["0005.png"]
    assert len(found.of("strong")) == 1


def test_a_tie_has_no_best(desk: Path, run: Run) -> None:
    """The same network twice, on images enough."""
    shutil.rmtree("photos")
    pictures(desk / "photos", 12)
    nets.write(desk / "twin.xai")
    run("-m", "reciprocam", "--metrics", "complexity", bundles=("net.xai", "twin.xai"))
    found = page()
    kinds = {attributes.get("class") for attributes in found.attributes("td")}
    assert not kinds & {"best", "level"}  # all are level: no mark
    assert found.of("p")[0].startswith("On 12 images none is clearly best by complexity: ")


def test_the_best_is_marked(desk: Path, run: Run) -> None:
    """The paired difference is that of the rows; the mark is there if its interval excludes 0."""
    shutil.rmtree("photos")
    pictures(desk / "photos", 12)
    results = run("-m", "reciprocam,score-cam", "--metrics", "complexity")
    values = pyarrow.parquet.read_table("out/images.parquet").to_pylist()
    by = {m: np.array([r["complexity"] for r in values if r["method"] == m]) for m in ("reciprocam", "score-cam")}
    apart = by["reciprocam"] - by["score-cam"]
    found = page()
    ((_, first, second, ahead, interval, count),) = [row for row in found.cells if row[0] == "complexity"]
    assert float(ahead) == pytest.approx(abs(apart.mean()), abs=6e-5)
    assert count == "12"
    low, high = map(float, interval.split(" … "))
    assert apart.std() / 12 < (high - low) < 6 * apart.std() / 12**0.5
    marked = [row[0] for row in found.cells if row[0] in by]
    classes = [a.get("class") for a in found.attributes("td")]
    assert (first in by, second in by, marked) == (True, True, [r["method"] for r in results["results"]])
    assert ("best" in classes) == (low > 1e-6)


def test_one_image_has_no_best(desk: Path, run: Run) -> None:
    run("--limit", "1", "--seed", "3")
    found = page()
    assert len(found.attributes("img")) == 0
    assert "best" not in [attributes.get("class") for attributes in found.attributes("td")]


def test_the_same_page_each_time(desk: Path, run: Run) -> None:
    run()
    first = body(Path("out/report.html"))
    run("--overwrite")
    assert body(Path("out/report.html")) == first


def test_date_versions_and_command(desk: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    Path("my photos").symlink_to("photos")
    run(images="my photos")
    words = page().text
    assert "1970-01-02 00:00 UTC by xai-evaluate" in words
    assert f"xai-deploy {__version__}, python " in words
    assert "xai-evaluate net.xai 'my photos' -o out -m reciprocam --metrics complexity" in words


def test_curves(desk: Path, run: Run) -> None:
    """Those in the journal: means and intervals in curves.csv, drawn from there; of an older journal only what it has."""
    shutil.rmtree("photos")
    pictures(desk / "photos", 20)
    run("-m", "reciprocam,score-cam", "--metrics", "deletion:steps=4,insertion:steps=250")
    chunks = [json.loads(line) for line in Path("out/journal.jsonl").read_text().splitlines()[1:]]
    rows = [row for chunk in chunks for row in chunk["rows"]]
    with Path("out/curves.csv").open(newline="") as file:
        records = list(csv.DictReader(file))
    assert [r["curve"] for r in records] == ["deletion curve"] * 2 * 5 + ["insertion curve"] * 2 * 101
    for number, method in enumerate(("reciprocam", "score-cam")):
        mine = [r for r in records if (r["method"], r["curve"]) == (method, "deletion curve")]
        values = np.array([row["curves"]["deletion curve"] for row in rows if row["method"] == number])
        assert [float(r["share"]) for r in mine] == [0, 0.25, 0.5, 0.75, 1]
        np.testing.assert_allclose([float(r["mean"]) for r in mine], values.mean(0), atol=1e-12)
        assert {r["images"] for r in mine} == {"20"}
        for r, column in zip(mine, values.T, strict=True):
            other = bootstrap((column,), np.mean, method="percentile", n_resamples=5000, rng=np.random.default_rng(1))
            wide = other.confidence_interval.high - other.confidence_interval.low
            assert float(r["low"]) == pytest.approx(other.confidence_interval.low, abs=0.1 * wide + 1e-9)
            assert float(r["high"]) == pytest.approx(other.confidence_interval.high, abs=0.1 * wide + 1e-9)
        # The area under the curve is the figure, but for five decimals and steps of whole pixels.
        area = (values[:, 1:] + values[:, :-1]).sum(1) / 8
        figures = [row["values"]["deletion"] for row in rows if row["method"] == number]
        np.testing.assert_allclose(area, figures, atol=2e-5)
    found = page()
    assert [h for h in found.of("h3") if "curve" in h] == ["deletion curve", "insertion curve"]
    assert len(found.attributes("polyline")) == len(found.attributes("polygon")) == 4
    # An older journal has no curves in its rows.
    old = [
        json.dumps({**c, "rows": [{k: v for k, v in r.items() if k != "curves"} for r in c["rows"]]}) for c in chunks
    ]
    head = Path("out/journal.jsonl").read_text().splitlines()[0]
    Path("out/journal.jsonl").write_text("\n".join([head, old[0], json.dumps(chunks[1])]) + "\n")
    run("-m", "reciprocam,score-cam", "--metrics", "deletion:steps=4,insertion:steps=250")
    titles = [h for h in page().of("h3") if "curve" in h]
    assert titles == ["deletion curve, 4 of 20 images", "insertion curve, 4 of 20 images"]
    Path("out/journal.jsonl").write_text("\n".join([head, *old]) + "\n")
    run("-m", "reciprocam,score-cam", "--metrics", "deletion:steps=4,insertion:steps=250")
    assert page().attributes("polyline") == []


@pytest.mark.parametrize("missing", ["jinja2"])
def test_missing_package(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(BackendNotInstalledError, match=rf'needs {missing}.*pip install "xai-deploy\[evaluate\]"'):
        report.require()
