"""The page by keyboard, on a phone, and for eyes that need contrast, in headless Chromium."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from .conftest import METHODS, Site, served
from .opened import Opened

pytest.importorskip("playwright", reason="playwright, which drives the browser, is not installed")
from playwright.sync_api import Browser, FileChooser, expect


def test_by_keyboard_alone(opened: Opened, sample: Path) -> None:
    page = opened.ready()
    choosers: list[FileChooser] = []

    def note(chooser: FileChooser) -> None:  # playwright takes no built-in method
        choosers.append(chooser)

    page.on("filechooser", note)  # before the key, for the browser takes a while to hand the dialogue over
    press = page.keyboard.press
    press("Tab")
    expect(page.get_by_label("Choose a picture")).to_be_focused()
    outline = page.locator(".bar label").evaluate("label => getComputedStyle(label).outlineStyle")
    assert outline == "solid"  # the focus shows, though on the label of a field that is not seen
    for _ in range(6):  # a busy browser may lose a key
        press("Space")
        page.wait_for_timeout(200)
        if choosers:
            break
        page.wait_for_timeout(5000)
    choosers[0].set_files(sample)
    count = opened.last()["count"]
    order = [
        page.get_by_role("button", name=name, exact=True) for name in ("Use the camera", "Show the original", "Save")
    ]
    order += [page.get_by_label(label, exact=True) for label in ("Method", "Class")]
    for control in order:
        press("Tab")
        expect(control).to_be_focused()
        if control is order[3]:
            press("ArrowDown")
            found = opened.last(count)
            assert found["method"] == METHODS[1]
    page.keyboard.type("seven")
    press("Enter")
    found = opened.last(found["count"])
    assert (found["method"], found["target"]) == (METHODS[1], 7)
    press("Tab")
    expect(page.get_by_role("button", name="Predicted")).to_be_focused()
    press("Space")
    found = opened.last(found["count"])
    assert found["target"] == 3
    press("Tab")
    expect(page.get_by_label("Compare with")).to_be_focused()
    press("Tab")
    before = opened.pixels()
    press("ArrowRight")
    assert (opened.pixels() != before).any()
    expect(page.locator("#opacity-value")).to_have_text("75 %")
    press("Tab")
    press("Tab")
    second = page.locator("#prediction button").nth(1)
    expect(second).to_be_focused()
    press("Enter")
    found = opened.last(found["count"])
    assert found["target"] == np.argsort(found["likelihoods"])[-2]
    expect(second).to_be_focused()
    assert second.get_attribute("aria-pressed") == "true"


def test_no_label_is_cut_off(opened: Opened, sample: Path) -> None:
    page = opened.ready()
    page.get_by_label("Choose a picture").set_input_files(sample)
    opened.last()
    for width in (1280, 1000, 800, 799, 600, 360):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for control in page.locator(".bar button:visible, .bar label, #prediction button, #predicted").all():
            assert control.evaluate("e => e.scrollWidth <= e.clientWidth && e.scrollHeight <= e.clientHeight"), width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_at_a_phone_s_width(browser: Browser, site: Site, sample: Path, scheme: str) -> None:
    with served(site()[0]) as (address, _):
        opened = Opened(
            browser,
            address,
            viewport={"width": 360, "height": 740},
            has_touch=True,
            is_mobile=True,
            color_scheme=scheme,
        )
        page = opened.ready()
        page.get_by_role("button", name="Use the camera").click()
        expect(page.get_by_role("button", name="Take the picture")).to_be_visible()
        page.get_by_label("Choose a picture").set_input_files(sample)
        opened.last()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        for control in page.locator("button:visible, select:visible, #class, .bar label, #canvas").all():
            box = control.bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 360
            assert box["height"] >= 44 - 0.5  # what a finger hits
        assert page.locator("body").evaluate(_LEAST_CONTRAST) >= 4.5  # WCAG 2.2 AA
        bar = page.get_by_role("group", name="Picture").bounding_box()
        assert bar is not None
        assert (bar["x"], bar["width"], bar["y"] + bar["height"]) == (0, 360, 740)  # at the thumb
        page.get_by_role("button", name="Save", exact=True).click()
        for button in page.locator("#save-menu button").all():
            box = button.bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 360
            assert box["height"] >= 44
            assert box["y"] + box["height"] <= bar["y"]
        opened.context.close()


_LEAST_CONTRAST = """() => {
  const luminance = (rgb) => rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const ground = (element) => {
    for (; element; element = element.parentElement) {
      const colour = parse(getComputedStyle(element).backgroundColor);
      if (colour.length === 3) return colour;
    }
    throw new Error("no background");
  };
  document.getElementById("error").textContent = "shown for its colour";
  const ratios = Array.from(document.querySelectorAll("h1, h2, h3, p, label, button, select, small, span, strong, output, #error"))
    .filter((element) => element.innerText?.trim() && element.checkVisibility())
    .map((element) => [luminance(parse(getComputedStyle(element).color)), luminance(ground(element))])
    .map(([a, b]) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
  return Math.min(...ratios);
}"""
