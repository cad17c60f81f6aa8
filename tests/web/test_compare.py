"""Two maps side by side in headless Chromium, against the engine: of two methods, and of two classes with their difference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from xai_deploy import Explainer, read_image
from xai_deploy.pictures import drawn, overlay
from xai_deploy.preprocess import view

from .conftest import Site, served
from .opened import Opened

pytest.importorskip("playwright", reason="playwright, which drives the browser, is not installed")
from playwright.sync_api import Browser, expect

TOLERANCE = 1e-3


def plane(found: dict[str, Any]) -> NDArray[np.float32]:
    return np.array(found["data"], np.float32).reshape(found["height"], found["width"])


def titles(opened: Opened) -> list[str]:
    texts: list[str] = opened.page.locator(".panel-title").all_inner_texts()
    return texts


def test_two_methods(opened: Opened, site: Site, sample: Path) -> None:
    page = opened.ready()
    compare = page.get_by_label("Compare with")
    compare.select_option("gradient")  # before there is a picture
    page.get_by_label("Choose a picture").set_input_files(sample)
    found = opened.last()
    wanted = Explainer(site()[1], backend="onnxruntime").explain(read_image(sample), method="gradient")
    assert (found["method"], found["other"]["method"], found["difference"]) == ("grad-cam", "gradient", None)
    np.testing.assert_allclose(plane(found["other"]["heatmap"]), wanted.heatmap[0], rtol=0, atol=TOLERANCE)
    assert [title.split(",")[0] for title in titles(opened)] == ["grad-cam: three", "gradient: three"]
    # the chosen method is not compared with itself
    assert compare.locator("option:disabled").all_inner_texts() == ["grad-cam"]
    page.get_by_label("Method", exact=True).select_option("gradient")
    found = opened.last(found["count"])
    assert (found["method"], found["other"]) == ("gradient", None)
    assert compare.input_value() == ""
    assert len(titles(opened)) == 1


@pytest.mark.parametrize("method", ["relevance-cam", "grad-cam", "reciprocam"])
def test_two_classes(opened: Opened, site: Site, sample: Path, method: str) -> None:
    page = opened.ready()
    page.get_by_label("Method", exact=True).select_option(method)
    page.get_by_label("Choose a picture").set_input_files(sample)
    found = opened.last()
    page.get_by_label("Compare with").select_option("another class")
    found = opened.last(found["count"])
    second = int(np.argsort(found["likelihoods"])[-2])
    assert (found["target"], found["other"]["target"]) == (3, second)
    other = page.get_by_label("Other class")
    other.fill("seven")
    other.press("Enter")
    found = opened.last(found["count"])
    assert found["other"]["target"] == 7
    explainer = Explainer(site()[1], backend="onnxruntime")
    image = read_image(sample)
    three, seven, contrast = (
        explainer.explain(image, method=method, target=t) for t in ("three", "seven", "three vs seven")
    )
    np.testing.assert_allclose(plane(found["heatmap"]), three.heatmap[0], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(plane(found["other"]["heatmap"]), seven.heatmap[0], rtol=0, atol=TOLERANCE)
    raw = plane(found["difference"]["raw"])
    wanted = three.raw[0] - seven.raw[0]
    if method == "reciprocam":  # its file leaves the constants out: that of the map, and a factor
        raw = (raw - raw.mean()) / (raw.max() - raw.min())
        wanted = (wanted - wanted.mean()) / (wanted.max() - wanted.min())
    np.testing.assert_allclose(raw, wanted, rtol=0, atol=TOLERANCE * np.abs(wanted).max())
    values = plane(found["difference"]["shown"])
    assert np.abs(values).max() == 1
    if method == "relevance-cam":  # linear in the seed: the difference is the engine's own contrast
        np.testing.assert_allclose(
            values, drawn(contrast.heatmap[0], contrast.raw[0], True, False), rtol=0, atol=TOLERANCE
        )
    assert titles(opened)[2] == f"{method}: three minus seven"
    spec = explainer.bundle.manifest.input
    photo = view(image, spec).repeat(8, axis=0).repeat(8, axis=1)
    difference = np.abs(opened.pixels("canvas-3").astype(int) - overlay(photo, values, spec, signed=True))
    assert (difference > 3).mean() <= 1e-3
    ends = page.locator("figcaption").nth(2).locator("span").all_inner_texts()
    assert ends == ["seven", "three"]
    assert page.locator("#canvas-3").get_attribute("aria-label") == (
        f"The picture under the map of {method} for three minus that for seven"
    )


def test_a_class_that_is_no_other(opened: Opened, sample: Path) -> None:
    page = opened.ready()
    page.get_by_label("Choose a picture").set_input_files(sample)
    found = opened.last()
    page.get_by_label("Compare with").select_option("another class")
    found = opened.last(found["count"])
    other = page.get_by_label("Other class")
    other.fill("three")
    other.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("“three” can't be compared with itself. Choose another class.")
    other.fill("e")
    other.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("No class, or more than one, fits “e”.")
    assert other.get_attribute("aria-invalid") == "true"
    page.get_by_label("Compare with").select_option("nothing")
    assert opened.last(found["count"])["other"] is None
    expect(page.get_by_role("alert")).to_be_empty()
    expect(other).to_be_hidden()


def test_a_file_of_fixed_target_compares_methods_only(browser: Browser, site: Site, sample: Path) -> None:
    folder, bundle = site(name="fixed", methods=("grad-cam", "reciprocam"), fixed_target=True)
    with served(folder) as (address, _):
        opened = Opened(browser, address)
        page = opened.ready()
        assert page.get_by_label("Compare with").locator("option:disabled").all_inner_texts() == [
            "another class",
            "grad-cam",
        ]
        page.get_by_label("Compare with").select_option("reciprocam")
        page.get_by_label("Choose a picture").set_input_files(sample)
        found = opened.last()
        wanted = Explainer(bundle, backend="onnxruntime").explain(read_image(sample), method="reciprocam")
        np.testing.assert_allclose(plane(found["other"]["heatmap"]), wanted.heatmap[0], rtol=0, atol=TOLERANCE)
        opened.context.close()
        assert opened.complaints == []


def test_each_network_is_fetched_once_while_two_are_compared(browser: Browser, site: Site, sample: Path) -> None:
    with served(site()[0]) as (address, asked):
        opened = Opened(browser, address)
        page = opened.ready()
        page.get_by_label("Compare with").select_option("reciprocam")
        page.get_by_label("Choose a picture").set_input_files(sample)
        count = opened.last()["count"]
        page.get_by_label("Choose a picture").set_input_files(sample)
        opened.last(count)
        for name in (
            "networks/fused-grad-cam.onnx",
            "networks/fused-reciprocam.onnx",
            "onnxruntime/ort-wasm-simd-threaded.wasm",
        ):
            assert asked.count(f"/{name}") == 1, name
        opened.context.close()


_WATCH_THE_LOADING = """() => {
  window.seen = [];
  const bar = document.getElementById("loading");
  new MutationObserver(() => { if (!bar.hidden) seen.push([bar.value, document.getElementById("status").textContent]); })
    .observe(bar, { attributes: true });
}"""


def test_loading_is_shown(opened: Opened, sample: Path) -> None:
    page = opened.ready()
    page.evaluate(_WATCH_THE_LOADING)
    page.get_by_label("Choose a picture").set_input_files(sample)
    opened.last()
    seen = page.evaluate("seen")
    shares = [share for share, _ in seen]
    assert shares == sorted(shares)
    assert len(set(shares)) > 10
    assert shares[-1] == 1
    assert {said for _, said in seen} == {"Loading the network."}  # a screen reader is not told every percent
    expect(page.locator("#loading")).to_be_hidden()
