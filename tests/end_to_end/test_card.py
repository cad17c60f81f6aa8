"""The card for auditors: `xai-explain --report CARD.html`."""

from __future__ import annotations

import hashlib
import html
import re
from pathlib import Path

import numpy as np
import pytest
from xai_exporters import Request, export

from xai_deploy import Explainer, write_image
from xai_deploy.cli import explain
from xai_deploy.records import records

ROOT = Path(__file__).resolve().parents[2]
NETWORK = ROOT / "models" / "clutter_digits" / "clutter_digits.onnx"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("card")
    (folder / "labels.txt").write_text("".join(f"<b>digit {i}</b>\n" for i in range(10)))
    request = Request(NETWORK, output_path=folder / "net.xai", preprocess="unit", labels=folder / "labels.txt")
    export(request)
    for name in ("photo <script>.png", "other.png"):
        write_image(folder / name, np.random.default_rng(0).integers(0, 255, (70, 80, 3)).astype(np.uint8))
    return folder


def run(made: Path, out: Path, *more: str) -> int:
    return explain.main(
        [str(made / "net.xai"), *more, "-o", str(out / "out"), "-q", "--report", str(out / "card.html")]
    )


def test_what_it_says(made: Path, tmp_path: Path) -> None:
    """Prediction, what was asked, what the method shows and does not, its error, digests and versions; all of it escaped."""
    photo = str(made / "photo <script>.png")
    call = [photo, "-m", "grad-cam,lime:samples=50:segments=grid:4", "-t", "3", "--records", str(tmp_path / "records")]
    assert run(made, tmp_path, *call) == 0
    page = (tmp_path / "card.html").read_text()
    text = html.unescape(
        re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", re.sub(r"<style>.*?</style>", "", page, flags=re.S)))
    )
    explainer = Explainer(made / "net.xai")
    e = explainer.explain(photo, "grad-cam", 3)
    assert e.score is not None
    assert e.probabilities is not None
    best = int(e.logits[0].argmax())
    assert f"the network says <b>digit {best}</b> ({100 * e.probabilities[0, best]:.1f} %)" in text
    assert (
        f"the number explained is {e.score[0]:.4g}, the network's probability {100 * e.probabilities[0, 3]:.1f} %"
        in text
    )
    assert "It shows A place is bright if patterns were found there that raise the score on average" in text
    assert "It shows A part is bright if the score is higher with it shown, by a straight-line estimate." in text
    signed = "straight-line estimate. This map has a sign: one colour speaks for what was asked, the other against it."
    assert signed in text
    assert text.count("This map has a sign") == 1, "Grad-CAM's has none"
    assert "It shows where a small change would move the score" in text
    assert "It shows where hiding or keeping a part moves the score" in text
    assert re.search(r"Stated error standard_error \S+ ", text)
    assert "score_range" not in text  # what else a method says of itself is no error, in records neither
    assert [set(record.stated_error) for _, record in records(tmp_path / "records")] == [
        set(),
        {"standard_error", "relative_error"},
    ]
    assert "The method states none" in text
    assert explainer.bundle.manifest.digest in text
    assert "not checked: no trusted key was given" in text
    assert "numpy" in text
    assert "<script" not in page
    assert "<b>digit" not in page
    assert page.count("data:image/jpeg;base64,") == 3  # the photo and two maps
    assert not re.search(r"(src|href)=\"(?!data:)", page)


def test_what_it_refuses(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = [str(made / "photo <script>.png"), str(made / "other.png")]
    assert run(made, tmp_path, *photos) == 2
    assert "a card is about one decision; give one image, not 2" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    (tmp_path / "card.html").write_text("mine")
    digest = hashlib.sha256(b"mine").hexdigest()
    assert run(made, tmp_path, photos[0]) == 2
    assert "card.html: exists; give --overwrite" in capsys.readouterr().err
    assert hashlib.sha256((tmp_path / "card.html").read_bytes()).hexdigest() == digest
    assert run(made, tmp_path, photos[0], "--overwrite") == 0
    assert (tmp_path / "card.html").read_text() != "mine"


def test_where_it_lies_is_said(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = str(tmp_path / "card.html")
    given = [str(made / "net.xai"), str(made / "other.png"), "-m", "grad-cam", "-o", str(tmp_path / "out")]
    assert explain.main([*given, "--report", card]) == 0
    assert f" s; the card is {card}; see " in capsys.readouterr().out
