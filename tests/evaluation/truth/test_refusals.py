"""Whatever is malformed: one line that names the file, the place in it, and what to do."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from xai_deploy.errors import InputError, TruthError
from xai_deploy.evaluation.truth import read_boxes, reading
from xai_deploy.images import read_image

from . import folders


def refused(message: str, path: Path, root: Path) -> None:
    with pytest.raises(TruthError, match=message) as caught:
        read_boxes(path, root).of(root / "a.png", folders.HEIGHT, folders.WIDTH)
    assert isinstance(caught.value, InputError)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


IMAGE = {"id": 1, "file_name": "a.png", "height": 40, "width": 64}
CAT = {"id": 5, "image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4]}
DOCUMENT: dict[str, Any] = {"images": [IMAGE], "annotations": [CAT], "categories": [{"id": 2, "name": "cat"}]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": 3}, "not COCO json: 'images' is missing or not a list$"),
        ({"images": [IMAGE, 3]}, r"images\[1\]: expected an object, got 3$"),
        (
            {"images": [{**IMAGE, "id": None}]},
            r"images\[0\] \(id None\): 'id' is missing, or neither an integer nor text",
        ),
        ({"images": [IMAGE, {**IMAGE, "file_name": "b"}]}, r"images\[1\] \(id 1\): the id 1 occurs twice"),
        (
            {"images": [IMAGE, {**IMAGE, "id": 2}]},
            "'a.png' and 'a.png' name the same image; merge the two or remove one",
        ),
        ({"images": [IMAGE, {**IMAGE, "id": 2, "file_name": ".\\a.png"}]}, "name the same image; merge"),
        ({"images": [{**IMAGE, "file_name": "./"}]}, "has the empty image name './'; correct it"),
        ({"images": [{**IMAGE, "file_name": 7}]}, r"images\[0\] \(id 1\): 'file_name' is missing, or not text: 7"),
        ({"images": [{**IMAGE, "width": 0}]}, r"\(id 1\): an image of 0 x 40 pixels; correct 'width' and 'height'"),
        ({"images": [{**IMAGE, "width": 1.5}]}, r"an image of 1\.5 x 40 pixels"),
        ({"images": [{**IMAGE, "width": None}]}, r"images\[0\] \(id 1\): None is not a number"),
        ({"images": [{**IMAGE, "width": True}]}, r"images\[0\] \(id 1\): True is not a number"),
        (
            {"images": [{**IMAGE, "width": 40, "height": 64}]},
            r"for 40 x 64 pixels, but \S+ has 64 x 40 upright; it was annot.* EXIF",
        ),
        (
            {"images": [{**IMAGE, "width": 128, "height": 80}]},
            r"for 128 x 80 pixels, but \S+ has 64 x 40; give the images",
        ),
        (
            {"annotations": [CAT, CAT]},
            r"annotations\[1\] \(id 5\): the id 5 occurs twice; give each annotation its own",
        ),
        ({"annotations": [{**CAT, "image_id": 9}]}, "image_id 9 is not the id of any image; correct or remove it"),
        ({"annotations": [{**CAT, "category_id": "x"}]}, "category_id 'x' is not the id of any category"),
        ({"annotations": [{**CAT, "bbox": None}]}, r"\(id 5\): 'bbox' is missing, or not \[x, y, width, height\]"),
        ({"annotations": [{**CAT, "bbox": [1, 2, 3]}]}, "'bbox' is missing, or not"),
        ({"annotations": [{**CAT, "bbox": [1, 2, 3, "4"]}]}, "'4' is not a number"),
        ({"annotations": [{**CAT, "bbox": [1, 2, 3, [4]]}]}, "list is not a number"),
        ({"annotations": [{**CAT, "bbox": [1, 2, -3, 4]}]}, r"\(id 5\): bbox has a negative width or height"),
        ({"annotations": [{**CAT, "bbox": [1, 2, 10**400, 4]}]}, r"1000000\d*\.\.\. is not a number"),
        ({"annotations": [{**CAT, "bbox": [1e308, 2, 1e308, 4]}]}, "holds NaN or infinity, or a number too large"),
        (
            {"annotations": [{**CAT, "bbox": [64, 2, 3, 4]}]},
            r"\(id 5\): the box lies outside the image of 64 x 40 pixels",
        ),
        (
            {"annotations": [{**CAT, "bbox": [1, -9, 3, 9]}]},
            "lies outside the image of 64 x 40 pixels; correct or remove",
        ),
        ({"annotations": [{**CAT, "bbox": [1, float("nan"), 3, 9]}]}, "holds NaN, which is not valid JSON"),
        ({"annotations": [{**CAT, "bbox": [1, -float("inf"), 3, 9]}]}, "holds -Infinity, which is not valid JSON"),
        ({"categories": [{"id": 2, "name": None}]}, r"categories\[0\] \(id 2\): 'name' is missing, or not text: None"),
        ({"categories": [{"id": 2, "name": "a"}] * 2}, r"categories\[1\] \(id 2\): the id 2 occurs twice"),
    ],
)
def test_coco(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    root = folders.images(tmp_path / "images", "a.png")
    refused(message, folders.write(tmp_path / "a.json", json.dumps(DOCUMENT | changes)), root)


def test_rotated_photograph(tmp_path: Path) -> None:
    """A camera held upright: 64 x 40 pixels in the file, to be turned by 90 degrees; annotated as they lie in the file."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 40)).save(tmp_path / "a.jpg", exif=exif)
    boxes = read_boxes(folders.coco(tmp_path / "a.json", {"a.jpg": [((0, 0, 8, 8), "cat")]}), tmp_path)
    height, width = read_image(tmp_path / "a.jpg").shape[:2]
    with pytest.raises(
        TruthError, match=r"for 64 x 40 pixels, but \S+ has 40 x 64 upright; it was annotated without the rotation"
    ):
        boxes.of(tmp_path / "a.jpg", height, width)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [\n{]}', r"a\.json, line 2: not valid JSON \(.*\); save it again"),
        ("[" * 200_000, "brackets nest too deeply"),
        ('{"a":' * 200_000, "brackets nest too deeply"),
        ('{"a": ' + "1" * 5000 + "}", "a number is too long"),
        (
            '[{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]',
            "is a list, like COCO's detection results; give the file",
        ),
        ("{}", "'images' is missing"),
        (b'{"images": "\xff"}', r"a\.json: not UTF-8 text at byte 12; save it as UTF-8"),
        ("", "is empty; copy or export it again"),
        ("<annotation/>", "holds no annotations that can be read; .*Pascal VOC xml: a folder of"),
        ("0 0.5 0.5 1 1", "holds no annotations that can be read; .*YOLO txt: a folder of"),
        ("x,y\n1,2\n", r"a file with the columns image,left,top,right,bottom\[,label\] in pixels or"),
    ],
)
def test_files(tmp_path: Path, text: str | bytes, message: str) -> None:
    root = folders.images(tmp_path / "images", "a.png")
    refused(message, folders.write(tmp_path / "a.json", text), root)


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folders.images(tmp_path / "images", "a.png")
    refused("nothing: no such file or folder", tmp_path / "nothing", root)
    refused("images: holds no annotations that can be read", root, root)
    os.mkfifo(tmp_path / "pipe")
    refused("pipe: not a plain file", tmp_path / "pipe", root)
    path = folders.coco(tmp_path / "a.json", {})
    with pytest.raises(TruthError, match=r"a\.json: not a folder; give the folder of the images"):
        read_boxes(path, path)
    with pytest.raises(
        TruthError, match=f"{re.escape(str(tmp_path / 'b.png'))}: lies outside the folder of the images, "
    ):
        read_boxes(path, root).of(tmp_path / "b.png", 4, 5)
    for name in ("a.txt", "b.xml"):
        folders.write(tmp_path / "mixed" / name, "")
    refused(
        "mixed: could be Pascal VOC xml or YOLO txt; give a folder that holds files of one kind",
        tmp_path / "mixed",
        root,
    )
    with pytest.raises(TruthError, match=r"a\.json: the file is larger than 0 MiB; split it"):
        reading.read_text(path, 10)
    monkeypatch.setattr(
        Path, "read_bytes", lambda path: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
    )
    refused(r"a\.json: can't be read \(Permission denied\)", path, root)


def test_folder_that_can_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(TruthError, match=r": can't be read \(Permission denied\)"):
        reading.files_in(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 1", "line 2: has 4 numbers; expected 'class cx cy w h', or 'class x1 y1"),
        ("0 0.1 0.2 0.3 0.4 0.5 0.6 0.7", "line 2: has 8 numbers"),
        ("cat 0.5 0.5 1 1", r"labels/a\.txt, line 2: 'cat' is not a number"),
        ("1.5 0.5 0.5 1 1", r"the class '1\.5' is not a whole number"),
        ("-1 0.5 0.5 1 1", "the class '-1' is not a whole number"),
        ("2 0.5 0.5 1 1", r"line 2: class 2, but classes\.txt has 2 names; correct one of them"),
        ("0 nan 0.5 1 1", "line 2: 'nan' is not finite; correct it"),
        ("0 0.5 0.5 1 1e999", "'1e999' is not finite"),
        ("0 0.5 0.5 1_0 1", "'1_0' is not a number"),
        (
            "0 320 240 100 80",
            "line 2: 320 is not a fraction of the image, 0 to 1; divide pixels by its width or height",
        ),
        ("0 0.1 0.1 0.2 0.2 30 0.3", "30 is not a fraction"),
        ("0 0.5 0.5 -0.005 0.1", "negative width or height"),
        ("0 0.5 0.5 0.1 0", "line 2: the box has no area, or its edges are swapped"),
        ("0 0.5 -0.005 0.1 0.001", "line 2: the box lies outside the image; correct or remove it"),
        ("0 " + "x" * 500, r"'x{56}\.\.\. is not a number"),
    ],
)
def test_yolo(tmp_path: Path, line: str, message: str) -> None:
    root = folders.images(tmp_path / "images", "a.png")
    folders.write(tmp_path / "labels/classes.txt", "cat\ndog\n")
    folders.write(tmp_path / "labels/a.txt", f"1 0.5 0.5 1 1\n{line}\n")
    refused(message, tmp_path / "labels", root)


BOX = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox>"
BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><annotation>&b;</annotation>'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, r"xml/a\.xml: has a document type or entities, which are not read; remove them"),
        ("<!doctype annotation><annotation/>", "has a document type"),
        (BOMB.encode("utf-16"), "not UTF-8 text at byte 0"),
        ("<annotation><object>", r"a\.xml: not valid XML \(.*line 1.*\); save it again"),
        ("", "not valid XML"),
        ("<annotation>\x00</annotation>", "not valid XML"),
        ("<a><annotation/></a>", "not a Pascal VOC file: its root is <a>, not <annotation>"),
        ("<annotation><object/></annotation>", r"a\.xml, object 1: has no <bndbox>; add or remove it"),
        (f"<annotation><object>{BOX}</object><object/></annotation>", "object 2: has no <bndbox>"),
        ("<annotation><object><bndbox/></object></annotation>", "object 1: has no <xmin>; add it"),
        (
            f"<annotation><object>{BOX}</object></annotation>".replace("1<", "a b<"),
            "<xmin> is 'a b', not a finite number",
        ),
        (
            f"<annotation><object>{BOX}</object></annotation>".replace("1<", "inf<"),
            "<xmin> is 'inf', not a finite number",
        ),
        (
            f"<annotation><object>{BOX}</object></annotation>".replace("1<", "4<"),
            "edges are swapped: 4 to 3, 2 to 4; correct",
        ),
        (f"<annotation><object>{BOX}</object></annotation>".replace("4<", "1<"), "edges are swapped: 1 to 3, 2 to 1"),
        (
            f"<annotation><object>{BOX.replace('3<', '0<').replace('1<', '-5<')}</object></annotation>",
            "lies outside the image",
        ),
        ("<annotation><size/></annotation>", r"a\.xml, size: has no <height>"),
        ("<annotation><size><width>4</width><height>0</height></size></annotation>", "size: an image of 4 x 0 pixels"),
        ("<annotation><size><width>40</width><height>64</height></size></annotation>", "64 x 40 upright; .* EXIF data"),
    ],
)
def test_voc(tmp_path: Path, text: str | bytes, message: str) -> None:
    root = folders.images(tmp_path / "images", "a.png")
    folders.write(tmp_path / "xml/a.xml", text)
    refused(message, tmp_path / "xml", root)


def test_deep_xml(tmp_path: Path) -> None:
    """Nesting costs neither the stack nor a crash."""
    depth = 200_000
    folders.write(tmp_path / "xml/a.xml", "<annotation>" + "<a>" * depth + "</a>" * depth + "</annotation>")
    assert len(read_boxes(tmp_path / "xml", tmp_path)) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "image;left;top;right;bottom\n",
            r"line 1: the columns are 'image;left;top;right;bottom'; expected image,left",
        ),
        ("image,left,top,right\n", "line 1: the columns are 'image,left,top,right'; expected"),
        ("image,left,top,right,bottom,w\n", "line 1: the columns are"),
        ("image,left,top,right,bottom,left\n", "line 1: the columns are"),
        ("image,left,top,right,bottom\na.png,1,2,3\n", r"a\.csv, line 2: has 4 cells for 5 columns; correct it"),
        ("image,left,top,right,bottom\n,1,2,3,4\n", "line 2: names no image"),
        ("image,left,top,right,bottom\na.png,1,2,3,x\n", "line 2: 'x' is not a number"),
        ("image,left,top,right,bottom\na.png,1,2,3,\n", "line 2: '' is not a number"),
        ("image,left,top,right,bottom\na.png,1,2,3,nan\n", "line 2: 'nan' is not finite"),
        (
            "image,left,top,right,bottom\na.png,3,2,1,4\n",
            "line 2: the box's edges are swapped; left < right and top < bottom",
        ),
        ("image,left,top,right,bottom\na.png,1,4,3,2\n", "line 2: the box's edges are swapped"),
        ("image,left,top,right,bottom\na.png,1,2,1,4\n", "line 2: the box has no area"),
        ("image,left,top,right,bottom\na.png,70,2,80,4\n", "line 2: the box lies outside the image of 64 x 40 pixels"),
        (
            "image,left,top,right,bottom\na.png,,,,\na.png,1,2,3,4\n",
            "line 2: says that 'a.png' shows no object, but it has",
        ),
        ("image,left,top,right,bottom\na.png,1,2,3,4\na.png,,,,\n", "line 3: says that 'a.png' shows no object"),
        ("image,cx,cy,w,h\na.png,100,50,20,20\n", "line 2: 100 is not a fraction of the image"),
        ('image,cx,cy,w,h\n"a.png,0,0,1,1\n', "line 2: not valid csv"),
        ("image,cx,cy,w,h\n" + "a" * 200_000, r"line \d: not valid csv \(field larger"),
    ],
)
def test_csv(tmp_path: Path, text: str, message: str) -> None:
    root = folders.images(tmp_path / "images", "a.png")
    refused(message, folders.write(tmp_path / "a.csv", text), root)
