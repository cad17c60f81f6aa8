"""The contact sheet: how many columns it has, what it says and how often, and that no text is cut off."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from xai_deploy import read_image, write_image
from xai_deploy.cli.contact_sheet import TILE, ContactSheet, Tile
from xai_deploy.cli.sheet_text import HEAD, NO_BREAK, NOTE, TEXT, Pen
from xai_deploy.images import fit
from xai_deploy.pictures import Style, color_bar

BLACK = np.zeros((100, TILE, 3), np.uint8)
TEXTS = ("short", "a rather long file name, that-has/many_parts.and one more.jpeg", "漢字" * 60, "W" * 90, "")


def sheet(path: Path, **options: object) -> ContactSheet:
    return ContactSheet(path / "s.png", "network, layer relu, 7 x 7", write_image, **options)  # type: ignore[arg-type]


def maps(count: int, label: str = "cat", **options: object) -> list[Tile]:
    return [Tile(BLACK, label, method=f"m{n}", **options) for n in range(count)]  # type: ignore[arg-type]


def page(made: ContactSheet, number: int = 0) -> NDArray[np.uint8]:
    made.flush()
    return read_image(made.pages[number])


def across(columns: int, tile: int = TILE) -> int:
    return columns * (tile + 16) - 16 + 2 * 24


def pictures(found: NDArray[np.uint8], tile: int = TILE) -> list[int]:
    """How many black pictures each line of pictures has."""
    counts = []
    rows = (found.astype(int).sum(axis=-1) == 0).sum(axis=1) // tile
    for before, now in zip([0, *rows], rows, strict=False):
        if now and not before:
            counts.append(int(now))
    return counts


@pytest.mark.parametrize(
    ("count", "lines"),
    [(1, [2]), (2, [3]), (5, [6]), (6, [4, 3]), (9, [6, 4]), (11, [5, 4, 3]), (23, [6, 5, 5, 5, 3])],
)
def test_at_most_six_columns(tmp_path: Path, count: int, lines: list[int]) -> None:
    """The image beside its maps, which wrap evenly."""
    made = sheet(tmp_path)
    made.add(Tile(BLACK, "a.png"), maps(count), "cat")
    found = page(made)
    assert pictures(found) == lines
    assert found.shape[1] == across(max(lines))


def test_one_map_per_image_makes_a_grid(tmp_path: Path) -> None:
    made = sheet(tmp_path)
    for _ in range(14 + 72):  # twelve lines of six fill a page
        made.add(Tile(BLACK, "a.png"), maps(1), "cat")
    assert len(made.pages) == 1
    assert pictures(page(made)) == [6] * 12
    assert pictures(page(made, 1)) == [6, 6, 2]
    assert page(made).shape[1] == page(made, 1).shape[1] == across(6)


def test_a_page_has_twelve_lines(tmp_path: Path) -> None:
    made = sheet(tmp_path)
    for _ in range(13):
        made.add(Tile(BLACK, "a.png"), maps(6), "cat")
    made.flush()
    assert [pictures(page(made, n)) for n in range(3)] == [[4, 3] * 6, [4, 3] * 6, [4, 3]]


def test_tiles_of_another_size(tmp_path: Path) -> None:
    made = sheet(tmp_path, tile=640)
    made.add(Tile(np.zeros((400, 640, 3), np.uint8), "a.png"), maps(1), "cat")
    assert page(made).shape[1] == across(2, 640)
    large = sheet(tmp_path, tile=2048)
    assert large.fits(30)
    assert not large.fits(31)


def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that are written from now on."""
    texts: list[str] = []
    wrap = Pen.wrap

    def record(pen: Pen, text: str, *rest: object) -> list[str]:
        texts.append(text)
        return wrap(pen, text, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Pen, "wrap", record)
    return texts


@pytest.mark.parametrize("count", [2, 7])
def test_what_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """A class in the heading if all images have it; "predicted class" once; any other below its map; a probability once."""
    texts = said(monkeypatch)

    def texts_of(labels: Sequence[Sequence[str]], predicted: Sequence[str]) -> list[str]:
        texts.clear()
        made = sheet(tmp_path)
        for number, (own, best) in enumerate(zip(labels, predicted, strict=True)):
            tiles = [Tile(BLACK, label, ("mask=pixel",), f"m{n}") for n, label in enumerate(own)]
            made.add(Tile(BLACK, f"{number}.png", (f"{best} 9{number} %",)), tiles, best)
        made.flush()
        return [text for text in texts if text]

    blocks = 2 if count > 5 else 1  # with several lines of maps, each image has its own headings
    found = texts_of([["cat"] * count] * 2, ["cat", "dog"])
    assert found.count("cat") == count * blocks
    assert found.count("0.png") == found.count("cat 90 %") == found.count("dog 91 %") == 1
    found = texts_of([["cat"] * count, ["dog"] * count], ["cat", "dog"])
    assert found.count("maps of the predicted class") == blocks
    assert "cat" not in found
    assert "predicted class" not in found
    found = texts_of([["cat vs cow"] * count, ["dog vs cow"] * count], ["cat", "dog"])
    assert found.count("cat vs cow") == found.count("dog vs cow") == count
    assert found.count("m1") == found.count("mask=pixel") / count == blocks
    assert found.count("network, layer relu, 7 x 7") == 1


def test_color_bars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One for each kind of map on the page, with words."""
    texts = said(monkeypatch)
    style = Style(sequential="viridis", diverging="PuOr_r")

    def bars(*tiles: Tile, cropped: bool = False) -> list[str]:
        texts.clear()
        made = sheet(tmp_path, style=style, cropped=cropped)
        made.add(Tile(BLACK, "a.png"), tiles, "cat")
        found = page(made)[:, 24 : 24 + 176]
        return [
            name
            for name, signed in (("viridis", False), ("PuOr_r", True))
            if (found == color_bar(1, 176, name, signed)).all(axis=(1, 2)).sum() == 12
        ]

    signed = Tile(BLACK, "cat", method="lrp", signed=True, at_pixels=True)
    assert bars(*maps(1)) == ["viridis"]
    assert (
        "Each map has its own scale, so colours do not compare between maps; they fade out below half of it." in texts
    )
    assert bars(signed) == ["PuOr_r"]
    assert {"against", "0", "for"} <= set(texts)
    assert bars(*maps(1), signed, cropped=True) == ["viridis", "PuOr_r"]
    [words] = [text for text in texts if text.startswith("Each map")]
    assert words.endswith("Values of lrp above the 99th percentile look the same. Dimmed: not seen by the network.")


def test_sheet_without_truetype(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """OpenCV 4 has stroked ASCII letters only."""
    import cv2

    monkeypatch.delattr(cv2, "FontFace", raising=False)
    made = ContactSheet(tmp_path / "s.png", "title é", write_image)
    made.add(Tile(BLACK, "a very long caption " * 10, ("note",)), maps(1), "cat")
    found = page(made)
    assert (found[:, -20:] == 255).all(), "text runs over the margin"
    assert found[-60:].min() < 60, "no caption"


@pytest.mark.parametrize("truetype", [True, False])
@pytest.mark.parametrize("ink", [HEAD, NOTE])
def test_text_is_wrapped_and_whole(monkeypatch: pytest.MonkeyPatch, truetype: bool, ink: object) -> None:
    import cv2

    if not truetype:
        monkeypatch.delattr(cv2, "FontFace", raising=False)
    pen = Pen()
    for text in TEXTS:
        for room in (64, TILE):
            lines = pen.wrap(text, ink, room)  # type: ignore[arg-type]
            assert all(pen.width(line, ink) <= room for line in lines)  # type: ignore[arg-type]
            whole = text if pen._font is not None else text.encode("ascii", "replace").decode()
            assert "".join(lines).replace(" ", "") == whole.replace(" ", "")
            canvas = pen.block([(10, [(text, TEXT)])], room, 600)
            assert (canvas[:, 10 + room + 4 :] == 255).all()
            assert (canvas.min(initial=255) < 100) == bool(text)
    assert pen.wrap("to be or", TEXT, 60)[0] in ("to be", "to be or")
    assert pen.wrap(f"a long name 67.5{NO_BREAK}%", TEXT, pen.width("a long name 67.5", TEXT)) == [
        "a long name",
        "67.5 %",
    ]


def test_fitting() -> None:
    assert fit(np.zeros((50, 100, 3), np.uint8), 224).shape == (112, 224, 3)
    assert fit(np.zeros((50, 100, 3), np.uint8), 224, enlarge=False).shape == (50, 100, 3)
    assert fit(np.zeros((1000, 3, 3), np.uint8), 100, enlarge=False).shape == (100, 1, 3)
