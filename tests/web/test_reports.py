"""The commands' reports in a browser: readable on a phone, in the light and in the dark, without anything being loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

pytest.importorskip("playwright", reason="playwright, which drives the browser, is not installed")
from playwright.sync_api import Browser

from xai_deploy.cli import check, evaluate, explain
from xai_deploy.format.bundle import Bundle

SAMPLES = Path(__file__).resolve().parents[2] / "models" / "clutter_digits" / "samples"
LONG = "a-name-" * 20

# Text colours over the colour that is behind them: the contrast of WCAG 2.1 (1.4.3), the least of all elements with text.
CONTRAST = """() => {
  const light = (rgb) => { const c = rgb.map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2]; };
  const numbers = (text) => text.match(/[0-9.]+/g).map(Number);
  const behind = (e) => { for (; e; e = e.parentElement) { const c = numbers(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] > 0) return c.slice(0, 3); } return [255, 255, 255]; };
  let least = 99;
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || e.closest('title, style')) continue;
    const style = getComputedStyle(e), ink = numbers(e.closest('svg') ? style.fill : style.color).slice(0, 3);
    const [a, b] = [light(ink), light(behind(e))].sort((p, q) => q - p);
    least = Math.min(least, (a + 0.05) / (b + 0.05));
  }
  return least;
}"""


@pytest.fixture
def pages(digits: Callable[..., Bundle], tmp_path: Path) -> list[Path]:
    """One report of each command, of images with long names."""
    bundle, out = str(digits("engine").path), tmp_path / "out"
    (tmp_path / "photos").mkdir()
    for number, sample in enumerate(sorted(SAMPLES.glob("*.png"))[:4]):
        (tmp_path / "photos" / f"{LONG}{number}.png").write_bytes(sample.read_bytes())
    photos = str(tmp_path / "photos")
    methods = ["-m", "reciprocam,grad-cam"]
    assert explain.main([bundle, photos, *methods, "-t", "one vs two", "-q", "-o", str(out)]) == 0
    assert check.main([bundle, bundle, photos, *methods, "-q", "--report", str(tmp_path / "check.html")]) == 0
    metrics = ["--metrics", "deletion:steps=5,insertion:steps=5,complexity,adcc"]
    assert evaluate.main([bundle, "--images", photos, *methods, *metrics, "-q", "-o", str(tmp_path / "evaluated")]) == 0
    return [out / "report.html", tmp_path / "check.html", tmp_path / "evaluated" / "report.html"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone(browser: Browser, pages: list[Path], scheme: Literal["light", "dark"]) -> None:
    """Nothing is wider than 360 pixels; text is readable; pictures are there; nothing is asked for and nothing complained of."""
    context = browser.new_context(viewport={"width": 360, "height": 800}, color_scheme=scheme)
    opened = context.new_page()
    asked: list[str] = []
    said: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("console", lambda message: said.append(message.text))
    for path in pages:
        asked.clear()
        opened.goto(path.as_uri())
        assert opened.evaluate("document.documentElement.scrollWidth") <= 360, path
        assert opened.evaluate("document.images.length > 0 && [...document.images].every(i => i.naturalWidth > 0)")
        assert opened.evaluate(CONTRAST) >= 4.5, path
        assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
        assert said == []
    context.close()
