"""What an explanation can do by itself: its map on the whole photo, boxes, pictures, one line of text."""

from __future__ import annotations

import base64
import html
import io
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pytest
from PIL import Image

from xai_deploy import Explainer, Explanation, resample
from xai_deploy.errors import BackendNotInstalledError, OptionError, ShapeError
from xai_deploy.pictures import colorize
from xai_deploy.preprocess import frame

from . import tiny
from .conftest import Bundles
from .photos import SIZES, photos


def test_sizes_and_thumbnails(made: Explanation) -> None:
    assert made.sizes == tuple(SIZES)
    for photo, small in zip(photos(), made.thumbnails, strict=True):
        assert small is not None
        step = max(1, -(-max(photo.shape) // 256))
        assert max(small.shape) <= 256
        np.testing.assert_array_equal(small, photo[(step - 1) // 2 :: step, (step - 1) // 2 :: step])
        assert small.base is None, "a view would keep the photo in memory, and change with it"


def test_grey_transparent_and_prepared_images(cropping: Path) -> None:
    explainer = Explainer(cropping, "onnxruntime")
    grey = np.full((30, 40), 7, np.uint8)
    e = explainer.explain([grey, np.zeros((20, 50, 4), np.uint8) + np.uint8(255)], "cam")
    assert e.sizes == ((30, 40), (20, 50))
    assert [small.shape for small in e.thumbnails if small is not None] == [(30, 40, 3), (20, 50, 3)]
    for images in (explainer.prepare([grey]), tiny.inputs("pooled", 1)):
        e = explainer.explain(images, "cam")
        assert e.sizes == e.thumbnails == (None,)
        np.testing.assert_array_equal(e.to_image_size()[0], e.heatmap[0])


def test_on_the_whole_photo(made: Explanation) -> None:
    spec = made.network.input
    for i, (whole, holes) in enumerate(zip(made.to_image_size(), made.to_image_size(np.nan), strict=True)):
        assert whole.shape == SIZES[i]
        assert whole.dtype == np.float32
        seen = frame(*SIZES[i], spec)
        inside = np.zeros(SIZES[i], bool)
        inside[seen.slices] = True
        np.testing.assert_array_equal(np.isnan(holes), ~inside)
        assert not whole[~inside].any()
        np.testing.assert_array_equal(whole[inside], holes[inside])
        # The hottest pixel of the input lies below the hottest of the photo.
        y, x = np.unravel_index(whole.argmax(), whole.shape)
        row, column = (y + 0.5 - seen.top) * spec.height / seen.height, (x + 0.5 - seen.left) * spec.width / seen.width
        top, left = np.unravel_index(made.heatmap[i].argmax(), made.heatmap[i].shape)
        if made.constant[i] is None and min(SIZES[i]) > 1:
            assert max(abs(row - top - 0.5), abs(column - left - 0.5)) < 2


def test_a_photo_of_the_networks_own_size(bundles: Bundles) -> None:
    e = Explainer(bundles("pooled").path, "onnxruntime").explain(photos()[2], "cam")
    np.testing.assert_allclose(e.to_image_size()[0], e.heatmap[0], atol=1e-6)


def test_boxes_lie_on_the_photo(made: Explanation) -> None:
    for threshold in (0.2, 0.5, 1.0):
        for boxes, whole, reason in zip(made.boxes(threshold), made.to_image_size(), made.constant, strict=True):
            assert bool(boxes) == (reason is None and bool((whole >= threshold - 1e-6).any()))
            assert [box.heat for box in boxes] == sorted((box.heat for box in boxes), reverse=True)
            covered = np.zeros(whole.shape, bool)
            for box in boxes:
                covered[box.top : box.bottom, box.left : box.right] = True
            assert not (whole[~covered] >= threshold).any()
    wrong: list[Any] = [0, 1.5, -1, float("nan"), "0.5", None]
    for value in wrong:
        with pytest.raises(OptionError, match="threshold is above 0 and at most 1, not"):
            made.boxes(value)


def test_one_line(made: Explanation) -> None:
    text = repr(made)
    assert text == (
        "<Explanation cam: 5 images, tabby cat, tiger cat, not beagle, ...; map 4 x 5 at layer of tiny-pooled>"
    )
    odd = replace(made, network=replace(made.network, labels=("a\nb\x1b[31m",) * 5, name="n\n" * 500))
    assert repr(odd).count("\n") == 0
    assert "\x1b" not in repr(odd)
    assert len(repr(odd)) < 400
    assert [made.caption(i) for i in (2, 3)] == ["not beagle", "tabby cat vs crane"]


def decoded(data: bytes) -> Any:
    """By PIL, which is nobody's dependency."""
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither matplotlib nor OpenCV is installed."""
    for name in ("matplotlib", "matplotlib.figure", "cv2"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("bare")
def test_in_a_notebook(made: Explanation) -> None:
    text = made._repr_html_()
    captions = re.findall("<figcaption>(.*?)</figcaption>", text)
    shares = 100 * made.outputs["scores"][range(5), made.target]
    assert captions[:4] == [
        f"tabby cat ({shares[0]:.1f} %)",
        f"tiger cat ({shares[1]:.1f} %)",
        f"not beagle (beagle: {shares[2]:.1f} %)",
        f"tabby cat vs crane (tabby cat: {shares[3]:.1f} %)",
    ]
    pictures = [decoded(base64.b64decode(data)) for data in re.findall('src="data:image/png;base64,([^"]*)"', text)]
    for i, (picture, photo) in enumerate(zip(pictures, made.thumbnails, strict=True)):
        assert photo is not None
        np.testing.assert_array_equal(picture, made.draw(photo, i))
    assert html.escape(repr(made)[1:-1]) in text
    line = decoded(made._repr_png_())
    assert line.shape == (max(map(len, pictures)), sum(p.shape[1] for p in pictures) + 4 * 8, 3)
    np.testing.assert_array_equal(line[: len(pictures[0]), : pictures[0].shape[1]], pictures[0])
    assert (line[len(pictures[0]) :, : pictures[0].shape[1]] == 255).all()


def test_labels_are_escaped(made: Explanation) -> None:
    evil = ('<script>alert("1")</script>', "a & b\x1b[2J", "'\"><img src=x onerror=1>", "d", "e")
    text = replace(made, network=replace(made.network, labels=evil, name="<b>"), method="<i>")._repr_html_()
    seen: set[tuple[str, ...]] = set()

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            seen.add((tag, *sorted(name for name, _ in attrs)))

    Reader().feed(text)
    assert seen == {("div",), ("div", "style"), ("figure", "style"), ("img", "alt", "src", "style"), ("figcaption",)}
    assert "\x1b" not in text


@pytest.mark.usefixtures("bare")
def test_many_images_and_none_that_are_kept(bundles: Bundles) -> None:
    explainer = Explainer(bundles("pooled").path, "onnxruntime")
    e = explainer.explain(tiny.inputs("pooled", 20), "reciprocam")
    text = e._repr_html_()
    assert text.count("<img ") == 12
    assert "and 8 more images; plot() draws all" in text
    first = decoded(base64.b64decode(re.findall('base64,([^"]*)"', text)[0]))
    np.testing.assert_array_equal(first, colorize(e.heatmap[0]))  # the map alone
    assert decoded(e._repr_png_()).shape == (16, 12 * 28 - 8, 3)
    signed = explainer.explain(tiny.inputs("pooled", 1), "cam", relu=False)
    assert signed.signed == (True,)
    picture = decoded(signed._repr_png_()).astype(int)
    hot, cold = (signed.raw[0] == signed.raw[0].max()), (signed.raw[0] == signed.raw[0].min())
    large = [np.kron(mask, np.ones((4, 4), bool)) for mask in (hot, cold)]
    warm, cool = (picture[mask].mean(0) for mask in large)
    assert warm[0] - warm[2] > cool[0] - cool[2] + 50  # more red, less blue


def test_boxes_of_a_signed_map_hold_what_speaks_for(bundles: Bundles) -> None:
    x = tiny.inputs("pooled", 6)
    e = Explainer(bundles("pooled").path, "onnxruntime").explain(x, "cam", 1, relu=False)
    for boxes, raw in zip(e.boxes(0.5), e.raw, strict=True):
        values = np.maximum(resample.resize(raw, tiny.HEIGHT, tiny.WIDTH), 0)
        inside = np.zeros(values.shape, bool)
        for box in boxes:
            inside[box.top : box.bottom, box.left : box.right] = True
            assert (values[box.top : box.bottom, box.left : box.right] > 0).any()
        assert bool(boxes) == bool(values.any())
        assert not (values[~inside] > 0.5 * values.max() * 1.001).any()


def test_plot(made: Explanation, bundles: Bundles) -> None:
    drawn = made.plot()
    assert isinstance(drawn, matplotlib.figure.Figure)
    places = [place for place in drawn.axes if place.images]
    assert len(places) == 5
    for i, (place, photo) in enumerate(zip(places, made.thumbnails, strict=True)):
        assert photo is not None
        np.testing.assert_array_equal(place.images[0].get_array(), made.draw(photo, i))
    assert places[2].get_title().startswith("not beagle (beagle: ")
    assert decoded(drawn._repr_png_()).shape[2] == 4  # type: ignore[attr-defined]
    full = made.plot(photos(), colormap="viridis")
    wanted = made.overlay(photos(), colormap="viridis")
    for place, picture in zip([place for place in full.axes if place.images], wanted, strict=True):
        np.testing.assert_array_equal(place.images[0].get_array(), picture)
    labels = replace(made, network=replace(made.network, labels=("$\\frac{", "$a$", "c", "d", "e")))
    assert labels.plot()._repr_png_()  # a label is no formula
    mixed = Explainer(bundles("pooled").path, "onnxruntime").explain_many(
        photos()[:2], [("reciprocam", {}), ("cam", {"relu": False})], [[0, "0 vs 1"]]
    )
    for e in mixed:
        assert len(e.plot().axes) == 2 + len(set(e.signed))


def test_plot_refuses(made: Explanation, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ShapeError, match="2 images for 5 heatmaps"):
        made.plot(photos()[:2])
    with pytest.raises(OptionError, match="no colour map 'rainbows'"):
        made.plot(colormap="rainbows")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(BackendNotInstalledError, match=r'plot needs matplotlib, .*; pip install "xai-deploy\[plot\]"$'):
        made.plot()
