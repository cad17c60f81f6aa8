"""Regions, numbers and similarities over HTTP: targets as JSON give the Explainer's maps, and no file of the server's is read."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xai_deploy import Contrast, Explainer, Like, Region, read_image, write_image
from xai_deploy.serve import Limits

from ...runtime.serve.conftest import Running
from .nets import SIZE

Serve = Callable[[str], Running]


@pytest.fixture
def serve(here: Path) -> Iterator[Serve]:
    running: list[Running] = []

    def start(name: str) -> Running:
        one = Running(here / f"{name}.xai", "onnxruntime", Limits(), {"grad-cam": {}})
        running.append(one)
        one.service.models.load("net")
        return one

    yield start
    for one in running:
        one.service.close()


def b64(path: Path | str) -> dict[str, str]:
    return {"b64": base64.b64encode(Path(path).read_bytes()).decode()}


def mask() -> np.ndarray[Any, Any]:
    inside = np.zeros(SIZE, bool)
    inside[4:12, 6:20] = True
    return inside


@pytest.mark.parametrize(
    ("target", "python"),
    [
        ("2@4,3,10,12", "2@4,3,10,12"),
        ({"class": 2, "where": [4, 3, 10, 12]}, "2@4,3,10,12"),
        ({"class": 1, "where": "all"}, "1@all"),
        ({"where": [[2, 2], [20, 3], [8, 18]]}, Region(None, [(2, 2), (20, 3), (8, 18)])),
        ({"class": 3, "where": "mask"}, Region(3, mask())),
        ({"not": {"class": 2, "where": "all"}}, "not 2@all"),
        (
            {"target": {"class": 0, "where": "all"}, "versus": {"class": 1, "where": "all"}},
            Contrast(Region(0, "all"), Region(1, "all")),
        ),
    ],
    ids=str,
)
def test_regions(serve: Serve, target: Any, python: Any, tmp_path: Path) -> None:
    running, photo = serve("dense"), "photos/0.png"
    if isinstance(target, dict) and target.get("where") == "mask":
        write_image(tmp_path / "mask.png", np.repeat(mask()[..., None] * np.uint8(255), 3, axis=2))
        target = {**target, "where": b64(tmp_path / "mask.png")}
    told = running.explain([{"image": b64(photo), "target": target}, {"image": b64("photos/1.png"), "target": "1@all"}])
    own = Explainer("dense.xai", "onnxruntime").explain(
        [read_image(photo), read_image("photos/1.png")], "grad-cam", [python, "1@all"]
    )
    for i, one in enumerate(told["explanations"]):
        [shown] = one["explanations"]
        np.testing.assert_allclose(shown["map"]["values"], own.raw[i], atol=1e-5 * max(1.0, float(own.raw[i].max())))
        assert shown["title"] == own.titles[i]
    assert running.ask("net:predict", {"instances": [b64(photo)]})["predictions"][0]["prediction"]


def test_numbers(serve: Serve) -> None:
    running, photo = serve("numbers"), "photos/0.png"
    own = Explainer("numbers.xai", "onnxruntime")
    told = running.explain([b64(photo)], target="#1")["explanations"][0]
    expected = own.explain(read_image(photo), "grad-cam", "#1")
    np.testing.assert_allclose(told["explanations"][0]["map"]["values"], expected.raw[0], atol=1e-5)
    assert told["prediction"][0]["value"] == pytest.approx(float(own.predict(read_image(photo))[0, 1]), abs=1e-5)
    predicted = running.ask("net:predict", {"instances": [b64(photo)]})["predictions"][0]
    [values] = predicted["outputs"].values()
    np.testing.assert_allclose(values, own.predict(read_image(photo))[0], atol=1e-5)


def test_similarities(serve: Serve) -> None:
    running, photo = serve("embedding"), "photos/0.png"
    own = Explainer("embedding.xai", "onnxruntime")
    other = own.predict(read_image("photos/1.png"))[0]
    for target, python in (
        ({"like": b64("photos/1.png")}, Like("photos/1.png")),
        ({"like": other.tolist()}, Like("photos/1.png")),
        (
            {"target": {"like": b64("photos/1.png")}, "versus": {"like": b64("photos/2.png")}},
            Contrast(Like("photos/1.png"), Like("photos/2.png")),
        ),
    ):
        told = running.explain([b64(photo)], target=target)["explanations"][0]["explanations"][0]
        expected = own.explain(read_image(photo), "grad-cam", python)
        np.testing.assert_allclose(told["map"]["values"], expected.raw[0], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("dense", "1@photos/0.png"),
        ("dense", "1@all vs 2@photos/0.png"),
        ("dense", "not 1@photos/0.png"),
        ("dense", {"class": 1, "where": "photos/0.png"}),
        ("dense", {"not": {"class": 1, "where": "photos/0.png"}}),
        ("dense", {"target": {"class": 1, "where": "all"}, "versus": {"class": 1, "where": "/etc/hosts.png"}}),
        ("embedding", "like photos/1.png"),
        ("embedding", "like /etc/passwd"),
        ("embedding", "like vector.npy"),
    ],
)
def test_no_file_is_read(serve: Serve, name: str, target: Any) -> None:
    """Whether it exists or not: the same line."""
    running = serve(name)
    body = {"instances": [b64("photos/0.png")], "parameters": {"target": target}}
    assert "a target sent to a server names no file; send what is in it" in running.refused(400, body)


@pytest.mark.parametrize(
    ("name", "target", "line"),
    [
        ("dense", {"class": 1, "where": {"b64": "?"}}, "the mask: is no base64"),
        ("dense", {"class": 1, "where": {"b64": ""}}, "the mask"),
        ("dense", {"class": 1, "where": {"a": 1}}, "the mask is"),
        ("dense", {"class": 1, "where": ["a", 1, 2, 3]}, "a region's list holds numbers"),
        ("dense", {"class": 1, "where": []}, "a region is"),
        ("dense", {"class": 1, "where": [1, 2]}, "a region is"),
        ("dense", {"class": 1, "where": [900, 900, 5, 5]}, "lies outside the image"),
        (
            "dense",
            [0, 1, 0, 0, 0],
            "weights need a network that gives a score for each class; this one gives scores at each",
        ),
        (
            "dense",
            {"like": {"b64": "aGVsbG8="}},
            "Like needs a network that gives an embedding; this one gives scores at each position",
        ),
        ("dense", "top2", "the best classes are those of a score for each class"),
        ("dense", {"class": [1], "where": "all"}, "the class of a region is an index or a label"),
        ("embedding", {"like": 3}, "a reference is"),
        ("embedding", {"like": ["a"] * 6}, "a reference's list holds numbers"),
        ("embedding", {"like": [1, 2]}, "an embedding of this network is floats"),
        ("embedding", {"like": {"b64": "aGVsbG8="}}, "the reference: not a PNG"),
        ("numbers", {"like": {"b64": "aGVsbG8="}}, "no embedding of length 1"),
        ("numbers", "#99", "output 99 does not exist"),
    ],
)
def test_refused(serve: Serve, name: str, target: Any, line: str) -> None:
    running = serve(name)
    assert line in running.refused(400, {"instances": [b64("photos/0.png")], "parameters": {"target": target}})


@pytest.mark.parametrize(
    ("pixels", "line"),
    [
        ((0, 7, 255), "the mask: a mask has two values, 0 outside and another inside; this one has 0, 7, 255"),
        ((0, 0, 0), "the mask: the mask is empty"),
        (None, "the mask: a mask is black and white, and this picture has colours"),
    ],
)
def test_a_picture_that_is_no_mask(serve: Serve, tmp_path: Path, pixels: tuple[int, ...] | None, line: str) -> None:
    """The lines of the command line: whatever was not black counted as inside."""
    picture = np.zeros((*SIZE, 3), np.uint8)
    picture[:3] = np.eye(3)[:, None] * 255 if pixels is None else np.array(pixels)[:, None, None]
    write_image(tmp_path / "mask.png", picture)
    target = {"class": 1, "where": b64(tmp_path / "mask.png")}
    body = {"instances": [b64("photos/0.png")], "parameters": {"target": target}}
    assert line in serve("dense").refused(400, body)
