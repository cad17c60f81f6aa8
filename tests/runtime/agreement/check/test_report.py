"""The page of xai-check: the verdict, the figures of the JSON report, and the images that moved most, whatever names say."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from xai_deploy import Explainer, read_image, write_image
from xai_deploy.agreement import report
from xai_deploy.agreement.compare import Explained, ImageAgreement, JudgedFigure
from xai_deploy.cli.check import main
from xai_deploy.pictures import overlay

from ....support.pages import HOSTILE, Page, alike, body, check_self_contained, picture
from ... import tiny
from .running import Capture, bad, record

KINDS: tuple[Literal["pooled"], Literal["residual"]] = ("pooled", "residual")


def page(*arguments: str, status: int = 1) -> tuple[Page, dict[str, Any]]:
    """The page and the JSON report of one call."""
    assert main([*arguments, "-q", "--report", "page.html", "--json", "out.json"]) == status
    return Page(Path("page.html").read_bytes()), json.loads(Path("out.json").read_text())


def test_figures(here: Path) -> None:
    """Each with its value, limit and verdict; a histogram of each but the share."""
    found, said = page("net.xai", "far.xai", "photos", "-m", "reciprocam,grad-cam", "--min-correlation", "0")
    check_self_contained(found)
    rows = [row for row in found.cells if row[1] in ("passed", "failed")]
    assert len(rows) == len(said["figures"]) == 6
    for (name, verdict, value, limit, worst), figure in zip(rows, said["figures"], strict=True):
        assert (name, verdict) == (figure["name"], "passed" if figure["passed"] else "failed")
        assert float(value) == pytest.approx(figure["value"], abs=5.1e-4)
        assert float(limit[2:]) == pytest.approx(figure["limit"], abs=5.1e-4)
        assert limit[0] == ("≤" if "difference" in name else "≥")
        assert (
            worst == "\N{EN DASH}"
            if figure["worst"] is None
            else float(worst) == pytest.approx(figure["worst"], abs=5.1e-4)
        )
    assert {verdict for _, verdict, *_ in rows} == {"passed", "failed"}
    charts = [a for a in found.attributes("svg") if a.get("class") == "bars"]
    assert [(a["aria-label"] or "").rpartition(": mean")[0] for a in charts] == [name for name, *_ in rows[1:]]
    failed = [f for f in said["figures"] if not f["passed"]]
    (lead,) = [text for inside, text in found.texts if inside == "p" and "disagree" in text]
    start = f"The networks disagree on 4 images: {len(failed)} of 6 figures"
    assert lead.startswith(start)
    assert f"{failed[0]['name']} is {failed[0]['value']:.3f}, limit {failed[0]['limit']:g}" in lead
    assert "xai-check net.xai far.xai photos" in found.text
    for side in ("reference", "deployed"):
        assert [
            side,
            said[side]["name"],
            said[side]["layer"],
            said[side]["runtime"],
            said[side]["digest"][:16],
        ] in found.cells


def test_pictures(here: Path) -> None:
    """Photo, both maps, and deployed minus reference with 0 in the middle; the one that moved most is first."""
    found, said = page("net.xai", "far.xai", "photos", "-m", "reciprocam,grad-cam")
    order = sorted(said["images"], key=lambda i: (min(i["top_overlap"].values()), min(i["rank_correlation"].values())))
    assert [h for h in found.of("h3") if ".png" in h] == [image["image"] for image in order]
    shots = found.attributes("img")[2:]  # after the two colour bars
    assert len(shots) == 4 * 7
    one, other = Explainer("net.xai"), Explainer("far.xai")
    for place, image in enumerate(order):
        name = image["image"]
        pixels = read_image(name)
        photo, *maps = shots[7 * place : 7 * place + 7]
        assert (photo["alt"], alike(picture(photo["src"]), pixels)) == (name, True)
        for number, method in enumerate(("reciprocam", "grad-cam")):
            spec = other.bundle.manifest.input
            reference, deployed = (e.explain(pixels, method, image["reference"]).heatmap[0] for e in (one, other))
            wanted = [overlay(pixels, reference, spec), overlay(pixels, deployed, spec)]
            wanted.append(overlay(pixels, deployed - reference, spec, signed=True))
            shots_of = [picture(shot["src"]) for shot in maps[3 * number :][:3]]
            assert all(map(alike, shots_of, wanted))
            # Light alone does not tell red from blue, which is the sign.
            red, wanted_red = (p[..., 0].astype(float) - p[..., 2] for p in (shots_of[2], wanted[2]))
            assert np.corrcoef(red.ravel(), wanted_red.ravel())[0, 1] > 0.8
    rows = [float(text.rstrip(" %")) for inside, text in found.texts if inside == "span" and text.endswith(" %")]
    best = [np.sort(e.predict(read_image(order[0]["image"]))[0])[::-1] for e in (one, other)]
    p = [100 * np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum() for logits in best]
    assert rows[:6] == pytest.approx([*p[0][:3], *p[1][:3]], abs=0.051)


def test_agreement(here: Path) -> None:
    found, _ = page("net.xai", "net.xai", "photos", "-m", "reciprocam", status=0)
    assert "The networks agree on 4 images: all 4 figures are within their limits." in found.text
    assert main(["net.xai", "net.xai", "photos", "-q", "--report", "again.html", "--json", "-"]) == 0
    assert main(["net.xai", "net.xai", "photos", "-q", "--report", "page.html", "--json", "-"]) == 0
    assert body(Path("again.html")) == body(Path("page.html"))


def test_recordings_sizes_and_single_outputs(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reference that can't run, a network with an input of another size, one output."""
    record("net.xai", "photos", "-m", "reciprocam")
    found, _ = page("ref.npz", "far.xai", "photos")
    assert len(found.attributes("img")) == 2 + 4 * 4
    page("net.xai", "larger.xai", "photos", "-m", "reciprocam")
    found, _ = page("one.xai", "one.xai", "photos", "-m", "reciprocam", status=0)
    check_self_contained(found)


def test_hostile_names(here: Path) -> None:
    label, folder = f"</figcaption><b>{HOSTILE}", Path("photos " + HOSTILE.replace("/", ""))
    for number, name in enumerate(("net" + HOSTILE.replace("/", ""), "other\x1b[0m\n")):
        tiny.write(Path(name + ".xai"), KINDS[number], labels=(label, *tiny.LABELS[1:]))
    Path("photos").rename(folder)
    (folder / "0.png").rename(folder / (HOSTILE.replace("/", "") + "\n.png"))
    status = main(
        ["net" + HOSTILE.replace("/", "") + ".xai", "other\x1b[0m\n.xai", str(folder), "-q", "--report", "p.html"]
    )
    assert status in (0, 1)
    found = Page(Path("p.html").read_bytes())
    check_self_contained(found)
    assert "b" not in {name for name, _ in found.tags} or "<b>" + HOSTILE not in found.source
    assert found.text.count("alert(1)") >= 8
    assert label in [text for inside, text in found.texts if inside == "span"]


def test_size_is_bounded(here: Path) -> None:
    """Forty photographs: eight are shown, and a line says so."""
    rng = np.random.default_rng(0)
    for i in range(30):
        write_image(f"photos/more{i}.png", rng.integers(0, 256, (300, 900, 3), dtype=np.uint8))
    found, _ = page("net.xai", "far.xai", "photos", "-m", "reciprocam")
    assert "8 of 34 images" in found.text
    shapes = {picture(a["src"]).shape for a in found.attributes("img")[2:]}
    assert all(max(shape) <= 256 for shape in shapes)
    assert len(found.source) < 1_500_000


def test_the_ones_that_moved_most_are_kept() -> None:
    """Of any number of chunks, in the order of the least overlap, then the least correlation, then as they came."""
    rng = np.random.default_rng(2)
    overlaps, correlations = rng.integers(0, 4, 50) / 4, rng.integers(0, 3, 50) / 4
    kept = report.MostMoved()
    p, heat, photo = np.ones((5, 2), np.float32), {"m": np.zeros((5, 2, 2), np.float32)}, np.zeros((4, 4, 3), np.uint8)
    explained = Explained(p, p, heat)
    for start in range(0, 50, 5):
        found = [
            ImageAgreement(str(i), 0, 0, 0.0, {"m": correlations[i], "n": 1.0}, {"m": 1.0, "n": overlaps[i]})
            for i in range(start, start + 5)
        ]
        kept.add(found, [photo] * 5, explained, explained)
    wanted = sorted(range(50), key=lambda i: (overlaps[i], correlations[i], i))[: report.SHOWN]
    assert [int(moved.agreement.image) for moved in kept.images] == wanted


def test_verdicts() -> None:
    figures = [JudgedFigure(str(i), 0.5, None, 0.9, i > 3) for i in range(6)]
    assert report.verdict(figures[:1], 1) == (
        "The networks disagree on 1 image: 1 of 1 figures misses its limit (0 is 0.500, limit 0.9)."
    )
    assert report.verdict(figures, 7).endswith("4 of 6 figures miss their limits (0 is 0.500, limit 0.9; 1 is 0.500, limit 0.9; "
                                               "2 is 0.500, limit 0.9; 1 more below).")  # fmt: skip


def test_missing_package(here: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is computed."""
    monkeypatch.setitem(sys.modules, "jinja2", None)
    line = bad(["no-such.xai", "net.xai", "photos", "--report", "page.html"], capsys)
    assert line == 'the report needs jinja2, which is not installed; pip install "xai-deploy[image]"'
