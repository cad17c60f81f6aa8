"""The same boxes in every format; and each format's own conventions, against hand-computed fractions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xai_deploy.errors import TruthError
from xai_deploy.evaluation.truth import Box, read_boxes
from xai_deploy.evaluation.truth.annotations import formats

from . import folders

OBJECTS: folders.Objects = {
    "a.png": [((16, 10, 48, 30), "cat"), ((0, 0, 64, 40), "a dog")],
    "sub/b.jpg": [((63, 39, 64, 40), "cat")],
    "sub/none.png": [],
}
FRACTIONS = {
    "a.png": (Box(0.25, 0.25, 0.75, 0.75, "cat"), Box(0.0, 0.0, 1.0, 1.0, "a dog")),
    "sub/b.jpg": (Box(63 / 64, 39 / 40, 1.0, 1.0, "cat"),),
    "sub/none.png": (),
    "other.png": None,
}
WRITERS: dict[str, Any] = {
    "COCO json": folders.coco,
    "YOLO txt": folders.yolo,
    "Pascal VOC xml": folders.voc,
    "csv": folders.table,
}


def same(found: tuple[Box, ...] | None, wanted: tuple[Box, ...] | None) -> None:
    assert (found is None) == (wanted is None)
    assert len(found or ()) == len(wanted or ())
    for a, b in zip(found or (), wanted or (), strict=True):
        assert (a.left, a.top, a.right, a.bottom) == pytest.approx((b.left, b.top, b.right, b.bottom), abs=1e-12)
        assert a.label == b.label


@pytest.mark.parametrize("source", WRITERS)
def test_all_formats_agree(tmp_path: Path, source: str) -> None:
    """Whatever the file is called: its contents tell."""
    root = folders.images(tmp_path / "images", *OBJECTS, "other.png")
    boxes = read_boxes(WRITERS[source](tmp_path / "truth.data", OBJECTS), str(root))
    assert boxes.source == source
    assert len(boxes) == 3
    assert boxes.problems == ()
    for name, wanted in FRACTIONS.items():
        same(boxes.of(root / name, folders.HEIGHT, folders.WIDTH), wanted)


def one(tmp_path: Path, path: Path, name: str = "a.png") -> tuple[Box, ...] | None:
    root = folders.images(tmp_path / "images", name)
    return read_boxes(path, root).of(root / name, folders.HEIGHT, folders.WIDTH)


def test_coco(tmp_path: Path) -> None:
    """Crowds and boxes without area are counted; ids may be text, sizes may be missing; the border cuts."""
    image = {"id": "x", "file_name": "a.png"}
    shared = {"image_id": "x", "category_id": 3}
    annotations = [
        {**shared, "bbox": [0, 0, 5, 5], "iscrowd": 1, "segmentation": {"counts": "x"}},
        {**shared, "bbox": [3.5, 8, 0, 5]},
        {**shared, "bbox": [-8, 30, 24.0, 20], "segmentation": [[0, 0, 1, 1]], "iscrowd": 0},
    ]
    document: dict[str, Any] = {"images": [image], "annotations": annotations, "info": {}}
    path = folders.write(tmp_path / "a.json", "\ufeff \n" + json.dumps(document))
    same(one(tmp_path, path), (Box(0.0, 0.75, 0.25, 1.0, 3),))
    assert read_boxes(path, tmp_path).problems == (
        f"{path}: 1 crowd regions (iscrowd) skipped",
        f"{path}: 1 boxes without area skipped",
    )
    image.update(height=40, width=64)  # type: ignore[call-overload]
    folders.write(path, json.dumps(document))
    assert read_boxes(path, tmp_path).problems[2:] == (f"{path}: 1 boxes reach beyond their image; cut at its border",)
    assert read_boxes(path, tmp_path).cut == ()  # told already


def test_pixels_beyond_the_image(tmp_path: Path) -> None:
    """Known only at the image, where the file states no size: each box counts once, a rounded one not at all."""
    root = folders.images(tmp_path / "images", "a.png", "b.png")
    path = folders.table(tmp_path / "a.csv", {"a.png": [((-5, 0, 64.01, 40), "x"), ((0, 0, 90, 90), "x")], "b.png": []})
    boxes = read_boxes(path, root)
    assert not boxes.cut
    for name in ("a.png", "b.png", "a.png"):
        boxes.of(root / name, folders.HEIGHT, folders.WIDTH)
    assert boxes.cut == (f"{path}: 2 boxes reach beyond their image; cut at its border",)
    assert boxes.problems == ()


def test_yolo(tmp_path: Path) -> None:
    """Confidence, polygon, blank lines, Windows' line ends; without classes.txt the class stays a number."""
    lines = "3 0.5 0.5 0.5 0.25 0.9\r\n\r\n0 0.25 0.1 0.75 0.2 0.5 0.9\r\n1 0 0 1e-1 1.0 0.2 0.3 0.3 0.4\r\n"
    folders.write(tmp_path / "labels/a.txt", lines)
    wanted = (Box(0.25, 0.375, 0.75, 0.625, 3), Box(0.25, 0.1, 0.75, 0.9, 0), Box(0, 0, 0.3, 1, 1))
    same(one(tmp_path, tmp_path / "labels"), wanted)


def posed(depth: int, count: int, seed: int = 0) -> tuple[list[str], list[Box]]:
    """Lines of boxes with key points in them, as a pose network's labels are, and the boxes."""
    rng, lines, boxes = np.random.default_rng(seed), [], []
    for i in range(5):
        (left, right), (top, bottom) = np.sort(rng.uniform(0.05, 0.95, (2, 2)), axis=1)
        points = [(rng.uniform(left, right), rng.uniform(top, bottom), 2.0)[:depth] for _ in range(count)]
        points[0] = (0.0,) * depth  # not annotated
        numbers = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top, *np.ravel(points))
        lines.append(f"{i} " + " ".join(f"{number:.6f}" for number in numbers))
        boxes.append(Box(left, top, right, bottom, i))
    return lines, boxes


@pytest.mark.parametrize(("depth", "count"), [(2, 12), (3, 12), (3, 17), (2, 4)])
@pytest.mark.parametrize("style", ["kpt_shape: [{}, {}] # tigers", "kpt_shape:\n- {}\n- {}"])
def test_yolo_key_points(tmp_path: Path, depth: int, count: int, style: str) -> None:
    """The box is the line's own, where a description says so; without one the lines are refused."""
    lines, boxes = posed(depth, count)
    for i in range(5):
        folders.write(tmp_path / f"set/labels/train/{i}.txt", lines[i])
    root, labels = folders.images(tmp_path / "images", *(f"{i}.png" for i in range(5))), tmp_path / "set/labels/train"
    with pytest.raises(TruthError, match=rf"train/0.txt, line 1: .* write 'kpt_shape: \[{count}, {depth}\]' into"):
        read_boxes(labels, root)
    folders.write(tmp_path / "set/data.yaml", f"names:\n  0: tiger\n{style.format(count, depth)}\nflip_idx: [1, 0]\n")
    read = read_boxes(labels, root)
    for i in range(5):
        [got] = read.of(root / f"{i}.png", 40, 50) or ()
        assert (got.left, got.top, got.right, got.bottom) == pytest.approx(
            (boxes[i].left, boxes[i].top, boxes[i].right, boxes[i].bottom), abs=2e-6
        )


@pytest.mark.parametrize("size", [0.02, 0.2, 0.6])
@pytest.mark.parametrize("corners", [3, 4, 9])
def test_yolo_polygons_of_equal_length(tmp_path: Path, corners: int, size: float) -> None:
    """Small ones too, which lie within the box that their first two corners would be; a description without key points says it."""
    rng, wanted = np.random.default_rng(corners), []
    turn = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    for i in range(8):
        centre = rng.uniform(size / 2, 1 - size / 2, 2)
        points = centre + size / 2 * np.stack([np.cos(turn + i), np.sin(turn + i)], axis=-1)
        folders.write(tmp_path / f"labels/{i}.txt", "0 " + " ".join(f"{number:.6f}" for number in points.ravel()))
        wanted.append((*points.min(0), *points.max(0)))
    root = folders.images(tmp_path / "images", *(f"{i}.png" for i in range(8)))
    for _ in range(2):
        read = read_boxes(tmp_path / "labels", root)
        for i in range(8):
            [got] = read.of(root / f"{i}.png", 40, 50) or ()
            assert (got.left, got.top, got.right, got.bottom) == pytest.approx(wanted[i], abs=2e-6)
        folders.write(tmp_path / "data.yaml", "names: [ship]\n")


def test_yolo_names_of_the_nearest_folder(tmp_path: Path) -> None:
    for folder, names in (("labels", "cat\ndog\n"), ("labels/sub", "hen\nyak\n\n")):
        folders.write(tmp_path / folder / "classes.txt", names)
        folders.write(tmp_path / folder / "a.txt", "1 0.5 0.5 1 1")
    folders.write(tmp_path / "labels/deep/er/a.txt", "0 0.5 0.5 1 1")
    root = folders.images(tmp_path / "images", "a.png", "sub/a.png", "deep/er/a.png")
    boxes = read_boxes(tmp_path / "labels", root)
    found = [boxes.of(root / name, 4, 5) for name in ("a.png", "sub/a.png", "deep/er/a.png")]
    assert found == [(Box(0, 0, 1, 1, label),) for label in ("dog", "yak", "cat")]


def test_voc(tmp_path: Path) -> None:
    """One pixel is a box; parts are not objects; the size may be missing or 0 x 0; fractions of pixels occur."""
    box = "<bndbox><xmax>33.5</xmax><xmin>33</xmin><ymin>1</ymin><ymax>1</ymax></bndbox>"
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    text = f'<?xml version="1.0" encoding="utf-8"?>\n<annotation><object>{part}{box}</object></annotation>'
    wanted = (Box(0.5, 0.0, 33.5 / 64, 1 / 40, None),)
    folders.write(tmp_path / "xml/a.XML", text)
    same(one(tmp_path, tmp_path / "xml"), wanted)
    sized = text.replace("<annotation>", "<annotation><size><width>0</width><height>0</height></size>")
    folders.write(tmp_path / "xml/a.XML", sized)
    same(one(tmp_path, tmp_path / "xml"), wanted)


def test_voc_goes_by_the_files_own_name(tmp_path: Path) -> None:
    for name in ("a", "b", "c.d"):
        folders.write(tmp_path / f"xml/{name}.xml", folders.voc_text("b.jpg" if name == "a" else name, []))
    assert one(tmp_path, tmp_path / "xml") == ()
    assert read_boxes(tmp_path / "xml", tmp_path).problems == (
        f"{tmp_path / 'xml'}: 1 files whose <filename> names another image; each is used for the image with the file's own name",
    )


def test_csv(tmp_path: Path) -> None:
    """Columns in any order, a byte order mark, quotes, blank lines; fractions; labels of digits are texts, too."""
    lines = [
        "\ufefflabel, image ,right,bottom,left,top",
        '"a ""b"", c","a,1.png",32,20,16,10',
        "",
        '07,"a,1.png",64,40,0,0',
        '7,"a,1.png",1,1,0,0',
    ]
    text = "\r\n".join(lines)
    wanted = (Box(0.25, 0.25, 0.5, 0.5, 'a "b", c'), Box(0, 0, 1, 1, "07"), Box(0, 0, 1 / 64, 1 / 40, "7"))
    same(one(tmp_path, folders.write(tmp_path / "a.csv", text), "a,1.png"), wanted)
    text = "image,cx,cy,w,h\na.png,0.5,0.5,0.5,1\n"
    same(one(tmp_path, folders.write(tmp_path / "b.csv", text)), (Box(0.25, 0.0, 0.75, 1.0, None),))


def test_hidden_files_are_not_read(tmp_path: Path) -> None:
    for name in (".DS_Store.txt", ".cache/b.txt", "._a.txt"):
        folders.write(tmp_path / "labels" / name, b"\xff\xfe")
    folders.write(tmp_path / "labels/a.txt", "")
    assert one(tmp_path, tmp_path / "labels") == ()


def test_formats_are_found() -> None:
    assert list(formats) == ["COCO json", "Pascal VOC xml", "YOLO txt", "csv"]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["a.json", "a.csv", "labels/a.txt", "xml/a.xml"]),
    st.one_of(st.text(max_size=80), st.binary(max_size=80)),
    st.sampled_from(["", "{", '{"images":[', "image,cx,cy,w,h\n", "0 ", "<annotation>"]),
)
def test_anything_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, rest: str | bytes, start: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    data = start.encode() + (rest if isinstance(rest, bytes) else rest.encode("utf-8", "surrogatepass"))
    path = folders.write(folder / name, data)
    said = ""
    try:
        read_boxes(path.parent if "/" in name else path, folder)
    except TruthError as error:
        said = str(error)
    assert len(said.splitlines()) <= 1
