"""PNG masks of every kind that annotation tools write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xai_deploy.errors import ImageFileError, OptionError, TruthError
from xai_deploy.evaluation.truth import Masks, read_masks

from . import folders

VALUES = np.zeros((folders.HEIGHT, folders.WIDTH), np.uint8)
VALUES[5:12, 20:31] = 1
VALUES[12, 20:31] = 255


def masks(tmp_path: Path, image: Image.Image, value: int | None = None) -> tuple[Masks, Path]:
    root = folders.images(tmp_path / "images", "x/a.jpg", "b.jpg")
    (tmp_path / "masks/x").mkdir(parents=True, exist_ok=True)
    image.save(tmp_path / "masks/x/a.png")
    return read_masks(tmp_path / "masks", root, value), root


def palette(colours: list[tuple[int, int, int]]) -> Image.Image:
    image = Image.new("P", VALUES.shape[::-1])
    image.frombytes(VALUES.tobytes())
    image.putpalette([channel for colour in colours for channel in colour])
    return image


VOC = [(0, 0, 0), (128, 0, 0), *[(0, 0, 0)] * 253, (224, 224, 192)]


@pytest.mark.parametrize("kind", ["L", "1", "RGB", "RGBA", "LA", "P", "P with transparency"])
def test_whatever_is_not_black(tmp_path: Path, kind: str) -> None:
    """In each kind the values 1 and 255 are the object, the palette's border too; transparency says nothing."""
    image = palette(VOC) if kind.startswith("P") else Image.fromarray(VALUES)
    if kind == "1":
        image = Image.fromarray(VALUES > 0)
    elif kind in ("RGB", "RGBA", "LA"):
        image = image.convert(kind)
    if kind == "P with transparency":
        image.info["transparency"] = 0
    read, root = masks(tmp_path, image)
    found = read.of(root / "x/a.jpg", folders.HEIGHT, folders.WIDTH)
    assert found is not None
    assert found.dtype == np.bool_
    np.testing.assert_array_equal(found, VALUES > 0)
    assert read.of(root / "b.jpg", folders.HEIGHT, folders.WIDTH) is None
    assert len(read) == 1


@pytest.mark.parametrize("value", [0, 1, 255])
@pytest.mark.parametrize("kind", ["L", "LA"])
def test_value(tmp_path: Path, value: int, kind: str) -> None:
    read, root = masks(tmp_path, Image.fromarray(VALUES).convert(kind), value)
    found = read.of(root / "x/a.jpg", folders.HEIGHT, folders.WIDTH)
    assert found is not None
    np.testing.assert_array_equal(found, value == VALUES)


@pytest.mark.parametrize(
    ("image", "value", "message"),
    [
        (
            Image.fromarray(VALUES.T.copy()),
            None,
            r"a\.png: for 40 x 64 pixels, but \S+a\.jpg has 64 x 40 upright; .*EXIF",
        ),
        (
            Image.fromarray(VALUES[:-1]),
            None,
            r"masks/x/a\.png: for 64 x 39 pixels, but \S+ has 64 x 40; give the images",
        ),
        (Image.fromarray(VALUES.astype(np.uint16)), None, "has 16 bits per value, .* save it with 8"),
        (palette(VOC), 1, "the mask value 1 needs a grey PNG of 8 bits; save it as one"),
        (Image.fromarray(VALUES > 0), 1, "the mask value 1 needs a grey PNG of 8 bits"),
        (Image.fromarray(VALUES).convert("RGB"), 255, "the mask value 255 needs a grey PNG"),
    ],
)
def test_refused(tmp_path: Path, image: Image.Image, value: int | None, message: str) -> None:
    read, root = masks(tmp_path, image, value)
    with pytest.raises(TruthError, match=message):
        read.of(root / "x/a.jpg", folders.HEIGHT, folders.WIDTH)


def test_files_that_are_no_masks(tmp_path: Path) -> None:
    read, root = masks(tmp_path, Image.fromarray(VALUES))
    path = tmp_path / "masks/x/a.png"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageFileError, match=r"a\.png: the image is truncated or damaged"):
        read.of(root / "x/a.jpg", folders.HEIGHT, folders.WIDTH)
    for data in (b"", b"\xff\xd8\xff" + bytes(40)):
        path.write_bytes(data)
        with pytest.raises(TruthError, match=r"a\.png: not a PNG file, despite its name; save the mask as PNG"):
            read.of(root / "x/a.jpg", folders.HEIGHT, folders.WIDTH)
    path.unlink()
    with pytest.raises(TruthError, match=r"a\.png: can't be read \(No such file or directory\)"):
        read.of(root / "x/a.jpg", folders.HEIGHT, folders.WIDTH)


def test_folders(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(TruthError, match="empty: holds no PNG files; masks are PNG files with the images' names"):
        read_masks(tmp_path / "empty", tmp_path)
    with pytest.raises(TruthError, match="nothing: not a folder; give the folder of the masks"):
        read_masks(tmp_path / "nothing", tmp_path)
    for name in ("a.png", "a.PNG"):
        folders.write(tmp_path / "twice" / name, "")
    with pytest.raises(TruthError, match=r"twice: a mask exists twice, as \.png and as \.PNG; remove one"):
        read_masks(tmp_path / "twice", tmp_path)
    values: list[Any] = [-1, 256, 1.0, True, "1"]
    for value in values:
        with pytest.raises(OptionError, match="a mask's value is a whole number from 0 to 255, not "):
            read_masks(tmp_path, tmp_path, value)


def test_ambiguous(tmp_path: Path) -> None:
    root = folders.images(tmp_path / "images", "x/a.jpg", "y/a.jpg")
    folders.images(tmp_path / "masks", "a.png")
    with pytest.raises(TruthError, match=r"the annotation 'a' fits the images x/a\.jpg and y/a\.jpg"):
        read_masks(tmp_path / "masks", root).of(root / "y/a.jpg", folders.HEIGHT, folders.WIDTH)
