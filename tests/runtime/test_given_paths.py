"""Paths and other arguments from Python: str and Path are alike, and anything else is one clear line of ours."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xai_deploy import Bundle, Explainer, Explanation, read_image, write_image
from xai_deploy.benchmark import benchmark
from xai_deploy.errors import XaiError
from xai_deploy.evaluation import evaluate
from xai_deploy.format.signature import SigningKey, TrustedKey
from xai_deploy.images import image_files
from xai_deploy.monitor import of_files
from xai_deploy.records import Recorder

from . import tiny

PHOTO = np.zeros((3, 5, 3), np.uint8)
NO_PATHS: list[Any] = [None, 5, b"x", True, 3.5, {}, ["a"], np.float32(1), object(), "a\0b", Path("a\0b"), "x" * 5000]

Call = Callable[[Any, Explainer], object]
PATHS: dict[str, Call] = {
    "Explainer": lambda given, e: Explainer(given),
    "Explainer(cache=)": lambda given, e: Explainer(e.bundle.path, cache=given),
    "Explainer(trusted_key=)": lambda given, e: Explainer(e.bundle.path, trusted_key=given),
    "Bundle.open": lambda given, e: Bundle.open(given),
    "TrustedKey": lambda given, e: TrustedKey(given),
    "SigningKey": lambda given, e: SigningKey(given),
    "explain": lambda given, e: e.explain(given),
    "explain, one of two": lambda given, e: e.explain([PHOTO, given]),
    "predict": lambda given, e: e.predict(given),
    "prepare": lambda given, e: e.prepare(given),
    "read_image": lambda given, e: read_image(given),
    "write_image": lambda given, e: write_image(given, PHOTO),
    "image_files": lambda given, e: image_files(given),
    "save": lambda given, e: e.explain(tiny.inputs("pooled", 1)).save(given),
    "load": lambda given, e: Explanation.load(given),
    "evaluate(images)": lambda given, e: evaluate(e.bundle.path, given),
    "evaluate(bundles)": lambda given, e: evaluate(given, "."),
    "benchmark": lambda given, e: benchmark(given),
    "benchmark(image=)": lambda given, e: benchmark([e.bundle.path], image=given),
    "Recorder": lambda given, e: Recorder(given),
    "of_files": lambda given, e: of_files(given, "reference"),
    "of_files(reference)": lambda given, e: of_files("records", given),
}
OPTIONAL = {"Explainer(cache=)", "Explainer(trusted_key=)", "benchmark(image=)"}


@pytest.mark.parametrize("entry", PATHS)
def test_no_path(explainer: Explainer, entry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for given in NO_PATHS:
        if entry in OPTIONAL and given is None:
            continue
        with pytest.raises(XaiError) as caught:
            PATHS[entry](given, explainer)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300 or given == "x" * 5000, entry
        if isinstance(given, bytes) and not entry.startswith(("explain", "pre")):
            assert "is a path, a str or a pathlib.Path; got bytes (os.fsdecode" in str(caught.value), entry
    assert not list(tmp_path.iterdir())


class _Like(os.PathLike[str]):
    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


@pytest.mark.parametrize("kind", [str, Path, _Like])
def test_paths_of_every_kind(explainer: Explainer, kind: Callable[[Path], Any], tmp_path: Path) -> None:
    photo = kind(tmp_path / "a.png")
    write_image(photo, PHOTO)
    assert np.array_equal(read_image(photo), PHOTO)
    assert [path.name for path in image_files(kind(tmp_path))] == ["a.png"]
    assert Bundle.open(kind(explainer.bundle.path)).manifest == explainer.bundle.manifest
    explanation = Explainer(kind(explainer.bundle.path)).explain(tiny.inputs("pooled", 1))
    explanation.save(kind(tmp_path / "saved"))
    assert np.array_equal(Explanation.load(kind(tmp_path / "saved")).raw, explanation.raw)


OTHERS: list[tuple[Call, Any, str]] = [
    (lambda given, e: Explainer(e.bundle.path, given), ["openvino"], r"no backend \['openvino'\]; there are"),
    (lambda given, e: Explainer(e.bundle.path, export=given), 5, "export maps options of xai-export to values; got 5"),
    (lambda given, e: Explainer(e.bundle.path, detections=given), 0.5, "detections are DetectionLimits; got 0.5"),
    (
        lambda given, e: Bundle.open(e.bundle.path, given),
        "key.pem",
        "trusted_key is a format.signature.TrustedKey; got 'key.pem'",
    ),
    (
        lambda given, e: e.explain(PHOTO, inputs=given),
        [1],
        "inputs map an input's name to its images or its array; got a list",
    ),
    (lambda given, e: read_image("a.png", given), None, "max_pixels is a whole number, 1 or more, not None"),
    (lambda given, e: read_image("a.png", input_range=given), 5, "an input range is two numbers, LOW,HIGH"),
    (
        lambda given, e: write_image("a.png", given),
        None,
        r"a.png: an image to write is an array, RGB \[h,w,3\] uint8; got None",
    ),
    (lambda given, e: write_image("a.png", given), PHOTO[0], r"RGB \[h,w,3\] uint8; got uint8 \[5, 3\]"),
    (lambda given, e: write_image("a.png", given), PHOTO + 0.5, r"got float64 \[3, 5, 3\]"),
]


@pytest.mark.parametrize(("call", "given", "says"), OTHERS)
def test_other_arguments(explainer: Explainer, call: Call, given: Any, says: str) -> None:
    with pytest.raises(XaiError, match=says):
        call(given, explainer)
