"""What the page saves: the map as .npy and JSON against the engine's, and the picture with its caption."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xai_deploy import Explainer, read_image
from xai_deploy.format.bundle import Bundle
from xai_deploy.preprocess import frame

from .conftest import Site, served
from .opened import Opened
from .test_page import CROPPED

pytest.importorskip("playwright", reason="playwright, which drives the browser, is not installed")
from playwright.sync_api import Browser, Page, expect

Node = Callable[[str, Any], Any]


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (224, 224), (12345, 1)])
def test_npy_is_numpy_s_format(node: Node, shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    script = (
        "Array.from(save.npy({ data: Float32Array.from(input.data), height: input.shape[0], width: input.shape[1] }))"
    )
    data = bytes(node(script, {"data": values.ravel().tolist(), "shape": shape}))
    found = np.load(io.BytesIO(data))
    assert (found.dtype, found.flags.c_contiguous) == (np.dtype("<f4"), True)
    np.testing.assert_array_equal(found, values)
    written = io.BytesIO()
    np.save(written, values)
    assert data == written.getvalue()


def test_names_of_files(node: Node) -> None:
    script = "input.map((texts) => save.fileName(...texts))"
    texts = [["IMG 1", "grad-cam++", "three"], ["../../etc/passwd", "a:b"], ["Größe", "猫", "?"], ["..", "x"]]
    assert node(script, texts) == ["IMG-1_grad-cam++_three", "etc-passwd_a-b", "Größe_猫", "x"]


def saved(page: Page, what: str, folder: Path) -> Path:
    page.get_by_role("button", name="Save", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("button", name=what).click()
    expect(page.locator("#save-menu")).to_be_hidden()
    expect(page.get_by_role("button", name="Save", exact=True)).to_be_focused()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_maps_and_pictures_are_saved(browser: Browser, site: Site, photograph: Path, tmp_path: Path) -> None:
    folder, bundle = site(**CROPPED)
    with served(folder) as (address, _):
        opened = Opened(browser, address, accept_downloads=True)
        page = opened.ready()
        assert page.get_by_role("button", name="Save", exact=True).is_disabled()
        page.get_by_label("Choose a picture").set_input_files(photograph)
        count = opened.last()["count"]
        wanted = Explainer(bundle, backend="onnxruntime").explain(read_image(photograph), method="grad-cam")
        label = (
            wanted.target_label(0)
            if hasattr(wanted, "target_label")
            else opened.page.locator("#prediction button").first.inner_text().split("\n")[0]
        )
        path = saved(page, "Raw map (.npy)", tmp_path)
        assert path.name == f"lying_grad-cam_{label}.npy"
        largest = np.abs(wanted.raw[0]).max()
        np.testing.assert_allclose(np.load(path), wanted.raw[0], rtol=0, atol=1e-3 * largest)
        page.get_by_label("Compare with").select_option("another class")
        opened.last(count)
        found = json.loads(saved(page, "Raw map (JSON)", tmp_path).read_text())
        np.testing.assert_allclose(found["maps"][0]["raw"], wanted.raw[0], rtol=0, atol=1e-3 * largest)
        assert (found["predicted"], found["maps"][0]["label"]) == (wanted.target[0], label)
        assert found["picture"] == {"name": "lying", "height": 301, "width": 257}
        assert found["seen"] == frame(301, 257, Bundle.open(bundle).manifest.input)._asdict()
        assert len(found["probabilities"]) == 10
        one, other, difference = found["maps"]
        assert difference["versus_label"] == other["label"]
        np.testing.assert_allclose(difference["raw"], np.array(one["raw"]) - other["raw"], rtol=0, atol=1e-6 * largest)
        sheet = read_image(saved(page, "Picture with caption (PNG)", tmp_path))
        shown = opened.pixels("canvas-2")
        height, width = shown.shape[:2]
        left = 16 + width + 16
        np.testing.assert_array_equal(sheet[16 : 16 + height, left : left + width], shown)
        assert sheet.shape[1] == 3 * width + 4 * 16
        below = sheet[16 + height :]
        assert (below.min(axis=(1, 2)) < 128).sum() > 30  # text
        assert (below[-10:] == 255).all()
        opened.context.close()
        assert opened.complaints == []


def test_the_menu_by_keyboard(opened: Opened, sample: Path) -> None:
    page = opened.ready()
    page.get_by_label("Choose a picture").set_input_files(sample)
    opened.last()
    save = page.get_by_role("button", name="Save", exact=True)
    save.focus()
    page.keyboard.press("Enter")
    assert save.get_attribute("aria-expanded") == "true"
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Picture with caption (PNG)")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#save-menu")).to_be_hidden()
    expect(save).to_be_focused()
    page.keyboard.press("Space")
    for _ in range(4):
        page.keyboard.press("Tab")
    expect(page.locator("#save-menu")).to_be_hidden()  # focus left it
    expect(page.get_by_label("Method", exact=True)).to_be_focused()
