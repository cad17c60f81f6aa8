"""The page in headless Chromium, against the engine in Python on the same bundle."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from xai_deploy import Explainer, read_image
from xai_deploy.images import write_image
from xai_deploy.pictures import Style, drawn, overlay
from xai_deploy.preprocess import view

from .conftest import ISOLATED, METHODS, Site, served
from .opened import Opened

pytest.importorskip("playwright", reason="playwright, which drives the browser, is not installed")
from playwright.sync_api import Browser, Page, Worker, expect

TOLERANCE = 1e-3  # of the map in [0,1]; issue 6

CROPPED = {
    "name": "cropped",
    "methods": ("grad-cam", "gradient"),
    "map_size": "input",
    "preprocess_fields": (("resize", 80), ("interpolation", "bicubic"), ("color", "BGR")),
}
EMBEDDED = {"name": "embedded", "methods": ("grad-cam",), "embed_preprocess": True, "fixed_target": True}


def plane(found: dict[str, Any]) -> NDArray[np.float32]:
    return np.array(found["data"], np.float32).reshape(found["height"], found["width"])


@pytest.mark.parametrize("target", ["", "seven"])
def test_the_map_equals_python_s(opened: Opened, site: Site, sample: Path, target: str) -> None:
    page = opened.ready()
    page.get_by_label("Choose a picture").set_input_files(sample)
    explainer = Explainer(site()[1], backend="onnxruntime")
    count = opened.last()["count"]
    if target:
        page.get_by_label("Class", exact=True).fill(target)
        page.get_by_label("Class", exact=True).press("Enter")
        count = opened.last(count)["count"]
    for i, method in enumerate(METHODS):
        if i:
            page.get_by_label("Method", exact=True).select_option(method)
        found = opened.last(count - (i == 0))
        count = found["count"]
        wanted = explainer.explain(read_image(sample), method=method, target=target or -1)
        assert (found["method"], found["target"], found["predicted"]) == (
            method,
            wanted.target[0],
            wanted.logits[0].argmax(),
        )
        np.testing.assert_allclose(plane(found["heatmap"]), wanted.heatmap[0], rtol=0, atol=TOLERANCE)
        exponentials = np.exp(wanted.logits[0] - wanted.logits[0].max())
        np.testing.assert_allclose(found["likelihoods"], exponentials / exponentials.sum(), rtol=0, atol=1e-5)
        shown = page.locator("#time").inner_text()
        label = target or "three"
        assert re.match(rf"{re.escape(method)} for “{label}” \([\d.]+ %\): prediction and map in \d+ ms", shown)
        pressed = page.locator("#prediction button[aria-pressed=true]").all_inner_texts()
        assert [text.split("\n")[0] for text in pressed] in ([label], [])
    page.get_by_role("button", name="Predicted").click()
    assert opened.last(count)["target"] == 3


@pytest.mark.parametrize("form", [CROPPED, EMBEDDED], ids=["cropped", "embedded"])
def test_other_forms_of_the_file(browser: Browser, site: Site, photograph: Path, form: dict[str, Any]) -> None:
    """Crop, colour order and filter; preprocessing in the graph; no target; a photograph on its side."""
    folder, bundle = site(**form)
    with served(folder) as (address, _):
        opened = Opened(browser, address)
        page = opened.ready()
        page.get_by_label("Choose a picture").set_input_files(photograph)
        found = opened.last()
        wanted = Explainer(bundle, backend="onnxruntime").explain(read_image(photograph), method="grad-cam")
        np.testing.assert_allclose(plane(found["heatmap"]), wanted.heatmap[0], rtol=0, atol=TOLERANCE)
        assert found["map"]["height"] == (64 if "map_size" in form else 8)
        fixed = "fixed_target" in form
        assert page.get_by_label("Class", exact=True).is_disabled() == fixed
        assert page.locator("#prediction button").first.is_disabled() == fixed
        if fixed:
            assert page.locator("#class-hint").inner_text() == "This file always explains the predicted class."
        opened.context.close()
        assert opened.complaints == []


def test_a_host_that_isolates_the_page_gives_it_threads(browser: Browser, site: Site, sample: Path) -> None:
    folder, bundle = site()
    with served(folder, ISOLATED) as (address, _):
        opened = Opened(browser, address)
        opened.ready().get_by_label("Choose a picture").set_input_files(sample)
        found = opened.last()
        assert opened.page.evaluate("crossOriginIsolated")
        wanted = Explainer(bundle, backend="onnxruntime").explain(read_image(sample), method="grad-cam")
        np.testing.assert_allclose(plane(found["heatmap"]), wanted.heatmap[0], rtol=0, atol=TOLERANCE)
        opened.context.close()
        assert opened.complaints == []


def test_the_picture_equals_the_engine_s_overlay(opened: Opened, site: Site, sample: Path) -> None:
    page = opened.ready()
    page.get_by_label("Choose a picture").set_input_files(sample)
    count = opened.last()["count"]
    explainer = Explainer(site()[1], backend="onnxruntime")
    spec = explainer.bundle.manifest.input
    image = view(read_image(sample), spec).repeat(8, axis=0).repeat(8, axis=1)
    expect(page.locator("#opacity-value")).to_have_text("70 %")  # the engine's
    for method, signed, at_pixels in (
        ("grad-cam", False, False),
        ("relevance-cam", True, False),
        ("gradient", False, True),
    ):
        if method != "grad-cam":
            page.get_by_label("Method", exact=True).select_option(method)
            count = opened.last(count)["count"]
        wanted = explainer.explain(read_image(sample), method=method)
        values = drawn(wanted.heatmap[0], wanted.raw[0], signed, at_pixels)
        for opacity in (70, 0, 100, 20):
            page.get_by_label("Opacity of the map").fill(str(opacity))
            expect(page.locator("#opacity-value")).to_have_text(f"{opacity} %")
            difference = np.abs(
                opened.pixels().astype(int) - overlay(image, values, spec, signed, Style(opacity=opacity / 100))
            )
            assert difference.max() <= 8, (method, opacity)  # one shade of the palette
            assert (difference > 3).mean() <= 1e-3, (method, opacity)  # 8-bit opacity, two roundings
    assert opened.last()["count"] == count  # opacity computes nothing again


def test_the_whole_photo_with_the_part_that_is_seen(browser: Browser, site: Site, tmp_path: Path, sample: Path) -> None:
    """A photo between 512 and 1024 pixels is shown pixel by pixel."""
    photo = np.ascontiguousarray(read_image(sample).repeat(11, axis=0).repeat(10, axis=1)[:, :601])
    write_image(tmp_path / "photo.png", photo)
    folder, bundle = site(**CROPPED)
    with served(folder) as (address, _):
        opened = Opened(browser, address)
        page = opened.ready()
        page.get_by_label("Choose a picture").set_input_files(tmp_path / "photo.png")
        opened.last()
        expect(page.locator("#frame-hint")).to_be_visible()
        explainer = Explainer(bundle, backend="onnxruntime")
        wanted = explainer.explain(photo, method="grad-cam")
        expected = overlay(photo, wanted.heatmap[0], explainer.bundle.manifest.input)
        difference = np.abs(opened.pixels().astype(int) - expected)
        assert difference.max() <= 10
        assert (difference > 3).mean() <= 1e-3
        original = page.get_by_role("button", name="Show the original")
        original.click()
        assert original.get_attribute("aria-pressed") == "true"
        np.testing.assert_array_equal(opened.pixels(), photo)
        original.click()
        np.testing.assert_array_equal(np.abs(opened.pixels().astype(int) - expected), difference)
        opened.context.close()
        assert opened.complaints == []


def test_a_button_explains_its_own_class(opened: Opened, site: Site, sample: Path) -> None:
    """Whatever the names: two of these are shown as "x (0)", others differ in case alone."""
    config = json.loads((site()[0] / "config.json").read_text())
    config["labels"] = ["x", "a", "x", "x (0)", "A", "B", "b", "C", "c", "D"]
    page = opened.ready()
    page.route("**/config.json", lambda route: route.fulfill(json=config))
    page.reload()
    opened.ready().get_by_label("Choose a picture").set_input_files(sample)
    found = opened.last()
    for i, number in enumerate(np.argsort(found["likelihoods"])[::-1][:5]):
        page.locator("#prediction button").nth(i).click()
        found = opened.last(found["count"])
        assert found["target"] == number
    page.get_by_label("Class", exact=True).fill("A")
    page.get_by_label("Class", exact=True).press("Enter")
    assert opened.last(found["count"])["target"] == 4


def test_a_class_that_is_none(opened: Opened, sample: Path) -> None:
    page = opened.ready()
    page.get_by_label("Choose a picture").set_input_files(sample)
    count = opened.last()["count"]
    page.get_by_label("Class", exact=True).fill("e")
    page.get_by_label("Class", exact=True).press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("No class, or more than one, fits “e”.")
    assert page.get_by_label("Class", exact=True).get_attribute("aria-invalid") == "true"
    page.get_by_label("Class", exact=True).fill("8")
    page.get_by_label("Class", exact=True).press("Enter")
    assert opened.last(count)["target"] == 8
    expect(page.get_by_role("alert")).to_be_empty()


_ATTEMPTS = """async (url) => {
  new Image().src = url + "image";
  navigator.sendBeacon(url + "beacon", "x");
  await import(url + "module").catch(() => {});
  document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href: url + "style" }));
  const form = Object.assign(document.createElement("form"), { action: url + "form", method: "post", target: "_blank" });
  document.body.append(form);
  form.submit();
  try { new WebSocket(url.replace("http", "ws")); } catch { /* as it should */ }
  await new Promise((resolve) => setTimeout(resolve, 500));
}"""


def test_nothing_can_leave(browser: Browser, site: Site, sample: Path, tmp_path: Path) -> None:
    """Neither the page nor its worker can reach another server, even if their code tried."""
    with served(site()[0]) as (address, asked), served(tmp_path) as (elsewhere, asked_elsewhere):
        opened = Opened(browser, address)
        page = opened.ready()
        page.get_by_label("Choose a picture").set_input_files(sample)
        opened.last()
        assert len(page.workers) == 1
        places: list[Page | Worker] = [page, *page.workers]
        for place in places:
            assert (
                place.evaluate(
                    "(url) => fetch(url, { mode: 'no-cors' }).then(() => 'through', () => 'stopped')", elsewhere
                )
                == "stopped"
            )
        page.evaluate(_ATTEMPTS, elsewhere)
        opened.context.close()
        assert asked_elsewhere == []
        assert asked  # the server's record works


_CHANGED_WHILE_BUSY = """(select, value) => {
  select.dispatchEvent(new Event("change"));
  select.value = value;
  select.dispatchEvent(new Event("change"));
}"""


def test_an_incomplete_site_says_so(
    browser: Browser, site: Site, sample: Path, photograph: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "site"
    shutil.copytree(site()[0], folder)
    (folder / "networks" / "fused-grad-cam.onnx").unlink()
    with served(folder) as (address, _):
        opened = Opened(browser, address)
        page = opened.ready()
        page.get_by_label("Choose a picture").set_input_files(sample)
        missing = "The explanation failed: the site lacks networks/fused-grad-cam.onnx (404)"
        expect(page.get_by_role("alert")).to_have_text(missing)
        page.get_by_label("Method", exact=True).evaluate(_CHANGED_WHILE_BUSY, "reciprocam")
        assert opened.last()["method"] == "reciprocam"
        expect(page.get_by_role("alert")).to_be_empty()  # what failed meanwhile was not wanted any more
        before = opened.pixels()
        page.get_by_label("Method", exact=True).select_option("grad-cam")
        expect(page.get_by_role("alert")).to_have_text(missing)
        page.get_by_label("Choose a picture").set_input_files(photograph)
        expect(page.get_by_role("status")).to_be_empty()
        page.get_by_label("Opacity of the map").fill("75")
        assert (opened.pixels() != before).any()
        page.get_by_label("Opacity of the map").fill("70")
        np.testing.assert_array_equal(opened.pixels(), before)  # still the picture whose map it is
        (folder / "config.json").unlink()
        page.reload()
        expect(page.get_by_role("alert")).to_contain_text(
            "The page is incomplete (config.json: 404). Copy the whole folder"
        )
        opened.context.close()
