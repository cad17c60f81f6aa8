"""The page: self-contained, well-formed, holding the figures and the pictures, whatever names say."""

from __future__ import annotations

import base64
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet
import pytest

from xai_deploy import Explainer, heatmap, read_image, write_image
from xai_deploy.errors import BackendNotInstalledError
from xai_deploy.evaluation import Journal, report

from . import nets
from .conftest import Run, pictures

VOID = {"meta", "img", "br", "hr", "link", "input"}
HOSTILE = "<script>alert(1)<!-- & ' \" {{ 7*7 }} $\\frac$ 猫"


class Page(HTMLParser):
    """Tags with their attributes, and the text of each element that holds text; fails where the nesting is wrong."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.cells: list[list[str]] = []
        self._open: list[str] = []
        self.feed(data.decode())
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert len({key for key, _ in attributes}) == len(attributes)
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self._open[-1], data.strip()))
        if {"td", "th"} & set(self._open):
            self.cells[-1][-1] += data

    def of(self, tag: str) -> list[str]:
        return [text for inside, text in self.texts if inside == tag]

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page(out: str = "out") -> Page:
    return Page(Path(out, "report.html").read_bytes())


def picture(url: str | None) -> np.ndarray[Any, Any]:
    assert url is not None
    kind, _, data = url.partition(",")
    assert kind == "data:image/jpeg;base64"
    return np.asarray(cv2.imdecode(np.frombuffer(base64.b64decode(data, validate=True), np.uint8), cv2.IMREAD_COLOR))[
        ..., ::-1
    ]


def alike(shown: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> bool:
    """One picture but for JPEG, from which noise suffers."""
    if shown.shape != wanted.shape:
        return False
    a, b = ((pixels @ [0.299, 0.587, 0.114]).ravel() for pixels in (shown, wanted))
    return float(np.corrcoef(a, b)[0, 1]) > 0.9


def test_self_contained(desk: Path, run: Run) -> None:
    nets.write(desk / "other.xai", 1)
    run("-m", "reciprocam,score-cam", bundles=("net.xai", "other.xai"))
    found = page()
    names = {name for name, _ in found.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "base", "form", "audio", "video", "image"}
    for tag, attributes in found.tags:
        for key, value in attributes.items():
            assert not key.startswith("on"), (tag, key)
            if key in ("src", "href", "xlink:href", "srcset", "data", "action"):
                assert (value or "").startswith(("data:image/jpeg;base64,", "#")), (tag, key, value)
    style = "".join(found.of("style")) + "".join(attributes.get("style") or "" for _, attributes in found.tags)
    assert not re.search(r"@import|url\((?!#)", style)
    text = Path("out/report.html").read_text()
    assert not re.search(r'(?:src|href)\s*=\s*["\']?\s*(?:https?:)?//', text)
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert found.attributes("html") == [{"lang": "en"}]
    assert text.startswith("<!doctype html>\n")
    assert len(found.of("title")) == len(found.of("h1")) == 1
    assert all(attributes.get("alt") for attributes in found.attributes("img"))


def test_figures(desk: Path, run: Run) -> None:
    """Those of results.json, the best marked; as many cells in each row; the choices beside them."""
    nets.write(desk / "other.xai", 1)
    metrics = "complexity,average-drop:masked=image,adcc"
    results = run("-m", "reciprocam,score-cam", "--metrics", metrics, "-t", "2", bundles=("net.xai", "other.xai"))
    found = page()
    table = [row for row in found.cells if len(row) > 5]
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
    marked = np.array([attributes.get("class") == "best" for attributes in found.attributes("td")][10:]).reshape(4, -1)
    for column, head in enumerate(table[0]):
        name = re.split(r"[ ,]", head)[0]
        means = [result["figures"].get(name, {"mean": None})["mean"] for result in results["results"]]
        known = [mean for mean in means if mean is not None]
        best = min(known) if head.endswith("↓") else max(known) if head.endswith("↑") else "none"
        assert list(marked[:, column]) == [mean == best for mean in means]
    choices = found.of("li")
    assert choices[:2] == ["complexity: no options", "average-drop: masked=image"]
    assert choices[3] == "class explained: class 2; p is the network's own probability"
    assert choices[4] == "intervals: 95 %, percentile bootstrap over the images, 1000 resamples"
    assert found.of("p")[0].startswith("6 images of")
    assert len(found.attributes("svg")) == 1
    svg = Path("out/report.html").read_text().partition("<svg")[2].partition("</svg>")[0]
    for name in ("complexity", "average-drop", "adcc-of-means", "reciprocam | net", "score-cam | other"):
        assert f"<!-- {name}" in svg  # matplotlib draws letters, and leaves the text as a comment


def test_best_and_worst(desk: Path, run: Run) -> None:
    """By the first metric; each image beside its map, as xai-explain shows it."""
    run("-m", "reciprocam,score-cam", "--metrics", "complexity,class-sensitivity")
    records = pyarrow.parquet.read_table("out/images.parquet").to_pylist()
    found = page()
    captions = found.of("figcaption")
    assert len(captions) == 2 * 6
    explainer = Explainer("net.xai")
    for part, method in enumerate(("reciprocam", "score-cam")):
        mine = sorted((r["complexity"], r["image"], r["target"]) for r in records if r["method"] == method)
        shown = [*mine[:3], *mine[:2:-1]]  # lower is better
        for place, (value, image, target) in enumerate(shown):
            label = explainer.labels[target]
            assert captions[6 * part + place] == f"{image}: {label}, {value:.3g}"
            plain, overlay = found.attributes("img")[2 * (6 * part + place) :][:2]
            pixels = read_image(f"photos/{image}")
            assert (plain["alt"], overlay["alt"]) == (image, f"its map by {method}")
            assert alike(picture(plain["src"]), pixels)
            expected = heatmap.overlay(pixels, explainer.explain(pixels, method, target).heatmap[0])
            assert alike(picture(overlay["src"]), expected)
    assert found.of("h3") == ["best", "worst"] * 2
    assert found.of("strong") == ["reciprocam", "score-cam"]


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
    assert "49" not in "".join(found.of("figcaption"))
    captions = found.of("figcaption")
    assert any(caption.startswith(f"{image}: {label}, ") for caption in captions)
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
    shapes = {picture(attributes["src"]).shape for attributes in page().attributes("img")}
    assert shapes == {(225, 300, 3), (1, 898, 3)}


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
    assert [caption.partition(":")[0] for caption in found.of("figcaption")] == ["0005.png"]
    assert len(found.of("h3")) == 1


def test_a_tie_has_two_best(desk: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same network twice: figures that read alike are marked alike, whatever their last bits."""
    nets.write(desk / "twin.xai")
    exact = report._best
    monkeypatch.setattr(report, "_best", lambda *of: None if (best := exact(*of)) is None else best + 1e-12)
    run("-m", "reciprocam", "--metrics", "complexity", bundles=("net.xai", "twin.xai"))
    kinds = [attributes.get("class") for attributes in page().attributes("td")]
    assert kinds.count("best") == 2


def test_one_image_has_no_best(desk: Path, run: Run) -> None:
    run("--limit", "1", "--seed", "3")
    found = page()
    assert found.attributes("img") == []
    assert "best" not in [attributes.get("class") for attributes in found.attributes("td")]


def test_the_same_page_each_time(desk: Path, run: Run) -> None:
    run()
    first = Path("out/report.html").read_bytes()
    run("--overwrite")
    assert Path("out/report.html").read_bytes() == first


@pytest.mark.parametrize("missing", ["jinja2", "matplotlib"])
def test_missing_package(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(BackendNotInstalledError, match=rf'needs {missing}.*pip install "xai-deploy\[evaluate\]"'):
        report.require()
