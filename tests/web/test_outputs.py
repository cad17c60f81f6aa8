"""The page of networks that are no classifiers, in headless Chromium, against the engine: regions, numbers and embeddings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from xai_exporters import Request, export
from xai_exporters.deliver.web import write_site

from xai_deploy import Contrast, Explainer, Like, Not, Region, write_image
from xai_deploy.errors import NotPredictedError
from xai_deploy.format.bundle import Bundle

from ..networks.outputs.nets import Embedding, UNet, saved
from .conftest import served
from .opened import Opened

pytest.importorskip("playwright", reason="playwright, which drives the browser, is not installed")
from playwright.sync_api import Browser, expect

LABELS = ("background", "road", "car", "sky", "tree")
Made = dict[str, tuple[Path, Path]]


@pytest.fixture(scope="module")
def made(runtime: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Page and bundle of each network."""
    folder = tmp_path_factory.mktemp("outputs")
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n")
    labels = folder / "labels.txt"
    made = {}
    for name, network, more in (
        ("scores", UNet("bilinear"), {"labels": labels, "fuse": ("grad-cam", "lrp"), "pixel_relevance": True}),
        ("argmax", UNet("transposed", "argmax"), {"labels": labels, "fuse": ("grad-cam",), "split": "first,middle"}),
        ("numbers", Embedding(), {"task": "numbers", "fuse": ("grad-cam", "lrp"), "pixel_relevance": True}),
        ("embedding", Embedding(), {"task": "embedding", "fuse": ("grad-cam",)}),
    ):
        source = saved(network, folder / f"{name}.onnx")
        done = export(Request(source, output_path=folder / f"{name}.xai", preprocess="unit", **more))
        write_site(folder / name, Bundle.open(done.path), runtime)
        made[name] = folder / name, done.path
    return made


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two photos of another size than the networks' input."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(3)
    for name in ("one", "other"):
        write_image(folder / f"{name}.png", rng.integers(0, 256, (50, 61, 3)).astype(np.uint8))
    return [folder / "one.png", folder / "other.png"]


@contextmanager
def page_of(browser: Browser, folder: Path) -> Iterator[Opened]:
    """A page that leaves nothing and complains of nothing."""
    with served(folder) as (address, _):
        opened = Opened(browser, address, viewport={"width": 1200, "height": 1000})
        opened.ready()
        yield opened
        opened.context.close()
        assert [url for url in opened.requests if not url.startswith((address, "blob:", "data:"))] == []
        assert opened.complaints == []


def raw(found: dict[str, Any]) -> NDArray[np.float32]:
    values = found["raw"]
    return np.array(values["data"], np.float32).reshape(values["height"], values["width"])


def agrees(found: dict[str, Any], bundle: Path, photo: Path, target: object, method: str = "grad-cam") -> None:
    """The page's map and score are the engine's."""
    wanted = Explainer(bundle, backend="onnxruntime").explain(photo, method, target)  # type: ignore[arg-type]
    np.testing.assert_allclose(raw(found), wanted.raw[0], rtol=0, atol=1e-4 * np.abs(wanted.raw).max() + 1e-9)
    assert found["method"] == method
    np.testing.assert_allclose(found["heatmap"]["data"], wanted.heatmap[0].ravel(), rtol=0, atol=1e-4)
    if found["about"]["kind"] != "similarity":
        assert wanted.score is not None
        sign = -1 if found["about"].get("direction") == "down" else 1
        assert sign * found["scores"][found["target"]] == pytest.approx(float(wanted.score[0]), abs=1e-4)


def test_regions(browser: Browser, made: Made, photos: list[Path], tmp_path: Path) -> None:
    """Where the network predicts it; a box drawn with the pointer, and typed; the whole picture; another class beside it."""
    folder, bundle = made["scores"]
    with page_of(browser, folder) as opened:
        page = opened.page
        expect(page.get_by_label("Region", exact=True)).to_have_value("predicted")
        page.get_by_label("Choose a picture").set_input_files(photos[0])
        found = opened.last()
        agrees(found, bundle, photos[0], None)
        name = LABELS[found["target"]]
        assert page.locator(".panel-title").inner_text().startswith(f"grad-cam: {name} where it is predicted, score ")

        page.get_by_label("Class", exact=True).fill("car")
        page.get_by_label("Region", exact=True).select_option("a box")
        found = opened.last(found["count"])
        assert found["about"] == {"kind": "regions", "region": "15,12,31,25"}  # the middle
        canvas = page.locator("#canvas").bounding_box()
        assert canvas is not None
        scale = canvas["width"] / 61
        page.mouse.move(canvas["x"] + 50.2 * scale, canvas["y"] + 44.1 * scale)
        page.mouse.down()
        for x, y in ((22, 30), (7.1, 20.9)):
            page.mouse.move(canvas["x"] + x * scale, canvas["y"] + y * scale)
        page.mouse.up()
        found = opened.last(found["count"])
        assert found["about"]["region"] == "7,21,43,23"
        agrees(found, bundle, photos[0], Region(2, (7, 21, 43, 23)))

        page.get_by_label("Left", exact=True).focus()  # by the keyboard alone
        page.keyboard.press("Control+A")
        page.keyboard.type("30")
        page.keyboard.press("Tab")
        expect(page.get_by_label("Top", exact=True)).to_be_focused()
        found = opened.last(found["count"])
        agrees(found, bundle, photos[0], Region(2, (30, 21, 43, 23)))
        page.get_by_label("Method", exact=True).select_option("lrp")
        found = opened.last(found["count"])
        agrees(found, bundle, photos[0], Region(2, (30, 21, 43, 23)), "lrp")
        page.get_by_label("Compare with").select_option("another class")
        page.get_by_label("Other class").fill("sky")
        page.get_by_label("Other class").press("Enter")
        found = opened.last(found["count"] + 1)
        agrees({**found, **found["other"]}, bundle, photos[0], Region(3, (30, 21, 43, 23)), "lrp")
        with page.expect_download() as saving:
            page.get_by_role("button", name="Save").click()
            page.get_by_role("button", name="Raw map (JSON)").click()
        saving.value.save_as(tmp_path / "map.json")
        kept = json.loads((tmp_path / "map.json").read_bytes())
        assert kept["explained"] == {"kind": "regions", "region": "30,21,43,23"}
        assert kept["maps"][0]["label"] == "car in the box 30,21,43,23"

        page.get_by_label("Region", exact=True).select_option("the whole picture")
        found = opened.last(found["count"])
        agrees(found, bundle, photos[0], Region(2, "all"), "lrp")
        page.get_by_label("Region", exact=True).select_option("a box")
        page.set_viewport_size({"width": 360, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        for control in page.locator("#box-field input, #region").all():
            shown = control.bounding_box()
            assert shown is not None
            assert shown["height"] >= 44


def test_polygons_masks_and_two_regions(browser: Browser, made: Made, photos: list[Path], tmp_path: Path) -> None:
    """Corners by the pointer and typed; a mask's file, and files that are none; a region rather than another one."""
    folder, bundle = made["scores"]
    masks: dict[str, Any] = {"mask": np.zeros((50, 61), np.uint8)}
    masks["mask"][8:30, 20:44] = 255
    masks["mask"][12:20, 20:30] = 0
    masks |= {
        "small": masks["mask"][:-1],
        "black": masks["mask"] * 0,
        "grey": np.maximum(masks["mask"], np.arange(61, dtype=np.uint8)),
    }
    masks["colours"] = np.stack([masks["mask"], *[masks["mask"] * 0] * 2], axis=-1)
    for name, values in masks.items():
        write_image(tmp_path / f"{name}.png", values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=-1))
    inside = masks["mask"] > 0
    with page_of(browser, folder) as opened:
        page = opened.page
        page.get_by_label("Region", exact=True).select_option("a polygon")
        page.get_by_label("Class", exact=True).fill("car")
        page.get_by_label("Choose a picture").set_input_files(photos[0])
        expect(page.get_by_role("alert")).to_contain_text("A polygon has at least three corners, and this one 0.")
        canvas = page.locator("#canvas").bounding_box()  # the picture is there to be pressed on
        assert canvas is not None
        scale = canvas["width"] / 61
        for x, y in ((7, 9), (50, 12), (31, 44)):
            page.mouse.click(canvas["x"] + (x + 0.1) * scale, canvas["y"] + (y - 0.1) * scale)
        found = opened.last()
        assert found["about"] == {"kind": "regions", "region": "7,9 50,12 31,44"}
        agrees(found, bundle, photos[0], Region(2, "7,9 50,12 31,44"))
        page.get_by_label("Corners", exact=True).fill("7.5,9 50,12.25 31,44 3,30")
        page.get_by_label("Corners", exact=True).press("Enter")
        found = opened.last(found["count"])
        agrees(found, bundle, photos[0], Region(2, "7.5,9 50,12.25 31,44 3,30"))
        page.get_by_label("Corners", exact=True).fill("7;9")
        page.get_by_label("Corners", exact=True).press("Enter")
        expect(page.get_by_role("alert")).to_have_text("Corners are written x,y x,y x,y in pixels of the picture.")
        page.get_by_label("Corners", exact=True).fill("7,9 7,20 7,44")
        page.get_by_label("Corners", exact=True).press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("The polygon is empty: its corners lie on one line.")

        page.get_by_label("Region", exact=True).select_option("a mask")
        expect(page.get_by_role("alert")).to_contain_text("Choose a mask: a picture of the same size")
        for name, said in (
            ("small", "The mask has 61 x 49 pixels, its picture 61 x 50."),
            ("black", "The mask is empty: all of it is black."),
            ("grey", "A mask has two values, 0 outside and another inside; this one has 0, 1 and 2."),
            ("colours", "A mask is black and white, and this picture has colours."),
        ):
            page.get_by_label("Choose a mask", exact=True).set_input_files(tmp_path / f"{name}.png")
            expect(page.get_by_role("alert")).to_have_text(re.compile("^" + re.escape(said)))
        page.get_by_label("Choose a mask", exact=True).set_input_files(tmp_path / "mask.png")
        found = opened.last(found["count"])
        agrees(found, bundle, photos[0], Region(2, inside))
        page.get_by_label("Method", exact=True).select_option("lrp")
        found = opened.last(found["count"])

        page.get_by_label("Compare with").select_option("another region")
        expect(page.get_by_role("alert")).to_have_text("")
        page.get_by_label("Other region", exact=True).select_option("a box")
        found = opened.last(found["count"] + 1)
        page.get_by_label("Other class").fill("sky")
        page.get_by_label("Other class").press("Enter")
        found = opened.last(found["count"])
        box = (15, 12, 31, 25)
        agrees({**found, **found["other"]}, bundle, photos[0], Region(3, box), "lrp")
        assert [one["about"]["region"] for one in (found, found["other"])] == ["mask", "15,12,31,25"]
        both = Explainer(bundle, backend="onnxruntime").explain(
            photos[0], "lrp", Contrast(Region(2, inside), Region(3, box))
        )
        difference = raw(found["difference"])
        np.testing.assert_allclose(difference, both.raw[0], rtol=0, atol=1e-4 * np.abs(both.raw).max())
        titles = page.locator(".panel-title").all_inner_texts()
        assert titles[2] == "lrp: car in the mask mask minus sky in the box 15,12,31,25"
        page.get_by_label("Other left", exact=True).focus()  # its controls were used last: the pointer draws it
        page.mouse.move(canvas["x"] + 5, canvas["y"] + 5)
        canvas = page.locator("#canvas").bounding_box()
        assert canvas is not None
        scale = canvas["width"] / 61
        page.mouse.move(canvas["x"] + 3.1 * scale, canvas["y"] + 4.1 * scale)
        page.mouse.down()
        page.mouse.move(canvas["x"] + 20.2 * scale, canvas["y"] + 30.1 * scale)
        page.mouse.up()
        found = opened.last(found["count"])
        assert [one["about"]["region"] for one in (found, found["other"])] == ["mask", "3,4,17,26"]


def test_a_network_that_ends_in_argmax(browser: Browser, made: Made, photos: list[Path]) -> None:
    """The prediction is the output itself; a class that is nowhere predicted, and a box outside, are said. Maps of two layers."""
    folder, bundle = made["argmax"]
    with page_of(browser, folder) as opened:
        page = opened.page
        page.get_by_label("Choose a picture").set_input_files(photos[1])
        found = opened.last()
        agrees(found, bundle, photos[1], None)
        page.get_by_label("Region", exact=True).select_option("a box")
        found = opened.last(found["count"])
        agrees(found, bundle, photos[1], Region(None, (15, 12, 31, 25)))
        for label, value, said in (
            ("Left", "70", "The box lies outside"),
            ("Left", "", "The box has no place. Draw it on the picture, or type its left and its top edge."),
            ("Left", "5", ""),
            ("Width", "0", "The box is empty."),
        ):
            page.get_by_label(label, exact=True).fill(value)
            page.get_by_label(label, exact=True).press("Enter")
            expect(page.get_by_role("alert")).to_contain_text(said)
        page.get_by_label("Region", exact=True).select_option("where the network predicts it")
        nowhere = next((c for c in range(5) if _nowhere(bundle, photos[1], c)), None)
        assert nowhere is not None
        page.get_by_label("Class", exact=True).fill(LABELS[nowhere])
        page.get_by_label("Class", exact=True).press("Enter")
        expect(page.get_by_role("alert")).to_contain_text(f"predicts “{LABELS[nowhere]}” nowhere in this picture")


def _nowhere(bundle: Path, photo: Path, index: int) -> bool:
    try:
        Explainer(bundle).explain(photo, "grad-cam", Region(index, "predicted"))
    except NotPredictedError:
        return True
    return False


def test_numbers(browser: Browser, made: Made, photos: list[Path]) -> None:
    folder, bundle = made["numbers"]
    with page_of(browser, folder) as opened:
        page = opened.page
        page.get_by_label("Choose a picture").set_input_files(photos[0])
        found = opened.last()
        agrees(found, bundle, photos[0], 0)
        for output, direction, method in (("4", "up", "grad-cam"), ("4", "down", "grad-cam"), ("4", "down", "lrp")):
            page.get_by_label("Output", exact=True).fill(output)
            page.get_by_label("Direction").select_option(direction)
            page.get_by_label("Method", exact=True).select_option(method)
            page.get_by_label("Output", exact=True).press("Enter")
            target: object = int(output) if direction == "up" else Not(int(output))
            expect(page.locator(".panel-title")).to_contain_text(f"{method}: output {output} {direction}, value ")
            found = opened.last()
            agrees(found, bundle, photos[0], target, method)
        shown = page.locator("#prediction button[aria-pressed=true]").all_inner_texts()
        assert [text.split("\n")[0] for text in shown] == ["output 4"]
        page.get_by_label("Output", exact=True).fill("#9")
        page.get_by_label("Output", exact=True).press("Enter")
        expect(page.get_by_role("alert")).to_have_text(
            "No output, or more than one, fits “#9”. Pick one from the list."
        )
        page.get_by_label("Output", exact=True).fill("")
        page.get_by_label("Output", exact=True).press("Enter")
        expect(page.get_by_role("alert")).to_have_text("Choose an output: none of the numbers is a predicted one.")


def test_a_reference(browser: Browser, made: Made, photos: list[Path]) -> None:
    folder, bundle = made["embedding"]
    with page_of(browser, folder) as opened:
        page = opened.page
        page.get_by_label("Choose a picture").set_input_files(photos[0])
        expect(page.get_by_role("status")).to_have_text("“one” is read. Choose a reference, which it is compared with.")
        page.get_by_label("Choose a reference").set_input_files(photos[1])
        found = opened.last()
        agrees(found, bundle, photos[0], Like(photos[1]))
        wanted = Explainer(bundle).explain(photos[0], "grad-cam", Like(photos[1])).score
        assert wanted is not None
        title = page.locator(".panel-title").inner_text()
        assert title == f"grad-cam: like other, cosine {wanted[0]:.3f}"
        expect(page.get_by_role("img", name="The reference, other")).to_be_visible()
        page.get_by_role("button", name="Use this picture").click()
        found = opened.last(found["count"])
        agrees(found, bundle, photos[0], Like(photos[0]))
        assert page.locator(".panel-title").inner_text() == "grad-cam: like one, cosine 1.000"
        page.get_by_label("Choose a picture").set_input_files(photos[1])  # the reference stays
        agrees(opened.last(found["count"]), bundle, photos[1], Like(photos[0]))
