"""The contact sheet: text stays in its column, with both kinds of OpenCV's text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xai_deploy import read_image, write_image
from xai_deploy.cli import contact_sheet
from xai_deploy.cli.contact_sheet import TILE, ContactSheet, Tile


def test_sheet_without_truetype(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """OpenCV 4 has stroked ASCII letters only."""
    import cv2

    monkeypatch.delattr(cv2, "FontFace", raising=False)
    sheet = ContactSheet(tmp_path / "s.png", "title é", write_image)
    sheet.add(["image|x"], [Tile(np.zeros((100, TILE, 3), np.uint8), "a very long caption " * 10, "note")])
    sheet.flush()
    page = read_image(sheet.pages[0])
    assert page.shape == (24 + 32 + 56 + 100 + 48 + 16 + 8, TILE + 48, 3)
    right = page[:, -20:]
    assert (right == 255).all(), "text runs over the margin"
    assert page[24 + 32 + 56 + 100 + 6 :].min() < 60, "no caption"


def test_text_stays_in_its_column() -> None:
    pen = contact_sheet._Pen()
    for text in ("short", "a rather long file name that needs shortening.jpeg", "漢字" * 60, ""):
        canvas = np.full((40, 600, 3), 255, np.uint8)
        pen.write(canvas, text, (10, 30), contact_sheet._TEXT, TILE)
        assert (canvas[:, 10 + TILE + 4 :] == 255).all()
        assert (canvas.min() < 100) == bool(text)
