"""The page that offers sample pictures, and one without, in headless Chromium."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from xai_exporters.deliver.web import read_samples, write_site

from xai_deploy import Explainer, read_image
from xai_deploy.format.bundle import Bundle

from .conftest import METHODS, served
from .opened import Opened

pytest.importorskip("playwright", reason="playwright, which drives the browser, is not installed")
from playwright.sync_api import Browser, expect


def test_the_page_offers_them(
    browser: Browser, digits: Callable[..., Bundle], runtime: dict[str, bytes], tmp_path: Path, root: Path
) -> None:
    (tmp_path / "given").mkdir()
    for name in ("03_three.png", "07_seven.png"):
        shutil.copy(root / "models" / "clutter_digits" / "samples" / name, tmp_path / "given")
    shutil.copy(tmp_path / "given" / "03_three.png", tmp_path / "given" / "a \" <b> & 'c'.v2.png")  # no name is markup
    bundle = digits("plain")
    samples = read_samples(tmp_path / "given")
    write_site(tmp_path / "site", bundle, runtime, title="Which <digit>?", samples=samples)
    config = json.loads((tmp_path / "site" / "config.json").read_bytes())
    assert [one["name"] for one in config["samples"]] == ["03_three", "07_seven", "a \" <b> & 'c'.v2"]
    assert {one[key] for one in config["samples"] for key in ("picture", "thumbnail")} <= set(config["files"])
    with served(tmp_path / "site") as (address, asked):
        opened = Opened(browser, address)
        page = opened.ready()
        expect(page).to_have_title("Which <digit>?: explain a picture")
        expect(page.get_by_role("heading", level=1)).to_have_text("Which <digit>?")
        assert not any(one["picture"] in path for one in config["samples"] for path in asked)  # fetched when wanted
        count = 0
        for name, file in (("07_seven", "07_seven.png"), ("a \" <b> & 'c'.v2", "03_three.png")):
            button = page.get_by_role("button", name=f"Sample {name}", exact=True)
            box = button.bounding_box()
            assert box is not None
            assert min(box["width"], box["height"]) >= 44
            assert button.locator("img").evaluate("image => image.complete && image.naturalWidth") == 64
            button.click()
            found = opened.last(count)
            count = found["count"]
            wanted = Explainer(bundle.path, backend="onnxruntime").explain(
                read_image(root / "models" / "clutter_digits" / "samples" / file), method=METHODS[0]
            )
            heat = np.array(found["heatmap"]["data"], np.float32).reshape(64, 64)
            np.testing.assert_allclose(heat, wanted.heatmap[0], rtol=0, atol=1e-3)
        (tmp_path / "site" / "samples" / "2.png").unlink()
        page.get_by_role("button", name="Sample 07_seven").click()
        expect(page.get_by_role("alert")).to_have_text(
            "The picture can't be used (the site lacks samples/2.png (404))."
        )
        opened.context.close()


def test_without_samples_the_zone_says_so(opened: Opened) -> None:
    page = opened.ready()
    expect(page.locator("#samples")).to_be_hidden()
    expect(page.locator("#empty")).to_have_text(
        "Drop a picture here or choose one, or use the camera.", use_inner_text=True
    )
