"""The page of xai-explain: what results.json holds, with the pictures of the contact sheet, whatever names say."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest

from xai_deploy import Explainer, read_image, write_image
from xai_deploy.cli import explain
from xai_deploy.cli.contact_sheet import TILE
from xai_deploy.format.bundle import Preprocess
from xai_deploy.images import fit

from ...support.pages import HOSTILE, Page, alike, check_self_contained, picture
from .. import small, tiny

OUT = Path("xai-output")


def page(*arguments: str) -> tuple[Page, dict[str, Any]]:
    """The page and results.json of one call."""
    assert explain.main([*arguments, "-q", "--overwrite", "-o", str(OUT)]) == 0
    return Page((OUT / "report.html").read_bytes()), json.loads((OUT / "results.json").read_bytes())


def links(said: dict[str, Any]) -> list[str]:
    """The files beside the page, in the order of the links to them."""
    entries = [entry for image in said["images"] for entry in image["explanations"]]
    return [*(entry[key] for entry in entries for key in ("overlay", "raw")), "results.json", *said["contact_sheets"]]


def followed(found: Page) -> list[str]:
    return [unquote_to_bytes(a["href"] or "").decode() for a in found.attributes("a")]


def test_page(work: Path) -> None:
    """Photos, predictions, maps with captions, facts of the methods; each link leads to a file."""
    found, said = page("net.xai", "photos", "-m", "reciprocam:score=softmax,cam", "-t", "beagle vs 0", "-t", "not 0")
    check_self_contained(found, frozenset(a["href"] or "" for a in found.attributes("a")))
    assert followed(found) == links(said)
    assert all((OUT / name).is_file() for name in followed(found))
    assert said["report"] == "report.html"
    assert [h for h in found.of("h3") if "photos" in h] == [image["file"] for image in said["images"]]
    shots = found.attributes("img")
    shots = shots[len(shots) - 3 * 5 :]  # after the colour bars
    explainer = Explainer("net.xai")
    specs = [("reciprocam", {"score": "softmax"}), ("cam", {})]
    for place, image in enumerate(said["images"]):
        pixels = read_image(image["file"])
        photo, *maps = shots[5 * place : 5 * place + 5]
        assert photo["alt"] == image["file"]
        assert alike(picture(photo["src"]), fit(pixels, TILE))
        for shot, explained in zip(
            maps, explainer.explain_many([pixels], specs, ["beagle vs 0", "not 0"]), strict=True
        ):
            assert alike(picture(shot["src"]), explained.draw(fit(pixels, TILE)))
        texts = [f"{100 * p['probability']:.1f} %" for p in image["prediction"]]
        assert " ".join(texts[:1]) in found.text
    words = [text for inside, text in found.texts if inside == "figcaption"]
    label, other = tiny.LABELS[said["images"][0]["explanations"][0]["target"]], tiny.LABELS[0]
    p = [entry["probability"] for entry in said["images"][0]["explanations"]]
    assert f"{label} vs {other} ({label}: {100 * p[0]:.1f} %)" in words
    assert f"not {other} ({other}: {100 * p[1]:.1f} %)" in words
    assert found.of("b").count("reciprocam+score=softmax") == 6
    rows = {row[0]: row for row in found.cells}
    assert rows["cam"][2:4] == ["relu=true", "head, tail, pixelwise-tail"]
    assert "score=softmax" in rows["reciprocam"][2]
    own = [e["seconds"] for image in said["images"] for e in image["explanations"] if e["method"] == "cam"]
    assert float(rows["cam"][4]) == pytest.approx(np.mean(own), abs=6e-4)
    assert "xai-explain net.xai photos -m" in found.text
    assert said["bundle"]["layer"] in found.text


def test_one_image(work: Path) -> None:
    found, said = page("net.xai", "photos/dog.png")
    best = said["images"][0]["prediction"][0]
    wanted = f"The network predicts {best['label']} ({100 * best['probability']:.1f} %), explained by reciprocam."
    assert found.of("p")[0] == wanted


def test_no_report(work: Path) -> None:
    """And a report of an earlier call does not stay."""
    page("net.xai", "photos")
    assert explain.main(["net.xai", "photos", "--no-report", "--overwrite", "-q", "-o", str(OUT)]) == 0
    assert not (OUT / "report.html").exists()
    assert json.loads((OUT / "results.json").read_bytes())["report"] is None


def test_no_probability(work: Path) -> None:
    """A single output without a sigmoid has logits only."""
    small.write(work / "one.xai", classes=1, activation="Identity")
    found, said = page("one.xai", "photos/dog.png")
    assert f"logit {said['images'][0]['prediction'][0]['logit']:.3g}" in found.text
    assert [a for a in found.attributes("rect") if a.get("class") == "bar"] == []


def test_warnings(work: Path) -> None:
    """Assumed preprocessing, constant maps and skipped images stand at the top."""
    tiny.write(work / "guess.xai", preprocess=Preprocess(scale=tiny.SCALE, assumed=True))
    Path("photos/empty.png").touch()
    found, said = page("guess.xai", "photos", "--skip-bad")
    items = found.of("li")
    assert items[0].startswith("The preprocessing was assumed at export")
    assert items[1] == f"Skipped: {said['skipped'][0]['reason']}"
    assert page("net.xai", "photos/dog.png")[0].of("li") == []


def test_constant_maps(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Explainer.explain_many

    def constant(*arguments: Any) -> Any:
        explained = run(*arguments)
        for explanation in explained:
            object.__setattr__(explanation, "constant", ("it is so",) * len(explanation.target))
        return explained

    monkeypatch.setattr(Explainer, "explain_many", constant)
    found, said = page("net.xai", "photos", "-t", "top5", "-m", "cam,reciprocam")
    label = said["images"][0]["explanations"][0]["label"]
    assert found.of("li")[0] == f"photos/cat.bmp, cam, {label}: the map is the same everywhere (it is so)."
    assert found.of("li")[-1] == "10 more maps are the same everywhere."
    assert found.of("figcaption").count("the same everywhere") == 30


def test_hostile_names(work: Path) -> None:
    """Text and nothing else; links stay in the folder."""
    name, label = HOSTILE.replace("/", ""), f"</figcaption><b>{HOSTILE}"
    tiny.write(Path(name + ".xai"), labels=(label,) * len(tiny.LABELS))
    pixels = np.zeros((20, 20, 3), np.uint8)
    for file in (name + "\n\x1b[0m.png", "javascript:alert(1).png", "a%2F?#.png"):
        write_image(Path("photos") / file, pixels)
    found, said = page(name + ".xai", "photos")
    hrefs = {a["href"] or "" for a in found.attributes("a")}
    check_self_contained(found, frozenset(hrefs))
    assert not any(set(href) & set(":/?#<>\"' ") for href in hrefs)
    assert followed(found) == links(said)
    assert all((OUT / target).is_file() for target in followed(found))
    assert label in found.of("span")
    assert len(found.of("h3")) == 6


def test_size_is_bounded(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two lines say what is not shown; results.json lists all."""
    monkeypatch.setattr("xai_deploy.cli.explain_report.PICTURES", 7)
    monkeypatch.setattr("xai_deploy.cli.explain_report.MAPS", 2)
    write_image("photos/large.png", np.random.default_rng(0).integers(0, 256, (900, 1200, 3), dtype=np.uint8))
    found, said = page("net.xai", "photos", "-t", "top3")
    assert (len(said["images"]), len([h for h in found.of("h3") if "photos" in h])) == (4, 2)
    assert "The first 2 of 4 images are shown;" in found.text
    assert found.of("p").count("1 more maps are not shown.") == 2
    assert all(max(picture(a["src"]).shape) <= 256 for a in found.attributes("img"))


def test_missing_package(work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that has OpenCV alone gets its maps, and a warning; without a report nothing is missing."""
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert explain.main(["net.xai", "photos", "-o", "out"]) == 0
    wanted = 'the report needs jinja2, which is not installed; pip install "xai-deploy[image]", or give --no-report'
    assert capsys.readouterr().err == f"xai-explain: warning: no report.html: {wanted}\n"
    assert not Path("out/report.html").exists()
    assert Path("out/results.json").is_file()
    assert explain.main(["net.xai", "photos", "--no-report", "-o", "other"]) == 0
    assert capsys.readouterr().err == ""
