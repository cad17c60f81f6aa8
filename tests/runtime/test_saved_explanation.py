"""An explanation in a folder: every field comes back, and a damaged or hostile folder is refused."""

from __future__ import annotations

import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xai_deploy import Explainer, Explanation
from xai_deploy.errors import SavedExplanationError

from ..support.zips import changed
from . import tiny
from .conftest import Bundles
from .photos import SIZES, photos


def same(one: Any, other: Any) -> None:
    """Equal in type, dtype, shape and every bit."""
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            same(one[key], other[key])
    elif isinstance(one, tuple):
        assert len(one) == len(other)
        for a, c in zip(one, other, strict=True):
            same(a, c)
    else:
        assert one == other


@pytest.mark.parametrize("kind", ["pooled", "nhwc", "uint8"])
def test_saved_and_loaded(bundles: Bundles, backend: str, tmp_path: Path, kind: tiny.Kind) -> None:
    """Every field of every kind of explanation, and what is computed from them."""
    explainer = Explainer(bundles(kind).path, backend)
    methods: list[Any] = ["reciprocam", ("rise", {"masks": 3, "p": 0.1 + 0.2}), "score-cam"]
    inputs = tiny.inputs(kind, 2)
    found = explainer.explain_many(inputs, methods, [None, "not 1", "0 vs 2"]) + explainer.explain_many(
        photos()[:2], methods
    )
    for number, e in enumerate(found):
        e.save(tmp_path / str(number))
        again = Explanation.load(tmp_path / str(number))
        for field in fields(e):
            same(getattr(e, field.name), getattr(again, field.name))
        same(e.probabilities, again.probabilities)
        same(e.boxes(), again.boxes())
        assert repr(e) == repr(again)
    assert sorted(path.name for path in (tmp_path / "0").iterdir()) == ["arrays.npz", "header.json"]
    assert not list(tmp_path.glob(".*")), "parts are left"
    same(np.load(tmp_path / "0" / "arrays.npz")["heatmap"], found[0].heatmap)
    without = found[-1]
    without.save(tmp_path / "bare", thumbnails=False)
    again = Explanation.load(tmp_path / "bare")
    assert again.thumbnails == (None, None)
    assert again.sizes == without.sizes == tuple(SIZES[:2])
    same(pickle.loads(pickle.dumps(without)).heatmap, without.heatmap)


def test_saving_refuses(made: Explanation, tmp_path: Path) -> None:
    made.save(tmp_path / "one")
    for folder in (tmp_path / "one", tmp_path):
        with pytest.raises(SavedExplanationError, match="exists; choose another folder, or remove it"):
            made.save(folder)
    with pytest.raises(SavedExplanationError, match=r"no/one: No such file or directory"):
        made.save(tmp_path / "no" / "one")
    cases = {
        "a field of objects": (replace(made, outputs={"x": np.array([None] * 5)}), "output-0"),
        "options": (replace(made, options={"x": [1]}), "its options"),
        "an option without a JSON form": (replace(made, options={"x": object()}), "not JSON serializable"),
        "infinity": (replace(made, seconds=float("inf")), "not JSON compliant"),
        "NaN": (replace(made, raw=made.raw * np.nan), "raw"),
    }
    for explanation, reason in cases.values():
        with pytest.raises(SavedExplanationError, match=f"this explanation can't be saved .*{reason}"):
            explanation.save(tmp_path / "two")
    assert [path.name for path in tmp_path.iterdir()] == ["one"], "whole or not at all"


def test_a_full_disk(made: Explanation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(SavedExplanationError, match=r"one: No space left on device$"):
        made.save(tmp_path / "one")
    assert not list(tmp_path.iterdir())


def header(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        document = json.loads((folder / "header.json").read_text())
        change(document)
        (folder / "header.json").write_text(json.dumps(document))

    return edit


def arrays(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        there = {**np.load(folder / "arrays.npz"), **changes}
        np.savez(folder / "arrays.npz", **{name: array for name, array in there.items() if array is not None})

    return edit


def compressed(folder: Path) -> None:
    there = dict(np.load(folder / "arrays.npz"))
    np.savez_compressed(folder / "arrays.npz", **there)


def lying(folder: Path) -> None:
    """An array that claims a terabyte."""
    with zipfile.ZipFile(folder / "arrays.npz") as members:
        data = {name: members.read(name) for name in members.namelist()}
    data["raw.npy"] = re.sub(rb"\(\d+, \d+, \d+\), \}", b"(99999, 99999, 99), }", data["raw.npy"])
    with zipfile.ZipFile(folder / "arrays.npz", "w") as members:
        for name, content in data.items():
            members.writestr(name, content)


def overlapping(folder: Path) -> None:
    data = (folder / "arrays.npz").read_bytes()
    (folder / "arrays.npz").write_bytes(changed(data, "logits.npy", larger=8))


def link(folder: Path) -> None:
    (folder / "arrays.npz").rename(folder.parent / "elsewhere.npz")
    (folder / "arrays.npz").symlink_to(folder.parent / "elsewhere.npz")


def pipe(folder: Path) -> None:
    (folder / "header.json").unlink()
    os.mkfifo(folder / "header.json")


DAMAGED = "not a saved explanation, or damaged; save it again"


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no header": (lambda f: (f / "header.json").unlink(), "no header.json in it; Explanation.save writes such folders"),
    "no arrays": (lambda f: (f / "arrays.npz").unlink(), "no arrays.npz in it"),
    "text": (lambda f: (f / "header.json").write_text("{"), DAMAGED),
    "depth": (lambda f: (f / "header.json").write_text("[" * 100_000), DAMAGED),
    "a list": (lambda f: (f / "header.json").write_text("[]"), DAMAGED),
    "a large header": (lambda f: (f / "header.json").write_bytes(b" " * (17 << 20)), "holds more than is allowed"),
    "newer": (header(lambda d: d.update(format=2)), "format 2, this version reads 1; update xai-deploy"),
    "a boolean": (header(lambda d: d.update(format=True)), "format True, this version reads 1"),
    "a key": (header(lambda d: d.update(more=1)), "header: unknown key 'more'"),
    "a type": (header(lambda d: d.update(method=3)), "header.method: expected str, got int"),
    "an activation": (
        header(lambda d: d["network"].update(activation="x")),
        "header.network.activation: expected one of",
    ),
    "sizes": (header(lambda d: d.update(sizes=[[10**9, 10**9]] * 5)), r"\(sizes\)"),
    "long photos": (header(lambda d: d.update(sizes=[[65535, 1]] * 5)), r"\(sizes\)"),
    "too few": (header(lambda d: d.update(sizes=[])), r"\(its lists\)"),
    "labels": (header(lambda d: d["network"].update(labels=["a"])), r"\(its lists\)"),
    "resize": (header(lambda d: d["network"]["input"]["preprocess"].update(resize=10**12)), "resize"),
    "an input": (header(lambda d: d["network"]["input"].update(height=17)), r"\(heatmap\)"),
    "means": (header(lambda d: d["network"]["input"]["preprocess"].update(mean=[0.0])), r"\(network\)"),
    "outputs": (header(lambda d: d.update(outputs=[])), r"\(its arrays\)"),
    "an array more": (arrays(more=np.zeros(3)), r"\(its arrays\)"),
    "an array less": (arrays(sign=None), r"\(its arrays\)"),
    "NaN": (arrays(heatmap=np.full((5, 16, 20), np.nan, np.float32)), r"\(heatmap\)"),
    "a dtype": (arrays(logits=np.zeros((5, 5))), r"\(logits\)"),
    "a class": (arrays(target=np.full(5, 5)), r"\(target\)"),
    "a sign": (arrays(sign=np.zeros(5, np.int8)), r"\(sign\)"),
    "a length": (arrays(raw=np.zeros((4, 2, 2), np.float32)), r"\(raw\)"),
    "a thumbnail": (arrays(**{"thumbnail-0": np.zeros((2000, 1, 3), np.uint8)}), r"\(thumbnail-0\)"),
    "a pickle": (arrays(raw=np.array([len] * 5)), DAMAGED),
    "compressed": (compressed, DAMAGED),
    "a lie": (lying, DAMAGED),
    "cut off": (lambda f: (f / "arrays.npz").write_bytes((f / "arrays.npz").read_bytes()[:2000]), DAMAGED),
    "overlap": (overlapping, r"arrays\.npz: is an archive whose entries overlap \('.*\.npy'\); save it again"),
    "a link": (link, DAMAGED),
    "a pipe": (pipe, DAMAGED),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_loading_refuses(made: Explanation, tmp_path: Path, fault: str) -> None:
    made.save(tmp_path / "one")
    change, message = FAULTS[fault]
    change(tmp_path / "one")
    with pytest.raises(SavedExplanationError, match=message) as caught:
        Explanation.load(tmp_path / "one")
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "one") in str(caught.value)


def test_no_folder(made: Explanation, tmp_path: Path) -> None:
    with pytest.raises(SavedExplanationError, match=r"none: no such folder; Explanation\.save writes"):
        Explanation.load(tmp_path / "none")
    (tmp_path / "file").write_text("x")
    with pytest.raises(SavedExplanationError, match=r"file: is a file; Explanation\.save writes"):
        Explanation.load(tmp_path / "file")
