"""Which annotation is which image's."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from xai_deploy.errors import TruthError
from xai_deploy.evaluation.truth import read_boxes, read_masks
from xai_deploy.evaluation.truth.matching import Matcher

from . import folders


def find(tmp_path: Path, images: list[str], names: list[str], image: str, by_stem: bool = False) -> str | None:
    root = folders.images(tmp_path / "images", *images, height=1, width=1)
    return Matcher(names, root, by_stem, tmp_path / "truth.json").find(root / image)


@pytest.mark.parametrize(
    ("images", "names", "image", "found"),
    [
        (["a.png", "b.png"], ["a.png"], "a.png", "a.png"),
        (["a.png", "b.png"], ["a.png"], "b.png", None),
        (["x/a.png", "y/a.png"], ["x/a.png", "y/a.png"], "y/a.png", "y/a.png"),
        (["x/a.png", "b.png"], ["a.png"], "x/a.png", "a.png"),  # a bare name
        (["a.png"], ["/home/me/set/a.png"], "a.png", "/home/me/set/a.png"),
        (["x/a.png"], ["C:\\set\\x\\a.png"], "x/a.png", "C:\\set\\x\\a.png"),
        (["x/a.png", "y/a.png"], ["set/x/a.png", "set/y/a.png"], "y/a.png", "set/y/a.png"),
        (["a.png", "x/a.png"], ["a.png"], "a.png", "a.png"),  # the path as it is goes before the file name,
        (["a.png", "x/a.png"], ["a.png"], "x/a.png", None),  # and leaves nothing for the other
        (["x/a.png", "x/b.png"], ["y/a.png", "x/b.png"], "x/a.png", None),  # paths hold, so y/a.png is another image
        (["a.png"], ["./a.png"], "a.png", "./a.png"),
        (["a.png"], ["../a.png"], "a.png", "../a.png"),
        (["A.png"], ["a.png"], "A.png", None),
        (["img.heic", "a.png"], ["img.heic"], "img.heic", "img.heic"),
    ],
)
def test_found(tmp_path: Path, images: list[str], names: list[str], image: str, found: str | None) -> None:
    real = [name for name in images if not name.endswith(".heic")]
    assert find(tmp_path, real, names, image) == found


@pytest.mark.parametrize(
    ("images", "names", "image", "message"),
    [
        (
            ["x/a.png", "y/a.png"],
            ["a.png"],
            "y/a.png",
            r"the annotation 'a\.png' fits the images x/a\.png and y/a\.png; name im",
        ),
        (
            ["a.png"],
            ["x/a.png", "y/a.png"],
            "a.png",
            r"a\.png: the annotations 'x/a\.png' and 'y/a\.png' both fit; name images",
        ),
        (
            ["x/a.png"],
            ["y/a.png"],
            "x/a.png",
            r"x/a\.png: the annotation 'y/a\.png' names another folder; name images in .*",
        ),
    ],
)
def test_ambiguous(tmp_path: Path, images: list[str], names: list[str], image: str, message: str) -> None:
    with pytest.raises(TruthError, match=message) as caught:
        find(tmp_path, images, names, image)
    assert f"in {tmp_path / 'truth.json'} by their paths inside {tmp_path / 'images'}" in str(caught.value)


def test_by_stem(tmp_path: Path) -> None:
    assert find(tmp_path, ["x/a.b.png"], ["x/a.b"], "x/a.b.png", by_stem=True) == "x/a.b"
    assert find(tmp_path, ["x/a.b.png"], ["a.b"], "x/a.b.png", by_stem=True) == "a.b"
    with pytest.raises(TruthError, match=r"the annotation 'c' fits the images c\.jpg and c\.png"):
        find(tmp_path, ["c.png", "c.jpg"], ["c"], "c.png", by_stem=True)


def test_composed_letters(tmp_path: Path) -> None:
    name = unicodedata.normalize("NFC", "schön.png")
    assert find(tmp_path, [unicodedata.normalize("NFD", name)], [name], unicodedata.normalize("NFD", name)) == name


def test_annotations_inside_the_root(tmp_path: Path) -> None:
    """YOLO's files beside the images, and a folder of annotations among the images' folders."""
    objects: folders.Objects = {"a.png": [], "x/b.png": []}
    root = folders.images(tmp_path, *objects)
    assert read_boxes(folders.yolo(tmp_path, objects), root).of(root / "x/b.png", 4, 5) == ()
    inner = folders.yolo(tmp_path / "labels", {"c.png": []})
    folders.images(inner, "c.png")  # a picture among the annotations is none of the images
    folders.images(root, "y/c.png")
    assert read_boxes(inner, root).of(root / "y/c.png", 4, 5) == ()


def test_pictures_apart(tmp_path: Path) -> None:
    """Masks, results and what is hidden are no images, as for `dataset.find`."""
    root = folders.images(
        tmp_path / "set", "images/a.png", "masks/a.png", "out/x/a.png", ".cache/a.png", "images/._a.png"
    )
    path = folders.yolo(root / "labels", {"a.png": []})
    assert read_boxes(path, root, [root / "masks", root / "out"]).of(root / "images/a.png", 4, 5) == ()
    with pytest.raises(TruthError, match=r"the annotation 'a' fits the images images/a\.png and masks/a\.png"):
        read_boxes(path, root, [root / "out"]).of(root / "images/a.png", 4, 5)
    assert read_masks(root / "masks", root, apart=[root / "out"]).has(root / "images/a.png")


def test_paths_need_not_be_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders.images(tmp_path / "images", "x/a.png")
    path = folders.coco(tmp_path / "a.json", {"x/a.png": []})
    monkeypatch.chdir(tmp_path)
    boxes = read_boxes(path.name, "images")
    assert boxes.of(Path("images/x/../x/a.png"), folders.HEIGHT, folders.WIDTH) == ()
    assert boxes.of(tmp_path / "images/x/a.png", folders.HEIGHT, folders.WIDTH) == ()
