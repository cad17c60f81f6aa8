"""xai-explain writes every map to a file of its own, whatever its title looks like as a file name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xai_exporters import Request, export

from xai_deploy import Explainer, Finer, Region, read_image, write_image
from xai_deploy.answer import answer
from xai_deploy.cli import explain
from xai_deploy.targets import Target

from .nets import SIZE

PHOTO = "photos/0.png"
LABELS = ("도로", "하늘", "main road", "main-road", "Main Road")


def entries(out: Path, *arguments: str) -> list[dict[str, Any]]:
    """What results.json says of the image's maps."""
    assert explain.main([*arguments, "-o", str(out), "-q"]) == 0
    [image] = json.loads((out / "results.json").read_text(encoding="utf-8"))["images"]
    return list(image["explanations"])


@pytest.fixture(scope="module")
def labelled(nets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A segmenter with labels of other letters, and such that differ in a space or in upper case only."""
    folder = tmp_path_factory.mktemp("labelled")
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n", encoding="utf-8")
    request = Request(
        nets / "dense.onnx", output_path=folder / "net.xai", preprocess="none", labels=folder / "labels.txt"
    )
    return export(replace(request, roles=("gradient",))).path


def mask(path: Path, rows: slice) -> str:
    """The name of a picture, white in these rows."""
    path.parent.mkdir()
    white = np.zeros((*SIZE, 3), np.uint8)
    white[rows] = 255
    write_image(path, white)
    return str(path)


def test_each_map_is_its_own(here: Path, labelled: Path, tmp_path: Path) -> None:
    """Labels, masks of one name in two folders, and polygons that differ after 80 characters: each file against its own call."""
    masks = [mask(tmp_path / name / "mask.png", rows) for name, rows in (("a", slice(0, 6)), ("b", slice(9, 20)))]
    corners = " ".join(f"{x}.125,{x % 3}.25" for x in range(1, 12))
    polygons = [f"#2@{corners} {y}.5,{y}.5" for y in (16, 22)]
    texts = ["도로@all", "하늘@all", "#2@all", "#3@all", "#4@all", *(f"#0@{one}" for one in masks), *polygons]
    targets = [part for text in texts for part in ("-t", text)]
    written = entries(tmp_path / "out", str(labelled), PHOTO, "-m", "reciprocam,grad-cam", *targets)
    assert len(written) == 2 * len(texts)
    for key in ("raw", "overlay"):
        assert len({entry[key].casefold() for entry in written}) == len(written)
    explainer = Explainer(labelled)
    for entry, text in zip(written, 2 * texts, strict=True):
        own = explainer.explain(read_image(PHOTO), entry["method"], text)
        np.testing.assert_allclose(np.load(tmp_path / "out" / entry["raw"]), own.raw[0], rtol=1e-4, atol=1e-6)
    names = [entry["raw"] for entry in written]
    assert names[2] == "0--reciprocam--main-road-all.npy"  # a plain title stays as it was
    assert all(len(name) <= len("0--reciprocam---2.npy") + 80 for name in names)


def test_references_of_one_name(here: Path, tmp_path: Path) -> None:
    """Two people's photographs 0001.png: two files, and two cosines in the prediction, also with two methods."""
    likes = []
    for name, source in (("alice", "photos/1.png"), ("bob", "photos/2.png")):
        (tmp_path / name).mkdir()
        likes.append(str(tmp_path / name / "0001.png"))
        Path(likes[-1]).write_bytes(Path(source).read_bytes())
    said = [part for like in likes for part in ("--like", like)]
    written = entries(tmp_path / "out", "embedding.xai", PHOTO, "-m", "grad-cam,reciprocam", *said)
    assert len({entry["raw"] for entry in written}) == len(written) == 4
    vectors = [
        one / np.linalg.norm(one)
        for one in Explainer("embedding.xai").predict([read_image(PHOTO), *map(read_image, likes)])
    ]
    [image] = json.loads((tmp_path / "out" / "results.json").read_text())["images"]
    want = [float(vectors[0] @ one) for one in vectors[1:]]
    assert [one["value"] for one in image["prediction"]] == pytest.approx(want, abs=1e-5)


def test_marks_of_titles_in_other_letters(here: Path, labelled: Path) -> None:
    """A class against the most similar ones, in Python: the mark of every title is its own, and fit for every file system."""
    explainer = Explainer(labelled)
    texts = ["not 도로@all", "도로@all vs 하늘", "하늘@all vs 도로", "도로@all", "하늘@all"]
    targets: list[Target] = [Finer(Region("도로", "all"), 3), Finer(Region("하늘", "all"), 3), *texts]
    found = explainer.explain_many(read_image(PHOTO), ["reciprocam"], targets)
    marks = [answer(explainer, one).mark for one in found]
    assert len(set(marks)) == len(marks)
    assert all(mark.isascii() and 0 < len(mark) <= 80 for mark in marks)
